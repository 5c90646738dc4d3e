//! Which cloud this host is in, and what that cloud says of its public address.
//!
//! The firmware is read first, which asks nobody. Only where it names a cloud, or where there is no firmware to read,
//! is a metadata service asked. What an answer is worth is decided in `facts::outside`, beside what others say.

mod answers;
mod metadata;
mod provider;

use crate::text;
use crate::words::Text;
use std::path::Path;

pub use metadata::{Told, ask};
pub use provider::{Dmi, Provider, recognise};

/// Where the kernel shows what the firmware says.
const DMI: &str = "/sys/class/dmi/id";
/// Bytes of one value that are read.
const MAX_VALUE: usize = 256;

/// What is known of the cloud around this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloud {
    /// `None`: no cloud that is known.
    pub provider: Option<Provider>,
    /// How that came to be known, in words.
    pub how: Text,
    pub told: Told,
}

impl Default for Cloud {
    fn default() -> Self {
        not_asked(None, text!("it was not looked for"))
    }
}

/// Looks for a cloud. `may_ask`: whether a metadata service may be asked, which leaves the host.
#[must_use]
pub fn look(may_ask: bool) -> Cloud {
    look_at(read_dmi(Path::new(DMI)).as_ref(), may_ask)
}

/// As [`look`], on a machine with this firmware; `None`: it has none that can be read.
#[must_use]
pub fn look_at(dmi: Option<&Dmi>, may_ask: bool) -> Cloud {
    let offline =
        || text!("no metadata service was to be asked (`--offline`, `--no-cloud`, or callers are in the own network)");
    let Some(dmi) = dmi else {
        return if may_ask { ask_around() } else { not_asked(None, offline()) };
    };
    let Some(provider) = recognise(dmi) else {
        return not_asked(None, text!("the firmware names no cloud that is known"));
    };
    let how = text!("the firmware says {}", provider.title());
    if !may_ask {
        return Cloud { how, ..not_asked(Some(provider), offline()) };
    }
    let told = ask(&[provider]).into_iter().next().map_or(Told::NoAddress, |(_, told)| told);
    Cloud { provider: Some(provider), how, told }
}

/// Asks all services at once, as a machine without firmware tells nothing.
fn ask_around() -> Cloud {
    // What looks like Amazon's is offered by others, too, so that it comes last.
    let order = [
        Provider::Gcp,
        Provider::Azure,
        Provider::DigitalOcean,
        Provider::Hetzner,
        Provider::Aliyun,
        Provider::Tencent,
        Provider::Aws,
    ];
    let answered = ask(&order).into_iter().find(|(_, told)| matches!(told, Told::Addresses(_)));
    match answered {
        Some((provider, told)) => {
            let how = text!("there is no firmware to read, and its metadata service answers");
            Cloud { provider: Some(provider), how, told }
        }
        None => not_asked(None, text!("there is no firmware to read, and no metadata service answers")),
    }
}

fn not_asked(provider: Option<Provider>, why: Text) -> Cloud {
    Cloud { provider, how: why.clone(), told: Told::NotAsked(why) }
}

/// `None` if there is no such folder.
fn read_dmi(folder: &Path) -> Option<Dmi> {
    if !folder.is_dir() {
        return None;
    }
    // Some values are for root's eyes only, and some are not there.
    let value = |name: &str| {
        let text = std::fs::read(folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&text[..text.len().min(MAX_VALUE)]).trim().to_owned()
    };
    Some(Dmi {
        bios_vendor: value("bios_vendor"),
        chassis_asset_tag: value("chassis_asset_tag"),
        product_name: value("product_name"),
        product_serial: value("product_serial"),
        product_uuid: value("product_uuid"),
        sys_vendor: value("sys_vendor"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_is_read_from_files_and_missing_ones_are_empty() {
        let folder = tempfile::tempdir().unwrap();
        crate::sys::fs::write_atomic(&folder.path().join("sys_vendor"), b"Hetzner\n", 0o600).unwrap();
        crate::sys::fs::write_atomic(&folder.path().join("product_name"), &[b'x'; 10_000], 0o600).unwrap();
        let dmi = read_dmi(folder.path()).unwrap();
        assert_eq!((dmi.sys_vendor.as_str(), dmi.product_name.len()), ("Hetzner", MAX_VALUE));
        assert_eq!(dmi.product_serial, "");
        assert_eq!(read_dmi(&folder.path().join("absent")), None);
    }

    #[test]
    fn nobody_is_asked_where_that_is_not_wanted_or_of_no_use() {
        let ec2 = Dmi { sys_vendor: "Amazon EC2".to_owned(), ..Dmi::default() };
        let offline = look_at(Some(&ec2), false);
        assert_eq!(offline.provider, Some(Provider::Aws));
        assert!(matches!(&offline.told, Told::NotAsked(why) if why.contains("--offline")));
        let at_home = look_at(Some(&Dmi { sys_vendor: "QEMU".to_owned(), ..Dmi::default() }), true);
        assert!(matches!((at_home.provider, at_home.told), (None, Told::NotAsked(_))));
        assert!(matches!(look_at(None, false).told, Told::NotAsked(_)));
        let oracle = Dmi { chassis_asset_tag: "OracleCloud.com".to_owned(), ..Dmi::default() };
        assert!(matches!(look_at(Some(&oracle), true).told, Told::NotAsked(why) if why.contains("Oracle")));
    }
}

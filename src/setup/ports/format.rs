//! The ports as tables, documents, firewall files and commands.

use serde_json::{Value, json};

use super::clouds;
use super::set::range_text;
use super::{PortSet, PortUse, ports_of};
use crate::sys::ports::Transport;

/// What the ports can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Nft,
    Ufw,
    Firewalld,
    Aws,
    Gcloud,
    Az,
    Aliyun,
    Tccli,
    Doctl,
    Hcloud,
    Terraform,
}

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// What rules, services and profiles are called.
    pub name: String,
    pub uses: Vec<PortUse>,
    /// Public addresses of this host, as far as they are known.
    pub public_ips: Vec<std::net::IpAddr>,
}

impl Format {
    pub const ALL: [Self; 13] = [
        Self::Table,
        Self::Json,
        Self::Nft,
        Self::Ufw,
        Self::Firewalld,
        Self::Aws,
        Self::Gcloud,
        Self::Az,
        Self::Aliyun,
        Self::Tccli,
        Self::Doctl,
        Self::Hcloud,
        Self::Terraform,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Nft => "nft",
            Self::Ufw => "ufw",
            Self::Firewalld => "firewalld",
            Self::Aws => "aws",
            Self::Gcloud => "gcloud",
            Self::Az => "az",
            Self::Aliyun => "aliyun",
            Self::Tccli => "tccli",
            Self::Doctl => "doctl",
            Self::Hcloud => "hcloud",
            Self::Terraform => "terraform",
        }
    }
}

/// The whole text, without a newline at its end.
#[must_use]
pub fn render(format: Format, sheet: &Sheet) -> String {
    let text = match format {
        Format::Table => table(sheet),
        Format::Json => serde_json::to_string_pretty(&as_json(sheet)).unwrap_or_default(),
        Format::Nft => nft(sheet),
        Format::Ufw => ufw_profile(&sheet.name, &by_transport(sheet)),
        Format::Firewalld => firewalld_service(sheet),
        Format::Aws => clouds::aws(sheet),
        Format::Gcloud => clouds::gcloud(sheet),
        Format::Az => clouds::az(sheet),
        Format::Aliyun => clouds::aliyun(sheet),
        Format::Tccli => clouds::tccli(sheet),
        Format::Doctl => clouds::doctl(sheet),
        Format::Hcloud => clouds::hcloud(sheet),
        Format::Terraform => clouds::terraform(sheet),
    };
    text.trim_end().to_owned()
}

fn table(sheet: &Sheet) -> String {
    let mut text = format!("{:<10} {:<13} {}\n", "TRANSPORT", "PORTS", "FOR");
    for port in &sheet.uses {
        let transport = port.transport.to_string();
        text.push_str(&format!("{transport:<10} {:<13} {}\n", range_text(&port.ports, "-"), port.why));
    }
    text
}

/// The same as data.
#[must_use]
pub(super) fn as_json(sheet: &Sheet) -> Value {
    let ports: Vec<Value> = sheet
        .uses
        .iter()
        .map(|port| {
            let (first, last) = (port.ports.start(), port.ports.end());
            json!({ "transport": port.transport.to_string(), "first": first, "last": last, "why": port.why })
        })
        .collect();
    json!({ "schema_version": 1, "name": sheet.name, "public_ips": sheet.public_ips, "ports": ports })
}

/// Rules for the chain that decides, which only the host knows: `firewall plan` names it.
fn nft(sheet: &Sheet) -> String {
    let mut text = String::from(
        "# Put these rules into the chain that drops, before it does; `rtcctl firewall plan` shows which one that is here.\n\
         table inet filter {\n\tchain input {\n",
    );
    for (transport, ports) in by_transport(sheet) {
        text.push_str(&format!("\t\t{transport} dport {{ {ports} }} accept comment \"{}\"\n", sheet.name));
    }
    text.push_str("\t}\n}\n");
    text
}

/// A file for `/etc/ufw/applications.d`.
#[must_use]
pub fn ufw_profile(name: &str, ports: &[(Transport, PortSet)]) -> String {
    let ports: Vec<String> =
        ports.iter().map(|(transport, ports)| format!("{}/{transport}", ports.text(":", ","))).collect();
    format!(
        "[{name}]\ntitle=rtcctl\ndescription=WebRTC calls: page, signaling, STUN and TURN\nports={}\n",
        ports.join("|")
    )
}

/// A file for `/etc/firewalld/services`.
fn firewalld_service(sheet: &Sheet) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<service>\n  <short>{}</short>\n  \
         <description>WebRTC calls: page, signaling, STUN and TURN</description>\n",
        sheet.name
    );
    for (transport, ports) in by_transport(sheet) {
        for range in ports.ranges() {
            text.push_str(&format!("  <port protocol=\"{transport}\" port=\"{}\"/>\n", range_text(range, "-")));
        }
    }
    text.push_str("</service>\n");
    text
}

/// The ports of each transport that has any.
pub(super) fn by_transport(sheet: &Sheet) -> Vec<(Transport, PortSet)> {
    [Transport::Tcp, Transport::Udp]
        .into_iter()
        .map(|transport| (transport, ports_of(&sheet.uses, transport)))
        .filter(|(_, ports)| !ports.is_empty())
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::setup::ports) fn a_sheet() -> Sheet {
        let port = |transport, ports, why| PortUse { transport, ports, why };
        Sheet {
            name: "rtcctl".to_owned(),
            uses: vec![
                port(Transport::Tcp, 443..=443, "the HTTPS page, signaling, and TURN over TLS"),
                port(Transport::Tcp, 80..=80, "redirects plain HTTP to HTTPS"),
                port(Transport::Udp, 3478..=3478, "STUN and TURN"),
                port(Transport::Tcp, 3478..=3478, "TURN where UDP is blocked"),
                port(Transport::Udp, 49160..=51159, "relayed media, one port for each relayed caller"),
            ],
            public_ips: vec!["203.0.113.9".parse().unwrap()],
        }
    }

    #[test]
    fn every_format_is_as_it_was() {
        let texts: Vec<String> = Format::ALL
            .into_iter()
            .map(|format| format!("== {}\n{}\n", format.as_str(), render(format, &a_sheet())))
            .collect();
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn every_format_names_every_port() {
        for format in Format::ALL {
            let text = render(format, &a_sheet());
            for port in ["443", "80", "3478", "49160", "51159"] {
                assert!(text.contains(port), "{} lacks {port}", format.as_str());
            }
        }
    }

    #[test]
    fn what_is_not_known_is_marked_as_such() {
        let sheet = Sheet { public_ips: Vec::new(), ..a_sheet() };
        for format in [Format::Aws, Format::Az, Format::Aliyun, Format::Tccli] {
            assert!(render(format, &sheet).contains("REPLACE-WITH-"), "{}", format.as_str());
        }
    }
}

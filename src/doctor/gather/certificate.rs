//! The certificate on disk.

use std::io::ErrorKind;
use std::time::Duration;

use crate::certs::keeper::{AcmeFiles, load_bundle};
use crate::certs::pair::{Labels, assemble};
use crate::certs::{Served, Source, store};
use crate::config::{CertSource, Config};
use crate::doctor::evidence::{Certificate, Leaf};
use crate::home::Home;
use crate::probe;
use crate::sys::clock;
use crate::sys::fs::read_to_string;
use crate::text;
use crate::words::Text;

/// How long the page may take to present its certificate.
const ASKED_WITHIN: Duration = Duration::from_secs(3);

pub(super) fn look(home: &Home, config: &Config) -> Certificate {
    let now = clock::now();
    let certificate = &config.certificate;
    let (source, key) = match certificate.source {
        CertSource::SelfSigned => ("self-signed", store::Files::of(home).leaf_key),
        CertSource::Acme => ("acme", AcmeFiles::of(home).bundle()),
        CertSource::Files => ("files", certificate.key_file.clone().unwrap_or_default()),
    };
    let is_hidden = matches!(std::fs::File::open(&key), Err(error) if error.kind() == ErrorKind::PermissionDenied);
    let leaf = match certificate.source {
        CertSource::SelfSigned => store::load(home, now).map_err(|failure| failure.told()),
        CertSource::Acme => load_bundle(&AcmeFiles::of(home).bundle())
            .and_then(|found| found.ok_or_else(|| text!("the authority has issued none yet"))),
        // Names and dates have checks of their own: what is asked here is whether the pair is one.
        CertSource::Files => read_files(config),
    };
    Certificate { source, leaf: leaf.map(|served| read(&served)), is_hidden }
}

fn read_files(config: &Config) -> Result<Served, Text> {
    let certificate = &config.certificate;
    let (Some(chain), Some(key)) = (&certificate.cert_file, &certificate.key_file) else {
        return Err(text!("no files are named"));
    };
    let text = |path| read_to_string(path).map_err(|failure| failure.told());
    let labels = Labels { chain: &format!("`{}`", chain.display()), key: &format!("`{}`", key.display()) };
    assemble(&text(chain)?, &text(key)?, Source::Files, labels).map(|(_, served)| served)
}

/// Whether the page's certificate is believed by who knows the authorities of this host and no other. `Err`: it cannot
/// be tried; why.
pub(super) fn trust(config: &Config) -> Option<Result<Result<(), Text>, Text>> {
    let bind = config.web.bind.iter().find(|address| address.is_ipv4()).or_else(|| config.web.bind.first())?;
    let address = probe::local((*bind, config.web.port).into());
    let host = config.hosts.first()?.to_string();
    let until = clock::now().mono + ASKED_WITHIN;
    Some(probe::is_trusted(address, host.trim_matches(['[', ']']), until).map_err(|fault| fault.told()))
}

fn read(served: &Served) -> Leaf {
    Leaf {
        names: served.names.clone(),
        not_before: served.not_before,
        not_after: served.not_after,
        fingerprint: served.fingerprint.clone(),
    }
}

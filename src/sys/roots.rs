//! The certificate authorities that this host trusts.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Where distributions keep the authorities they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities of this host, those of `SSL_CERT_FILE` in their place, and the ones in `own`.
#[must_use]
pub fn of_this_host(own: &Path) -> RootCertStore {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    let bundle = named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()));
    let mut roots = RootCertStore::empty();
    for path in bundle.iter().map(PathBuf::as_path).chain([own]) {
        // A file that is missing vouches for nobody, which is what an untrusted server is told then.
        let certificates = CertificateDer::pem_file_iter(path).into_iter().flatten();
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    }
    roots
}

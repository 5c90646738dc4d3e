//! What every TLS listener serves now, and how it comes to be: a local CA and its leaf.

pub mod leaf;
pub mod local_ca;
pub mod store;
mod task;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use store::load_or_issue;
pub use task::{Certs, Control, Issued};

/// The certificate all listeners serve at this moment. Swapping it touches no connection.
#[derive(Debug, Clone, Default)]
pub struct CertHandle {
    current: Arc<ArcSwapOption<Served>>,
}

/// A certificate with what `status` tells about it.
#[derive(Debug)]
pub struct Served {
    pub key: Arc<CertifiedKey>,
    /// DNS names and IP addresses, as text.
    pub names: Vec<String>,
    pub not_after: std::time::SystemTime,
    /// SHA-256 of the leaf in DER, lower-case hexadecimal.
    pub fingerprint: String,
}

impl CertHandle {
    /// New handshakes get `served` from now on.
    pub fn swap(&self, served: Served) {
        self.current.store(Some(Arc::new(served)));
    }

    /// What is served now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Served>> {
        self.current.load_full()
    }
}

/// The same certificate with any SNI and without.
impl ResolvesServerCert for CertHandle {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current().map(|served| Arc::clone(&served.key))
    }
}

//! What every TLS listener serves now, and how it comes to be.
//!
//! From the first second there is a leaf of the local CA (`local_ca`, `leaf`, `store`). Where the configuration says so,
//! an authority is asked for one that everybody trusts (`acme`, when: `renewal`, kept by `keeper`), or the operator's own
//! files are served (`files`). Whatever comes is swapped in without touching a connection.

pub mod acme;
pub mod challenge;
pub mod dns;
pub mod dns01;
pub mod files;
mod handle;
pub mod keeper;
pub mod leaf;
pub mod local_ca;
pub mod moment;
pub mod pair;
pub mod preflight;
pub mod renewal;
pub mod request;
pub mod store;
mod task;
pub mod trouble;
pub mod trust;
mod work;

pub use handle::{CertHandle, LastAttempt, RenewalState, RenewalView, Served, Source};
pub use local_ca::sha256_hex;
pub use store::load_or_issue;
pub use task::{Certs, Control, Issued};

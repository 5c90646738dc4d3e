//! The call page and the API: a router without sockets. `edge` hands it requests, one message each.

mod api;
mod files;
mod metrics;
mod page;
mod phone;
mod task;
mod trust;

pub use metrics::Metrics;
pub use task::{Control, Root, Web};

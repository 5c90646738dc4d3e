//! A Binding by itself: what a STUN probe sends, and what it reads.

use std::net::SocketAddr;

use super::message::{Ask, TransactionId};

/// A request, and the id that its answer has.
pub(in crate::probe) fn request() -> (Vec<u8>, TransactionId) {
    let id = TransactionId(rand::random());
    (Ask::Binding.write(id, None).expect("a Binding has nothing that could be too long"), id)
}

/// The address that a success tells; `None`: this is no success, or not ours.
pub(in crate::probe) fn mapped(answer: &[u8], id: TransactionId) -> Option<SocketAddr> {
    Ask::Binding.read(answer, id, None)?.mapped
}

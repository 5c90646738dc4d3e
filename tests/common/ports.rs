//! Ports for services of tests that run side by side.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};

/// Below those that the kernel gives to clients and those of relays: nothing else takes one of them by chance between
/// now and when it is used.
const FROM: u16 = 10_000;
const COUNT: u16 = 22_000;

/// A port that nothing listens on now, by TCP or UDP.
pub(crate) fn free_port() -> u16 {
    loop {
        let number = RandomState::new().hash_one(FROM) % u64::from(COUNT);
        let port = FROM + u16::try_from(number).unwrap();
        let any = (Ipv6Addr::UNSPECIFIED, port);
        if TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok() {
            return port;
        }
    }
}

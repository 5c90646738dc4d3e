//! One Binding request and its answer. RFC 8489, section 2.

use std::net::{SocketAddr, UdpSocket};

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite as _, MessageWriteVec};

use super::ANSWERED_WITHIN;
use crate::error::{Failure, Result};

/// The longest answer that is read; a Binding success has 44 bytes at most.
const MAX_ANSWER: usize = 512;

pub(super) fn ask(address: SocketAddr) -> Result<()> {
    let failed = |error: std::io::Error| {
        let failure = Failure::operator(format!("no answer from `{address}/udp`"));
        if error.kind() == std::io::ErrorKind::WouldBlock {
            failure.because(format!("nothing came within {} s", ANSWERED_WITHIN.as_secs()))
        } else {
            failure.caused_by(error)
        }
    };
    let socket = UdpSocket::bind((address.ip(), 0)).map_err(failed)?;
    socket.connect(address).map_err(failed)?;
    socket.set_read_timeout(Some(ANSWERED_WITHIN)).map_err(failed)?;
    let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    let wanted = Message::from_bytes(&request).expect("a message of ours is one").transaction_id();
    socket.send(&request).map_err(failed)?;
    let mut answer = [0; MAX_ANSWER];
    let length = socket.recv(&mut answer).map_err(failed)?;
    let own = socket.local_addr().map_err(failed)?;
    let is_fine = Message::from_bytes(&answer[..length]).is_ok_and(|answer| {
        answer.class() == MessageClass::Success
            && answer.transaction_id() == wanted
            && answer.attribute::<XorMappedAddress>().is_ok_and(|seen| seen.addr(wanted) == own)
    });
    if is_fine { Ok(()) } else { Err(Failure::operator(format!("`{address}/udp` answers, but not as STUN"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_stun_is_told_from_none() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], from).unwrap();
        });
        assert_eq!(ask(address).unwrap_err().message(), format!("`{address}/udp` answers, but not as STUN"));
        echo.join().unwrap();
        // The port is closed now, which the kernel says at once.
        assert_eq!(ask(address).unwrap_err().message(), format!("no answer from `{address}/udp`"));
    }
}

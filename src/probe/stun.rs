//! One Binding request and its answer. RFC 8489, section 2.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::Fault;
use super::turn::binding;
use crate::sys::clock;
use crate::sys::timed::left;

/// The longest answer that is read; a Binding success has 44 bytes at most.
const MAX_ANSWER: usize = 512;
/// A datagram may get lost even on the way to oneself, when buffers are full. RFC 8489, section 6.2.1.
const FIRST_WAIT: Duration = Duration::from_millis(500);

pub(super) fn ask(address: SocketAddr, until: Instant) -> Result<(), Fault> {
    let failed = |error: std::io::Error| Fault::of_io(address, "udp", &error);
    let socket = UdpSocket::bind((address.ip(), 0)).map_err(failed)?;
    socket.connect(address).map_err(failed)?;
    let (request, id) = binding::request();
    let mut wait = FIRST_WAIT;
    let mut answer = [0; MAX_ANSWER];
    loop {
        socket.send(&request).map_err(failed)?;
        let round = until.min(clock::now().mono + wait);
        socket.set_read_timeout(Some(left(round).map_err(failed)?)).map_err(failed)?;
        match socket.recv(&mut answer) {
            Ok(length) => {
                let own = socket.local_addr().map_err(failed)?;
                return match binding::mapped(&answer[..length], id) {
                    Some(seen) if seen == own => Ok(()),
                    Some(seen) => Err(Fault::new(format!("`{address}/udp` sees us as `{seen}`, and not as `{own}`"))),
                    None => Err(Fault::new(format!("`{address}/udp` answers, but not as STUN"))),
                };
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && clock::now().mono < until => wait *= 2,
            Err(error) => return Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_stun_is_told_from_none() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let until = clock::now().mono + Duration::from_secs(10);
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], from).unwrap();
        });
        assert_eq!(ask(address, until).unwrap_err().to_string(), format!("`{address}/udp` answers, but not as STUN"));
        echo.join().unwrap();
        // The port is closed now, which the kernel says at once.
        let fault = ask(address, until).unwrap_err();
        assert!(fault.is_refused(), "{fault}");
    }
}

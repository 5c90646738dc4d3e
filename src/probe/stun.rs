//! One Binding request and its answer. RFC 8489, section 2.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::Fault;
use super::turn::binding;
use crate::sys::clock;
use crate::sys::timed::{Timed, left};
use crate::text;

/// The longest answer that is read; a Binding success has 44 bytes at most.
const MAX_ANSWER: usize = 512;
/// What every message begins with.
const HEADER: usize = 20;
/// A datagram may get lost even on the way to oneself, when buffers are full. RFC 8489, section 6.2.1.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Asks a server of this host, which must see us as we are.
pub(super) fn ask(address: SocketAddr, until: Instant) -> Result<(), Fault> {
    let (seen, own) = exchange(address, address.ip(), until)?;
    if seen == own {
        return Ok(());
    }
    Err(Fault::new(text!("`{}/udp` sees us as `{}`, and not as `{}`", address, seen, own)))
}

/// Asks a server anywhere for the address that it sees.
pub(super) fn mapped(address: SocketAddr, until: Instant) -> Result<SocketAddr, Fault> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Ok(exchange(address, any, until)?.0)
}

/// Asks by TCP, where an answer begins and ends by its own length.
pub(super) fn ask_by_tcp(address: SocketAddr, until: Instant) -> Result<(), Fault> {
    let failed = |error: std::io::Error| Fault::of_io(address, "tcp", &error);
    let stream = TcpStream::connect_timeout(&address, left(until).map_err(failed)?).map_err(failed)?;
    let mut stream = Timed::new(stream, until);
    let (request, id) = binding::request();
    stream.write_all(&request).map_err(failed)?;
    let mut answer = vec![0; HEADER];
    stream.read_exact(&mut answer).map_err(failed)?;
    let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    let odd = || Fault::new(text!("`{}/tcp` answers, but not as STUN", address));
    if length > MAX_ANSWER {
        return Err(odd());
    }
    answer.resize(HEADER + length, 0);
    stream.read_exact(&mut answer[HEADER..]).map_err(failed)?;
    binding::mapped(&answer, id).map(drop).ok_or_else(odd)
}

/// The address that the server sees, and the one that we have.
fn exchange(address: SocketAddr, from: IpAddr, until: Instant) -> Result<(SocketAddr, SocketAddr), Fault> {
    let failed = |error: std::io::Error| Fault::of_io(address, "udp", &error);
    let socket = UdpSocket::bind((from, 0)).map_err(failed)?;
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
                    Some(seen) => Ok((seen, own)),
                    None => Err(Fault::new(text!("`{}/udp` answers, but not as STUN", address))),
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

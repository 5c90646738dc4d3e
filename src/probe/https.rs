//! One request by HTTP/1.1, over TLS or plain.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Fault, Secured, tls};
use crate::sys::timed::{Timed, left};
use crate::text;

/// Bytes of an answer that are read.
const MAX_ANSWER: u64 = 16 * 1024;

/// The status and the body of the answer to a GET.
pub(super) fn get(at: Secured<'_>, path: &str) -> Result<(u16, String), Fault> {
    exchange(tls::connect(at)?, at.address, path)
}

/// The same over a stream that is there.
pub(super) fn exchange(mut stream: tls::Stream, address: SocketAddr, path: &str) -> Result<(u16, String), Fault> {
    let failed = |error: std::io::Error| Fault::of_io(address, "tcp", &error);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(failed)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| Fault::new(text!("`{}/tcp` answers, but not as HTTP", address)))?;
    Ok((status, body.to_owned()))
}

/// Any answer to a GET of a page.
pub(super) fn ask_plain(address: SocketAddr, until: Instant) -> Result<(), Fault> {
    let failed = |error: std::io::Error| Fault::of_io(address, "tcp", &error);
    let stream = TcpStream::connect_timeout(&address, left(until).map_err(failed)?).map_err(failed)?;
    let mut stream = Timed::new(stream, until);
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut start = [0; 7];
    stream.read_exact(&mut start).map_err(failed)?;
    if &start == b"HTTP/1." { Ok(()) } else { Err(Fault::new(text!("`{}/tcp` answers, but not as HTTP", address))) }
}

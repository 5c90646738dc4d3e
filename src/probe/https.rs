//! One request by HTTP/1.1 over TLS.

use std::io::{Read as _, Write as _};

use super::{Fault, Secured, tls};

/// Bytes of an answer that are read.
const MAX_ANSWER: u64 = 16 * 1024;

/// The status and the body of the answer to a GET.
pub(super) fn get(at: Secured<'_>, path: &str) -> Result<(u16, String), Fault> {
    let address = at.address;
    let failed = |error: std::io::Error| Fault::of_io(address, "tcp", &error);
    let mut stream = tls::connect(at)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(failed)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| Fault::new(format!("`{address}/tcp` answers, but not as HTTP")))?;
    Ok((status, body.to_owned()))
}

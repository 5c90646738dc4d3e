//! Posts one event by HTTP/1.1, over TLS for `https:` URLs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Failed;
use crate::config::{Host, WebUrl};
use crate::sys::clock;
use crate::sys::net::resolve;
use crate::sys::timed::{Timed, left};

/// Bytes of an answer that are read: its status stands at the beginning.
const MAX_ANSWER: usize = 1024;

/// Posts `body` to `url`, at most for `limit`.
pub(super) fn post(url: &WebUrl, body: &str, roots: &RootCertStore, limit: Duration) -> Result<(), Failed> {
    let until = clock::now().mono + limit;
    let failed = |error: io::Error| Failed::for_now(format!("no answer from {}: {}", url.origin(), reason(&error)));
    let tcp = connect(url, limit, until).map_err(failed)?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: rtcctl/{}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        url.path,
        url.authority(),
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    let request = [head.as_bytes(), body.as_bytes()].concat();
    let status = if url.is_https {
        let mut stream = StreamOwned::new(client(url, roots)?, tcp);
        exchange(&mut stream, &request)
    } else {
        let mut stream = tcp;
        exchange(&mut stream, &request)
    };
    let status = status.map_err(failed)?;
    match status {
        200..=299 => Ok(()),
        // It may take it another time. What else it refuses, it will refuse again.
        408 | 425 | 429 | 500..=599 => Err(Failed::for_now(format!("{} answered by {status}", url.origin()))),
        _ => Err(Failed::for_good(format!("{} answered by {status}", url.origin()))),
    }
}

fn client(url: &WebUrl, roots: &RootCertStore) -> Result<ClientConnection, Failed> {
    let failed = |error: String| Failed::for_now(format!("no TLS with {}: {error}", url.origin()));
    let name = match &url.host {
        Host::Address(address) => ServerName::IpAddress((*address).into()),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| failed(error.to_string()))?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), name).map_err(|error| failed(error.to_string()))
}

/// The first address that takes the connection.
fn connect(url: &WebUrl, limit: Duration, until: Instant) -> io::Result<Timed> {
    let host = url.host.to_string();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = resolve(host, url.port, limit).map_err(|why| io::Error::other(why.english()))?;
    let mut last = io::Error::from(ErrorKind::NotFound);
    for address in addresses {
        match left(until).and_then(|left| TcpStream::connect_timeout(&address, left)) {
            Ok(stream) => return Ok(Timed::new(stream, until)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends a request and gives the status of the answer.
fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<u16> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut buffer = [0; MAX_ANSWER];
    // Servers need not close at once, nor at all.
    while !answer.contains(&b'\n') && answer.len() < MAX_ANSWER {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..length]);
    }
    status_of(&answer).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "what answers does not speak HTTP"))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(answer);
    let (version, rest) = line.split_once(' ')?;
    (version.starts_with("HTTP/1.")).then(|| rest.get(..3)?.parse().ok())?
}

fn reason(error: &io::Error) -> String {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        "nothing came in time".to_owned()
    } else {
        error.to_string()
    }
}

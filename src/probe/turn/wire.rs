//! Sends and receives messages over UDP, TCP or TLS, never longer than until a deadline.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::hints::Trouble;
use super::message::{Cut, cut};
use super::trust;
use crate::sys::marks::Marks;
use crate::sys::timed::{Timed, left};

/// Bytes that are read at a time; no datagram has more.
const BUFFER: usize = 65_536;

/// A way to a server.
pub(super) struct Wire {
    kind: Kind,
    /// Of a stream: read, but no whole message yet.
    pending: Vec<u8>,
    buffer: Vec<u8>,
}

enum Kind {
    Udp(UdpSocket),
    Tcp(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Wire {
    /// A UDP socket that talks to `server` alone.
    pub(super) fn udp(server: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr =
            if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        Ok(Self::new(Kind::Udp(socket)))
    }

    pub(super) fn tcp(server: SocketAddr, until: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, left(until)?)?;
        stream.set_nodelay(true)?;
        Ok(Self::new(Kind::Tcp(Timed::new(stream, until))))
    }

    /// As [`Wire::tcp`], to a server of this process, which is to know where it comes from.
    pub(super) fn own_tcp(server: SocketAddr, marks: &Marks, until: Instant) -> io::Result<Self> {
        Ok(Self::new(Kind::Tcp(Timed::new(marks.connect(server, until)?, until))))
    }

    /// Shakes hands on a TCP connection. Gives the protocol's version.
    pub(super) fn secure(
        self,
        config: Arc<ClientConfig>,
        host: &str,
        until: Instant,
    ) -> Result<(Self, String), Trouble> {
        let Kind::Tcp(mut tcp) = self.kind else { return Err(Trouble::Foreign) };
        let mut tls = trust::connection(config, host)?;
        tcp.until = until;
        while tls.is_handshaking() {
            match tls.complete_io(&mut tcp) {
                Ok((0, 0)) => return Err(Trouble::Closed),
                Ok(_) => {}
                Err(error) => return Err(trust::trouble(error)),
            }
        }
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(_) | None => "TLS",
        };
        Ok((Self::new(Kind::Tls(Box::new(StreamOwned::new(tls, tcp)))), version.to_owned()))
    }

    /// A stream whose handshake is done.
    pub(super) fn of_tls(tls: StreamOwned<ClientConnection, Timed>) -> Self {
        Self::new(Kind::Tls(Box::new(tls)))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, pending: Vec::new(), buffer: vec![0; BUFFER] }
    }

    pub(super) fn is_stream(&self) -> bool {
        !matches!(self.kind, Kind::Udp(_))
    }

    pub(super) fn send(&mut self, bytes: &[u8], until: Instant) -> io::Result<()> {
        match &mut self.kind {
            Kind::Udp(socket) => socket.send(bytes).map(drop),
            Kind::Tcp(tcp) => {
                tcp.until = until;
                tcp.write_all(bytes)
            }
            Kind::Tls(tls) => {
                tls.sock.until = until;
                tls.write_all(bytes).and_then(|()| tls.flush())
            }
        }
    }

    /// The next message, ChannelData with its padding; [`Trouble::Silence`] if none comes in time.
    pub(super) fn receive(&mut self, until: Instant) -> Result<Vec<u8>, Trouble> {
        loop {
            if self.is_stream() {
                match cut(&self.pending) {
                    Cut::Whole(length) => return Ok(self.pending.drain(..length).collect()),
                    Cut::Foreign => return Err(Trouble::Foreign),
                    Cut::More => {}
                }
            }
            let received = match &mut self.kind {
                Kind::Udp(socket) => left(until).and_then(|left| {
                    socket.set_read_timeout(Some(left))?;
                    socket.recv(&mut self.buffer)
                }),
                Kind::Tcp(tcp) => {
                    tcp.until = until;
                    tcp.read(&mut self.buffer)
                }
                Kind::Tls(tls) => {
                    tls.sock.until = until;
                    tls.read(&mut self.buffer)
                }
            };
            match received {
                Ok(0) if self.is_stream() => return Err(Trouble::Closed),
                Ok(length) if self.is_stream() => self.pending.extend_from_slice(&self.buffer[..length]),
                Ok(length) => return Ok(self.buffer[..length].to_vec()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

/// What an error of reading or writing means: deadlines and ends come in several forms.
pub(super) fn broken(error: io::Error) -> Trouble {
    use ErrorKind as E;
    if matches!(error.kind(), E::WouldBlock | E::TimedOut) {
        Trouble::Silence
    } else if matches!(error.kind(), E::ConnectionReset | E::BrokenPipe | E::UnexpectedEof | E::ConnectionAborted) {
        Trouble::Closed
    } else {
        Trouble::Io(error)
    }
}

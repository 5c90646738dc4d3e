//! How a client is connected to the server: by UDP, TCP or TLS.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::dialogue::Exchange;
use crate::sock;
use crate::stun::CHANNEL_HEADER;

/// A server that takes nothing for this long has hung.
const PATIENCE: Duration = Duration::from_secs(5);

/// The transport of a work's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
}

pub(crate) enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream, Unframed),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>, Unframed),
}

/// Bytes of a stream that are no whole message yet.
#[derive(Default)]
pub(crate) struct Unframed(Vec<u8>);

impl Link {
    /// Connects. The address is the client's; its port is chosen by the kernel.
    pub(crate) fn open(
        transport: Transport,
        from: Ipv4Addr,
        server: SocketAddrV4,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        if transport == Transport::Udp {
            let socket = sock::udp(SocketAddrV4::new(from, 0), false)?;
            socket.connect(server)?;
            return Ok(Self::Udp(socket));
        }
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Some(config) = tls.filter(|_| transport == Transport::Tls) else {
            return Ok(Self::Tcp(stream, Unframed::default()));
        };
        let name = ServerName::IpAddress(IpAddr::V4(*server.ip()).into());
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream)), Unframed::default()))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp(stream, _) => stream.as_fd(),
            Self::Tls(stream, _) => stream.sock.as_fd(),
        }
    }

    /// Sends frames of `frame` bytes each, back to back.
    pub(crate) fn send(&mut self, frames: &[u8], frame: usize) -> io::Result<()> {
        match self {
            Self::Udp(socket) => sock::send(socket.as_fd(), &[IoSlice::new(frames)], frame, None, None),
            Self::Tcp(stream, _) => stream.write_all(frames),
            Self::Tls(stream, _) => stream.write_all(frames),
        }
    }

    /// Takes what is there, once, and gives each message that is complete to `sink`.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Self::Udp(socket) => {
                let received = sock::receive(socket.as_fd(), buffer)?;
                buffer[..received.len].chunks(received.segment.max(1)).for_each(sink);
                Ok(())
            }
            Self::Tcp(stream, unframed) => {
                let length = Eager(stream).read(buffer)?;
                if length == 0 {
                    return Err(ended());
                }
                unframed.push(&buffer[..length], sink);
                Ok(())
            }
            Self::Tls(stream, unframed) => {
                if stream.conn.read_tls(&mut Eager(&stream.sock))? == 0 {
                    return Err(ended());
                }
                stream.conn.process_new_packets().map_err(io::Error::other)?;
                loop {
                    match stream.conn.reader().read(buffer) {
                        Ok(0) => return Err(ended()),
                        Ok(length) => unframed.push(&buffer[..length], &mut sink),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended a connection")
}

impl Exchange for Link {
    fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Udp(socket) => socket.exchange(request),
            Self::Tcp(stream, _) => stream.exchange(request),
            Self::Tls(stream, _) => stream.exchange(request),
        }
    }
}

/// Reads from a blocking socket without waiting.
struct Eager<'a>(&'a TcpStream);

impl io::Read for Eager<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
    }
}

impl Unframed {
    /// Adds bytes and takes every ChannelData message that is whole; padded to four bytes. RFC 8656, section 12.5.
    fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(&[u8])) {
        self.0.extend_from_slice(bytes);
        let mut start = 0;
        while let Some((header, _)) = self.0[start..].split_first_chunk::<CHANNEL_HEADER>() {
            let length = CHANNEL_HEADER + usize::from(u16::from_be_bytes([header[2], header[3]]));
            let Some(frame) = self.0.get(start..start + length.next_multiple_of(4)) else { break };
            sink(&frame[..length]);
            start += frame.len();
        }
        self.0.drain(..start);
    }
}

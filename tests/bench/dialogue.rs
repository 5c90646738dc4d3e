//! What a client says before there is anything to relay: allocations, permissions, channels.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use crate::stun::{self, Credentials, Message, Session};

/// How often a request is sent before the server counts as broken, and how long each waits.
const ATTEMPTS: u32 = 8;
const PATIENCE: Duration = Duration::from_millis(400);

/// Carries requests there and responses back, one at a time.
pub(crate) trait Exchange {
    /// Sends `request` and gives what came back for it.
    fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>>;
}

impl Exchange for UdpSocket {
    fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; 2048];
        for _ in 0..ATTEMPTS {
            self.send(request)?;
            // What answers an earlier attempt is as good; anything else is passed over.
            while let Ok(length) = self.recv(&mut buffer) {
                if Message::parse(&buffer[..length]).is_some_and(|message| answers(&message, request)) {
                    return Ok(buffer[..length].to_vec());
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to a request"))
    }
}

impl Exchange for TcpStream {
    fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.set_read_timeout(Some(PATIENCE * ATTEMPTS))?;
        self.write_all(request)?;
        read_message(self)
    }
}

impl Exchange for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.sock.set_read_timeout(Some(PATIENCE * ATTEMPTS))?;
        self.write_all(request)?;
        read_message(self)
    }
}

fn read_message(stream: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stun::HEADER];
    stream.read_exact(&mut bytes)?;
    let length = u64::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    stream.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn answers(message: &Message<'_>, request: &[u8]) -> bool {
    request.get(8..stun::HEADER) == Some(message.transaction.as_slice())
}

/// An allocation of one client.
pub(crate) struct Allocation {
    /// `None` where the server asked for no credentials.
    session: Option<Session>,
    pub(crate) relayed: SocketAddrV4,
    index: u32,
    requests: u32,
}

impl Allocation {
    /// Makes an allocation as browsers do: the first request is refused with what the second one needs.
    pub(crate) fn new(via: &mut impl Exchange, credentials: &Credentials, index: u32) -> io::Result<Self> {
        let answer = via.exchange(&stun::allocate(transaction(index, 0), None))?;
        let message = parse(&answer)?;
        if let Some(relayed) = message.address(stun::XOR_RELAYED_ADDRESS) {
            return Ok(Self { session: None, relayed, index, requests: 1 });
        }
        let session = Session::new(credentials, &message).ok_or_else(|| refused("Allocate", &message))?;
        let answer = via.exchange(&stun::allocate(transaction(index, 1), Some(&session)))?;
        let message = parse(&answer)?;
        let relayed = message.address(stun::XOR_RELAYED_ADDRESS).ok_or_else(|| refused("Allocate", &message))?;
        Ok(Self { session: Some(session), relayed, index, requests: 2 })
    }

    pub(crate) fn bind_channel(&mut self, via: &mut impl Exchange, peer: SocketAddrV4) -> io::Result<()> {
        let request = stun::channel_bind(self.transaction(), self.session.as_ref(), peer);
        expect_success(&via.exchange(&request)?, stun::CHANNEL_BIND, "ChannelBind")
    }

    pub(crate) fn permit(&mut self, via: &mut impl Exchange, peer: SocketAddrV4) -> io::Result<()> {
        let request = stun::create_permission(self.transaction(), self.session.as_ref(), peer);
        expect_success(&via.exchange(&request)?, stun::CREATE_PERMISSION, "CreatePermission")
    }

    fn transaction(&mut self) -> [u8; 12] {
        self.requests += 1;
        transaction(self.index, self.requests)
    }
}

fn parse(bytes: &[u8]) -> io::Result<Message<'_>> {
    Message::parse(bytes).ok_or_else(|| io::Error::other("the server answered with something that is no STUN message"))
}

fn expect_success(answer: &[u8], method: u16, name: &str) -> io::Result<()> {
    let message = parse(answer)?;
    if message.is_success(method) { Ok(()) } else { Err(refused(name, &message)) }
}

fn refused(what: &str, message: &Message<'_>) -> io::Error {
    io::Error::other(format!("the server refused {what} with {:?}", message.error()))
}

/// A transaction by which a response finds its client. It need not be secret here.
pub(crate) fn transaction(index: u32, number: u32) -> [u8; 12] {
    let mut transaction = *b"rtcbench....";
    transaction[4..8].copy_from_slice(&number.to_be_bytes());
    transaction[8..].copy_from_slice(&index.to_be_bytes());
    transaction
}

/// The client that a response belongs to, and the number of its request.
pub(crate) fn belongs_to(transaction: &[u8; 12]) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes(transaction[at..at + 4].try_into().expect("four bytes"));
    (word(8), word(4))
}

/// Waits until the server answers a Binding request.
pub(crate) fn wait_for(server: SocketAddrV4, local: SocketAddrV4) -> io::Result<()> {
    let socket = crate::sock::udp(local, false)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut buffer = [0; 1024];
    for _ in 0..200 {
        // Refused while nobody listens yet.
        let _ = socket.send(&stun::binding(transaction(0, 0)));
        match socket.recv(&mut buffer) {
            Ok(length) if Message::parse(&buffer[..length]).is_some_and(|it| it.is_success(stun::BINDING)) => {
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(_) => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("nobody answers at {server}")))
}

//! Datagrams to a server, read and written as if they were a stream of messages.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Milliseconds that an answer may take before the request is sent again.
const TRIES: [u64; 5] = [250, 250, 500, 1000, 2000];

/// A socket of one client. A request that is not answered is sent again; its other answers are left out.
pub(crate) struct Datagrams {
    socket: UdpSocket,
    /// The datagram that is being read, as it would be in a stream: padded.
    heard: Vec<u8>,
    read: usize,
    /// What waits for an answer.
    request: Option<Vec<u8>>,
    tries: &'static [u64],
}

impl Datagrams {
    pub(crate) fn connect(own: IpAddr, server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect(server)?;
        Ok(Self { socket, heard: Vec::new(), read: 0, request: None, tries: &TRIES })
    }

    /// It gives up soon.
    #[allow(dead_code, reason = "not every test uses every helper")]
    pub(crate) fn impatient(self) -> Self {
        Self { tries: &TRIES[..1], ..self }
    }

    fn next(&mut self) -> Result<Vec<u8>> {
        let mut buffer = [0; 2048];
        for &patience in self.tries {
            self.socket.set_read_timeout(Some(Duration::from_millis(patience)))?;
            loop {
                let datagram = match self.socket.recv(&mut buffer) {
                    Ok(length) => &buffer[..length],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                if datagram[0] < 0x40 {
                    let is_awaited = self.request.as_ref().is_some_and(|request| request[8..20] == datagram[8..20]);
                    if !is_awaited {
                        continue;
                    }
                    self.request = None;
                }
                let mut datagram = datagram.to_vec();
                datagram.resize(datagram.len().next_multiple_of(4), 0);
                return Ok(datagram);
            }
            match &self.request {
                Some(request) => self.socket.send(request)?,
                None => break,
            };
        }
        Err(ErrorKind::TimedOut.into())
    }
}

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.read == self.heard.len() {
            self.heard = self.next()?;
            self.read = 0;
        }
        let length = buffer.len().min(self.heard.len() - self.read);
        buffer[..length].copy_from_slice(&self.heard[self.read..][..length]);
        self.read += length;
        Ok(length)
    }
}

impl Write for Datagrams {
    fn write(&mut self, message: &[u8]) -> Result<usize> {
        if message[0] < 0x40 {
            self.request = Some(message.to_vec());
        }
        self.socket.send(message)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

//! The stream clients of a shard: what is sent to them, collected during a batch, and which of them have ended.

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use tracing::debug;

use super::connection::{Connection, Kind, Spare};
use super::connections::Connections;
use crate::turn::server::{Client, Frame};
use crate::turn::{Counts, Dropped};

/// Padding of a frame is at most three bytes.
const PADDING: [u8; 3] = [0; 3];

/// All stream clients.
#[derive(Default)]
pub(super) struct Clients {
    pub(super) connections: Connections,
    /// Numbers of those that have something to be sent.
    marked: Vec<u32>,
    /// Numbers of those that have ended.
    ended: Vec<u32>,
    spare: Spare,
    frames: u64,
    writes: u64,
}

impl Clients {
    /// Sends relayed data, as whole as it came or not at all.
    pub(super) fn send(&mut self, client: Client, frame: Frame, payload: &[u8], counts: &mut Counts) {
        let mut header = [0; Frame::MAX_HEADER];
        match frame.write_header(client.transport, payload.len(), &mut header) {
            Some((length, padding)) => {
                self.push(client, Kind::Data, &[&header[..length], payload, &PADDING[..padding]], counts);
            }
            None => counts.drop(Dropped::TooLong),
        }
    }

    /// Sends a message of the server itself.
    pub(super) fn reply(&mut self, client: Client, message: &[u8], counts: &mut Counts) {
        self.push(client, Kind::Answer, &[message], counts);
    }

    fn push(&mut self, client: Client, kind: Kind, parts: &[&[u8]], counts: &mut Counts) {
        let number = client.via;
        let connection = self.connections.get_mut(number).filter(|connection| connection.client == client);
        let Some(connection) = connection else { return };
        match connection.push(parts, kind, &mut self.spare) {
            Ok(true) => {
                self.frames += 1;
                if !std::mem::replace(&mut connection.is_marked, true) {
                    self.marked.push(number);
                }
            }
            Ok(false) => counts.drop(Dropped::SlowClient),
            Err(_) => self.end(number),
        }
    }

    /// This one has something to be sent.
    pub(super) fn mark(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        if !std::mem::replace(&mut connection.is_marked, true) {
            self.marked.push(number);
        }
    }

    /// This one has ended, or is to.
    pub(super) fn end(&mut self, number: u32) {
        self.ended.push(number);
    }

    /// Sends what waits, and has `epoll` tell when the kernel takes what it did not take now.
    pub(super) fn flush(&mut self, epoll: &Epoll) {
        while let Some(number) = self.marked.pop() {
            let Some(token) = self.connections.token(number) else { continue };
            let Some(connection) = self.connections.by_token(token) else { continue };
            connection.is_marked = false;
            self.writes += 1;
            if connection.flush(&mut self.spare).is_err() {
                self.ended.push(number);
                continue;
            }
            let is_blocked = connection.is_blocked();
            if is_blocked != connection.is_watched_for_output {
                let output = if is_blocked { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
                let mut event = EpollEvent::new(EpollFlags::EPOLLIN | output, token.data());
                match epoll.modify(&*connection, &mut event) {
                    Ok(()) => connection.is_watched_for_output = is_blocked,
                    Err(error) => {
                        debug!(%error, "cannot watch a connection");
                        self.ended.push(number);
                    }
                }
            }
        }
    }

    /// How many frames there were for clients since this was asked last, and how often clients were written to.
    pub(super) fn take_written(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.frames), std::mem::take(&mut self.writes))
    }

    /// Whether something waits to be sent.
    pub(super) fn have_waiting(&self) -> bool {
        !self.marked.is_empty()
    }

    pub(super) fn have_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// A connection that has ended, and is out of the table now.
    pub(super) fn poll_ended(&mut self) -> Option<Box<Connection>> {
        while let Some(number) = self.ended.pop() {
            if let Some(connection) = self.connections.remove(number) {
                return Some(connection);
            }
        }
        None
    }
}

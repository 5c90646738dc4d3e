//! One session, whatever carries it: what waits for the client, who carries it there, and whether the client lives.

mod carriers;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::sync::mpsc;

pub(super) use self::carriers::{Misplaced, Probe};
use super::heartbeats::Beat;
use super::outbox::Outbox;
use super::{Settings, Version};
use crate::signaling::End;
use crate::signaling::lock;
use crate::signaling::rooms::SocketId;
use crate::supervisor::handover::Hangup;

/// Packets of Engine.IO that say nothing else.
const CLOSE: &str = "1";
const PING: &str = "2";
const PONG: &str = "3";
const NOOP: &str = "6";
/// The packet that has a message in it begins with it.
const MESSAGE: char = '4';

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::signaling) enum Sent {
    Queued,
    /// So much waits already that the client does not read.
    Full,
    /// Nobody is there any more.
    Ended,
}

/// A socket that has ended, and how.
pub(in crate::signaling) type Ended<C> = (Arc<Socket<C>>, End);

/// One session. `C`: what is kept for it by who uses the engine.
pub(in crate::signaling) struct Socket<C> {
    /// What others know it by.
    pub(in crate::signaling) id: SocketId,
    pub(in crate::signaling) version: Version,
    pub(in crate::signaling) caller: C,
    /// What its own requests know it by. Nobody else does: it is all that they prove to be of this session by.
    pub(super) sid: String,
    ends: mpsc::UnboundedSender<Ended<C>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    carrier: Carrier,
    /// Who waits to carry something.
    waits: Option<Waker>,
    has_ended: bool,
    heard_at: Instant,
    /// When it is asked whether it lives.
    ask_at: Instant,
    /// When it was asked; `None`: it has answered.
    asked_at: Option<Instant>,
    /// When it is looked at again.
    beat: Option<Beat>,
    /// An answer to an old client waits.
    owes_pong: bool,
}

#[derive(Debug)]
enum Carrier {
    Polling {
        is_fetching: bool,
        /// The end of the last request that has waited for packets.
        away_since: Instant,
        is_posting: bool,
        /// A WebSocket is about to take over: nobody waits for an answer any longer.
        is_probed: bool,
    },
    /// `hangup`: ends its connection.
    WebSocket { hangup: Option<Hangup> },
}

impl<C> Socket<C> {
    /// A session that is carried by polling. `ask_at`: when its client is first asked whether it lives.
    pub(super) fn new(
        (version, sid): (Version, String),
        (id, caller): (SocketId, C),
        outbox: Outbox,
        ends: mpsc::UnboundedSender<Ended<C>>,
        (now, ask_at): (Instant, Instant),
    ) -> Self {
        let carrier = Carrier::Polling { is_fetching: false, away_since: now, is_posting: false, is_probed: false };
        let state = State {
            outbox,
            carrier,
            waits: None,
            has_ended: false,
            heard_at: now,
            ask_at,
            asked_at: None,
            beat: None,
            owes_pong: false,
        };
        Self { id, version, caller, sid, ends, state: Mutex::new(state) }
    }

    /// Queues a message, unless it would be more than `most` bytes that wait.
    pub(in crate::signaling) fn send(&self, mut message: String, most: usize) -> Sent {
        let mut state = self.state();
        if state.has_ended {
            return Sent::Ended;
        }
        message.insert(0, MESSAGE);
        if !state.outbox.push(message, most) {
            return Sent::Full;
        }
        state.wake();
        Sent::Queued
    }

    /// Nothing is heard or queued from now on; what waits is still carried, for a moment. What follows from it does when
    /// it is taken out of the queue of those that have ended.
    pub(in crate::signaling) fn end(self: &Arc<Self>, end: End) {
        {
            let mut state = self.state();
            if state.has_ended {
                return;
            }
            state.has_ended = true;
            state.wake();
        }
        // Nobody takes it out if the service has ended.
        let _ = self.ends.send((Arc::clone(self), end));
    }

    /// Ends it without waiting for its client.
    pub(in crate::signaling) fn cut(self: &Arc<Self>) {
        self.end(End::Transport);
        let hangup = match &mut self.state().carrier {
            Carrier::WebSocket { hangup } => hangup.take(),
            Carrier::Polling { .. } => None,
        };
        if let Some(hangup) = hangup {
            hangup.hang_up();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// It has said something. Gives whether that still counts.
    pub(super) fn heard(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.heard_at = now;
        !state.has_ended
    }

    /// Answers an old client, which asks for itself, and asks again only once it is answered.
    pub(super) fn pong(&self) {
        let mut state = self.state();
        if !state.has_ended && !state.owes_pong {
            // It waits even where too much does, or the client would take the server for one that has gone.
            state.outbox.push(PONG.to_owned(), usize::MAX);
            state.owes_pong = true;
            state.wake();
        }
    }

    /// Asks whether it lives if that is due, and ends it if it does not. Gives when to come again; `None`: never.
    /// `is_late`: this process has slept, and what was said meanwhile may not be read yet.
    pub(super) fn beat(self: &Arc<Self>, now: Instant, is_late: bool, settings: &Settings) -> Option<Instant> {
        let looked = {
            let mut state = self.state();
            if state.has_ended {
                return None;
            }
            state.look_after(self.version, now, settings)
        };
        match looked {
            Ok(next) => Some(next),
            Err(_) if is_late => Some(now + settings.pong_within),
            Err(end) => {
                self.end(end);
                None
            }
        }
    }

    pub(super) fn set_beat(&self, beat: Beat) {
        self.state().beat = Some(beat);
    }

    pub(super) fn take_beat(&self) -> Option<Beat> {
        self.state().beat.take()
    }

    /// The next packet for the connection of a WebSocket.
    pub(super) fn next_packet(&self) -> Option<String> {
        self.state().next_packet()
    }

    /// Whether it has ended. Else whoever asks is woken up when it does, or when there is a packet.
    pub(super) fn is_over(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        if !state.has_ended {
            state.wait(cx);
        }
        state.has_ended
    }

    /// What still waits for one that has ended, then that it has.
    pub(super) fn last_packets(&self) -> impl Iterator<Item = String> {
        std::iter::from_fn(|| self.next_packet()).chain(std::iter::once(CLOSE.to_owned()))
    }

    /// A WebSocket carries it from now on.
    pub(super) fn carry_by(&self, hangup: Option<Hangup>) {
        let mut state = self.state();
        state.wake();
        state.waits = None;
        state.carrier = Carrier::WebSocket { hangup };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// When to look again, or how it has ended.
    fn look_after(&mut self, version: Version, now: Instant, settings: &Settings) -> Result<Instant, End> {
        let (every, within) = (settings.ping_every, settings.pong_within);
        if let Some(asked_at) = self.asked_at.filter(|asked_at| self.heard_at >= *asked_at) {
            self.asked_at = None;
            self.ask_at = asked_at + every;
        }
        let due = match (version, self.asked_at) {
            (Version::V3, _) => self.heard_at + every + within,
            (Version::V4, Some(asked_at)) => asked_at + within,
            (Version::V4, None) if self.ask_at > now => self.ask_at,
            (Version::V4, None) => {
                // It waits even where too much does, or the client would be taken for one that has gone.
                self.outbox.push(PING.to_owned(), usize::MAX);
                self.asked_at = Some(now);
                self.wake();
                now + within
            }
        };
        if due <= now {
            return Err(End::Ping);
        }
        match self.carrier {
            Carrier::WebSocket { .. } => Ok(due),
            Carrier::Polling { is_fetching: true, .. } | Carrier::Polling { is_probed: true, .. } => {
                Ok(due.min(now + within))
            }
            // Between two requests, a client is away for as long as it takes to get there.
            Carrier::Polling { away_since, .. } if away_since + within <= now => Err(End::Transport),
            Carrier::Polling { away_since, .. } => Ok(due.min(away_since + within)),
        }
    }

    fn next_packet(&mut self) -> Option<String> {
        let packet = self.outbox.pop()?;
        self.owes_pong &= packet != PONG;
        Some(packet)
    }

    fn wake(&self) {
        if let Some(waker) = &self.waits {
            waker.wake_by_ref();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waits {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

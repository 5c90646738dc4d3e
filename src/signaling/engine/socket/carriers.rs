//! What comes to carry a session: requests that wait for packets or bring some, and a WebSocket that may take over.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{CLOSE, Carrier, NOOP, Socket};
use crate::signaling::End;
use crate::signaling::engine::payload;
use crate::supervisor::handover::Hangup;
use crate::sys::clock;

/// Bytes up to which packets are put into one answer.
const MAX_FETCH: usize = 1 << 20;

/// Why polling is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::signaling::engine) enum Misplaced {
    /// The session is not carried by polling.
    Elsewhere,
    /// Another request does the same at the moment.
    Twice,
}

impl<C> Socket<C> {
    /// A request is there that waits for packets.
    pub(in crate::signaling::engine) fn fetch(self: &Arc<Self>) -> Result<Fetch<C>, Misplaced> {
        match &mut self.state().carrier {
            Carrier::WebSocket { .. } => Err(Misplaced::Elsewhere),
            Carrier::Polling { is_fetching: true, .. } => Err(Misplaced::Twice),
            Carrier::Polling { is_fetching, .. } => {
                *is_fetching = true;
                Ok(Fetch { socket: Arc::clone(self), is_done: false })
            }
        }
    }

    /// A request is there that brings packets.
    pub(in crate::signaling::engine) fn post(self: &Arc<Self>) -> Result<Post<C>, Misplaced> {
        match &mut self.state().carrier {
            Carrier::WebSocket { .. } => Err(Misplaced::Elsewhere),
            Carrier::Polling { is_posting: true, .. } => Err(Misplaced::Twice),
            Carrier::Polling { is_posting, .. } => {
                *is_posting = true;
                Ok(Post(Arc::clone(self)))
            }
        }
    }

    /// A WebSocket has come that may take over; whoever waits for an answer gets one.
    pub(in crate::signaling::engine) fn probe(self: &Arc<Self>) -> Result<Probe<C>, Misplaced> {
        let mut state = self.state();
        match &mut state.carrier {
            Carrier::WebSocket { .. } => return Err(Misplaced::Elsewhere),
            Carrier::Polling { is_probed: true, .. } => return Err(Misplaced::Twice),
            Carrier::Polling { is_probed, .. } => *is_probed = true,
        }
        state.wake();
        Ok(Probe(Arc::clone(self)))
    }
}

/// A request that waits for packets. One that is given up has lost its client.
pub(in crate::signaling::engine) struct Fetch<C> {
    socket: Arc<Socket<C>>,
    pub(super) is_done: bool,
}

impl<C> Fetch<C> {
    /// Whether a WebSocket is about to take over, so that there is nothing to wait for.
    pub(in crate::signaling::engine) fn is_in_the_way(&self) -> bool {
        matches!(self.socket.state().carrier, Carrier::Polling { is_probed: true, .. })
    }

    /// The body of its answer, once there is something to say.
    pub(in crate::signaling::engine) fn poll_body(&mut self, cx: &Context<'_>) -> Poll<String> {
        let version = self.socket.version;
        let mut body = String::new();
        let mut state = self.socket.state();
        let is_over = match state.carrier {
            Carrier::WebSocket { .. } => true,
            Carrier::Polling { is_probed, .. } => {
                while body.len() < MAX_FETCH
                    && let Some(packet) = state.next_packet()
                {
                    payload::push(&mut body, version, &packet);
                }
                is_probed
            }
        };
        if state.has_ended {
            payload::push(&mut body, version, CLOSE);
        } else if body.is_empty() && is_over {
            payload::push(&mut body, version, NOOP);
        } else if body.is_empty() {
            state.wait(cx);
            return Poll::Pending;
        }
        drop(state);
        self.is_done = true;
        Poll::Ready(body)
    }
}

impl<C> Drop for Fetch<C> {
    fn drop(&mut self) {
        {
            let mut state = self.socket.state();
            if let Carrier::Polling { is_fetching, away_since, .. } = &mut state.carrier {
                (*is_fetching, *away_since) = (false, clock::now().mono);
                state.waits = None;
            }
        }
        if !self.is_done {
            self.socket.end(End::Transport);
        }
    }
}

/// A request that brings packets.
pub(in crate::signaling::engine) struct Post<C>(Arc<Socket<C>>);

impl<C> Drop for Post<C> {
    fn drop(&mut self) {
        if let Carrier::Polling { is_posting, .. } = &mut self.0.state().carrier {
            *is_posting = false;
        }
    }
}

/// A WebSocket that may take a session over. One that is given up has not.
pub(in crate::signaling::engine) struct Probe<C>(Arc<Socket<C>>);

impl<C> Probe<C> {
    pub(in crate::signaling::engine) fn succeed(self, hangup: Option<Hangup>) {
        self.0.carry_by(hangup);
    }
}

impl<C> Drop for Probe<C> {
    fn drop(&mut self) {
        if let Carrier::Polling { is_probed, .. } = &mut self.0.state().carrier {
            *is_probed = false;
        }
    }
}

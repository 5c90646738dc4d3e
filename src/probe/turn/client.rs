//! A TURN client that asks one thing at a time and waits for the answer, over one [`Wire`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::hints::Trouble;
use super::message::{
    Answer, Ask, Challenge, Login, MAGIC_COOKIE, TransactionId, channel_data, payload_of, send_indication,
};
use super::wire::{Wire, broken};
use crate::sys::clock;

/// The first wait for an answer by UDP; each following one is twice as long. RFC 8489, section 6.2.1.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Data that is kept while an answer is awaited; what is more is lost, as on the way.
const MAX_KEPT: usize = 256;

/// One end of a call.
pub(super) struct Client {
    wire: Wire,
    patience: Duration,
    /// When all of it must be over.
    ends_at: Option<Instant>,
    login: Option<Login>,
    challenge: Option<Challenge>,
    data: VecDeque<Vec<u8>>,
    holds_allocation: bool,
}

impl Client {
    pub(super) fn new(wire: Wire, patience: Duration) -> Self {
        Self {
            wire,
            patience,
            ends_at: None,
            login: None,
            challenge: None,
            data: VecDeque::new(),
            holds_allocation: false,
        }
    }

    /// Waits for nothing beyond this moment, whatever it asks.
    pub(super) fn ending(mut self, ends_at: Instant) -> Self {
        self.ends_at = Some(ends_at);
        self
    }

    /// How long the next answer may take.
    fn until(&self) -> Instant {
        let until = clock::now().mono + self.patience;
        self.ends_at.map_or(until, |end| end.min(until))
    }

    /// Waits for anything at all in answer to a Binding request.
    pub(super) fn reach(&mut self) -> Result<(), Trouble> {
        match self.ask_unsigned(Ask::Binding) {
            Ok(_) | Err(Trouble::Foreign) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    pub(super) fn ask_unsigned(&mut self, ask: Ask) -> Result<Answer, Trouble> {
        self.exchange(ask, false)
    }

    /// An Allocate without credentials; keeps the realm and the nonce of the refusal.
    pub(super) fn challenge(&mut self) -> Result<Challenge, Trouble> {
        let answer = self.exchange(Ask::Allocate, false)?;
        match answer {
            Answer { refusal: Some((401, _)), realm: Some(realm), nonce: Some(nonce), .. } => {
                let challenge = Challenge { realm, nonce };
                self.challenge = Some(challenge.clone());
                Ok(challenge)
            }
            Answer { refusal: Some((401, _)), .. } => Err(Trouble::Lacking("realm and nonce")),
            Answer { refusal: Some((code, reason)), .. } => Err(Trouble::Refused { code, reason }),
            Answer { refusal: None, .. } => {
                self.holds_allocation = true;
                Err(Trouble::Open)
            }
        }
    }

    /// Signs what it asks from now on.
    pub(super) fn log_in(&mut self, login: &Login) {
        self.login = Some(login.clone());
    }

    /// A signed request that must be granted.
    pub(super) fn ask(&mut self, ask: Ask) -> Result<Answer, Trouble> {
        let mut answer = self.exchange(ask, true)?;
        if let (Some((438, _)), Some(nonce)) = (&answer.refusal, &answer.nonce) {
            // Once is usual: the nonce had grown old.
            if let Some(challenge) = &mut self.challenge {
                challenge.nonce.clone_from(nonce);
            }
            answer = self.exchange(ask, true)?;
        }
        if let Some((code, reason)) = answer.refusal {
            return Err(Trouble::Refused { code, reason });
        }
        if !answer.is_signed {
            return Err(Trouble::Lacking("signature by the password"));
        }
        match ask {
            Ask::Allocate | Ask::AllocateV6 => self.holds_allocation = true,
            Ask::Refresh(0) => self.holds_allocation = false,
            Ask::Binding | Ask::Permit(_) | Ask::Bind { .. } | Ask::Refresh(_) => {}
        }
        Ok(answer)
    }

    fn exchange(&mut self, ask: Ask, is_signed: bool) -> Result<Answer, Trouble> {
        let signed = self.login.as_ref().zip(self.challenge.as_ref()).filter(|_| is_signed);
        let id = new_id();
        let request = ask.write(id, signed).ok_or(Trouble::Lacking("realm and nonce of a usual length"))?;
        let until = self.until();
        let mut wait = FIRST_WAIT;
        let mut is_foreign = false;
        loop {
            self.wire.send(&request, until).map_err(broken)?;
            // A stream delivers or ends; a datagram may have got lost.
            let round = if self.wire.is_stream() { until } else { until.min(clock::now().mono + wait) };
            loop {
                match self.wire.receive(round) {
                    Ok(bytes) => {
                        let signed = self.login.as_ref().zip(self.challenge.as_ref()).filter(|_| is_signed);
                        if let Some(answer) = ask.read(&bytes, id, signed) {
                            return Ok(answer);
                        }
                        is_foreign |= !self.keep(bytes);
                    }
                    Err(Trouble::Silence) => break,
                    Err(trouble) => return Err(trouble),
                }
            }
            if clock::now().mono >= until {
                return Err(if is_foreign { Trouble::Foreign } else { Trouble::Silence });
            }
            wait *= 2;
        }
    }

    /// Keeps data for later; `false` if it is neither data nor STUN, of which there may be late answers.
    fn keep(&mut self, bytes: Vec<u8>) -> bool {
        let is_stun = bytes.get(4..8) == Some(&MAGIC_COOKIE[..]);
        let is_data = payload_of(&bytes).is_some();
        if is_data && self.data.len() < MAX_KEPT {
            self.data.push_back(bytes);
        }
        is_data || is_stun
    }

    pub(super) fn send_data(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        let bytes = channel_data(payload, self.wire.is_stream());
        self.wire.send(&bytes, self.until()).map_err(broken)
    }

    /// Data for a peer without a channel.
    pub(super) fn send_to(&mut self, peer: SocketAddr, payload: &[u8]) -> Result<(), Trouble> {
        let bytes = send_indication(new_id(), peer, payload);
        self.wire.send(&bytes, self.until()).map_err(broken)
    }

    /// The payload of the next ChannelData; `None` if none comes in time.
    pub(super) fn receive_data(&mut self, until: Instant) -> Result<Option<Vec<u8>>, Trouble> {
        loop {
            let bytes = match self.data.pop_front() {
                Some(bytes) => bytes,
                None => match self.wire.receive(until) {
                    Ok(bytes) => bytes,
                    Err(Trouble::Silence) => return Ok(None),
                    Err(trouble) => return Err(trouble),
                },
            };
            if let Some(payload) = payload_of(&bytes) {
                return Ok(Some(payload.to_vec()));
            }
        }
    }
}

fn new_id() -> TransactionId {
    TransactionId(rand::random())
}

/// An allocation that is left behind counts against its user for ten minutes.
impl Drop for Client {
    fn drop(&mut self) {
        let signed = self.login.as_ref().zip(self.challenge.as_ref());
        if !self.holds_allocation {
            return;
        }
        if let Some(request) = Ask::Refresh(0).write(new_id(), signed) {
            // Nobody is left to be told.
            let _ = self.wire.send(&request, clock::now().mono + FIRST_WAIT);
        }
    }
}

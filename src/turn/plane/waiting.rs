//! How a worker waits: asleep in epoll, or by a nap where packets are gathered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};

use super::gather::Rest;
use crate::error::{Failure, Result};
use crate::sys::turns;
use crate::text;

/// How often a worker that drains looks at the others.
const LOOKED_EVERY: Duration = Duration::from_millis(20);
/// How late the kernel may wake a worker; 50 microseconds by default, half a nap.
pub(super) const TIMER_SLACK: Duration = Duration::from_micros(1);

/// Waits until something is to be done, `due` being the latest. Gives how many events there are.
///
/// # Errors
/// If the kernel does not let it wait.
pub(super) fn wait(epoll: &Epoll, events: &mut [EpollEvent], rest: Rest, due: Duration) -> Result<usize> {
    let ready = nap(epoll, events, rest)?;
    // Nothing has come: there is nothing to gather now.
    if ready > 0 { Ok(ready) } else { wait_for(epoll, events, timeout(due)) }
}

/// Naps, if it is time for that, and gives how many events there are then; it does not wait for any.
///
/// # Errors
/// As for [`wait`].
pub(super) fn nap(epoll: &Epoll, events: &mut [EpollEvent], rest: Rest) -> Result<usize> {
    let nap = match rest {
        Rest::Sleep => return Ok(0),
        Rest::Nap(nap) => nap,
        Rest::LookThenNap(nap) => {
            let ready = wait_for(epoll, events, EpollTimeout::ZERO)?;
            if ready > 0 {
                return Ok(ready);
            }
            nap
        }
    };
    thread::sleep(nap);
    wait_for(epoll, events, EpollTimeout::ZERO)
}

/// Why a worker cannot begin.
pub(super) fn cannot_watch(error: nix::Error) -> Failure {
    Failure::operator(text!("cannot watch the sockets of turn")).caused_by(error)
}

fn wait_for(epoll: &Epoll, events: &mut [EpollEvent], timeout: EpollTimeout) -> Result<usize> {
    match epoll.wait(events, timeout) {
        Ok(ready) => Ok(ready),
        Err(nix::Error::EINTR) => Ok(0),
        Err(error) => Err(Failure::operator(text!("cannot wait for the sockets of turn")).caused_by(error)),
    }
}

/// How long a worker that is told to stop still serves its allocations. If another one has ended by itself, not at all:
/// they are lost with the instance in any case, and nobody is served anew before it is gone.
pub(super) fn drain(configured: Duration, one_has_ended: &AtomicBool) -> Duration {
    if one_has_ended.load(Ordering::Acquire) { Duration::ZERO } else { configured }
}

/// When a worker that drains looks again whether all workers' allocations have ended. Until then it stays, since the
/// kernel sends new clients to it, too, who are to be told.
pub(super) fn while_draining(ends_at: Option<Instant>, now: Instant) -> Option<Instant> {
    ends_at.map(|at| at.min(now + LOOKED_EVERY))
}

/// How long it is until the first of these, as far as a worker may sleep at all.
pub(super) fn until(deadlines: impl IntoIterator<Item = Instant>, now: Instant) -> Duration {
    let first = deadlines.into_iter().min();
    let rest = turns::until_next(now);
    first.map_or(rest, |at| at.saturating_duration_since(now)).min(rest)
}

fn timeout(due: Duration) -> EpollTimeout {
    // One more millisecond, since epoll rounds down and would wake up in vain.
    EpollTimeout::from(u16::try_from(due.as_millis()).unwrap_or(u16::MAX).saturating_add(1))
}

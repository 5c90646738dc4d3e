//! A command's end of the control socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::protocol::{Request, Response};
use super::{read_line, write_line};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::clock;
use crate::sys::lock::Lock;
use crate::sys::unix::ShortPath;
use crate::text;

/// How long a daemon that is just being started again is waited for.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked whether it is there.
const LOOKED_EVERY: Duration = Duration::from_millis(20);

/// Asks the daemon of `home`.
///
/// # Errors
/// `Kind::NotRunning` if there is none; `Kind::Operator` if it does not answer within `patience` or refuses.
pub fn ask(home: &Home, request: &Request, patience: Duration) -> Result<Response> {
    let path = home.control_socket();
    let stream = ShortPath::to(&path).and_then(|short| UnixStream::connect(short.path)).map_err(|error| {
        let is_absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        if let Some(pid) = Lock::holder(&home.lock_file()).filter(|_| is_absent) {
            Failure::operator(text!("rtcctl runs (pid {}), but nothing answers at `{}`", pid, path.display()))
                .hinted(text!("if it is not starting or stopping just now, `rtcctl{} restart` helps", home.flag()))
        } else if is_absent {
            let hint = text!("start it by `rtcctl{} start`", home.flag());
            Failure::new(Kind::NotRunning, text!("rtcctl is not running")).hinted(hint)
        } else {
            Failure::operator(text!("cannot reach the service by `{}`", path.display())).caused_by(error)
        }
    })?;
    wait_for_daemon(home)?;
    let exchange = || {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        write_line(&stream, request)?;
        read_line(&stream)
    };
    let response = exchange().map_err(|error: io::Error| {
        let failure = Failure::operator(text!("the service does not answer"));
        if error.kind() == io::ErrorKind::WouldBlock {
            failure.because(text!("it has said nothing for {} s", patience.as_secs()))
        } else {
            failure.caused_by(error)
        }
        .hinted(text!("`rtcctl{} stop` ends it even if it hangs", home.flag()))
    })?;
    match response {
        Response::Refused { message, hint } => {
            let failure = Failure::operator(message);
            Err(hint.into_iter().fold(failure, Failure::hinted))
        }
        Response::Failed { failure } => Err(failure),
        response @ (Response::Status { .. }
        | Response::Done
        | Response::Renewed { .. }
        | Response::Reloaded { .. }
        | Response::Phone(_)
        | Response::Measure { .. }) => Ok(response),
    }
}

/// The socket may be held for a daemon that has died and is started again: in a moment, or after a pause.
fn wait_for_daemon(home: &Home) -> Result<()> {
    let end = clock::now().mono + COMES_BACK_WITHIN;
    while Lock::holder(&home.lock_file()).is_none() {
        if clock::now().mono >= end {
            let failure = text!("the daemon is down and has not come back within {} s", COMES_BACK_WITHIN.as_secs());
            return Err(Failure::operator(failure).hinted(text!(
                "see `rtcctl{0} status` for when it is started again, or start it now by `rtcctl{0} start`",
                home.flag()
            )));
        }
        std::thread::park_timeout(LOOKED_EVERY);
    }
    Ok(())
}

//! A command's end of the control socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::protocol::{Request, Response};
use super::{ShortPath, read_line, write_line};
use crate::error::{Failure, Kind, Result};

/// Asks the daemon behind the socket at `path`.
///
/// # Errors
/// `Kind::NotRunning` if there is none; `Kind::Operator` if it does not answer within `patience` or refuses.
pub fn ask(path: &Path, request: &Request, patience: Duration) -> Result<Response> {
    let stream = ShortPath::to(path).and_then(|short| UnixStream::connect(short.path)).map_err(|error| {
        let is_absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        if is_absent {
            Failure::new(Kind::NotRunning, "rtcctl is not running").hinted("start it by `rtcctl start`")
        } else {
            Failure::operator(format!("cannot reach the service by `{}`", path.display())).caused_by(error)
        }
    })?;
    let exchange = || {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        write_line(&stream, request)?;
        read_line(&stream)
    };
    let response = exchange().map_err(|error: io::Error| {
        let failure = Failure::operator("the service does not answer");
        if error.kind() == io::ErrorKind::WouldBlock {
            failure.because(format!("it has said nothing for {} s", patience.as_secs()))
        } else {
            failure.caused_by(error)
        }
        .hinted("`rtcctl stop` ends it even if it hangs")
    })?;
    match response {
        Response::Refused { message, hint } => {
            let failure = Failure::operator(message);
            Err(hint.into_iter().fold(failure, Failure::hinted))
        }
        response @ (Response::Status { .. } | Response::Done) => Ok(response),
    }
}

//! A command's end of the guardian's socket.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{UnixAddr, connect};

use super::desk::packets;
use super::protocol::{Answer, MAX_PACKET, Report, Request};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::clock;
use crate::sys::lock::Lock;
use crate::sys::unix::ShortPath;
use crate::text;
use crate::words::Text;

/// How long a guardian that has just come up may need until it can be reached.
const REACHED_WITHIN: Duration = Duration::from_secs(2);
/// How long a guardian may take for an answer that it has at hand.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// The guardian of `home`, if there is one.
#[must_use]
pub fn holder(home: &Home) -> Option<u32> {
    Lock::holder(&home.guardian_lock_file())
}

/// What the guardian knows of its daemon.
///
/// # Errors
/// If it cannot be reached or does not answer.
pub fn report(home: &Home) -> Result<Report> {
    match ask(home, Request::Report, ANSWERED_WITHIN)? {
        Answer::Report(report) => Ok(report),
        Answer::Ready { .. } | Answer::Failed { .. } | Answer::Stopping => Err(strange()),
    }
}

/// Has the daemon started now and waits until it is ready. Gives its process.
///
/// # Errors
/// If the daemon failed instead, or the guardian does not answer within `patience`.
pub fn start(home: &Home, patience: Duration) -> Result<u32> {
    ask_for_a_daemon(home, Request::Start, patience)
}

/// Has the daemon ended and started again while its sockets are held, and waits until it is ready. Gives its process.
///
/// # Errors
/// If the daemon failed instead, or the guardian does not answer within `patience`.
pub fn restart(home: &Home, patience: Duration) -> Result<u32> {
    ask_for_a_daemon(home, Request::Restart, patience)
}

fn ask_for_a_daemon(home: &Home, request: Request, patience: Duration) -> Result<u32> {
    match ask(home, request, patience)? {
        Answer::Ready { pid } => Ok(pid),
        Answer::Failed { cause } => {
            Err(Failure::operator(text!("the daemon does not start")).because(Text::verbatim(cause)))
        }
        Answer::Stopping => Err(Failure::new(Kind::Locked, text!("rtcctl is just stopping for this home"))
            .hinted(text!("try `rtcctl{} start` again", home.flag()))),
        Answer::Report(_) => Err(strange()),
    }
}

/// Orders the guardian to end its daemon and itself.
///
/// # Errors
/// If it cannot be reached or does not answer.
pub fn stop(home: &Home) -> Result<()> {
    match ask(home, Request::Stop, ANSWERED_WITHIN)? {
        Answer::Stopping => Ok(()),
        Answer::Ready { .. } | Answer::Failed { .. } | Answer::Report(_) => Err(strange()),
    }
}

fn strange() -> Failure {
    Failure::bug(text!("the guardian gave an answer to another question"))
}

fn ask(home: &Home, request: Request, patience: Duration) -> Result<Answer> {
    let exchange = || -> io::Result<Answer> {
        use std::io::{Read as _, Write as _};
        let mut stream = reach(home)?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(ANSWERED_WITHIN))?;
        stream.write_all(&serde_json::to_vec(&request)?)?;
        let mut packet = vec![0; MAX_PACKET];
        let length = stream.read(&mut packet)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&packet[..length])?)
    };
    exchange().map_err(|error| {
        let who = holder(home).map_or_else(Text::default, |pid| text!(" (pid {})", pid));
        Failure::operator(text!("the guardian{} does not answer", who))
            .caused_by(error)
            .hinted(text!("`rtcctl{} stop` ends it even if it hangs", home.flag()))
    })
}

fn reach(home: &Home) -> io::Result<UnixStream> {
    let end = clock::now().mono + REACHED_WITHIN;
    loop {
        let short = ShortPath::to(&home.guardian_socket())?;
        let socket = packets()?;
        match connect(socket.as_raw_fd(), &UnixAddr::new(&short.path)?) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            // It takes its lock before it binds its socket.
            Err(_) if holder(home).is_some() && clock::now().mono < end => {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

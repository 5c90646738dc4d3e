//! Starts this program as a child that is handed sockets: sd_listen_fds(3), the manager's end.
//!
//! The standard library cannot do it: `LISTEN_PID` is known only once the child is there, and the descriptors must have
//! numbers in a row.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::{ForkResult, fork};

use super::fdstore::FIRST;
use super::notify::VARIABLES;
use super::process::{Watched, own_program};

/// What a child is given.
pub struct Gifts<'a> {
    pub arguments: &'a [OsString],
    /// Variables on top of ours.
    pub variables: &'a [(&'static str, OsString)],
    /// Its sockets with their names.
    pub sockets: &'a [(&'a str, BorrowedFd<'a>)],
    pub output: BorrowedFd<'a>,
    pub complaints: BorrowedFd<'a>,
}

/// The exit code of a child that could not become this program.
const NOT_STARTED: i32 = 127;
/// Digits of the longest process number.
const DIGITS: usize = 10;

/// Starts this program anew. `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` are set for it.
///
/// # Errors
/// If the kernel has no room, or an argument has a zero byte in it.
pub fn spawn(gifts: &Gifts<'_>) -> io::Result<Watched> {
    // All that needs memory comes before the child is there: its copy of it may not be used for more than calls.
    let program = c_string(own_program().as_os_str())?;
    let arguments = gifts.arguments.iter().map(|argument| c_string(argument));
    let arguments: Vec<CString> = std::iter::once(Ok(program.clone())).chain(arguments).collect::<io::Result<_>>()?;
    let variables = environment(gifts)?;
    let mut pid_variable = [&b"LISTEN_PID="[..], &[0; DIGITS + 1]].concat();
    let digits_at = pid_variable.len() - DIGITS - 1;
    let nothing = File::open("/dev/null")?;
    // Beyond the numbers that the child's sockets will have, so that none is overwritten before it is moved.
    let beyond = FIRST + RawFd::try_from(gifts.sockets.len()).map_err(io::Error::other)?;
    let sources: Vec<OwnedFd> =
        gifts.sockets.iter().map(|(_, socket)| duplicate(*socket, beyond)).collect::<io::Result<_>>()?;
    let streams = [nothing.as_fd(), gifts.output, gifts.complaints];
    let streams: Vec<OwnedFd> =
        streams.into_iter().map(|stream| duplicate(stream, beyond)).collect::<io::Result<_>>()?;
    let moves: Vec<(RawFd, RawFd)> = (0..)
        .zip(&streams)
        .chain((FIRST..).zip(&sources))
        .map(|(number, source)| (source.as_raw_fd(), number))
        .collect();
    let argument_pointers = pointers(&arguments);
    let mut variable_pointers = pointers(&variables);
    let end = variable_pointers.len() - 1;
    variable_pointers.insert(end, pid_variable.as_ptr().cast());
    let child = become_two(|| {
        write_number(std::process::id(), &mut pid_variable[digits_at..]);
        move_descriptors(&moves);
        execute(&program, &argument_pointers, &variable_pointers);
    });
    Watched::new(child?)
}

/// Our variables, without those of a manager of ours, and with the child's own.
fn environment(gifts: &Gifts<'_>) -> io::Result<Vec<CString>> {
    let names: Vec<&str> = gifts.sockets.iter().map(|(name, _)| *name).collect();
    let own = [
        ("LISTEN_FDS", OsString::from(gifts.sockets.len().to_string())),
        ("LISTEN_FDNAMES", OsString::from(names.join(":"))),
    ];
    let own = own.iter().chain(gifts.variables);
    let is_own = |name: &OsStr| VARIABLES.iter().any(|own| name == *own);
    let ours = std::env::vars_os().filter(|(name, _)| !is_own(name));
    let all = ours.chain(own.map(|(name, value)| (OsString::from(name), value.clone())));
    all.map(|(name, value)| Ok(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?)).collect()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// Pointers to all of them, and the null pointer that ends such a list.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

fn duplicate(descriptor: BorrowedFd<'_>, beyond: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(beyond.max(FIRST)))?;
    Ok(own(number))
}

/// Writes a decimal number, without needing memory. What follows it is zero, so it ends a text.
fn write_number(number: u32, place: &mut [u8]) {
    let (mut rest, mut length) = (number, 1);
    while rest >= 10 {
        rest /= 10;
        length += 1;
    }
    rest = number;
    for digit in place[..length].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
}

#[expect(unsafe_code, reason = "a descriptor that fcntl has made belongs to nobody else")]
fn own(number: RawFd) -> OwnedFd {
    // SAFETY: it was made by the call before this one, and nobody else has heard of it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Splits this process. `child` runs in the new one, which ends if it returns; the new one's number is given here.
#[expect(unsafe_code, reason = "fork has no safe form")]
fn become_two(child: impl FnOnce()) -> io::Result<u32> {
    // SAFETY: the child makes calls that are async-signal-safe and takes no memory or lock: numbers are written in
    // place, descriptors moved by dup2, and then it becomes another program or ends by _exit.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw().unsigned_abs()),
        ForkResult::Child => {
            child();
            give_up()
        }
    }
}

#[expect(unsafe_code, reason = "the child's descriptors are known by their numbers alone")]
fn move_descriptors(moves: &[(RawFd, RawFd)]) {
    for (source, target) in moves {
        // SAFETY: both are numbers; what had the target's number is not used in this process any more.
        if unsafe { libc::dup2(*source, *target) } < 0 {
            give_up();
        }
    }
}

#[expect(unsafe_code, reason = "the lists were made before the fork, as pointers")]
fn execute(program: &CString, arguments: &[*const libc::c_char], variables: &[*const libc::c_char]) {
    // SAFETY: both lists end by a null pointer and point to texts that the parent's frame, copied here, still owns.
    // Signals that the parent waits for must not stay blocked in the child.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::execve(program.as_ptr(), arguments.as_ptr(), variables.as_ptr());
    }
}

#[expect(unsafe_code, reason = "the child must not run what the parent does at its end")]
fn give_up() -> ! {
    // SAFETY: it ends this process at once.
    unsafe { libc::_exit(NOT_STARTED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        for number in [0, 7, 10, 4711, u32::MAX] {
            let mut place = [0; DIGITS + 1];
            write_number(number, &mut place);
            let text: Vec<u8> = place.iter().copied().take_while(|byte| *byte != 0).collect();
            assert_eq!(String::from_utf8(text).unwrap(), number.to_string());
        }
    }
}

//! The service manager's readiness protocol: sd_notify(3), without its library.

use std::os::unix::net::UnixDatagram;

/// Whether somebody looks after this process, and starts it anew when it ends badly.
#[must_use]
pub fn is_listened_to() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells the service manager `state`, like `READY=1`, if one is listening.
pub fn notify(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&address, state) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

fn send(address: &std::ffi::OsStr, state: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::SocketAddr;
    let socket = UnixDatagram::unbound()?;
    // A leading `@` stands for the zero byte of an abstract address.
    match address.as_bytes().split_first() {
        Some((b'@', name)) => socket.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?)?,
        _ => socket.send_to(state.as_bytes(), address)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_a_path_and_at_an_abstract_address() {
        use std::os::linux::net::SocketAddrExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("rtcctl-test-{}", std::process::id());
        let abstract_address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listeners = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&abstract_address).unwrap()];
        for (listener, address) in listeners.iter().zip([path.into_os_string(), format!("@{name}").into()]) {
            send(&address, "READY=1").unwrap();
            let mut buffer = [0; 32];
            let length = listener.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }
}

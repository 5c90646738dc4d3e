//! How a program that is linked as one file looks names up.

/// Has the C library look up names by `/etc/hosts` and the DNS and nothing else, where it is part of this very program.
///
/// By default it does as `/etc/nsswitch.conf` says, which may name modules that it would load from this host: they fit
/// the library of their own system alone. To be called before there is a second thread.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "nobody else has this function of glibc")]
pub fn look_up_without_modules() {
    use nix::libc;

    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const libc::c_char, services: *const libc::c_char) -> libc::c_int;
    }
    for (database, services) in [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"group", c"files")] {
        // SAFETY: both texts end by zero and live as long as the program. Where it fails, nothing is changed.
        let _ = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    }
}

/// The system's own C library knows its modules.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn look_up_without_modules() {}

//! The composition root: a `Config` becomes services, a supervisor and a control socket.

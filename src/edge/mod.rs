//! Accepts, terminates TLS and owns connections; hands requests to web and signaling.

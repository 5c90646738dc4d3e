//! The call page and the API: a router without sockets.

//! The sockets that are held for the daemon, by name, and never too many of them.

use crate::sys::fdstore::Inherited;

/// Sockets that are held at most: as many as the daemon takes back.
const MAX_HELD: usize = Inherited::MAX;

/// What tells one socket from any other: device and inode.
pub(super) type Identity = (u64, u64);

/// Holds sockets, in the order in which they came. `S` is what keeps one open.
#[derive(Debug)]
pub(super) struct Store<S> {
    held: Vec<(String, Identity, S)>,
}

/// What became of a socket that was brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    /// It is held already.
    Known,
    /// There is no room for it.
    Full,
}

impl<S> Store<S> {
    pub(super) fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// Holds `socket`. One that is held already is closed, and so is one for which there is no room.
    pub(super) fn keep(&mut self, name: &str, identity: Identity, socket: S) -> Kept {
        if self.held.iter().any(|(other, known, _)| *known == identity && other == name) {
            Kept::Known
        } else if self.held.len() >= MAX_HELD {
            Kept::Full
        } else {
            self.held.push((name.to_owned(), identity, socket));
            Kept::Yes
        }
    }

    /// Closes everything under `name`.
    pub(super) fn remove(&mut self, name: &str) {
        self.held.retain(|(other, _, _)| other != name);
    }

    /// Closes everything.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// All of them with their names.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, &S)> {
        self.held.iter().map(|(name, _, socket)| (name.as_str(), socket))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_socket_is_held_once_under_its_name_until_it_is_removed() {
        let (first, second) = (Rc::new(()), Rc::new(()));
        let mut store = Store::new();
        assert_eq!(store.keep("https", (1, 1), Rc::clone(&first)), Kept::Yes);
        assert_eq!(store.keep("https", (1, 1), Rc::clone(&first)), Kept::Known);
        assert_eq!(store.keep("https", (1, 2), Rc::clone(&second)), Kept::Yes);
        assert_eq!(store.keep("turn", (1, 3), Rc::clone(&second)), Kept::Yes);
        assert_eq!((Rc::strong_count(&first), Rc::strong_count(&second)), (2, 3));
        assert_eq!(store.each().map(|(name, _)| name).collect::<Vec<_>>(), ["https", "https", "turn"]);
        store.remove("https");
        assert_eq!((Rc::strong_count(&first), Rc::strong_count(&second)), (1, 2));
        store.clear();
        assert_eq!(Rc::strong_count(&second), 1);
    }

    #[test]
    fn a_daemon_that_stores_without_end_does_not_fill_the_guardian() {
        let mut store = Store::new();
        let kept = (0..2 * MAX_HELD as u64).filter(|number| store.keep("x", (0, *number), ()) == Kept::Yes).count();
        assert_eq!(kept, MAX_HELD);
        assert_eq!(store.keep("x", (0, u64::MAX), ()), Kept::Full);
    }
}

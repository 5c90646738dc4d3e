//! Whether a socket sends several datagrams in one piece, by how that went.

/// Refusals in a row after which a way out is taken to be unable.
const PATIENCE: u8 = 16;
/// Starts a count of sends during which nothing is tried.
const RESTING: u8 = u8::MAX;

/// What is known of one socket's way out.
///
/// A device without checksums of its own, or a path shorter than usual, refuses pieces: then each costs calls for
/// nothing. After [`PATIENCE`] refusals nothing is tried for a while; the way may have changed since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offload(u8);

impl Offload {
    /// Whether to send pieces this time.
    pub(super) fn is_on(self) -> bool {
        self.0 <= PATIENCE
    }

    /// Everything of one batch has left: `taken` pieces as such, `refused` ones not.
    pub(super) fn learn(&mut self, taken: u32, refused: u32) {
        self.0 = match self.0 {
            resting @ PATIENCE.. if resting > PATIENCE => resting - 1,
            _ if taken > 0 => 0,
            _ if refused == 0 => self.0,
            PATIENCE => RESTING,
            failures => failures + 1,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_out_that_keeps_refusing_is_left_alone_for_a_while() {
        let mut offload = Offload::default();
        for _ in 0..=PATIENCE {
            assert!(offload.is_on());
            offload.learn(0, 1);
        }
        for _ in PATIENCE..RESTING {
            assert!(!offload.is_on());
            offload.learn(0, 0);
        }
        // Tried again: refused once more, and it rests at once.
        assert!(offload.is_on());
        offload.learn(0, 1);
        assert!(!offload.is_on());
    }

    #[test]
    fn one_success_makes_up_for_all_refusals() {
        let mut offload = Offload::default();
        for _ in 0..100 {
            (0..PATIENCE).for_each(|_| offload.learn(0, 1));
            offload.learn(0, 0);
            offload.learn(1, 0);
            assert!(offload.is_on());
        }
    }
}

//! Decides when so many sockets have gone that their memory is worth giving back: the allocator keeps it otherwise.

/// Sockets that have gone at least; each had some fifteen kilobytes.
const WORTH: usize = 64;
/// Looks in a row at which no more went: what belonged to the last of them is free by then.
const QUIET: u32 = 3;

/// Follows the number of sockets.
#[derive(Debug, Default)]
pub(super) struct Ebb {
    /// The most since memory was given back.
    most: usize,
    last: usize,
    quiet: u32,
}

impl Ebb {
    /// Whether memory should be given back now. To be asked at even times.
    pub(super) fn is_due(&mut self, count: usize) -> bool {
        self.most = self.most.max(count);
        self.quiet = if count < self.last { 0 } else { self.quiet.saturating_add(1) };
        self.last = count;
        // A few of many are soon replaced by others.
        let is_due = self.quiet >= QUIET && self.most - count >= WORTH.max(self.most / 4);
        if is_due {
            self.most = count;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(counts: &[usize]) -> Vec<usize> {
        let mut ebb = Ebb::default();
        let looks = counts.iter().enumerate().filter(|(_, count)| ebb.is_due(**count));
        looks.map(|(look, _)| look).collect()
    }

    #[test]
    fn memory_is_given_back_once_when_many_have_gone_and_no_more_go() {
        assert_eq!(due(&[0, 500, 5000, 5000, 2000, 100, 0, 0, 0, 0, 0, 0]), [9]);
        assert_eq!(due(&[5000, 1000, 1000, 1000, 1000, 1000, 0, 0, 0, 0, 0]), [4, 9], "and again for the rest");
    }

    #[test]
    fn a_few_are_not_worth_it() {
        assert_eq!(due(&[63, 0, 0, 0, 0, 0]), Vec::<usize>::new());
        assert_eq!(due(&[5000, 4000, 4000, 4000, 4000, 5000, 5000]), Vec::<usize>::new());
    }
}

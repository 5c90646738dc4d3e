//! Sets of port numbers, as firewalls write them: single ports and ranges.

use std::fmt;
use std::ops::RangeInclusive;

/// Port numbers, as ranges in order that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

impl PortSet {
    /// Every port there is.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![0..=u16::MAX])
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    /// How many ports are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(ExactSizeIterator::len).sum()
    }

    /// The ranges, in order.
    #[must_use]
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }

    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut common = Vec::new();
        for one in &self.0 {
            for two in &other.0 {
                let (first, last) = (*one.start().max(two.start()), *one.end().min(two.end()));
                if first <= last {
                    common.push(first..=last);
                }
            }
        }
        common.into_iter().collect()
    }

    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).cloned().collect()
    }

    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.and(&other.complement())
    }

    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.without(other).is_empty()
    }

    /// Every port that is not in it.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut rest = Vec::new();
        let mut next = Some(0);
        for range in &self.0 {
            if let Some(next) = next.filter(|next| next < range.start()) {
                rest.push(next..=range.start() - 1);
            }
            next = range.end().checked_add(1);
        }
        rest.extend(next.map(|next| next..=u16::MAX));
        Self(rest)
    }

    /// Its ranges, with `between` in ranges and `separator` after each but the last.
    #[must_use]
    pub fn text(&self, between: &str, separator: &str) -> String {
        self.0.iter().map(|range| range_text(range, between)).collect::<Vec<_>>().join(separator)
    }
}

/// A range with `between` in it; a single port is its number alone.
#[must_use]
pub fn range_text(range: &RangeInclusive<u16>, between: &str) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last { first.to_string() } else { format!("{first}{between}{last}") }
}

impl FromIterator<RangeInclusive<u16>> for PortSet {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u16>>>(ranges: I) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        sorted.sort_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
        for range in sorted {
            match merged.last_mut() {
                // One that touches the last one is a part of it.
                Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

/// As people read it: `80, 443, 49160-51159`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text("-", ", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::reversed_empty_ranges, reason = "one that runs backwards has no ports")]
    #[test]
    fn ranges_that_touch_are_one_and_are_told_shortly() {
        let set: PortSet = [443..=443, 80..=80, 81..=90, 85..=100, 9..=3].into_iter().collect();
        assert_eq!(set.to_string(), "80-100, 443");
        assert_eq!(set.text(":", ","), "80:100,443");
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_trouble() {
        assert!(PortSet::all().complement().is_empty());
        assert_eq!(PortSet::default().complement(), PortSet::all());
        let ends: PortSet = [0..=0, u16::MAX..=u16::MAX].into_iter().collect();
        assert_eq!(ends.complement().to_string(), "1-65534");
        assert_eq!(ends.complement().complement(), ends);
    }

    fn a_set() -> impl Strategy<Value = PortSet> {
        let range = (0_u16..60, 0_u16..8).prop_map(|(first, length)| first..=first + length);
        prop::collection::vec(range, 0..6).prop_map(|ranges| ranges.into_iter().collect())
    }

    proptest! {
        #[test]
        fn sets_are_what_their_members_say(one in a_set(), two in a_set()) {
            let has = |set: &PortSet, port: u16| set.ranges().iter().any(|range| range.contains(&port));
            for port in 0..80 {
                let (first, second) = (has(&one, port), has(&two, port));
                prop_assert_eq!(has(&one.and(&two), port), first && second);
                prop_assert_eq!(has(&one.or(&two), port), first || second);
                prop_assert_eq!(has(&one.without(&two), port), first && !second);
            }
            prop_assert_eq!(one.is_within(&two), (0..80).all(|port| !has(&one, port) || has(&two, port)));
        }
    }
}

//! What each fault meant to whom, and what was worse than it may be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::bounds::{UNNOTICED, bound};
use crate::plan::Step;
use crate::signs::{Channel, Noticed};

/// A fault that is over.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) step: Step,
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) noticed: BTreeMap<Channel, Noticed>,
    /// Until the status was ready again.
    pub(crate) ready_after: Duration,
    /// How many times slower than at its best the machine was meanwhile.
    pub(crate) slowness: f64,
}

impl Outcome {
    fn is_noticed(&self, channel: Channel) -> bool {
        self.noticed.get(&channel).is_some_and(|noticed| noticed.outage > UNNOTICED || noticed.lost > 0)
    }

    /// What is worse than it may be.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (channel, noticed) in &self.noticed {
            let bound = bound(&self.step, *channel);
            // Waits do not get longer on a slow machine. What is done after them does, and so does watching.
            let allowed = bound + Duration::from_secs_f64(self.slowness);
            if noticed.outage > allowed {
                complaints.push(format!(
                    "{}: {channel} was without for {:.1} s; allowed are {:.1} s, {:.1} times as slow as it can be",
                    self.step.fault,
                    noticed.outage.as_secs_f64(),
                    bound.as_secs_f64(),
                    self.slowness
                ));
            }
            let may_refuse = self.step.fault == crate::plan::Fault::PortStolen;
            if noticed.refused > 0 && !may_refuse {
                complaints.push(format!("{}: {channel} was refused {} times", self.step.fault, noticed.refused));
            }
        }
        complaints
    }

    /// One line.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{:>7.1} s  {:<27}", self.at.as_secs_f64(), self.step.fault.to_string());
        if self.step.escalates {
            line.push_str(" (again: daemon anew)");
        }
        let mut is_noticed = false;
        for (channel, noticed) in self.noticed.iter().filter(|(channel, _)| self.is_noticed(**channel)) {
            is_noticed = true;
            let _ = write!(line, "  {channel} {:.1} s", noticed.outage.as_secs_f64());
            if noticed.lost > 0 {
                let _ = write!(line, " ({} lost)", noticed.lost);
            }
        }
        if !is_noticed {
            line.push_str("  nobody");
        }
        let _ = write!(line, "  | ready after {:.1} s", self.ready_after.as_secs_f64());
        if self.slowness > 2.0 {
            let _ = write!(line, ", machine {:.0}x slow", self.slowness);
        }
        line
    }
}

/// The end of a report: totals, and for each channel what was worst.
pub(crate) fn totals(outcomes: &[Outcome], channels: &[Channel]) -> String {
    let noticed = outcomes.iter().filter(|one| channels.iter().any(|channel| one.is_noticed(*channel))).count();
    let mut text = format!("faults injected: {}\nfaults noticed by a user: {noticed}\n", outcomes.len());
    for channel in channels {
        let of = |one: &Outcome| one.noticed.get(channel).copied().unwrap_or_default();
        let Some(worst) = outcomes.iter().max_by_key(|one| of(one).outage) else { continue };
        let times = outcomes.iter().filter(|one| one.is_noticed(*channel)).count();
        let lost: usize = outcomes.iter().map(|one| of(one).lost).sum();
        let refused: usize = outcomes.iter().map(|one| of(one).refused).sum();
        let _ = writeln!(
            text,
            "{channel:<12}  noticed {times:>3} times, {lost:>4} lost, {refused} refused, longest outage {:>5.1} s ({})",
            of(worst).outage.as_secs_f64(),
            worst.step.fault
        );
    }
    text
}

#[test]
fn a_report_tells_what_was_noticed_and_complains_of_what_is_beyond_its_bound() {
    use crate::plan::Fault;
    let noticed = |tenths: u64, lost, refused| Noticed { outage: Duration::from_millis(100 * tenths), lost, refused };
    let outcome = Outcome {
        step: Step { pause: Duration::ZERO, fault: Fault::KillDaemon, escalates: false },
        at: Duration::from_secs(12),
        noticed: BTreeMap::from([(Channel::Page, noticed(25, 1, 0)), (Channel::Call, noticed(2, 0, 0))]),
        ready_after: Duration::from_millis(1500),
        slowness: 1.0,
    };
    assert_eq!(outcome.line(), "   12.0 s  kill -9 of the daemon        page 2.5 s (1 lost)  | ready after 1.5 s");
    assert_eq!(outcome.complaints(), Vec::<String>::new());
    let mut bad = outcome.clone();
    bad.noticed = BTreeMap::from([(Channel::Page, noticed(55, 0, 2)), (Channel::Call, noticed(21, 0, 0))]);
    assert_eq!(
        bad.complaints(),
        [
            "kill -9 of the daemon: page was without for 5.5 s; allowed are 3.0 s, 1.0 times as slow as it can be",
            "kill -9 of the daemon: page was refused 2 times",
            "kill -9 of the daemon: call was without for 2.1 s; allowed are 1.0 s, 1.0 times as slow as it can be",
        ]
    );
    bad.slowness = 3.0;
    assert_eq!(bad.complaints(), ["kill -9 of the daemon: page was refused 2 times"]);
    assert_eq!(
        totals(&[outcome, bad], &[Channel::Page, Channel::Call]),
        "faults injected: 2\nfaults noticed by a user: 2\n\
         page          noticed   2 times,    1 lost, 2 refused, longest outage   5.5 s (kill -9 of the daemon)\n\
         call          noticed   1 times,    0 lost, 0 refused, longest outage   2.1 s (kill -9 of the daemon)\n"
    );
}

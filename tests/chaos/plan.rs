//! Decides what goes wrong, in which order and with what pauses: a seed and a length in, a list out.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rtcctl::supervisor::service::TaskName;

/// Something that goes wrong, or that an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Panic(TaskName),
    /// A busy loop.
    Spin(TaskName),
    Deadlock(TaskName),
    /// The executor is blocked for [`BLOCKED_FOR`], then goes on.
    Block(TaskName),
    /// A busy loop in the supervisor itself.
    SpinSupervisor,
    KillDaemon,
    KillGuardian,
    /// The daemon is stopped by a signal for [`PAUSED_FOR`].
    PauseDaemon,
    /// The same, and nobody lets it go on.
    FreezeDaemon,
    PauseGuardian,
    /// For [`STARVES_FOR`], the daemon gets no descriptor more.
    Descriptors,
    /// For [`LASTS`], the home has no room, and web is restarted meanwhile.
    DiskFull,
    /// The same, and the daemon is killed meanwhile.
    DiskFullKill,
    /// For [`LASTS`], the daemon's wall clock is two hours ahead.
    ClockAhead,
    ClockBehind,
    /// The daemon is killed, and somebody tries to take its ports meanwhile.
    Thief,
    /// Guardian and daemon are killed, and somebody has the HTTPS port when the operator starts them again.
    PortStolen,
    CertificateDamaged,
    ControlDeleted,
    Reload,
    ReloadBad,
    Restart(TaskName),
    RestartAll,
}

pub(crate) const BLOCKED_FOR: Duration = Duration::from_secs(3);
pub(crate) const PAUSED_FOR: Duration = Duration::from_secs(3);
pub(crate) const LASTS: Duration = Duration::from_secs(4);
/// Longer than the daemon may be silent: it must not be taken for one that hangs.
pub(crate) const STARVES_FOR: Duration = Duration::from_secs(12);

/// A fault, and what comes before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
    /// It is the second hang of its task in a row: the whole daemon is started anew.
    pub(crate) escalates: bool,
}

impl Fault {
    pub(crate) fn all() -> Vec<Self> {
        let of_tasks = [Self::Panic as fn(TaskName) -> Self, Self::Spin, Self::Deadlock, Self::Block, Self::Restart];
        let of_tasks = of_tasks.iter().flat_map(|fault| TaskName::ALL.map(fault));
        let others = [
            Self::SpinSupervisor,
            Self::KillDaemon,
            Self::KillGuardian,
            Self::PauseDaemon,
            Self::FreezeDaemon,
            Self::PauseGuardian,
            Self::Descriptors,
            Self::DiskFull,
            Self::DiskFullKill,
            Self::ClockAhead,
            Self::ClockBehind,
            Self::Thief,
            Self::PortStolen,
            Self::CertificateDamaged,
            Self::ControlDeleted,
            Self::Reload,
            Self::ReloadBad,
            Self::RestartAll,
        ];
        of_tasks.chain(others).collect()
    }

    /// About how long it takes until all is well again.
    pub(crate) fn takes(self) -> Duration {
        Duration::from_secs(match self {
            Self::Spin(_) | Self::Deadlock(_) | Self::SpinSupervisor | Self::FreezeDaemon => 16,
            Self::Descriptors => 16,
            Self::PortStolen => 8,
            Self::DiskFull | Self::DiskFullKill | Self::ClockAhead | Self::ClockBehind => 8,
            Self::Block(_) | Self::PauseDaemon | Self::PauseGuardian => 6,
            Self::KillDaemon | Self::Thief | Self::RestartAll => 6,
            Self::Panic(_) | Self::Restart(_) | Self::KillGuardian => 3,
            Self::CertificateDamaged | Self::ControlDeleted | Self::Reload | Self::ReloadBad => 3,
        })
    }

    pub(crate) fn hung(self) -> Option<TaskName> {
        if let Self::Spin(task) | Self::Deadlock(task) = self { Some(task) } else { None }
    }

    /// Whether there is another daemon afterwards.
    pub(crate) fn replaces_the_daemon(self) -> bool {
        matches!(
            self,
            Self::SpinSupervisor
                | Self::KillDaemon
                | Self::FreezeDaemon
                | Self::DiskFullKill
                | Self::Thief
                | Self::PortStolen
                | Self::RestartAll
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(task) => write!(out, "panic in {task}"),
            Self::Spin(task) => write!(out, "busy loop in {task}"),
            Self::Deadlock(task) => write!(out, "deadlock in {task}"),
            Self::Block(task) => write!(out, "{task} blocked for {} s", BLOCKED_FOR.as_secs()),
            Self::Restart(task) => write!(out, "restart of {task}"),
            Self::SpinSupervisor => out.write_str("busy loop in supervisor"),
            Self::KillDaemon => out.write_str("kill -9 of the daemon"),
            Self::KillGuardian => out.write_str("kill -9 of the guardian"),
            Self::PauseDaemon => write!(out, "daemon stopped for {} s", PAUSED_FOR.as_secs()),
            Self::FreezeDaemon => out.write_str("daemon stopped for good"),
            Self::PauseGuardian => write!(out, "guardian stopped for {} s", PAUSED_FOR.as_secs()),
            Self::Descriptors => write!(out, "no descriptors for {} s", STARVES_FOR.as_secs()),
            Self::DiskFull => out.write_str("disk full, web restarted"),
            Self::DiskFullKill => out.write_str("disk full, daemon killed"),
            Self::ClockAhead => write!(out, "clock 2 h ahead for {} s", LASTS.as_secs()),
            Self::ClockBehind => write!(out, "clock 2 h behind for {} s", LASTS.as_secs()),
            Self::Thief => out.write_str("daemon killed, ports tried"),
            Self::PortStolen => out.write_str("all killed, port stolen"),
            Self::CertificateDamaged => out.write_str("certificate damaged"),
            Self::ControlDeleted => out.write_str("control socket deleted"),
            Self::Reload => out.write_str("reload"),
            Self::ReloadBad => out.write_str("reload of a bad file"),
            Self::RestartAll => out.write_str("restart of everything"),
        }
    }
}

/// What goes wrong within about so long, of these faults. Each comes once before any comes again, and the order is the
/// seed's.
pub(crate) fn plan(seed: u64, length: Duration, faults: &[Fault]) -> Vec<Step> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut steps = Vec::new();
    let (mut deck, mut hung) = (Vec::new(), BTreeSet::new());
    let mut left = length;
    loop {
        if deck.is_empty() {
            deck = faults.to_vec();
        }
        let fault = deck.swap_remove(rng.random_range(0..deck.len()));
        let pause = Duration::from_millis(rng.random_range(200..2000));
        let Some(rest) = left.checked_sub(pause + fault.takes()) else { return steps };
        left = rest;
        // A hang that follows another one of its task, in the same daemon, with nobody's order between them.
        let escalates = fault.hung().is_some_and(|task| !hung.insert(task));
        if escalates || fault.replaces_the_daemon() {
            hung.clear();
        } else if let Fault::Restart(task) = fault {
            hung.remove(&task);
        }
        steps.push(Step { pause, fault, escalates });
    }
}

#[test]
fn a_seed_gives_the_same_plan_again_and_another_one_another() {
    let (length, all) = (Duration::from_secs(600), Fault::all());
    assert_eq!(plan(1, length, &all), plan(1, length, &all));
    assert_ne!(plan(1, length, &all), plan(2, length, &all));
    let takes: Duration = plan(1, length, &all).iter().map(|step| step.pause + step.fault.takes()).sum();
    assert!(takes <= length && takes > length - Duration::from_secs(20), "{takes:?}");
    assert_eq!(plan(1, Duration::ZERO, &all), []);
}

#[test]
fn every_fault_comes_before_any_comes_again() {
    let all = Fault::all();
    let plan = plan(7, Duration::from_secs(3600), &all);
    assert!(plan.len() > 3 * all.len());
    for round in plan.chunks_exact(all.len()) {
        assert_eq!(round.iter().map(|step| step.fault).collect::<BTreeSet<_>>().len(), all.len());
    }
}

#[test]
fn only_the_second_hang_of_a_task_in_one_daemon_starts_it_anew() {
    for seed in 0..50 {
        let mut hung = Vec::new();
        for step in plan(seed, Duration::from_secs(3600), &Fault::all()) {
            match (step.fault, step.fault.hung()) {
                (_, Some(task)) if step.escalates => {
                    assert!(hung.contains(&task));
                    hung.clear();
                }
                (_, Some(task)) => {
                    assert!(!hung.contains(&task));
                    hung.push(task);
                }
                (Fault::Restart(task), None) => hung.retain(|other| *other != task),
                (fault, None) if fault.replaces_the_daemon() => hung.clear(),
                (_, None) => assert!(!step.escalates),
            }
        }
    }
}

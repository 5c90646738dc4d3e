//! How long each of those who watch may be without the service after each fault: what the README promises under "When
//! something breaks", in numbers.

use std::time::Duration;

use rtcctl::supervisor::policy::HANG_LIMIT;
use rtcctl::supervisor::service::TaskName;

use crate::plan::{BLOCKED_FOR, Fault, PAUSED_FOR, STARVES_FOR, Step};
use crate::signs::Channel;

/// Less than that is not noticed by anybody: pictures and answers come in pieces.
pub(crate) const UNNOTICED: Duration = Duration::from_secs(1);
/// A planted fault strikes at the next turn of a loop that turns every second.
const STRIKES_WITHIN: Duration = Duration::from_secs(1);
/// The guardian looks at its clock every second.
const HEARTBEAT: Duration = Duration::from_secs(11);
/// A daemon in which something hangs is given so long to end.
const HANGING_ENDS: Duration = Duration::from_secs(10);
/// All tasks in turn, of which turn serves on for two seconds.
const ENDS: Duration = Duration::from_secs(5);
/// Somebody who tries, is told, and does what is to be done.
const OPERATOR: Duration = Duration::from_secs(15);

/// The longest outage of `channel` by `step`.
pub(crate) fn bound(step: &Step, channel: Channel) -> Duration {
    if channel == Channel::Call {
        // Between two devices: nothing that happens to the service reaches it.
        return UNNOTICED;
    }
    let waits = |span: Duration| UNNOTICED.max(span);
    match step.fault {
        Fault::Panic(task) | Fault::Restart(task) => waits(without(task, channel)),
        Fault::Spin(_) | Fault::Deadlock(_) if step.escalates => {
            STRIKES_WITHIN + HANG_LIMIT + HANGING_ENDS + anew(channel)
        }
        Fault::Spin(task) | Fault::Deadlock(task) => match without(task, channel) {
            Duration::ZERO => UNNOTICED,
            back => STRIKES_WITHIN + HANG_LIMIT + back,
        },
        Fault::Block(task) => match without(task, channel) {
            Duration::ZERO => UNNOTICED,
            _ => BLOCKED_FOR + Duration::from_secs(2),
        },
        Fault::KillDaemon | Fault::Thief | Fault::DiskFullKill => anew(channel),
        Fault::SpinSupervisor | Fault::FreezeDaemon => STRIKES_WITHIN + HEARTBEAT + anew(channel),
        Fault::RestartAll => ENDS + anew(channel),
        Fault::PortStolen => OPERATOR + anew(channel),
        Fault::PauseDaemon => PAUSED_FOR + Duration::from_secs(2),
        // Who is connected already notices nothing.
        Fault::Descriptors if channel == Channel::Page => STARVES_FOR + Duration::from_secs(3),
        Fault::DiskFull => waits(without(TaskName::Web, channel)),
        Fault::Descriptors
        | Fault::KillGuardian
        | Fault::PauseGuardian
        | Fault::ClockAhead
        | Fault::ClockBehind
        | Fault::CertificateDamaged
        | Fault::ControlDeleted
        | Fault::Reload
        | Fault::ReloadBad => UNNOTICED,
    }
}

/// Until a client is back after its task was replaced; zero: it does not use that task.
fn without(task: TaskName, channel: Channel) -> Duration {
    let seconds = match (task, channel) {
        (TaskName::Web, Channel::Page) => 3,
        (TaskName::Signaling, Channel::Room | Channel::CallRoom) => 5,
        (TaskName::Turn, Channel::RelayUdp | Channel::RelayTls | Channel::RelayedCall) => 5,
        _ => 0,
    };
    Duration::from_secs(seconds)
}

/// Until a client is back after the whole daemon was replaced.
fn anew(channel: Channel) -> Duration {
    Duration::from_secs(match channel {
        Channel::Call => 1,
        Channel::Page => 3,
        Channel::Room | Channel::CallRoom | Channel::RelayUdp | Channel::RelayTls => 5,
        // First back in the room, then another way to the other.
        Channel::RelayedCall => 10,
    })
}

#[test]
fn a_direct_call_is_never_without_a_picture_and_others_lose_only_what_their_task_gave() {
    let step = |fault, escalates| Step { pause: Duration::ZERO, fault, escalates };
    for fault in Fault::all() {
        assert_eq!(bound(&step(fault, false), Channel::Call), UNNOTICED, "{fault}");
    }
    let hang = Fault::Spin(TaskName::Signaling);
    let (first, second) = (step(hang, false), step(hang, true));
    assert_eq!(bound(&first, Channel::Room), Duration::from_secs(16));
    assert_eq!(bound(&first, Channel::Page), UNNOTICED);
    assert!(bound(&second, Channel::Page) > bound(&first, Channel::Page));
    assert_eq!(bound(&step(Fault::KillGuardian, false), Channel::RelayUdp), UNNOTICED);
}

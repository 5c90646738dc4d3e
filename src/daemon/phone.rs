//! Answers a terminal that waits for a phone.

use super::status::Sources;
use crate::control::protocol::Response;
use crate::phone::{Answer, Ask, Phones};
use crate::supervisor::board::State;
use crate::supervisor::service::TaskName;
use crate::text;

pub(super) fn answer(phones: &Phones, sources: &Sources, ask: Ask) -> Response {
    match ask {
        Ask::Begin { seconds } => begin(phones, sources, seconds),
        Ask::Read { id, from } => {
            let view = phones.read(&id, from);
            Response::Phone(view.map_or(Answer::Gone, |view| Answer::View { view }))
        }
        Ask::End { id } => {
            phones.end(&id);
            Response::Phone(Answer::Gone)
        }
    }
}

fn begin(phones: &Phones, sources: &Sources, seconds: u64) -> Response {
    let is_down = |name: TaskName| {
        let tasks = sources.board.tasks();
        tasks.iter().any(|task| task.name == name && !matches!(task.state, State::Ready | State::Degraded))
    };
    // A phone that cannot open the page, or has no relay, would only tell what is known here.
    if let Some(task) = [TaskName::Web, TaskName::Turn].into_iter().find(|name| is_down(*name)) {
        return Response::Refused {
            message: text!("a phone would find nothing: the task {} is not ready", task.as_str()),
            hint: Some(text!("see `rtcctl status` for why, and start it")),
        };
    }
    match phones.begin(seconds) {
        Some(begun) => {
            let page = sources.outside.load().web_url.clone();
            let url = format!("{}/phone#code={}", page.trim_end_matches('/'), begun.code);
            Response::Phone(Answer::Begun { id: begun.id, url, seconds })
        }
        None => Response::Refused {
            message: text!("too many terminals wait for a phone"),
            hint: Some(text!("end one of them by Ctrl-C")),
        },
    }
}

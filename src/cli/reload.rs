//! `rtcctl reload`: takes up the edited configuration while the service runs.

use std::process::ExitCode;

use dialoguer::console::measure_text_width;
use serde_json::Value;

use super::Frame;
use crate::control::client::ask;
use crate::control::protocol::{Effect, Reload, ReloadChange, Request, Response};
use crate::daemon::ANSWERED_WITHIN;
use crate::error::{Failure, Kind, Result};
use crate::text;
use crate::words::Lang;

/// Exit code 78: the configuration is bad, and the one before stays in force; 11: a task did not come back.
pub(super) fn run(frame: &Frame) -> Result<ExitCode> {
    let reload = match ask(&frame.home, &Request::Reload, ANSWERED_WITHIN)? {
        Response::Reloaded { reload } => reload,
        Response::Status { .. }
        | Response::Done
        | Response::Phone(_)
        | Response::Measure { .. }
        | Response::Renewed { .. }
        | Response::Refused { .. }
        | Response::Failed { .. } => {
            return Err(Failure::bug(text!("a reload was asked for and not answered")));
        }
    };
    if frame.json {
        frame.print_json(&reload);
    } else {
        frame.print(told(&reload, frame.lang));
    }
    Ok(match reload.result {
        Effect::Failed => Kind::TaskDown.exit_code().into(),
        Effect::Unchanged | Effect::Applied | Effect::Restarted => ExitCode::SUCCESS,
    })
}

/// The answer for people.
fn told(reload: &Reload, lang: Lang) -> String {
    let mut lines = vec![match reload.changes.len() {
        0 => return text!("nothing has changed").say(lang),
        1 => text!("reloaded: 1 change").say(lang),
        many => text!("reloaded: {} changes", many).say(lang),
    }];
    let width = |texts: &dyn Fn(&ReloadChange) -> String| {
        reload.changes.iter().map(|change| measure_text_width(&texts(change))).max().unwrap_or(0)
    };
    let key = |change: &ReloadChange| change.key.clone();
    let values = |change: &ReloadChange| values(change, lang);
    let (keys, columns) = (width(&key), width(&values));
    for change in &reload.changes {
        let effect = match change.effect {
            Effect::Unchanged => text!("unchanged"),
            Effect::Applied => text!("applied"),
            Effect::Restarted => text!("restarted"),
            Effect::Failed => text!("failed"),
        };
        let effect = match &change.note {
            Some(note) => text!("{}: {}", effect, note),
            None => effect,
        };
        let value = values(change);
        let padding = " ".repeat(columns - measure_text_width(&value));
        lines.push(format!("  {:<keys$}  {value}{padding}  {}", change.key, effect.say(lang)));
    }
    for task in &reload.tasks {
        match (task.effect, &task.error) {
            (Effect::Restarted, _) => lines.push(text!("{} was restarted", task.name).say(lang)),
            (Effect::Failed, error) => {
                let why = error.clone().unwrap_or_else(|| text!("it says nothing"));
                lines.push(text!("{} was restarted and is not ready: {}", task.name, why).say(lang));
            }
            (Effect::Unchanged | Effect::Applied, _) => {}
        }
    }
    lines.join("\n")
}

fn values(change: &ReloadChange, lang: Lang) -> String {
    match (&change.from, &change.to) {
        (Value::Null, Value::Null) => text!("changed").say(lang),
        (from, to) => format!("{} -> {}", value(from, lang), value(to, lang)),
    }
}

fn value(value: &Value, lang: Lang) -> String {
    match value {
        Value::Null => text!("none").say(lang),
        Value::String(text) => text.clone(),
        Value::Array(members) if members.is_empty() => text!("none").say(lang),
        Value::Array(members) => members.iter().map(|member| self::value(member, lang)).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::protocol::{ReloadTask, SCHEMA_VERSION};
    use crate::supervisor::service::TaskName;

    #[test]
    fn each_change_is_told_with_how_it_came_into_force() {
        let change = |key: &str, from, to, effect, note: Option<&str>| ReloadChange {
            key: key.to_owned(),
            from,
            to,
            effect,
            note: note.map(Into::into),
        };
        let reload = Reload {
            schema_version: SCHEMA_VERSION,
            result: Effect::Failed,
            changes: vec![
                change("hosts", json!(["a.example"]), json!(["a.example", "b.example"]), Effect::Applied, None),
                change("web.root", json!(null), json!("/srv/你好"), Effect::Applied, None),
                change("turn.relay_ports", json!("1-2"), json!("3-4"), Effect::Failed, Some("it is so")),
                change("turn_secrets", json!(null), json!(null), Effect::Applied, None),
            ],
            tasks: vec![ReloadTask { name: TaskName::Turn, effect: Effect::Failed, error: Some("no port".into()) }],
        };
        let wanted = "\
reloaded: 4 changes
  hosts             a.example -> a.example, b.example  applied
  web.root          none -> /srv/你好                  applied
  turn.relay_ports  1-2 -> 3-4                         failed: it is so
  turn_secrets      changed                            applied
turn was restarted and is not ready: no port";
        assert_eq!(told(&reload, Lang::En), wanted);
        let nothing = Reload { changes: Vec::new(), ..reload };
        assert_eq!(told(&nothing, Lang::En), "nothing has changed");
    }
}

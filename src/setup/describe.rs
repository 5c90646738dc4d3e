//! The plan in words, the same for `--dry-run` and before it is applied; and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::firewall::Change;
use super::opening::{FirewallChoice, Opening};
use super::plan::{Action, Objection, Plan, Step, Subject};
use crate::words::Lang;
use crate::{text, word};

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Create => word!("create"),
            Self::Change => word!("change"),
            Self::Keep => word!("keep"),
        }
    }
}

/// The whole plan, without a newline at its end.
#[must_use]
pub fn describe(plan: &Plan, lang: Lang) -> String {
    let say = |words: &'static str| lang.say(words);
    let mut text = String::new();
    line(&mut text, say(word!("Settings")));
    for setting in &plan.settings {
        let flag = setting.key.flag().trim_start_matches('-');
        let origin = padded(lang.say(setting.origin.word()), 12);
        line(&mut text, &format!("  {flag:<12} {:<24} {origin}  {}", setting.value, say(setting.why)));
    }
    line(&mut text, &format!("\n{}", say(word!("Files"))));
    for step in &plan.steps {
        let note = step.note.say(lang);
        let note = if note.is_empty() { String::new() } else { format!("  ({note})") };
        let action = padded(say(step.action.word()), 6);
        line(&mut text, &format!("  {action} {:04o} {}{note}", step.mode, shown(step)));
    }
    if !plan.difference.is_empty() {
        line(&mut text, &format!("\n{}", say(word!("Changes in config.yaml"))));
        plan.difference.iter().for_each(|changed| line(&mut text, &format!("  {changed}")));
    }
    line(&mut text, &format!("\n{}", say(word!("Ports that callers must reach"))));
    for port in &plan.ports {
        let (first, last) = (port.ports.start(), port.ports.end());
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        line(&mut text, &format!("  {} {range:<12} {}", port.transport, say(port.why)));
    }
    if !plan.trusting.changes.is_empty() {
        line(&mut text, &format!("\n{}", say(word!("Programs of this host trust the local CA by these commands"))));
        let commands = plan.trusting.changes.iter().flat_map(|store| &store.commands);
        commands.for_each(|command| line(&mut text, &format!("  {command}")));
        for store in &plan.trusting.unchangeable {
            let told = text!("but not this list, which this user may not change: {}", store);
            line(&mut text, &format!("  {}", told.say(lang)));
        }
    }
    if let Some(service) = &plan.service {
        line(&mut text, &format!("\n{}", say(word!("Starts with the machine"))));
        service.told().iter().for_each(|told| line(&mut text, &format!("  {}", told.say(lang))));
    }
    describe_firewall(&plan.opening, lang, &mut text);
    text.trim_end().to_owned()
}

fn describe_firewall(opening: &Opening, lang: Lang, text: &mut String) {
    let say = |words: &'static str| lang.say(words);
    if opening.choice == FirewallChoice::Skip {
        return;
    }
    let does = opening.choice == FirewallChoice::Apply;
    match &opening.planned {
        Some(planned) => {
            let is_open = planned.changes().next().is_none();
            let heading = match (planned.parts.is_empty(), is_open, does) {
                (true, _, _) => say(word!("Firewall: nothing filters on this host")),
                (false, true, _) => say(word!("Firewall: it lets callers in already")),
                (false, false, true) => say(word!("Firewall: callers are let in by these commands")),
                (false, false, false) => say(word!("Firewall: it drops callers; these commands would let them in")),
            };
            line(text, &format!("\n{heading}"));
            for part in &planned.parts {
                line(text, &format!("  {}", part.layer.as_str()));
                for change in &part.changes {
                    line(text, &format!("    {}", change.to_string().replace('\n', "\n    ")));
                }
                part.notes.iter().for_each(|note| line(text, &format!("    {}", note.say(lang))));
                if let Some(why) = &part.not_kept {
                    let lost = text!(
                        "a restart of this machine loses it, unless you put it into what is loaded at boot: {}",
                        why
                    );
                    line(text, &format!("    {}", lost.say(lang)));
                }
            }
            planned.notes.iter().for_each(|note| line(text, &format!("  {}", note.say(lang))));
        }
        None => {
            line(text, &format!("\n{}", say(word!("Firewall: nothing is changed; where one is active, run as root"))));
            for (tool, commands) in &opening.by_tool {
                line(text, &format!("  {}", text!("with {}:", tool.program()).say(lang)));
                commands.iter().for_each(|command| line(text, &format!("    {command}")));
            }
            if opening.by_tool.is_empty() {
                line(text, &format!("  {}", say(word!("no firewall tool was found on this host"))));
            }
        }
    }
    let group = say(word!("and open the same ports in the provider's security group, if there is one"));
    line(text, &format!("  {group}"));
}

/// Commands by the layer, or the tool, that they are for.
fn firewall_as_json(opening: &Opening) -> serde_json::Map<String, Value> {
    let shown = |changes: &[Change]| json!(changes.iter().map(ToString::to_string).collect::<Vec<_>>());
    let parts = opening.planned.iter().flat_map(|planned| &planned.parts);
    let planned = parts.map(|part| (part.layer.as_str().to_owned(), shown(&part.changes)));
    let by_tool = opening.by_tool.iter().map(|(tool, commands)| (tool.program().to_owned(), json!(commands)));
    planned.chain(by_tool).collect()
}

/// The plan as data.
#[must_use]
pub fn as_json(plan: &Plan, applied: bool) -> Value {
    let settings: serde_json::Map<String, Value> = plan
        .settings
        .iter()
        .map(|setting| {
            (setting.key.answer(), {
                let origin = setting.origin.word();
                json!({ "value": setting.value, "origin": origin, "why": setting.why })
            })
        })
        .collect();
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| {
            let mode = format!("{:04o}", step.mode);
            json!({ "action": step.action.word(), "path": step.path, "mode": mode, "note": step.note })
        })
        .collect();
    let ports: Vec<Value> = plan
        .ports
        .iter()
        .map(|port| {
            json!({ "transport": port.transport.to_string(), "first": port.ports.start(), "last": port.ports.end(), "why": port.why })
        })
        .collect();
    let outside: Vec<Value> = plan
        .outside
        .iter()
        .map(|outside| json!({ "what": outside.what, "hint": outside.hint, "proven": outside.is_proven }))
        .collect();
    json!({
        "schema_version": 1,
        "applied": applied,
        "changes": plan.changes(),
        "settings": settings,
        "files": steps,
        "difference": plan.difference,
        "ports": ports,
        "trust": plan.trusting.changes.iter().flat_map(|store| &store.commands).collect::<Vec<_>>(),
        "firewall": firewall_as_json(&plan.opening),
        "firewall_changes": plan.opening.changes().len(),
        "service": plan.service.as_ref().map(|service| service.manager),
        "url": plan.url,
        "one_liner": plan.one_liner,
        "answers": plan.answers,
        "outside": outside,
        "next": plan.next,
    })
}

/// Why there is no plan, as data.
#[must_use]
pub fn objections_as_json(objections: &[Objection]) -> Value {
    let objections: Vec<Value> = objections
        .iter()
        .map(|objection| json!({ "code": objection.code, "what": objection.what, "hint": objection.hint }))
        .collect();
    json!({ "schema_version": 1, "applied": false, "objections": objections })
}

/// Filled with blanks to this many columns; a Chinese sign takes two.
fn padded(text: &str, columns: usize) -> String {
    let width: usize = text.chars().map(|symbol| if symbol.is_ascii() { 1 } else { 2 }).sum();
    format!("{text}{}", " ".repeat(columns.saturating_sub(width)))
}

fn shown(step: &Step) -> String {
    let slash = if step.subject == Subject::Folder { "/" } else { "" };
    format!("{}{slash}", step.path.display())
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::answers::Key;
    use crate::setup::plan::plan;
    use crate::setup::plan::tests::{answers, fresh, settled};

    #[test]
    fn a_first_plan_tells_everything() {
        let pairs = [(Key::Host, "call.example,10.0.0.7"), (Key::RelayPorts, "50000-50999")];
        insta::assert_snapshot!(describe(&plan(&answers(&pairs, None), &fresh()).unwrap(), Lang::En));
    }

    #[test]
    fn a_plan_for_an_existing_home_tells_what_changes() {
        let first_answers = answers(&[(Key::Host, "call.example")], None);
        let first = plan(&first_answers, &fresh()).unwrap();
        let pairs = [(Key::WebPort, "9443"), (Key::HttpPort, "off"), (Key::Firewall, "skip")];
        let second = answers(&pairs, Some(&first_answers.wanted));
        let facts = settled(&first, &first_answers.wanted);
        insta::assert_snapshot!(describe(&plan(&second, &facts).unwrap(), Lang::En));
    }
}

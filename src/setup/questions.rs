//! The questions of the wizard: at most four, each with a default and a why. What was given is not asked.

use std::path::Path;

use super::answers::{Draft, Key, Origin};
use super::suggest::{Surroundings, suggest_host, suggest_public_ips, suggest_reach, suggest_web_port};
use super::wanted::{Wanted, host_text, reach_word};
use crate::config::{CertSource, Host, Reach, is_public};
use crate::error::{Failure, Kind, Result};
use crate::word;
use crate::words::Text;

/// Someone who answers: a person at a terminal, or a test.
pub trait Prompter {
    /// One of several; gives its index.
    ///
    /// # Errors
    /// `Kind::Interrupted` if the question was left.
    fn choose(
        &mut self,
        question: &'static str,
        why: &'static str,
        items: &[&'static str],
        default: usize,
    ) -> Result<usize>;

    /// A line of text that `check` accepts.
    ///
    /// # Errors
    /// `Kind::Interrupted` if the question was left.
    fn line(
        &mut self,
        question: &'static str,
        why: &'static str,
        default: Option<&str>,
        check: &dyn Fn(&str) -> Result<(), Text>,
    ) -> Result<String>;

    /// Yes or no.
    ///
    /// # Errors
    /// `Kind::Interrupted` if the question was left.
    fn confirm(&mut self, question: &'static str) -> Result<bool>;
}

/// The flags of the questions that would be asked.
#[must_use]
pub fn open_questions(draft: &Draft) -> Vec<Key> {
    let mut open = Vec::new();
    if draft.reach.is_none() {
        open.push(Key::Reach);
    }
    if draft.hosts.is_none() {
        open.push(Key::Host);
    }
    if draft.web_port.is_none() {
        open.push(Key::WebPort);
    }
    open
}

/// Asks what is open.
///
/// # Errors
/// `Kind::Interrupted` if a question was left.
pub fn ask(
    draft: &mut Draft,
    prompter: &mut dyn Prompter,
    existing: Option<&Wanted>,
    surroundings: &Surroundings,
) -> Result<()> {
    let reach = match draft.reach {
        Some(reach) => reach,
        None => ask_reach(draft, prompter, existing, surroundings)?,
    };
    if draft.hosts.is_none() {
        let (question, why) = match reach {
            Reach::Lan => {
                (word!("Address or name"), word!("callers open https:// with it, and the certificate is made for it"))
            }
            Reach::Ip => {
                (word!("Public address"), word!("callers open https:// with it, and the certificate is made for it"))
            }
            Reach::Domain => {
                (word!("Domain name"), word!("callers open https:// with it; it must lead to this host in the DNS"))
            }
        };
        let default = suggest_host(reach, existing, surroundings)
            .map(|(hosts, _)| hosts.iter().map(host_text).collect::<Vec<_>>().join(","));
        ask_line(draft, prompter, Key::Host, question, why, default)?;
    }
    if draft.web_port.is_none() {
        let (port, _) = suggest_web_port(existing, surroundings);
        let why = if surroundings.is_root {
            word!("the HTTPS page; 443 needs no number in the URL")
        } else {
            word!("the HTTPS page; ports below 1024 need root")
        };
        ask_line(draft, prompter, Key::WebPort, word!("Web port"), why, Some(port.to_string()))?;
    }
    ask_about_trust(draft, prompter, reach, existing, surroundings)?;
    let has_public_address = surroundings.local_addresses.iter().any(|address| is_public(*address));
    if reach != Reach::Lan && draft.public_ips.is_none() && !has_public_address {
        let hosts: &[Host] = draft.hosts.as_deref().unwrap_or_default();
        let same = existing.filter(|existing| existing.reach == reach);
        let (addresses, _) = suggest_public_ips(reach, hosts, same, surroundings);
        let default = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let why = word!("no interface here has a public address: callers must be told the one in front of this host");
        ask_line(
            draft,
            prompter,
            Key::PublicIp,
            word!("Public address of the relay, empty for none"),
            why,
            Some(default),
        )?;
    }
    Ok(())
}

/// Only where callers warn of the certificate, and someone calls from this very machine.
fn ask_about_trust(
    draft: &mut Draft,
    prompter: &mut dyn Prompter,
    reach: Reach,
    existing: Option<&Wanted>,
    surroundings: &Surroundings,
) -> Result<()> {
    let own = existing.filter(|existing| existing.reach == reach).map(|existing| existing.certificate.source);
    let source = draft.certificate.source.or(own).unwrap_or(CertSource::SelfSigned);
    let is_local = reach == Reach::Lan && source == CertSource::SelfSigned;
    if !is_local || draft.trust.is_some() || !surroundings.has_own_browser {
        return Ok(());
    }
    let items =
        [word!("no   the browser warns once, and calls work all the same"), word!("yes  no warning on this machine")];
    let question = word!("Shall browsers of this machine trust its certificate?");
    let why = word!("other devices are told how by the page /trust; `rtcctl undo` takes it back");
    let chosen = prompter.choose(question, why, &items, 0)?;
    take(draft, Key::Trust, if chosen == 1 { "yes" } else { "no" })
}

fn ask_reach(
    draft: &mut Draft,
    prompter: &mut dyn Prompter,
    existing: Option<&Wanted>,
    surroundings: &Surroundings,
) -> Result<Reach> {
    const ITEMS: [(Reach, &str); 3] = [
        (Reach::Lan, word!("lan     from this network only")),
        (Reach::Ip, word!("ip      from the internet, by a public address")),
        (Reach::Domain, word!("domain  from the internet, by a domain name")),
    ];
    let (suggested, _) = suggest_reach(existing, surroundings);
    let default = ITEMS.iter().position(|(reach, _)| *reach == suggested).unwrap_or(0);
    let why = word!("decides which address is suggested and which peers the relay allows");
    let index = prompter.choose(word!("Where do callers come from?"), why, &ITEMS.map(|(_, text)| text), default)?;
    let reach = ITEMS.get(index).map_or(suggested, |(reach, _)| *reach);
    take(draft, Key::Reach, reach_word(reach))?;
    Ok(reach)
}

fn ask_line(
    draft: &mut Draft,
    prompter: &mut dyn Prompter,
    key: Key,
    question: &'static str,
    why: &'static str,
    default: Option<String>,
) -> Result<()> {
    let check = |text: &str| Draft::default().set(key, &[text.trim().to_owned()], Path::new("/"));
    let answer = prompter.line(question, why, default.as_deref(), &check)?;
    take(draft, key, answer.trim())
}

fn take(draft: &mut Draft, key: Key, text: &str) -> Result<()> {
    draft.set(key, &[text.to_owned()], Path::new("/")).map_err(|why| Failure::new(Kind::Usage, why))?;
    draft.origins.insert(key, Origin::Asked);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Answers from a list; an empty answer takes the default.
    struct Scripted {
        answers: VecDeque<&'static str>,
        asked: Vec<String>,
    }

    impl Scripted {
        fn new(answers: &[&'static str]) -> Self {
            Self { answers: answers.iter().copied().collect(), asked: Vec::new() }
        }

        fn next(&mut self, question: &'static str) -> Result<&'static str> {
            self.asked.push(question.to_owned());
            self.answers.pop_front().ok_or_else(|| Failure::new(Kind::Interrupted, "left"))
        }
    }

    impl Prompter for Scripted {
        fn choose(
            &mut self,
            question: &'static str,
            _why: &'static str,
            items: &[&'static str],
            default: usize,
        ) -> Result<usize> {
            let answer = self.next(question)?;
            Ok(items.iter().position(|item| !answer.is_empty() && item.starts_with(answer)).unwrap_or(default))
        }

        fn line(
            &mut self,
            question: &'static str,
            _why: &'static str,
            default: Option<&str>,
            check: &dyn Fn(&str) -> Result<(), Text>,
        ) -> Result<String> {
            let answer = self.next(question)?;
            let answer = if answer.is_empty() { default.unwrap_or_default() } else { answer };
            check(answer).map_err(Failure::operator)?;
            Ok(answer.to_owned())
        }

        fn confirm(&mut self, question: &'static str) -> Result<bool> {
            Ok(self.next(question)? == "y")
        }
    }

    fn behind_nat() -> Surroundings {
        let address = "10.0.0.7".parse().unwrap();
        Surroundings { sources: vec![address], local_addresses: vec![address], ..Surroundings::default() }
    }

    #[test]
    fn on_a_lan_three_questions_are_enough() {
        let mut scripted = Scripted::new(&["", "", ""]);
        let mut draft = Draft::default();
        ask(&mut draft, &mut scripted, None, &behind_nat()).unwrap();
        assert_eq!(scripted.asked, ["Where do callers come from?", "Address or name", "Web port"]);
        let answers = draft.settle(None, &behind_nat()).unwrap();
        assert_eq!(answers.wanted.hosts, [Host::Address("10.0.0.7".parse().unwrap())]);
        assert_eq!(answers.wanted.web_port, 8443);
        assert_eq!(answers.origins[&Key::Host], Origin::Asked);
    }

    #[test]
    fn behind_nat_the_public_address_is_asked_for_with_the_host_as_default() {
        let mut scripted = Scripted::new(&["ip", "203.0.113.9", "", ""]);
        let mut draft = Draft::default();
        ask(&mut draft, &mut scripted, None, &behind_nat()).unwrap();
        assert_eq!(scripted.asked.len(), 4);
        assert_eq!(draft.public_ips, Some(vec!["203.0.113.9".parse().unwrap()]));
    }

    #[test]
    fn whoever_has_a_browser_here_is_asked_about_its_trust() {
        let surroundings = Surroundings { has_own_browser: true, ..behind_nat() };
        let mut scripted = Scripted::new(&["", "", "", "yes"]);
        let mut draft = Draft::default();
        ask(&mut draft, &mut scripted, None, &surroundings).unwrap();
        assert_eq!((scripted.asked.len(), draft.trust), (4, Some(true)));
        // Where an authority that everybody trusts signs, or callers come from elsewhere, there is nothing to ask.
        let mut scripted = Scripted::new(&["ip", "203.0.113.9", "", ""]);
        let mut draft = Draft::default();
        ask(&mut draft, &mut scripted, None, &surroundings).unwrap();
        assert_eq!(draft.trust, None);
    }

    #[test]
    fn what_was_given_is_not_asked() {
        let mut draft = Draft::default();
        for (key, value) in [(Key::Reach, "lan"), (Key::Host, "a.example"), (Key::WebPort, "9443")] {
            draft.set(key, &[value.to_owned()], Path::new("/")).unwrap();
        }
        assert_eq!(open_questions(&draft), []);
        let mut scripted = Scripted::new(&[]);
        ask(&mut draft, &mut scripted, None, &behind_nat()).unwrap();
        assert_eq!(scripted.asked, Vec::<String>::new());
    }

    #[test]
    fn a_question_that_is_left_ends_the_asking() {
        let mut scripted = Scripted::new(&["lan"]);
        let failure = ask(&mut Draft::default(), &mut scripted, None, &behind_nat()).unwrap_err();
        assert_eq!(failure.kind(), Kind::Interrupted);
        assert_eq!(scripted.asked.len(), 2);
    }
}

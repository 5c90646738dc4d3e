//! Whether programs of this host trust the local CA: decides what has to be done so that they do, does it, and takes it
//! back.

use std::path::{Path, PathBuf};

use super::deeds::{Deed, Object, Verb};
use super::journal::Journal;
use super::journal::record::Effect;
use super::plan::Objection;
use crate::certs::trust::{Store, add, remove, remove_made};
use crate::config::CertSource;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::fault;
use crate::sys::fs::{draft_of, write_atomic_by};
use crate::text;
use crate::words::Text;

/// A store of this host, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFacts {
    pub store: Store,
    /// It trusts the local CA that is there.
    pub trusts: bool,
    pub can_be_changed: bool,
}

/// A store that is to trust the local CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusting {
    pub store: Store,
    pub name: String,
    /// As an operator would do it.
    pub commands: Vec<String>,
}

/// What is done about the stores of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    pub changes: Vec<Trusting>,
    /// Those that this user may not change, and that do not trust the CA.
    pub unchangeable: Vec<Store>,
}

/// What has to be done so that the stores trust the local CA, which is made anew if `is_new`.
///
/// # Errors
/// Why it cannot be done.
pub(super) fn trusting(
    stores: &[StoreFacts],
    home: &Home,
    source: CertSource,
    is_new: bool,
) -> Result<Trust, Objection> {
    let objection = |what| Objection {
        code: "trust-impossible",
        what,
        hint: text!("leave `--trust` out; other devices are told by the page /trust"),
    };
    if source != CertSource::SelfSigned {
        return Err(objection(text!("`--trust` is about the local CA, and another certificate is to be served")));
    }
    let mut changeable = stores.iter().filter(|facts| facts.can_be_changed).peekable();
    if changeable.peek().is_none() {
        return Err(objection(text!("this host has no list of trusted authorities that this user may change")));
    }
    let (name, ca) = (home.tag(), home.certs_dir().join("ca.pem"));
    let change = |facts: &StoreFacts| Trusting {
        store: facts.store.clone(),
        commands: facts.store.commands(&name, &ca),
        name: name.clone(),
    };
    let unchangeable = stores.iter().filter(|facts| !facts.can_be_changed && (is_new || !facts.trusts));
    Ok(Trust {
        unchangeable: unchangeable.map(|facts| facts.store.clone()).collect(),
        changes: changeable.filter(|facts| is_new || !facts.trusts).map(change).collect(),
    })
}

/// Has the stores trust the local CA, which is there by now.
///
/// # Errors
/// If one of them does not; what was begun is in the journal.
pub(super) fn trust(changes: &[Trusting], home: &Home, run: u32, journal: &mut Journal) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let ca = home.certs_dir().join("ca.pem");
    let pem = crate::sys::fs::read_to_string(&ca)?;
    for Trusting { store, name, .. } in changes {
        super::apply::stop_if_interrupted()?;
        let failed =
            |why: Text| Failure::operator(text!("{} cannot be told to trust the local CA", store)).because(why);
        let (before, made) = (store.known(name), store.new_files());
        journal.will(run, Effect::Trust { store: store.clone(), name: name.clone(), before, made })?;
        add(store, name, &ca, &pem).map_err(failed)?;
        fault::moment("setup");
        if !store.trusts(name, &pem) {
            return Err(failed(text!("it does not know it afterwards")));
        }
    }
    Ok(())
}

/// Takes the local CA out of a store, and puts back what it knew by that name; `folder` is for a draft.
///
/// # Errors
/// In words.
pub(super) fn take_back(
    store: &Store,
    name: &str,
    before: Option<&str>,
    made: &[PathBuf],
    folder: &Path,
) -> std::result::Result<(), Text> {
    remove(store, name)?;
    remove_made(store, made);
    let Some(pem) = before else { return Ok(()) };
    let file = folder.join("trusted-before.pem");
    write_atomic_by(&draft_of(&file), &file, pem.as_bytes(), 0o600).map_err(|failure| failure.told())?;
    let done = add(store, name, &file, pem);
    let _ = std::fs::remove_file(&file);
    done
}

/// What is told of it.
pub(super) fn deed(store: &Store, was_known: bool) -> Deed {
    let verb = if was_known { Verb::Restore } else { Verb::Remove };
    Deed { verb, object: Object::Trust(store.clone()), why: text!("trust in the local CA") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(trusts: bool, can_be_changed: bool) -> StoreFacts {
        let store = Store::System { file: "/usr/ca/x.crt".into(), refresh: vec!["refresh".to_owned()] };
        StoreFacts { store, trusts, can_be_changed }
    }

    #[test]
    fn what_does_not_trust_it_is_changed_and_a_new_one_is_trusted_by_nobody() {
        let home = Home::under(Path::new("/srv/box"));
        let planned = |stores: &[StoreFacts], is_new| trusting(stores, &home, CertSource::SelfSigned, is_new).unwrap();
        let trust = planned(&[system(false, true)], false);
        let commands = ["install -m 0644 /srv/box/certs/ca.pem /usr/ca/x.crt", "refresh"];
        assert_eq!(
            (&trust.changes[0].commands[..], &trust.unchangeable[..]),
            (&commands.map(str::to_owned)[..], &[][..])
        );
        assert_eq!(planned(&[system(true, true)], false), Trust::default());
        assert_eq!(planned(&[system(true, true)], true).changes.len(), 1);
        // One that cannot be changed is told, unless it trusts the CA already.
        let trust = planned(&[system(false, true), system(false, false), system(true, false)], false);
        assert_eq!((trust.changes.len(), trust.unchangeable.len()), (1, 1));
    }

    #[test]
    fn where_there_is_nothing_to_be_trusted_or_no_store_it_is_objected_to() {
        let home = Home::under(Path::new("/srv/box"));
        for (stores, source) in [
            (vec![], CertSource::SelfSigned),
            (vec![system(false, false)], CertSource::SelfSigned),
            (vec![system(false, true)], CertSource::Acme),
        ] {
            assert_eq!(trusting(&stores, &home, source, true).unwrap_err().code, "trust-impossible");
        }
    }
}

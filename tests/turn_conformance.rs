//! Keeps the table of what the RFCs ask of a STUN/TURN server complete: each row names its tests, or says why not.
//!
//! A test names the rows it shows at the start of its name (`t23_...`, `s9_s10_...`) or in its doc comment
//! (`/// Rows S9, S10.`), and the adversarial cases in its doc comment (`/// Cases 10, 11.`). The table is made from
//! that; `RTCCTL_BLESS=1 cargo test --test turn_conformance` writes it anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where tests of the relay are.
const SOURCES: [&str; 6] = ["src/certs", "src/config", "src/edge", "src/sys", "src/turn", "tests"];
const TABLE: &str = "tests/data/turn/conformance.md";

#[test]
fn every_row_and_every_case_has_a_test_or_a_reason() {
    let shown = shown();
    let mut missing = Vec::new();
    for entry in rows().iter().chain(&cases()) {
        if !shown.contains_key(&entry.id) && entry.deviation.is_none() {
            missing.push(format!("{}: {}", entry.id, entry.what));
        }
    }
    assert!(missing.is_empty(), "no test is named by\n{}", missing.join("\n"));
}

#[test]
fn no_test_names_a_row_or_a_case_that_does_not_exist() {
    let known: BTreeSet<String> = rows().into_iter().chain(cases()).map(|entry| entry.id).collect();
    assert_eq!((rows().len(), cases().len()), (126, 93));
    let unknown: Vec<(String, Vec<String>)> = shown().into_iter().filter(|(id, _)| !known.contains(id)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_published_table_is_the_one_made_from_the_tests() {
    let made = table();
    let path = root().join(TABLE);
    if std::env::var_os("RTCCTL_BLESS").is_some() {
        rtcctl::sys::fs::write_atomic(&path, made.as_bytes(), 0o644).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == published, "{TABLE} is old: `RTCCTL_BLESS=1 cargo test --test turn_conformance` writes it anew");
}

#[test]
fn tests_are_found_by_their_names_and_by_their_comments() {
    let text = "\
        /// Rows S9, S10. More words.\n    /// Cases 10 and 11.\n    #[test]\n    fn t23_t10_something() {}\n\
        /// Case 99.\n    fn no_test() {}\n\n    #[test]\n    fn t_is_no_row() {}\n";
    let found = ids_by_test(text);
    let ids: Vec<&str> = found["t23_t10_something"].iter().map(String::as_str).collect();
    assert_eq!(ids, ["10", "11", "S10", "S9", "T10", "T23"]);
    assert!(found["t_is_no_row"].is_empty());
    assert!(!found.contains_key("no_test"));
}

/// One line of `rows.txt` or `cases.txt`.
struct Entry {
    id: String,
    place: String,
    what: String,
    deviation: Option<String>,
}

fn rows() -> Vec<Entry> {
    let level = |level: &str| match level {
        "M" => "MUST",
        "S" => "SHOULD",
        "P" => "procedure",
        other => panic!("`{other}` is none of M, S and P"),
    };
    let rows = lines("rows.txt").into_iter().map(|fields| {
        let [id, place, binding, what, ..] = fields.as_slice() else { panic!("{fields:?} lacks something") };
        let deviation = fields.get(4).map(|text| text.strip_prefix("deviation: ").unwrap().to_owned());
        Entry { id: id.clone(), place: format!("{place} | {}", level(binding)), what: what.clone(), deviation }
    });
    rows.collect()
}

fn cases() -> Vec<Entry> {
    let cases = lines("cases.txt").into_iter().map(|fields| {
        let [id, sent, follows, ..] = fields.as_slice() else { panic!("{fields:?} lacks something") };
        let deviation = fields.get(3).map(|text| text.strip_prefix("deviation: ").unwrap().to_owned());
        Entry { id: id.clone(), place: sent.clone(), what: follows.clone(), deviation }
    });
    cases.collect()
}

fn lines(file: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("tests/data/turn").join(file)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" | ").map(|field| field.trim().to_owned()).collect()).collect()
}

/// Row or case to the tests that show it.
fn shown() -> BTreeMap<String, Vec<String>> {
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in SOURCES.iter().flat_map(|folder| rust_files(&root().join(folder))) {
        let text = std::fs::read_to_string(&path).unwrap();
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        for (test, ids) in ids_by_test(&text) {
            for id in ids {
                shown.entry(id).or_default().push(format!("`{place}` {test}"));
            }
        }
    }
    shown
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("turn_conformance.rs")
        {
            files.push(path);
        }
    }
    files
}

/// The tests of a file with the rows and cases that they name.
fn ids_by_test(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let (mut ids, mut is_test) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("/// ") {
            ids.extend(named(comment));
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]";
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            let rows = name.split('_').map(str::to_uppercase).take_while(|token| is_row(token));
            ids.extend(rows);
            if is_test {
                found.insert(name.to_owned(), std::mem::take(&mut ids));
            }
            (ids, is_test) = (BTreeSet::new(), false);
        } else if !line.is_empty() {
            (ids, is_test) = (BTreeSet::new(), false);
        }
    }
    found
}

/// What `Rows S9, S10.` or `Cases 10 and 11.` in a comment names.
fn named(comment: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut is_list = false;
    for word in comment.split([' ', ',', '.', ':', ';']).filter(|word| !word.is_empty()) {
        match word {
            "Row" | "Rows" | "Case" | "Cases" => is_list = true,
            "and" => {}
            id if is_list && (is_row(id) || id.bytes().all(|byte| byte.is_ascii_digit())) => {
                ids.insert(id.to_owned());
            }
            _ => is_list = false,
        }
    }
    ids
}

fn is_row(token: &str) -> bool {
    let Some(number) = token.strip_prefix(['S', 'T', 'C']) else { return false };
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn table() -> String {
    let shown = shown();
    let mut text = String::from(
        "# What the relay does of STUN and TURN, and which test shows it\n\n\
         Made by `tests/turn_conformance.rs` from `rows.txt`, `cases.txt` and the tests' names; do not edit.\n\n\
         ## By the RFCs\n\n| row | where | binding | what | shown by, or why not |\n|---|---|---|---|---|\n",
    );
    let put = |text: &mut String, entries: &[Entry]| {
        for Entry { id, place, what, deviation } in entries {
            let tests = shown.get(id).map(|tests| tests.join("<br>"));
            let why = deviation.as_ref().map(|why| format!("**deviation**: {why}"));
            let evidence = [why, tests].into_iter().flatten().collect::<Vec<_>>().join("<br>");
            writeln!(text, "| {id} | {place} | {what} | {evidence} |").unwrap();
        }
    };
    put(&mut text, &rows());
    text.push_str("\n## Against attackers and broken clients\n\n| case | what comes | what follows | shown by, or why not |\n|---|---|---|---|\n");
    put(&mut text, &cases());
    text
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

//! `rtcctl explain`: a page for each code that `status`, `init` and others print.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::json;

use super::Frame;
use super::words::alike;
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Kind, Result};
use crate::text;
use crate::words::{page, pages};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// A code, or a subject; without it, all are listed
    code: Option<String>,
}

/// Runs the command.
pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let Some(code) = &args.code else {
        list(frame);
        return Ok(ExitCode::SUCCESS);
    };
    let Some(page) = page(frame.lang, code) else {
        let failure = Failure::new(Kind::Usage, text!("there is no page on `{}`", code));
        return Err(match alike(pages(frame.lang).into_iter().map(|page| page.code), code) {
            Some(code) => failure.hinted(text!("did you mean `rtcctl explain {}`?", code)),
            None => failure.hinted(text!("`rtcctl explain` lists all pages")),
        });
    };
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION, "code": page.code, "title": page.title, "body": page.body,
        }));
    } else {
        frame.print(format!("{}: {}\n\n{}", page.code, page.title, page.body));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(frame: &Frame) {
    let pages = pages(frame.lang);
    if frame.json {
        let pages: Vec<_> = pages.iter().map(|page| json!({ "code": page.code, "title": page.title })).collect();
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "pages": pages }));
        return;
    }
    let width = pages.iter().map(|page| page.code.len()).max().unwrap_or_default();
    for page in pages {
        frame.print(format!("{:<width$}  {}", page.code, page.title));
    }
}

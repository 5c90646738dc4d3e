//! Translates what the ACME crate and the network say into a [`Trouble`].

use std::error::Error as StdError;
use std::io;

use instant_acme::{Error, Problem};
use rustls::CertificateError;

use super::super::trouble::{Class, Trouble};
use super::http::{Noted, Said};
use crate::text;
use crate::words::Text;

/// Whose fault an error is, with what the last answer of the authority said besides.
pub(super) fn trouble(error: &Error, noted: Noted) -> Trouble {
    match error {
        Error::Api(problem) => of_problem(problem, noted),
        Error::Timeout(_) => {
            Trouble::new(Class::Theirs, "timeout", text!("the authority did not come to a decision in time"))
        }
        Error::KeyRejected | Error::Crypto => {
            Trouble::new(Class::Ours, "account", text!("the account's key: {}", error))
        }
        Error::Unsupported(what) => {
            Trouble::new(Class::Ours, "unsupported", text!("the authority does not support {}", what))
        }
        // What does not speak ACME, but says so by its status.
        _ if noted.status.is_some_and(|status| status >= 400) => {
            let status = noted.status.unwrap_or_default();
            let class = if status == 429 { Class::Limit } else { Class::Theirs };
            let detail = text!("the authority answered with status {}", status);
            Trouble { retry_at: noted.retry_at, ..Trouble::new(class, &format!("http-{status}"), detail) }
        }
        Error::Http(_) | Error::InvalidUri(_) | Error::Json(_) | Error::Other(_) | Error::Str(_) | _ => {
            of_network(error)
        }
    }
}

/// A problem document, with those of single names below it.
pub(super) fn of_problem(problem: &Problem, noted: Noted) -> Trouble {
    let mut detail = problem.detail.clone().unwrap_or_default();
    for below in &problem.subproblems {
        detail.push_str("; ");
        detail.push_str(below.detail.as_deref().unwrap_or_default());
    }
    let kind = problem.r#type.as_deref().unwrap_or_default();
    Trouble::of_problem(kind, &detail, problem.status.or(noted.status), noted.retry_at)
}

fn of_network(error: &Error) -> Trouble {
    let text = chain(error);
    match refused_certificate(error) {
        Some(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Trouble::new(
            Class::Ours,
            "clock",
            text!("the authority's certificate does not fit this host's clock: {}", text),
        ),
        Some(_) => Trouble::new(Class::Ours, "roots", text!("the authority's certificate is not trusted: {}", text)),
        None => Trouble::new(Class::Theirs, "unreachable", text),
    }
}

/// The messages of an error and its sources, without repetition.
fn chain(error: &(dyn StdError + 'static)) -> Text {
    let mut told = said(error);
    let mut deeper = error.source();
    while let Some(source) = deeper {
        let more = said(source);
        // Some errors have the message of their source in their own.
        if !told.english().contains(more.english()) {
            told = text!("{}: {}", told, more);
        } else if more.english() == told.english() {
            // The deeper one may be known in other languages.
            told = more;
        }
        deeper = source.source();
    }
    told
}

fn said(error: &(dyn StdError + 'static)) -> Text {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inner.and_then(|inner| inner.downcast_ref::<Said>()).or_else(|| error.downcast_ref()) {
        Some(Said(text)) => text.clone(),
        None => Text::of_error(error),
    }
}

fn refused_certificate(error: &Error) -> Option<CertificateError> {
    let Error::Other(boxed) = error else { return None };
    let mut next: Option<&(dyn StdError + 'static)> = Some(boxed.as_ref());
    while let Some(one) = next {
        let wrapped = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = wrapped.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(why)) = tls.or_else(|| one.downcast_ref()) {
            return Some(why.clone());
        }
        next = one.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_answers_with_a_page_of_its_proxy_is_down() {
        let error = Error::Json(serde_json::from_str::<u8>("<html>").unwrap_err());
        let noted = |status| Noted { status: Some(status), ..Noted::default() };
        assert_eq!(trouble(&error, noted(502)).class, Class::Theirs);
        assert_eq!(trouble(&error, noted(429)).class, Class::Limit);
        assert_eq!(trouble(&error, noted(502)).code, "http-502");
    }

    #[test]
    fn a_certificate_that_does_not_fit_the_clock_is_our_clock() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::NotValidYet);
        let error = Error::Other(Box::new(io::Error::new(io::ErrorKind::InvalidData, tls)));
        let trouble = trouble(&error, Noted::default());
        assert_eq!((trouble.class, trouble.code.as_str()), (Class::Ours, "clock"));
        let refused = Error::Other(Box::new(io::Error::from(io::ErrorKind::ConnectionRefused)));
        assert_eq!(super::trouble(&refused, Noted::default()).class, Class::Theirs);
    }
}

//! The page that tells how a device comes to trust the local CA, its QR code, and the CA's fingerprint.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use fast_qr::QRBuilder;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, StatusCode, Uri};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::task::{Shared as Facts, words};

/// Pixels of one square of the code, and squares of white around it that readers want.
const SQUARE: usize = 8;
const QUIET: usize = 4;

/// The QR code of the page, by the address at which it was asked for.
pub(super) async fn qr(uri: Uri, headers: HeaderMap) -> Response {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let Some(host) = host.or_else(|| uri.authority().map(ToString::to_string)) else {
        return words(StatusCode::BAD_REQUEST, "a Host header is needed\n").into_response();
    };
    // Over HTTPS the phone would meet the very warning that this is about; `/trust` is answered by both.
    match QRBuilder::new(format!("http://{}/trust", plain_authority(&host))).build() {
        Ok(code) => {
            let headers = [(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "no-cache")];
            (headers, svg(code.size, |x, y| code[y][x].value())).into_response()
        }
        Err(_) => words(StatusCode::BAD_REQUEST, "this address is too long for a QR code\n").into_response(),
    }
}

/// The host as it was asked for: whoever speaks plain HTTP to the port of HTTPS is served, too.
fn plain_authority(host: &str) -> String {
    host.chars().filter(|symbol| symbol.is_ascii_graphic() && !"\"<>\\^`{|}/?#@".contains(*symbol)).collect()
}

fn svg(size: usize, is_dark: impl Fn(usize, usize) -> bool) -> String {
    let side = (size + 2 * QUIET) * SQUARE;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\""
    );
    for y in 0..size {
        for x in (0..size).filter(|x| is_dark(*x, y)) {
            let (left, top) = ((x + QUIET) * SQUARE, (y + QUIET) * SQUARE);
            // Writing to a string cannot fail.
            let _ = write!(text, "M{left} {top}h{SQUARE}v{SQUARE}h-{SQUARE}z");
        }
    }
    text.push_str("\"/></svg>");
    text
}

/// The SHA-256 of the local CA's certificate, as devices show it.
pub(super) async fn fingerprint(Shared(facts): Shared<Arc<Facts>>) -> Response {
    let pem = tokio::fs::read(&facts.ca_file).await.ok();
    let der = pem.and_then(|pem| CertificateDer::from_pem_slice(&pem).ok());
    let Some(der) = der else {
        return words(StatusCode::NOT_FOUND, "this service has no certificate authority of its own\n").into_response();
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (headers, format!("{}\n", pairs.join(":"))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_square_by_square_with_its_quiet_zone() {
        let text = svg(2, |x, y| x == 1 && y == 0);
        assert!(text.contains("viewBox=\"0 0 80 80\""), "{text}");
        assert!(text.contains("<path d=\"M40 32h8v8h-8z\"/>"), "{text}");
    }

    #[test]
    fn nothing_but_an_authority_comes_into_the_code() {
        assert_eq!(plain_authority("[2001:db8::1]:8443"), "[2001:db8::1]:8443");
        assert_eq!(plain_authority("a.b\"><script>/"), "a.bscript");
    }
}

//! The built-in page: files of `templates/web`, part of this binary, so that a LAN without internet has them.

use axum::body::Body;
use axum::extract::Path;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::task::words;

#[derive(RustEmbed)]
#[folder = "templates/web"]
struct Embedded;

/// Everything from here, nothing inline: whatever slips into a page as text stays text.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; connect-src 'self' wss:; form-action 'none'; \
     frame-ancestors 'none'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'";
const PERMISSIONS_POLICY: &str = "camera=(self), microphone=(self), display-capture=(self), geolocation=()";

/// `/`, and every file by its name.
pub(super) async fn fallback(request: Request<Body>) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = words(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are what is possible here\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let name = match request.uri().path() {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    serve(name, request.headers())
}

/// A file of the built-in page below `/rtcctl/`.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response<Body> {
    serve(&name, &headers)
}

/// The trickle-ICE page.
pub(super) async fn ice_test(headers: HeaderMap) -> Response<Body> {
    serve("ice-test.html", &headers)
}

/// How a device comes to trust the local CA.
pub(super) async fn trust(headers: HeaderMap) -> Response<Body> {
    serve("trust.html", &headers)
}

/// The script that defines `io()`, where pages for a stock Socket.IO server look for it.
pub(super) async fn client_script(headers: HeaderMap) -> Response<Body> {
    serve("sio.js", &headers)
}

fn serve(name: &str, headers: &HeaderMap) -> Response<Body> {
    let Some(file) = Embedded::get(name) else { return words(StatusCode::NOT_FOUND, "there is no such page\n") };
    let tag = tag(&file);
    let mut response = Response::new(Body::empty());
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(file.data);
    }
    let mut put = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    put(header::ETAG, &tag);
    // Asked for anew each time, sent anew only when it has changed.
    put(header::CACHE_CONTROL, "no-cache");
    put(header::CONTENT_TYPE, &content_type(name));
    put(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    put(header::HeaderName::from_static("permissions-policy"), PERMISSIONS_POLICY);
    put(header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    response
}

fn tag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let short: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{short}\"")
}

fn content_type(name: &str) -> String {
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    match kind.type_() {
        mime_guess::mime::TEXT => format!("{kind}; charset=utf-8"),
        _ if kind.subtype() == mime_guess::mime::JAVASCRIPT => format!("{kind}; charset=utf-8"),
        _ => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(name: &str, known: Option<&HeaderValue>) -> Response<Body> {
        let mut headers = HeaderMap::new();
        if let Some(known) = known {
            headers.insert(header::IF_NONE_MATCH, known.clone());
        }
        serve(name, &headers)
    }

    #[test]
    fn a_page_that_the_browser_has_is_not_sent_again() {
        let first = get("index.html", None);
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(first.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'self'"));
        let again = get("index.html", first.headers().get(header::ETAG));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn there_is_nothing_outside_the_page() {
        for name in ["../config.yaml", "/etc/passwd", "", ".", "nothing.html", "index.html/../../config.yaml"] {
            assert_eq!(get(name, None).status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    /// What the page may not do, its files must not need.
    #[test]
    fn no_page_has_a_script_or_a_style_inline_or_from_elsewhere() {
        for name in Embedded::iter().filter(|name| name.ends_with(".html")) {
            let text = String::from_utf8(Embedded::get(&name).unwrap().data.into_owned()).unwrap();
            let lower = text.to_lowercase();
            for banned in ["<style", " style=", " onclick=", " onload=", "javascript:", "src=\"http", "href=\"http"] {
                assert!(!lower.contains(banned), "{name} has `{banned}`");
            }
            assert!(
                lower.split("<script").skip(1).all(|rest| rest.split('>').next().unwrap().contains("src=")),
                "{name}"
            );
        }
    }
}

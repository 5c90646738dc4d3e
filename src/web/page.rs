//! The built-in page: files of `templates/web`, part of this binary, so that a LAN without internet has them.
//!
//! HTML names its scripts and styles below `/rtcctl/VERSION/`, where browsers keep them for good: another version of
//! the page has other names. Modules import their neighbours by relative names, so all of them come from there.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Path;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use rust_embed::RustEmbed;

use super::task::words;

#[derive(RustEmbed)]
#[folder = "templates/web"]
struct Embedded;

/// All files of the page, made ready once.
static PAGES: LazyLock<Pages> = LazyLock::new(Pages::new);

struct Pages {
    /// Changes with any of the files.
    version: String,
    files: BTreeMap<String, File>,
}

struct File {
    plain: Bytes,
    /// `None` where it would not be smaller.
    compressed: Option<Bytes>,
    tag: String,
}

impl Pages {
    fn new() -> Self {
        let names: Vec<_> = Embedded::iter().collect();
        let mut hasher = DefaultHasher::new();
        for file in names.iter().filter_map(|name| Embedded::get(name)) {
            file.metadata.sha256_hash().hash(&mut hasher);
        }
        let version = format!("{:016x}", hasher.finish());
        let files = names
            .iter()
            .filter_map(|name| {
                let file = Embedded::get(name)?;
                let plain = match std::str::from_utf8(&file.data) {
                    Ok(html) if name.ends_with(".html") => {
                        html.replace("\"/rtcctl/", &format!("\"/rtcctl/{version}/")).into()
                    }
                    _ => Bytes::from(file.data.into_owned()),
                };
                Some((name.to_string(), File::new(plain)))
            })
            .collect();
        Self { version, files }
    }
}

impl File {
    fn new(plain: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        plain.hash(&mut hasher);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let compressed = encoder.write_all(&plain).and_then(|()| encoder.finish()).ok();
        let compressed = compressed.filter(|bytes| bytes.len() < plain.len()).map(Bytes::from);
        Self { plain, compressed, tag: format!("{:016x}", hasher.finish()) }
    }
}

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
    serve(name, request.headers(), false)
}

/// A file of the built-in page below `/rtcctl/`, or below a version there.
pub(super) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response<Body> {
    match path.split_once('/') {
        // A page of another version that is still open gets what there is, but does not keep it under that name.
        Some((version, name)) if version.len() == PAGES.version.len() => {
            serve(name, &headers, version == PAGES.version)
        }
        _ => serve(&path, &headers, false),
    }
}

/// The trickle-ICE page.
pub(super) async fn ice_test(headers: HeaderMap) -> Response<Body> {
    serve("ice-test.html", &headers, false)
}

/// Takes the key of an invite link, and then leads to the page in whose place it stands.
pub(super) fn asks_for_key(headers: &HeaderMap) -> Response<Body> {
    let mut headers = headers.clone();
    headers.remove(header::IF_NONE_MATCH);
    let mut response = serve("key.html", &headers, false);
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().remove(header::ETAG);
    response
}

/// Whether somebody opens a page, rather than a page its parts.
pub(super) fn is_for_reading(request: &Request<Body>) -> bool {
    let says = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    match says(header::HeaderName::from_static("sec-fetch-dest")) {
        Some(destination) => matches!(destination, "document" | "iframe" | "frame"),
        None => says(header::ACCEPT).is_some_and(|wanted| wanted.contains("text/html")),
    }
}

/// The page that a phone opens by the code of `rtcctl phone`.
pub(super) async fn phone(headers: HeaderMap) -> Response<Body> {
    serve("phone.html", &headers, false)
}

/// How a device comes to trust the local CA.
pub(super) async fn trust(headers: HeaderMap) -> Response<Body> {
    serve("trust.html", &headers, false)
}

/// The script that defines `io()`, where pages for a stock Socket.IO server look for it.
pub(super) fn client_script(headers: &HeaderMap) -> Response<Body> {
    serve("sio.js", headers, false)
}

fn serve(name: &str, headers: &HeaderMap, is_versioned: bool) -> Response<Body> {
    let Some(file) = PAGES.files.get(name) else { return words(StatusCode::NOT_FOUND, "there is no such page\n") };
    let compressed = file.compressed.as_ref().filter(|_| takes_gzip(headers));
    let tag = format!("\"{}{}\"", file.tag, if compressed.is_some() { "-gzip" } else { "" });
    let mut response = Response::new(Body::empty());
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(compressed.unwrap_or(&file.plain).clone());
    }
    let mut put = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    put(header::ETAG, &tag);
    put(header::VARY, "accept-encoding");
    if compressed.is_some() && !is_known {
        put(header::CONTENT_ENCODING, "gzip");
    }
    // What has no version in its name is asked for anew each time, and sent anew only when it has changed.
    put(header::CACHE_CONTROL, if is_versioned { "public, max-age=31536000, immutable" } else { "no-cache" });
    put(header::CONTENT_TYPE, &content_type(name));
    put(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    put(header::HeaderName::from_static("permissions-policy"), PERMISSIONS_POLICY);
    put(header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    response
}

/// Whether the client named gzip, and not to refuse it.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let wishes = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    wishes.flat_map(|value| value.split(',')).any(|wish| {
        let mut parts = wish.split(';').map(str::trim);
        parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"))
            && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
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
        serve(name, &headers, false)
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

    #[tokio::test]
    async fn scripts_are_kept_for_good_under_the_name_of_their_version() {
        let html = String::from_utf8(PAGES.files["index.html"].plain.to_vec()).unwrap();
        let path = format!("{}/main.js", PAGES.version);
        assert!(html.contains(&format!("\"/rtcctl/{path}\"")) && !html.contains("\"/rtcctl/main.js\""), "{html}");
        let kept = asset(Path(path), HeaderMap::new()).await;
        assert_eq!(kept.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        for path in ["0123456789abcdef/main.js", "main.js"] {
            let asked = asset(Path(path.to_owned()), HeaderMap::new()).await;
            assert_eq!(asked.status(), StatusCode::OK);
            assert_eq!(asked.headers()[header::CACHE_CONTROL], "no-cache", "{path}");
        }
        assert_eq!(get("index.html", None).headers()[header::CACHE_CONTROL], "no-cache");
    }

    #[test]
    fn who_takes_gzip_gets_less_than_a_hundred_kilobytes_for_the_first_view() {
        let compressed = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            serve("main.js", &headers, false).headers().contains_key(header::CONTENT_ENCODING)
        };
        assert!(compressed("gzip, deflate, br") && compressed("br;q=1, GZIP;q=0.5"));
        assert!(!compressed("identity") && !compressed("gzip;q=0"));
        // More than a first view loads: the panel and the ICE test are in it.
        let all: usize =
            PAGES.files.values().map(|file| file.compressed.as_ref().map_or(file.plain.len(), Bytes::len)).sum();
        assert!(all < 100_000, "{all}");
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

//! The HTTPS client that speaks with authorities: one connection a request, bounded in time and size.
//!
//! It remembers the status and the `Retry-After` of the last answer, which the ACME crate does not hand on.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, DATE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::moment::Moment;
use super::super::trouble::{Class, Trouble};
use crate::sys::clock;
use crate::text;
use crate::words::Text;

/// How long one address of an authority may take to accept a connection.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// How long one request may take in all.
const ANSWERED_WITHIN: Duration = Duration::from_secs(45);
/// Bytes of one answer; chains of certificates are a few kilobytes.
const MAX_ANSWER: usize = 1 << 20;
/// What this client is called.
const OURS: HeaderValue = HeaderValue::from_static(concat!("rtcctl/", env!("CARGO_PKG_VERSION")));
/// Where systems keep the roots they trust: Debian, Red Hat, SUSE, Alpine.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

type BoxError = Box<dyn StdError + Send + Sync>;

/// What the last answer said besides its body.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noted {
    pub(super) status: Option<u16>,
    pub(super) retry_at: Option<Moment>,
    /// What time it was there.
    pub(super) date: Option<Moment>,
}

/// A client for one authority. Clones share what is noted.
#[derive(Clone)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    noted: Arc<Mutex<Noted>>,
}

impl Client {
    /// Trusts the roots of the file `root`, or those of the system.
    ///
    /// # Errors
    /// If there are none.
    pub(super) fn new(root: Option<&Path>) -> Result<Self, Trouble> {
        let roots = match root {
            Some(path) => roots_of(path).map_err(|why| no_roots(text!("cannot use `{}`: {}", path.display(), why)))?,
            None => {
                let mut found = SYSTEM_ROOTS.iter().filter_map(|path| roots_of(Path::new(path)).ok());
                found.next().ok_or_else(|| no_roots(text!("this system has no list of trusted authorities")))?
            }
        };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| no_roots(Text::verbatim(error.to_string())))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config), noted: Arc::default() })
    }

    pub(super) fn noted(&self) -> Noted {
        *self.noted.lock().expect("nothing panics while it holds this lock")
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, BoxError> {
        *self.noted.lock().expect("nothing panics while it holds this lock") = Noted::default();
        let answer = timeout(ANSWERED_WITHIN, self.exchange(request)).await;
        let response = answer.map_err(|_| other(text!("the authority did not answer in time")))??;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
        let noted = Noted {
            date: date.and_then(|text| retry_at(text, Moment(0))),
            status: Some(response.status().as_u16()),
            retry_at: retry_after.and_then(|text| retry_at(text, Moment::from(clock::now().wall))),
        };
        *self.noted.lock().expect("nothing panics while it holds this lock") = noted;
        Ok(response)
    }

    async fn exchange(&self, mut request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, BoxError> {
        let uri = request.uri().clone();
        let host = uri.host().ok_or_else(|| other(text!("the authority's address has no host")))?;
        if uri.scheme_str() != Some("https") {
            return Err(other(text!("the authority's address does not begin with https://")));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = connect(&bare, uri.port_u16().unwrap_or(443)).await?;
        let name = ServerName::try_from(bare)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, or with the runtime.
        let _driving = tokio::spawn(connection);
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority)?);
        // Who does not say what it is may be refused. RFC 8555, section 6.1.
        request.headers_mut().entry(USER_AGENT).or_insert(OURS);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        *request.uri_mut() = target.parse()?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let response = client.send(request).await.map_err(instant_acme::Error::Other)?;
            let (parts, body) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// Tries the addresses of a name one after the other.
async fn connect(host: &str, port: u16) -> Result<TcpStream, BoxError> {
    let found =
        lookup_host((host, port)).await.map_err(|error| other(text!("cannot resolve `{}`: {}", host, error)))?;
    let addresses: Vec<SocketAddr> = found.collect();
    let mut last = other(text!("`{}` has no address", host));
    for address in addresses {
        match timeout(CONNECTED_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = other(text!("cannot connect to {}: {}", address, error)),
            Err(_) => last = other(text!("{} does not answer", address)),
        }
    }
    Err(last)
}

fn roots_of(path: &Path) -> Result<RootCertStore, Text> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| Text::of_error(&error))?;
    let mut roots = RootCertStore::empty();
    // One strange certificate among a hundred is no reason to trust none.
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() { Err(text!("it holds no certificate of an authority")) } else { Ok(roots) }
}

fn no_roots(detail: Text) -> Trouble {
    Trouble::new(Class::Ours, "roots", detail)
}

/// What is wrong, on its way through the errors of others.
#[derive(Debug)]
pub(super) struct Said(pub(super) Text);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.english())
    }
}

impl std::error::Error for Said {}

fn other(text: Text) -> BoxError {
    Box::new(io::Error::other(Said(text)))
}

/// A number of seconds, or a date. RFC 9110, section 10.2.3.
fn retry_at(text: &str, now: Moment) -> Option<Moment> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(now.plus(Duration::from_secs(seconds)));
    }
    let date = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
    u64::try_from(date.unix_timestamp()).ok().map(Moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Moment(1_000);
        assert_eq!(retry_at(" 120 ", now), Some(Moment(1_120)));
        assert_eq!(retry_at("Fri, 31 Dec 1999 23:59:59 GMT", now), Some(Moment(946_684_799)));
        assert_eq!(retry_at("soon", now), None);
    }

    #[test]
    fn a_root_that_is_none_is_named() {
        let trouble = Client::new(Some(Path::new("/nonexistent/root.pem"))).err().unwrap();
        assert_eq!((trouble.class, trouble.code.as_str()), (Class::Ours, "roots"));
        assert!(trouble.detail.contains("/nonexistent/root.pem"), "{trouble}");
    }
}

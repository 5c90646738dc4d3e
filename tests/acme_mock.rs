//! What authorities do that pebble does not: limits with Retry-After, outages, orders that replace, advice, profiles.
//!
//! The mock speaks ACME over TLS. It checks no signature and no nonce, and takes every authorization for given; it
//! signs requests by a CA of its own, knows profiles and ARI, and answers the next orders as a test scripts it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rtcctl::certs::acme::{Authority, Obtained, Order, Session};
use rtcctl::certs::challenge::{Challenges, Kind};
use rtcctl::certs::moment::Moment;
use rtcctl::certs::trouble::{Class, Trouble};
use rtcctl::config::Host;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How the mock answers an order.
#[derive(Clone)]
enum Manner {
    /// An ACME problem: status, type, text, and Retry-After.
    Problem(u16, &'static str, &'static str, Option<&'static str>),
    /// A page of a proxy in front of it.
    Page(u16),
}

struct Mock {
    url: String,
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    /// What becomes of the next orders; then they are taken.
    script: Mutex<Vec<Manner>>,
    /// The payloads of all orders.
    orders: Mutex<Vec<Value>>,
    chain: Mutex<String>,
    window: Mutex<(&'static str, &'static str)>,
}

/// The mock, listening; and what a client needs.
struct Scene {
    mock: Arc<Mock>,
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Scene {
    async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_pem = ca.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(ca, key);
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&leaf_key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let mock = Arc::new(Mock {
            url: url.clone(),
            issuer,
            ca_pem: ca_pem.clone(),
            script: Mutex::default(),
            orders: Mutex::default(),
            chain: Mutex::default(),
            window: Mutex::new(("2030-01-02T00:00:00Z", "2030-01-04T00:00:00Z")),
        });
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&mock)));
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root.pem");
        rtcctl::sys::fs::write_atomic(&root, ca_pem.as_bytes(), 0o600).unwrap();
        let directory = format!("{url}/directory");
        let authority = Authority { directory, root: Some(root), contact: None, binding: None, profile: None };
        Self { mock, dir, authority }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn obtain(&self, hosts: &[&str], replaces: Option<&CertificateDer<'static>>) -> Result<Obtained, Trouble> {
        let hosts: BTreeSet<Host> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let session = Session::open(&self.authority, &self.file("account.json")).await?;
        let (challenges, pending) = (Challenges::default(), self.file("pending.json"));
        let order = Order {
            directory: &self.authority.directory,
            hosts: &hosts,
            kinds: &[Kind::Http01],
            replaces,
            challenges: &challenges,
            dns: None,
            pending: Some(&pending),
        };
        session.obtain(&order).await.map(|(obtained, _)| obtained)
    }

    /// As the task does once the certificate is safe.
    fn forget_order(&self) {
        std::fs::remove_file(self.file("pending.json")).unwrap();
    }

    fn script(&self, manners: &[Manner]) {
        *self.mock.script.lock().unwrap() = manners.iter().rev().cloned().collect();
    }

    fn orders(&self) -> Vec<Value> {
        self.mock.orders.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, mock: Arc<Mock>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, mock) = (tls.clone(), Arc::clone(&mock));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let answer = service_fn(move |request| {
                let mock = Arc::clone(&mock);
                async move { Ok::<_, Infallible>(mock.answer(request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Mock {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if !request.headers().contains_key("user-agent") {
            return json_answer(400, &json!({ "detail": "no User-Agent; RFC 8555, section 6.1" }), &[]);
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let payload = serde_json::from_slice::<Value>(&body).ok().and_then(|jws| {
            let text = jws["payload"].as_str()?.to_owned();
            serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        });
        let url = &self.url;
        let order = |status: &str| {
            let payload = self.orders.lock().unwrap().last().cloned().unwrap_or_default();
            let mut order = json!({
                "status": status,
                "identifiers": payload["identifiers"],
                "authorizations": [format!("{url}/authz")],
                "finalize": format!("{url}/finalize"),
            });
            if status == "valid" {
                order["certificate"] = format!("{url}/certificate").into();
            }
            if !payload["replaces"].is_null() {
                order["replaces"] = payload["replaces"].clone();
            }
            order
        };
        let is_signed = !self.chain.lock().unwrap().is_empty();
        match (method, path.as_str()) {
            (_, "/directory") => json_answer(
                200,
                &json!({
                    "newNonce": format!("{url}/nonce"), "newAccount": format!("{url}/account"),
                    "newOrder": format!("{url}/new-order"), "renewalInfo": format!("{url}/renewal"),
                    "meta": { "profiles": { "classic": "the usual one", "shortlived": "six days" } },
                }),
                &[],
            ),
            (_, "/page") => Response::new(Full::from("<!doctype html><title>Sign in to the network</title>")),
            (_, "/never") => std::future::pending().await,
            (Method::HEAD, "/nonce") => json_answer(200, &Value::Null, &[]),
            (_, "/account") => {
                json_answer(201, &json!({ "status": "valid" }), &[("location", format!("{url}/account/1"))])
            }
            (_, "/new-order") => {
                self.orders.lock().unwrap().push(payload.unwrap_or_default());
                let manner = self.script.lock().unwrap().pop();
                match manner {
                    None => {
                        self.chain.lock().unwrap().clear();
                        json_answer(201, &order("ready"), &[("location", format!("{url}/order"))])
                    }
                    Some(Manner::Page(status)) => {
                        let mut response = Response::new(Full::from("<html>down for maintenance</html>"));
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                        response
                    }
                    Some(Manner::Problem(status, kind, detail, retry_after)) => {
                        let problem = json!({
                            "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status,
                        });
                        let headers: Vec<_> =
                            retry_after.iter().map(|after| ("retry-after", (*after).to_owned())).collect();
                        json_answer(status, &problem, &headers)
                    }
                }
            }
            (_, "/authz") => json_answer(
                200,
                &json!({ "status": "valid", "identifier": { "type": "dns", "value": "x" }, "challenges": [] }),
                &[],
            ),
            (_, "/order") => json_answer(200, &order(if is_signed { "valid" } else { "ready" }), &[]),
            (_, "/finalize") => {
                let csr = payload.unwrap()["csr"].as_str().unwrap().to_owned();
                let der = CertificateSigningRequestDer::from(BASE64_URL_SAFE_NO_PAD.decode(csr).unwrap());
                let mut request = CertificateSigningRequestParams::from_der(&der).unwrap();
                // Advice names a certificate by it.
                request.params.use_authority_key_identifier_extension = true;
                *self.chain.lock().unwrap() =
                    format!("{}{}", request.signed_by(&self.issuer).unwrap().pem(), self.ca_pem);
                json_answer(200, &order("valid"), &[])
            }
            (_, "/certificate") => {
                let mut response = Response::new(Full::from(self.chain.lock().unwrap().clone()));
                response.headers_mut().insert("replay-nonce", "n".parse().unwrap());
                response
            }
            (_, path) if path.starts_with("/renewal/") => {
                let (start, end) = *self.window.lock().unwrap();
                let window = json!({ "suggestedWindow": { "start": start, "end": end } });
                json_answer(200, &window, &[("retry-after", "21600".to_owned())])
            }
            (_, other) => panic!("{other} is nothing that a client should ask for"),
        }
    }
}

fn json_answer(status: u16, body: &Value, headers: &[(&'static str, String)]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("replay-nonce", "n".parse().unwrap());
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}

#[test]
fn an_address_is_ordered_with_the_profile_for_short_lives_and_a_name_with_none() {
    block_on(async {
        let scene = Scene::new().await;
        scene.obtain(&["192.0.2.1"], None).await.unwrap();
        scene.obtain(&["call.example"], None).await.unwrap();
        let orders = scene.orders();
        assert_eq!(orders[0]["profile"], "shortlived");
        assert_eq!(orders[0]["identifiers"], json!([{ "type": "ip", "value": "192.0.2.1" }]));
        assert_eq!(orders[1]["profile"], Value::Null);
    });
}

#[test]
fn a_limit_is_told_with_the_moment_at_which_it_ends() {
    block_on(async {
        let scene = Scene::new().await;
        let text = "too many certificates already issued";
        scene.script(&[Manner::Problem(429, "rateLimited", text, Some("3600"))]);
        let before = Moment::from(rtcctl::sys::clock::now().wall);
        let trouble = scene.obtain(&["call.example"], None).await.err().unwrap();
        assert_eq!((trouble.class, trouble.code.as_str()), (Class::Limit, "rateLimited"));
        let wait = trouble.retry_at.unwrap().since(before);
        assert!((3600..3700).contains(&wait.as_secs()), "{wait:?}");
        scene.script(&[Manner::Problem(429, "rateLimited", "retry after 2030-01-01 00:00:00 UTC", None)]);
        let trouble = scene.obtain(&["call.example"], None).await.err().unwrap();
        assert_eq!(trouble.retry_at, Some(Moment(1_893_456_001)));
    });
}

#[test]
fn an_outage_is_theirs_whatever_it_answers() {
    block_on(async {
        let scene = Scene::new().await;
        for manner in [Manner::Page(502), Manner::Page(503), Manner::Problem(500, "serverInternal", "oops", None)] {
            scene.script(&[manner]);
            let trouble = scene.obtain(&["call.example"], None).await.err().unwrap();
            assert_eq!(trouble.class, Class::Theirs, "{trouble}");
        }
        let gone = Authority { directory: "https://localhost:1/directory".to_owned(), ..scene.authority.clone() };
        let trouble = Session::open(&gone, &scene.file("other.json")).await.err().unwrap();
        assert_eq!((trouble.class, trouble.code.as_str()), (Class::Theirs, "unreachable"));
    });
}

#[test]
fn a_page_in_place_of_a_directory_is_the_operators_to_correct() {
    block_on(async {
        let scene = Scene::new().await;
        let page = Authority { directory: format!("{}/page", scene.mock.url), ..scene.authority.clone() };
        let trouble = Session::open(&page, &scene.file("other.json")).await.err().unwrap();
        assert_eq!((trouble.class, trouble.code.as_str()), (Class::Ours, "no-directory"), "{trouble}");
        assert!(trouble.to_string().contains("status 200, and with no directory of ACME"), "{trouble}");
        assert!(trouble.hint().unwrap().english().contains("certificate.acme_directory"));
    });
}

#[test]
#[ignore = "nobody is waited for longer than 45 seconds, which is as long as this takes"]
fn an_authority_that_takes_a_minute_is_down() {
    block_on(async {
        let scene = Scene::new().await;
        let slow = Authority { directory: format!("{}/never", scene.mock.url), ..scene.authority.clone() };
        let file = scene.file("other.json");
        let opening = tokio::time::timeout(Duration::from_secs(55), Session::open(&slow, &file));
        let trouble = opening.await.unwrap().err().unwrap();
        assert_eq!((trouble.class, trouble.code.as_str()), (Class::Theirs, "unreachable"), "{trouble}");
        assert!(trouble.to_string().contains("did not answer in time"), "{trouble}");
    });
}

#[test]
fn an_order_says_what_it_replaces_and_is_made_again_without_where_that_was_done_already() {
    block_on(async {
        let scene = Scene::new().await;
        let first = scene.obtain(&["call.example"], None).await.unwrap();
        let old = CertificateDer::from_pem_slice(first.chain_pem.as_bytes()).unwrap();
        scene.forget_order();
        scene.obtain(&["call.example"], Some(&old)).await.unwrap();
        assert!(scene.orders()[1]["replaces"].is_string(), "{:?}", scene.orders());
        scene.forget_order();
        scene.script(&[Manner::Problem(409, "alreadyReplaced", "it has been replaced", None)]);
        scene.obtain(&["call.example"], Some(&old)).await.unwrap();
        let orders = scene.orders();
        assert_eq!(orders.len(), 4);
        assert!(orders[2]["replaces"].is_string() && orders[3]["replaces"].is_null(), "{orders:?}");
    });
}

#[test]
fn the_advice_of_an_authority_is_read_and_follows_when_it_changes() {
    block_on(async {
        let scene = Scene::new().await;
        let obtained = scene.obtain(&["call.example"], None).await.unwrap();
        let leaf = CertificateDer::from_pem_slice(obtained.chain_pem.as_bytes()).unwrap();
        let session = Session::open(&scene.authority, &scene.file("account.json")).await.unwrap();
        let ((start, end), ask_after) = session.advice(&leaf).await.unwrap().unwrap();
        assert_eq!((start, end), (Moment(1_893_542_400), Moment(1_893_715_200)));
        assert!(ask_after <= Duration::from_secs(21_600) && ask_after > Duration::from_secs(21_000));
        // Every certificate is to be replaced at once.
        *scene.mock.window.lock().unwrap() = ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
        let ((start, _), _) = session.advice(&leaf).await.unwrap().unwrap();
        assert_eq!(start, Moment(1_577_836_800));
    });
}

#[test]
fn an_order_that_was_signed_when_the_service_ended_is_fetched_and_not_made_again() {
    block_on(async {
        let scene = Scene::new().await;
        let first = scene.obtain(&["call.example"], None).await.unwrap();
        // The file of the order stays until its certificate is safe.
        assert!(scene.file("pending.json").exists());
        let again = scene.obtain(&["call.example"], None).await.unwrap();
        assert_eq!((&again.chain_pem, &again.key_pem), (&first.chain_pem, &first.key_pem));
        assert_eq!(scene.orders().len(), 1);
        scene.obtain(&["other.example"], None).await.unwrap();
        assert_eq!(scene.orders().len(), 2, "another name is another order");
    });
}

//! Who is told of findings: a real program, and a real server of HTTP and HTTPS.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rtcctl::config::NotifyConfig;
use rtcctl::hooks::Hooks;
use rtcctl::hooks::queue::Event;
use rtcctl::sys::clock;

/// Longer than any pause before the third try.
const LONG: Duration = Duration::from_secs(30);

fn event(key: &str, is_raised: bool) -> Event {
    Event { key: key.to_owned(), is_raised, body: format!("{{\"key\":\"{key}\",\"raised\":{is_raised}}}") }
}

/// What was asked of a server.
#[derive(Debug, PartialEq, Eq)]
struct Posted {
    line: String,
    body: String,
    is_json: bool,
}

/// Reads one request and answers it by `status`.
fn answer(stream: &mut (impl Read + Write), status: &str) -> Posted {
    let mut reader = BufReader::new(&mut *stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let is_json = lines.iter().any(|line| line == "content-type: application/json");
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
    stream.flush().unwrap();
    Posted { line: lines.remove(0), body: String::from_utf8(body).unwrap(), is_json }
}

/// A server that answers by these in turn, each on a connection of its own.
fn server(statuses: &'static [&'static str]) -> (u16, Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (posted, heard) = mpsc::channel();
    thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            posted.send(answer(&mut stream, status)).unwrap();
        }
    });
    (port, heard)
}

fn hooks(command: Vec<String>, webhook: Option<String>, own_ca: &Path) -> Hooks {
    let webhook = webhook.map(|url| url.parse().unwrap());
    Hooks::start(NotifyConfig { command, webhook }, own_ca).unwrap()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end: Instant = clock::now().mono + LONG;
    while !is_so() {
        assert!(clock::now().mono < end, "{what}");
        thread::yield_now();
    }
}

#[test]
fn a_webhook_is_posted_to_and_tried_again_until_it_takes_the_event() {
    let (port, heard) = server(&["503 Service Unavailable", "200 OK", "204 No Content"]);
    let hooks = hooks(Vec::new(), Some(format!("http://127.0.0.1:{port}/T0/token?x=1")), Path::new("/nowhere"));
    hooks.tell(event("task-held web", true));
    let first = heard.recv_timeout(LONG).unwrap();
    let wanted = Posted {
        line: "post /t0/token?x=1 http/1.1".to_owned(),
        body: "{\"key\":\"task-held web\",\"raised\":true}".to_owned(),
        is_json: true,
    };
    assert_eq!(first, wanted);
    wait_for("the failure is told", || hooks.error().is_some());
    let error = hooks.error().unwrap();
    assert!(error.english().contains("503") && !error.english().contains("token"), "{error:?}");
    assert_eq!(heard.recv_timeout(LONG).unwrap(), wanted, "the same once more");
    wait_for("the failure is over", || hooks.error().is_none());
    hooks.tell(event("task-held web", false));
    assert!(heard.recv_timeout(LONG).unwrap().body.contains("false"));
}

#[test]
fn what_a_webhook_refuses_for_good_is_not_posted_again() {
    let (port, heard) = server(&["404 Not Found", "200 OK"]);
    let hooks = hooks(Vec::new(), Some(format!("http://127.0.0.1:{port}")), Path::new("/nowhere"));
    hooks.tell(event("a", true));
    hooks.tell(event("b", true));
    assert!(heard.recv_timeout(LONG).unwrap().body.contains("\"a\""));
    assert!(heard.recv_timeout(LONG).unwrap().body.contains("\"b\""), "the next one, at once");
}

#[test]
fn a_webhook_by_https_is_trusted_by_its_certificate_alone() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let trusted = folder.path().join("ca.pem");
    rtcctl::sys::fs::write_atomic(&trusted, made.cert.pem().as_bytes(), 0o600).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (posted, heard) = mpsc::channel();
    thread::spawn(move || {
        let config = Arc::new(config);
        for stream in listener.incoming() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, stream.unwrap());
            // A client that does not trust us ends the handshake.
            if stream.conn.complete_io(&mut stream.sock).is_ok() && posted.send(answer(&mut stream, "200 OK")).is_err()
            {
                return;
            }
        }
    });
    let url = || Some(format!("https://localhost:{port}/x"));
    let strict = hooks(Vec::new(), url(), Path::new("/nowhere"));
    strict.tell(event("a", true));
    wait_for("an unknown authority is a failure", || strict.error().is_some());
    let trusting = hooks(Vec::new(), url(), &trusted);
    trusting.tell(event("b", true));
    assert!(heard.recv_timeout(LONG).unwrap().body.contains("\"b\""));
}

#[test]
fn a_command_gets_each_event_on_its_standard_input_and_nothing_in_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("tell me");
    let told = folder.path().join("told");
    let text = "#!/bin/sh\necho \"$# $1\" >> \"$1\"\ncat >> \"$1\"\necho >> \"$1\"\n";
    rtcctl::sys::fs::write_atomic(&script, text.as_bytes(), 0o700).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let command = vec![script.display().to_string(), told.display().to_string()];
    let hooks = hooks(command, None, Path::new("/nowhere"));
    hooks.tell(event("port-lost 0.0.0.0:443", true));
    let read = || std::fs::read_to_string(&told).unwrap_or_default();
    let wanted = format!("1 {}\n{}\n", told.display(), event("port-lost 0.0.0.0:443", true).body);
    wait_for("the command has written all of it", || read().len() >= wanted.len());
    assert_eq!(read(), wanted);
    assert_eq!(hooks.error(), None);
}

#[test]
fn a_command_that_fails_is_told_and_nobody_waits_for_it() {
    let hooks = hooks(vec!["/bin/false".to_owned()], None, Path::new("/nowhere"));
    let before = clock::now().mono;
    for number in 0..1000 {
        hooks.tell(event(&number.to_string(), true));
    }
    assert!(clock::now().mono - before < Duration::from_secs(5), "events are handed in without waiting");
    wait_for("the failure is told", || {
        hooks.error().is_some_and(|error| error.english().contains("`/bin/false` ended by"))
    });
}

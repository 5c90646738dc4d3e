//! One conversation with a metadata service: no proxy, no redirect, no more bytes than an address needs, and an end.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::answers::{Heard, Reply, read_addresses, read_token};
use super::provider::{Provider, Script, TOKEN_TTL};
use crate::text;
use crate::words::Text;

/// How long a connection may take: the service is on the same machine or in the same rack.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);
/// How long all of it may take.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of the longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// How often a busy service is asked again, and how long is waited before.
const TRIES: usize = 3;
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(150);
const HTTP: u16 = 80;

/// What a metadata service said of the public address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Nobody was asked; why.
    NotAsked(Text),
    /// Never empty; what connections come to first.
    Addresses(Vec<IpAddr>),
    /// This machine has none.
    NoAddress,
    /// No usable answer; why.
    Fault(Text),
}

/// Asks the metadata services of `providers` at once, for three seconds at most.
#[must_use]
pub fn ask(providers: &[Provider]) -> Vec<(Provider, Told)> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return providers.iter().map(|one| (*one, Told::Fault(Text::verbatim(error.to_string())))).collect();
        }
    };
    runtime.block_on(async {
        let asking: Vec<_> = providers.iter().map(|one| (*one, tokio::spawn(ask_one(*one)))).collect();
        let mut told = Vec::new();
        for (provider, answer) in asking {
            told.push((provider, answer.await.unwrap_or_else(|error| Told::Fault(Text::verbatim(error.to_string())))));
        }
        told
    })
}

async fn ask_one(provider: Provider) -> Told {
    let Some(script) = provider.script() else {
        return Told::NotAsked(text!("{} does not tell a machine its public address", provider.title()));
    };
    let told = timeout(TOLD_WITHIN, converse(script)).await;
    match told {
        Ok(Ok(addresses)) if addresses.is_empty() => Told::NoAddress,
        Ok(Ok(addresses)) => Told::Addresses(addresses),
        Ok(Err(why)) => Told::Fault(why),
        Err(_) => Told::Fault(text!("it did not answer within {} s", TOLD_WITHIN.as_secs())),
    }
}

async fn converse(script: Script) -> Result<Vec<IpAddr>, Text> {
    let at = find(script.at).await?;
    let token = match script.token {
        Some(token) => {
            let asked =
                Question { method: Method::PUT, path: token.path, headers: vec![(token.ttl_header, TOKEN_TTL)] };
            read_token(&exchange(at, script, &asked).await?)?
        }
        None => None,
    };
    for ask in script.asks {
        let mut headers = Vec::new();
        if let (Some(kind), Some(token)) = (script.token, &token) {
            headers.push((kind.header, token.as_str()));
        }
        let asked = Question { method: Method::GET, path: ask.path, headers };
        let mut tries = 1..=TRIES;
        loop {
            let attempt = tries.next();
            match read_addresses(ask.form, &exchange(at, script, &asked).await?) {
                Heard::Addresses(addresses) => return Ok(addresses),
                Heard::Nothing => break,
                Heard::Nonsense(why) => return Err(why),
                Heard::Later(_) if attempt.is_some_and(|attempt| attempt < TRIES) => sleep(ASKED_AGAIN_AFTER).await,
                Heard::Later(status) => return Err(text!("it answers with status {} again and again", status)),
            }
        }
    }
    Ok(Vec::new())
}

/// The first address that takes a connection.
async fn find(candidates: &[IpAddr]) -> Result<SocketAddr, Text> {
    let mut why = Text::default();
    for candidate in candidates {
        let at = SocketAddr::new(*candidate, HTTP);
        match connect(at).await {
            Ok(_) => return Ok(at),
            Err(fault) if why.is_empty() => why = fault,
            Err(_) => {}
        }
    }
    Err(why)
}

async fn connect(at: SocketAddr) -> Result<TcpStream, Text> {
    match timeout(CONNECTED_WITHIN, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(text!("nothing answers at {}: {}", at, error)),
        Err(_) => Err(text!("nothing answers at {} within {} s", at, CONNECTED_WITHIN.as_secs())),
    }
}

struct Question<'a> {
    method: Method,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

/// Asks by a connection of its own: there are three requests at most, and none depends on the state of another.
async fn exchange(at: SocketAddr, script: Script, asked: &Question<'_>) -> Result<Reply, Text> {
    let failed = |what: &dyn std::fmt::Display| text!("the answer of {} breaks off: {}", at, what);
    let stream = connect(at).await?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let driving = tokio::spawn(connection);
    let mut request = Request::builder().method(asked.method.clone()).uri(asked.path).header("Host", script.host);
    for (name, value) in script.header.iter().chain(&asked.headers) {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::new()).map_err(|error| text!("it cannot be asked: {}", error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    driving.abort();
    match body {
        Ok(body) => Ok(Reply { status, body: body.to_bytes().to_vec() }),
        // Where the status says it all, what else is said does not matter.
        Err(_) if status != 200 => Ok(Reply { status, body: Vec::new() }),
        Err(error) => Err(failed(&error)),
    }
}

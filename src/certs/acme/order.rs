//! One order from its beginning to its chain, or from wherever a crash left it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, OrderStatus,
    Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use serde::{Deserialize, Serialize};
use tracing::{debug, info};

use super::super::challenge::Answering;
use super::super::dns01::{Presented, Record};
use super::super::trouble::{Class, Trouble};
use super::Order;
use super::failure::{of_problem, trouble};
use super::http::Client;
use crate::config::Host;
use crate::sys::fault;
use crate::sys::fs::{create_private_dir, write_atomic};
use crate::text;
use crate::words::Text;

/// How long an authority may take to look, and again to sign. Some look from several continents.
const DECIDED_WITHIN: Duration = Duration::from_secs(180);
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// How often a request is made anew that stopped at nothing but a nonce.
const MORE_NONCES: usize = 8;
/// The code of an order that leads nowhere.
const LOST: &str = "order";

/// A certificate and its key as they are written.
pub struct Obtained {
    /// The leaf, then what vouches for it.
    pub chain_pem: String,
    pub key_pem: String,
}

/// An order that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub directory: String,
    pub names: BTreeSet<String>,
    pub order: String,
    /// Made before the authority is asked to sign: a certificate without its key is lost.
    pub key_pem: Option<String>,
}

/// Asks again and again while the authority takes its own nonces for bad ones: the crate does so three times only.
macro_rules! patiently {
    ($call:expr) => {{
        let mut left = MORE_NONCES;
        loop {
            match $call.await {
                Err(Error::Api(problem)) if left > 0 && is_bad_nonce(&problem) => left -= 1,
                done => break done,
            }
        }
    }};
}

/// Gets a certificate by one kind of challenge.
pub(super) async fn obtain(
    client: &Client,
    account: &Account,
    profile: Option<String>,
    kind: ChallengeType,
    wanted: &Order<'_>,
) -> Result<Obtained, Trouble> {
    if let Some((order, pending)) = resume(account, wanted).await {
        match complete(client, order, pending, &kind, wanted).await {
            // What went wrong while nobody was there to answer says nothing of now.
            Err(trouble) if trouble.class == Class::Ours || trouble.code == LOST => {
                debug!(%trouble, "the order that was under way cannot be gone on with");
                forget(wanted.pending);
            }
            done => return done,
        }
    }
    let order = new_order(client, account, profile, wanted).await?;
    let names = wanted.hosts.iter().map(text).collect();
    let directory = wanted.directory.to_owned();
    let pending = Pending { directory, names, order: order.url().to_owned(), key_pem: None };
    remember(wanted.pending, &pending)?;
    fault::point("ordered");
    let done = complete(client, order, pending, &kind, wanted).await;
    if let Err(trouble) = &done
        && (trouble.class == Class::Ours || trouble.code == LOST)
    {
        // What was refused is not to be gone on with. What an authority could not answer is.
        forget(wanted.pending);
    }
    done
}

/// Brings an order to its end, from whatever state it is in.
async fn complete(
    client: &Client,
    mut order: instant_acme::Order,
    mut pending: Pending,
    kind: &ChallengeType,
    wanted: &Order<'_>,
) -> Result<Obtained, Trouble> {
    let failed = |error: Error| trouble(&error, client.noted());
    if order.state().status == OrderStatus::Pending {
        if *kind == ChallengeType::Dns01 {
            let hook = wanted.dns.ok_or_else(|| lost(text!("no command adds records to the DNS")))?;
            let mut presented = Presented::begin(hook).await;
            let proven = match present(client, &mut order, &mut presented).await {
                Ok(()) => prove(client, &mut order, kind, wanted).await,
                Err(trouble) => Err(trouble),
            };
            presented.withdraw().await;
            proven?;
        } else {
            prove(client, &mut order, kind, wanted).await?;
        }
    }
    if order.state().status == OrderStatus::Ready {
        let (key_pem, request) = signing_request(wanted.hosts)?;
        pending.key_pem = Some(key_pem);
        remember(wanted.pending, &pending)?;
        fault::point("key-kept");
        patiently!(order.finalize_csr(&request)).map_err(failed)?;
        fault::point("finalized");
    }
    let chain_pem = patiently!(order.poll_certificate(&patience())).map_err(failed)?;
    let key_pem = pending.key_pem.ok_or_else(|| lost(text!("the key of an order that is signed is lost")))?;
    Ok(Obtained { chain_pem, key_pem })
}

/// Shows the authority that all names are ours, and waits until it has looked.
async fn prove(
    client: &Client,
    order: &mut instant_acme::Order,
    kind: &ChallengeType,
    wanted: &Order<'_>,
) -> Result<(), Trouble> {
    let _answering = answer(client, order, kind, wanted).await?;
    fault::point("challenged");
    match patiently!(order.poll_ready(&patience())) {
        Ok(OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing) => Ok(()),
        Ok(OrderStatus::Invalid | OrderStatus::Pending) => Err(refusal(client, order, None).await),
        Err(error) => {
            let first = trouble(&error, client.noted());
            Err(refusal(client, order, Some(first)).await)
        }
    }
}

/// Adds the records of all challenges to the DNS, and waits until they can be seen.
async fn present(
    client: &Client,
    order: &mut instant_acme::Order,
    presented: &mut Presented<'_>,
) -> Result<(), Trouble> {
    let mut left = MORE_NONCES;
    let records = loop {
        match records(client, order).await {
            Err(trouble) if trouble.code == "badNonce" && left > 0 => left -= 1,
            done => break done?,
        }
    };
    for record in &records {
        presented.add(record.clone()).await?;
    }
    presented.settle(&records).await
}

/// The records that an order wants to see.
async fn records(client: &Client, order: &mut instant_acme::Order) -> Result<Vec<Record>, Trouble> {
    let mut records = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| trouble(&error, client.noted()))?;
        let Identifier::Dns(name) = authorization.identifier().identifier.clone() else { continue };
        if authorization.status == AuthorizationStatus::Pending
            && let Some(challenge) = authorization.challenge(ChallengeType::Dns01)
        {
            records.push(Record::new(&name, challenge.key_authorization().dns_value()));
        }
    }
    Ok(records)
}

/// The order that was under way when the process ended, if it is for the same and can be gone on with.
async fn resume(account: &Account, wanted: &Order<'_>) -> Option<(instant_acme::Order, Pending)> {
    let file = wanted.pending?;
    let pending: Pending = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let names: BTreeSet<String> = wanted.hosts.iter().map(text).collect();
    if pending.names != names || pending.directory != wanted.directory {
        return None;
    }
    let mut order = patiently!(account.order(pending.order.clone())).ok()?;
    let is_of_use = match order.state().status {
        OrderStatus::Pending | OrderStatus::Ready => true,
        OrderStatus::Processing | OrderStatus::Valid => pending.key_pem.is_some(),
        OrderStatus::Invalid => false,
    };
    info!(is_of_use, "found an order that was under way");
    is_of_use.then_some((order, pending))
}

async fn new_order(
    client: &Client,
    account: &Account,
    profile: Option<String>,
    wanted: &Order<'_>,
) -> Result<instant_acme::Order, Trouble> {
    let identifiers: Vec<Identifier> = wanted.hosts.iter().map(identifier).collect();
    let plain = || {
        let order = NewOrder::new(&identifiers);
        match &profile {
            Some(profile) => order.profile(profile),
            None => order,
        }
    };
    let replaced: Option<CertificateIdentifier<'_>> =
        wanted.replaces.and_then(|certificate| certificate.try_into().ok());
    if let Some(replaced) = replaced {
        match patiently!(account.new_order(&plain().replaces(CertificateIdentifier::clone(&replaced)))) {
            Ok(order) => return Ok(order),
            Err(error) => {
                let trouble = trouble(&error, client.noted());
                let knows_nothing_of_it = !matches!(error, Error::Api(_)) && trouble.class == Class::Ours
                    || matches!(error, Error::Other(_)) && client.noted().status == Some(201);
                let is_about_it = ["alreadyReplaced", "malformed"].contains(&trouble.code.as_str());
                if !is_about_it && !knows_nothing_of_it {
                    return Err(trouble);
                }
                debug!(%trouble, "the order cannot say what it replaces");
            }
        }
    }
    patiently!(account.new_order(&plain())).map_err(|error| trouble(&error, client.noted()))
}

/// Prepares the answers of all challenges and has the authority look. The answers are given until the guard is dropped.
async fn answer(
    client: &Client,
    order: &mut instant_acme::Order,
    kind: &ChallengeType,
    wanted: &Order<'_>,
) -> Result<Answering, Trouble> {
    let mut answering = wanted.challenges.answering();
    // Those at which the authority looks already must not be announced again.
    let mut announced = BTreeSet::new();
    let mut left = MORE_NONCES;
    loop {
        match announce(client, order, kind, &mut answering, &mut announced).await {
            Err(trouble) if trouble.code == "badNonce" && left > 0 => left -= 1,
            done => return done.map(|()| answering),
        }
    }
}

async fn announce(
    client: &Client,
    order: &mut instant_acme::Order,
    kind: &ChallengeType,
    answering: &mut Answering,
    announced: &mut BTreeSet<String>,
) -> Result<(), Trouble> {
    let failed = |error: Error| trouble(&error, client.noted());
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed)?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated => return Err(lost(text!("an authorization of the order is over"))),
        }
        let Some(host) = host(authorization.identifier().identifier) else {
            return Err(lost(text!("the authority asks for something that was not ordered")));
        };
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            let detail = text!("the authority offers no {} for {}", word(kind), host);
            return Err(Trouble::new(Class::Ours, "no-challenge", detail));
        };
        if announced.contains(&challenge.token) {
            continue;
        }
        let proof = challenge.key_authorization();
        if *kind == ChallengeType::TlsAlpn01 {
            let digest =
                <[u8; 32]>::try_from(proof.digest().as_ref()).map_err(|_| lost(text!("a digest has 32 bytes")))?;
            answering.answer_tls(&host, &digest).map_err(|failure| lost(failure.told()))?;
        } else if *kind == ChallengeType::Http01 {
            answering.answer_http(&challenge.token, proof.as_str());
        }
        patiently!(challenge.set_ready()).map_err(failed)?;
        announced.insert(challenge.token.clone());
    }
    Ok(())
}

/// Why an order was refused: what the authority says of its challenges tells more than what it says of the order.
async fn refusal(client: &Client, order: &mut instant_acme::Order, first: Option<Trouble>) -> Trouble {
    if first.as_ref().is_some_and(|first| first.class == Class::Theirs) {
        return first.unwrap_or_else(|| lost(text!("the order was refused")));
    }
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { break };
        let Ok(state) = authorization.refresh().await else { break };
        let name = state.identifier().to_string();
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            let mut found = of_problem(problem, client.noted());
            found.detail = text!("{}: {}", name, found.detail);
            return found;
        }
    }
    first.unwrap_or_else(|| lost(text!("the authority refused the order and did not say why")))
}

/// A new key, and the request to sign it. Names stand among the alternative names alone: addresses must not be elsewhere.
fn signing_request(hosts: &BTreeSet<Host>) -> Result<(String, Vec<u8>), Trouble> {
    let failed = |error: rcgen::Error| lost(text!("cannot make a signing request: {}", error));
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = |host: &Host| match host {
        Host::Address(address) => Ok(SanType::IpAddress(*address)),
        Host::Name(name) => name.as_str().try_into().map(SanType::DnsName),
    };
    params.subject_alt_names = hosts.iter().map(name).collect::<Result<_, rcgen::Error>>().map_err(failed)?;
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

fn remember(file: Option<&Path>, pending: &Pending) -> Result<(), Trouble> {
    let Some(file) = file else { return Ok(()) };
    let disk = |why: Text| Trouble::new(Class::Ours, "disk", why);
    let text = serde_json::to_vec(pending).map_err(|error| disk(Text::verbatim(error.to_string())))?;
    if let Some(folder) = file.parent() {
        create_private_dir(folder).map_err(|failure| disk(failure.told()))?;
    }
    write_atomic(file, &text, 0o600).map_err(|failure| disk(failure.told()))
}

fn forget(file: Option<&Path>) {
    if let Some(file) = file {
        // It may never have been written.
        let _ = std::fs::remove_file(file);
    }
}

fn is_bad_nonce(problem: &Problem) -> bool {
    problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":badNonce"))
}

fn patience() -> RetryPolicy {
    RetryPolicy::new().initial_delay(FIRST_LOOK).backoff(1.5).timeout(DECIDED_WITHIN)
}

fn identifier(host: &Host) -> Identifier {
    match host {
        Host::Address(address) => Identifier::Ip(*address),
        Host::Name(name) => Identifier::Dns(name.clone()),
    }
}

fn host(identifier: &Identifier) -> Option<Host> {
    match identifier {
        Identifier::Dns(name) => Some(Host::Name(name.clone())),
        Identifier::Ip(address) => Some(Host::Address(*address)),
        Identifier::PermanentIdentifier(_) | Identifier::HardwareModule(_) | _ => None,
    }
}

fn text(host: &Host) -> String {
    match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    }
}

fn word(kind: &ChallengeType) -> &'static str {
    if *kind == ChallengeType::TlsAlpn01 {
        "tls-alpn-01"
    } else if *kind == ChallengeType::Dns01 {
        "dns-01"
    } else {
        "http-01"
    }
}

/// Nothing that the operator did, and nothing that waiting alone would mend at the next look.
fn lost(why: Text) -> Trouble {
    Trouble::new(Class::Theirs, LOST, why)
}

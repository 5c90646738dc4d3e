//! The gate as its users see it: keys and sessions in, decisions out.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE as COOKIE_HEADER};

use super::*;
use crate::config::{HostFacts, resolve};
use crate::sys::clock;

const KEY: &str = "abcdefghijklmnopqrstuvwxyz";
const OTHER: &str = "zyxwvutsrqponmlkjihgfedcba";

fn config(access: &str) -> Config {
    let facts = HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 1 };
    resolve(&format!("hosts: [a.example]\naccess: {access}\n"), &facts).unwrap().config
}

fn secrets(key: &str) -> Secrets {
    Secrets {
        access_key: Some(Secret::new(key.as_bytes().to_vec())),
        ..Secrets::of_turn(vec![Secret::new(vec![1; 32])])
    }
}

fn gate(access: &str) -> Gate {
    Gate::new(&config(access), &secrets(KEY))
}

fn bearer(key: &str) -> Shown {
    let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {key}").parse().unwrap())]);
    Shown::of(&headers, &"/".parse().unwrap())
}

fn cookie(pair: &str) -> Shown {
    let headers = HeaderMap::from_iter([(COOKIE_HEADER, pair.parse().unwrap())]);
    Shown::of(&headers, &"/".parse().unwrap())
}

/// The cookie that a browser shows after this `Set-Cookie`.
fn kept(set: &str) -> Shown {
    cookie(set.split(';').next().unwrap())
}

fn here() -> IpAddr {
    "192.0.2.7".parse().unwrap()
}

fn count(gate: &Gate, wanted: &str) -> u64 {
    gate.counters().all().find(|(word, _)| *word == wanted).unwrap().1
}

#[test]
fn where_access_is_open_everybody_is_in_and_counted_by_network() {
    let gate = gate("open");
    let user = gate.admit(&Shown::default(), here(), clock::now()).unwrap();
    assert_eq!(user.as_str(), "from-192.0.2.7");
    let neighbour = |address: &str| gate.admit(&Shown::default(), address.parse().unwrap(), clock::now()).unwrap();
    assert_eq!(neighbour("2001:db8::1"), neighbour("2001:db8::2"));
    assert!(!neighbour("2001:db8::1").as_str().contains(':'), "a colon would end the id");
    assert_eq!(gate.open_session(&bearer("whatever"), here(), clock::now()), Ok(None));
}

#[test]
fn a_key_is_exchanged_for_a_session_that_has_a_name_of_its_own() {
    let (gate, now) = (gate("key"), clock::now());
    assert_eq!(gate.admit(&Shown::default(), here(), now), Err(Refusal::Missing));
    assert_eq!(gate.admit(&bearer(KEY), here(), now).unwrap().as_str(), "from-192.0.2.7");
    let set = gate.open_session(&bearer(KEY), here(), now).unwrap().unwrap();
    assert!(set.starts_with("__Host-rtcctl-443=") && !set.contains(KEY), "{set}");
    for word in ["; Path=/", "; Max-Age=2592000", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
        assert!(set.contains(word), "{word}: {set}");
    }
    let user = gate.admit(&kept(&set), here(), now).unwrap();
    assert!(user.as_str().starts_with("session-"), "{user:?}");
    // Wherever the browser goes, and however often.
    assert_eq!(gate.admit_to_ask(&kept(&set), "198.51.100.1".parse().unwrap(), now).unwrap(), user);
    let other = gate.open_session(&bearer(KEY), here(), now).unwrap().unwrap();
    assert_ne!(gate.admit(&kept(&other), here(), now).unwrap(), user);
    assert_eq!(gate.open_session(&kept(&set), here(), now), Err(Refusal::Missing), "a session is not made longer");
    assert_eq!((count(&gate, "granted"), count(&gate, "sessions"), count(&gate, "missing")), (4, 2, 2));
}

#[test]
fn another_key_ends_sessions_and_the_old_key() {
    let (gate, now) = (gate("key"), clock::now());
    let set = gate.open_session(&bearer(KEY), here(), now).unwrap().unwrap();
    assert!(gate.knows(&kept(&set), now));
    gate.apply(&config("key"), &secrets(OTHER));
    assert!(!gate.knows(&kept(&set), now));
    assert_eq!(gate.admit(&kept(&set), here(), now), Err(Refusal::Ended));
    assert_eq!(gate.admit(&bearer(KEY), here(), now), Err(Refusal::Wrong));
    assert!(gate.admit(&bearer(OTHER), here(), now).is_ok());
    // With a session that has ended and the new key one is in.
    assert!(gate.admit(&kept(&set).with_key(Some(OTHER)), here(), now).is_ok());
    gate.apply(&config("open"), &secrets(OTHER));
    assert!(gate.admit(&Shown::default(), here(), now).is_ok());
}

#[test]
fn a_session_ends_by_itself() {
    let (gate, now) = (gate("key"), clock::now());
    let set = gate.open_session(&bearer(KEY), here(), now).unwrap().unwrap();
    let end = Now { wall: now.wall + SESSION_FOR, ..now };
    assert_eq!(gate.admit(&kept(&set), here(), end), Err(Refusal::Ended));
}

#[test]
fn a_network_that_tries_keys_is_slowed_down_with_right_ones_too_and_its_sessions_are_not() {
    let (gate, now) = (gate("key"), clock::now());
    let set = gate.open_session(&bearer(KEY), here(), now).unwrap().unwrap();
    let tries: Vec<Refusal> =
        (0..30).map(|number| gate.admit(&bearer(&format!("{OTHER}{number}")), here(), now).unwrap_err()).collect();
    let wait = Duration::from_secs_f64(WRONG_EVERY);
    assert!(tries[..20].iter().all(|refusal| *refusal == Refusal::Wrong), "{tries:?}");
    assert!(tries[20..].iter().all(|refusal| *refusal == Refusal::Limited { wait }), "{tries:?}");
    assert_eq!(gate.open_session(&bearer(KEY), here(), now), Err(Refusal::Limited { wait }));
    assert!(gate.admit(&kept(&set), here(), now).is_ok(), "who is in stays in");
    assert!(gate.admit(&bearer(KEY), "192.0.2.8".parse().unwrap(), now).is_ok(), "others are not concerned");
    let later = Now { mono: now.mono + wait, ..now };
    assert!(gate.admit(&bearer(KEY), here(), later).is_ok());
    assert_eq!((count(&gate, "wrong"), count(&gate, "limited")), (20, 11));
}

#[test]
fn questions_are_limited_by_network_and_come_back() {
    let (gate, now) = (gate("open"), clock::now());
    let asked = |now| (0..1000).filter(|_| gate.admit_to_ask(&Shown::default(), here(), now).is_ok()).count();
    assert_eq!(asked(now), 120);
    assert_eq!(asked(Now { mono: now.mono + Duration::from_secs(5), ..now }), 20);
    assert!(gate.admit(&Shown::default(), here(), now).is_ok(), "sockets have limits of their own");
}

//! Certificates of an authority, end to end against Debian's `pebble`: from `init` to the handshake of a client.
//!
//! Pebble rejects half of the good nonces and takes its time to look, as it was made to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and wait for them")]

#[path = "common/acme_scene.rs"]
mod acme_scene;
mod common;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/pebble.rs"]
mod pebble;

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::acme_scene::{ISSUED_WITHIN, ROUGH, SMOOTH, Scene, THOROUGH, is_issued};
use self::common::ports::free_port;
use self::common::skip;
use self::pebble::Manners;

/// From nothing to a certificate of the authority, by one kind of challenge. The local CA's is served meanwhile.
fn issues(hosts: &[&str], challenge: &str) {
    let Some(scene) = Scene::new(&Manners { env: &ROUGH, ..Manners::default() }) else { return };
    scene.init(hosts, &["--acme-challenge", challenge]);
    scene.start();
    let first = scene.certificate();
    assert!(["self-signed", "acme"].contains(&first["source"].as_str().unwrap()), "{first}");
    let issued = scene.wait_for("no certificate was issued", is_issued);
    let names: Vec<&str> = issued["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for host in hosts {
        assert!(names.contains(host), "{host} in {names:?}");
    }
    assert_eq!(issued["renewal"]["state"], "idle");
    assert!(issued["issuer"].as_str().unwrap().contains("Pebble"), "{issued}");
    // What listens presents it, with SNI and without.
    let probe = scene.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&probe.stdout).unwrap();
    assert_eq!(status["state"], "ready", "{status:#}");
}

#[test]
fn a_name_is_certified_by_http_01() {
    issues(&["call.rtc.test"], "http-01");
}

#[test]
fn a_name_is_certified_by_tls_alpn_01() {
    issues(&["call.rtc.test"], "tls-alpn-01");
}

#[test]
fn an_address_is_certified_by_http_01() {
    issues(&["127.0.0.1"], "http-01");
}

#[test]
fn an_address_is_certified_by_tls_alpn_01_which_names_it_in_reverse() {
    issues(&["127.0.0.1", "call.rtc.test"], "tls-alpn-01");
}

/// Debian 12's pebble knows neither profiles nor ARI; `RTCCTL_PEBBLE` names the folder of one that does.
#[test]
fn an_address_gets_a_certificate_of_six_days_and_advice_when_to_renew_it() {
    let Some(folder) = std::env::var_os("RTCCTL_PEBBLE").filter(|folder| !folder.is_empty()) else {
        skip("there is no pebble with profiles and ARI: RTCCTL_PEBBLE may name the folder of version 2.10");
        return;
    };
    let manners = Manners { env: &SMOOTH, newer: Some(folder.into()), ..Manners::default() };
    let Some(scene) = Scene::new(&manners) else { return };
    scene.init(&["127.0.0.1"], &[]);
    scene.start();
    let issued = scene.wait_for("no certificate was issued", is_issued);
    let days = issued["days_left"].as_f64().unwrap();
    assert!((5.0..6.2).contains(&days), "{issued:#}");
    let record = || std::fs::read(scene.home.join("certs/acme/record.json")).unwrap();
    let window = || serde_json::from_slice::<Value>(&record()).unwrap()["advice"]["window"].clone();
    // What is advised too late is not followed, so that only asking is sure.
    scene.wait_for("no advice was asked for", |certificate| {
        certificate["renewal"]["state"] == "idle" && !window().is_null()
    });
    let advised = scene.certificate();
    let renewed = scene.run(&["cert", "renew", "--force"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    assert_ne!(scene.certificate()["fingerprint_sha256"], advised["fingerprint_sha256"]);
    assert!(scene.pebble.log().contains("replace"), "{}", scene.pebble.log());
}

#[test]
fn where_one_challenge_fails_the_other_is_taken_by_itself() {
    let Some(mut scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    // Nobody answers where the authority looks for HTTP-01: the service has another port for that.
    scene.http = free_port();
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    scene.wait_for("the other challenge was not taken", is_issued);
    let record = std::fs::read_to_string(scene.home.join("certs/acme/record.json")).unwrap();
    assert!(record.contains("\"challenge\": \"tls-alpn-01\""), "{record}");
}

#[test]
fn an_account_is_bound_to_one_elsewhere_where_the_authority_wants_that() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, binding: Some(("kid-1", key)), ..Manners::default() }) else {
        return;
    };
    scene.init(&["call.rtc.test"], &[]);
    // Whatever can be told is told.
    let config = scene.home.join("config.yaml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    for (name, value) in [("access", "key"), ("log.level", "debug")] {
        text = rtcctl::config::set_value(&text, name, value).unwrap();
    }
    rtcctl::sys::fs::write_atomic(&config, text.as_bytes(), 0o600).unwrap();
    scene.run(&["invite", "--new-key"]);
    scene.start();
    // Without a binding, with one of another key, with the right one: each is told, and taken up by a reload.
    let refused = |words: &str| {
        let is_told = |certificate: &Value| {
            certificate["renewal"]["last"]["error"].as_str().is_some_and(|error| error.contains(words))
        };
        let now = scene.wait_for(words, is_told);
        assert!(now["renewal"]["last"]["hint"].as_str().unwrap().contains("`acme_eab` of secrets.yaml"), "{now:#}");
    };
    refused("externalAccountRequired");
    let secrets = scene.home.join("secrets.yaml");
    let unbound = std::fs::read_to_string(&secrets).unwrap();
    let bind = |key: &str| {
        let text = format!("{unbound}\nacme_eab:\n  \"{}\": \"kid-1:{key}\"\n", scene.pebble.directory());
        rtcctl::sys::fs::write_atomic(&secrets, text.as_bytes(), 0o600).unwrap();
        let reloaded = scene.run(&["reload"]);
        assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
        scene.run(&["cert", "renew"])
    };
    bind(&key.chars().rev().collect::<String>());
    refused("(binding)");
    let renewed = bind(key);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    scene.wait_for("no certificate was issued", is_issued);
    assert_no_secret_is_told(&scene, key);
}

/// After a whole life, keys are where they belong, readable by nobody else, and nowhere else: in no file besides, in no
/// command's words, and on no command line.
fn assert_no_secret_is_told(scene: &Scene, binding: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    let succeeds = |args: &[&str]| {
        let output = scene.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        [output.stdout, output.stderr].concat()
    };
    succeeds(&["cert", "renew", "--force"]);
    succeeds(&["turn", "credentials"]);
    let request = String::from_utf8(succeeds(&["cert", "csr"])).unwrap();
    // By an authority that works by hand.
    let (ca, ca_key) = rtcctl::certs::local_ca::LocalCa::create(rtcctl::sys::clock::now().wall).unwrap();
    let issuer = rcgen::KeyPair::from_pem(&ca_key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca.certificate_pem, issuer).unwrap();
    let request = &request[request.find("-----BEGIN").unwrap()..request.find("-----END").unwrap() + 41];
    let answer = rcgen::CertificateSigningRequestParams::from_pem(request.trim_end()).unwrap();
    let answer = answer.signed_by(&issuer).unwrap().pem() + &ca.certificate_pem;
    let file = scene.home.parent().unwrap().join("answer.pem");
    std::fs::write(&file, answer).unwrap();
    succeeds(&["cert", "import", file.to_str().unwrap()]);

    let files = |folder: PathBuf| {
        let (mut found, mut folders) = (Vec::new(), vec![folder]);
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found
    };
    let certs = files(scene.home.join("certs"));
    let is_key = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        text.contains("PRIVATE KEY") || text.contains("\"key\"")
    };
    let keys: Vec<PathBuf> = certs.into_iter().filter(|path| is_key(path)).collect();
    let is_there = |name: &str| keys.iter().any(|path| path.file_name().unwrap().to_string_lossy().starts_with(name));
    for name in ["ca.key", "leaf.key", "request.key", "bundle.pem", "previous.pem", "account-"] {
        assert!(is_there(name), "{name} in {keys:?}");
    }
    let mut secrets = vec![binding.to_owned()];
    for path in keys.iter().chain([&scene.home.join("secrets.yaml")]) {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        // Each line of a key, and each long word of a document; certificates are no secret.
        let text = std::fs::read_to_string(path).unwrap();
        let mut is_public = false;
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            is_public = (is_public || line.contains("BEGIN CERTIFICATE")) && !line.contains("END CERTIFICATE");
            let words = line.split(|symbol: char| !(symbol.is_ascii_alphanumeric() || "+/=_-".contains(symbol)));
            let is_secret = |word: &&str| word.len() >= 24 && !word.starts_with("-----") && !word.contains("://");
            secrets.extend(words.filter(|_| !is_public).filter(is_secret).map(str::to_owned));
        }
    }
    // Addresses of accounts and authorities stand in the account's file, too.
    secrets.retain(|secret| !secret.contains("localhost") && !secret.contains("my-account"));
    assert!(secrets.len() > 12, "{}", secrets.len());

    let mut told: Vec<(String, Vec<u8>)> = Vec::new();
    let commands: [&[&str]; 14] = [
        &["status"],
        &["status", "--json"],
        &["list"],
        &["logs", "-n", "5000"],
        &["events", "--json"],
        &["cert", "show", "--json"],
        &["cert", "preflight", "--json"],
        &["config", "show", "--json"],
        &["config", "check"],
        &["ports", "--json"],
        &["doctor", "--offline", "--json"],
        &["-v", "-v", "doctor", "--offline"],
        &["cert", "renew"],
        &["undo", "--dry-run", "--json"],
    ];
    for args in commands {
        let output = scene.run(args);
        told.push((args.join(" "), [output.stdout, output.stderr].concat()));
    }
    for path in files(scene.home.clone()) {
        if !keys.contains(&path) && path.file_name().unwrap() != "secrets.yaml" {
            told.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
    for process in std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()) {
        for name in ["cmdline", "environ"] {
            // Most of them are none, or gone.
            if let Ok(bytes) = std::fs::read(process.join(name)) {
                told.push((process.join(name).display().to_string(), bytes));
            }
        }
    }
    assert!(told.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains(scene.home.to_str().unwrap())));
    for (place, bytes) in &told {
        let text = String::from_utf8_lossy(bytes);
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{place} tells the secret {}...", &secret[..6]);
        }
        assert!(!text.contains("PRIVATE KEY") || place.starts_with("/proc"), "{place} has a key");
    }
}

#[test]
fn a_restart_serves_what_was_issued_and_orders_nothing() {
    let Some(mut scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    let issued = scene.wait_for("no certificate was issued", is_issued);
    scene.pebble.stop();
    let output = scene.run(&["restart"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(scene.certificate()["fingerprint_sha256"], issued["fingerprint_sha256"]);
    let record: Value =
        serde_json::from_slice(&std::fs::read(scene.home.join("certs/acme/record.json")).unwrap()).unwrap();
    assert_eq!(record["attempts"].as_array().unwrap().len(), 1, "{record:#}");
}

/// As an upgrade does it.
#[test]
fn a_restart_in_the_middle_of_an_order_ends_at_once_and_the_next_daemon_gets_the_certificate() {
    // The authority takes its time to look at the challenge.
    let slow = [("PEBBLE_VA_SLEEPTIME", "3"), ("PEBBLE_WFE_NONCEREJECT", "0")];
    let Some(scene) = Scene::new(&Manners { env: &slow, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    let pending = || {
        let log = scene.pebble.log();
        log.contains("Pulled a task from the Tasks queue") && !log.contains("Issued certificate serial")
    };
    common::until("the order is under way", ISSUED_WITHIN, pending);
    let begun = Instant::now();
    let output = scene.run(&["restart"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    scene.wait_for("no certificate was issued", is_issued);
}

#[test]
fn a_damaged_certificate_is_ordered_anew_while_the_local_one_is_served() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    let issued = scene.wait_for("no certificate was issued", is_issued);
    scene.run(&["stop"]);
    std::fs::write(scene.home.join("certs/acme/bundle.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    scene.start();
    let again = scene.wait_for("no new certificate was issued", is_issued);
    assert_ne!(again["fingerprint_sha256"], issued["fingerprint_sha256"]);
}

#[test]
fn a_forced_renewal_swaps_the_certificate_and_an_unneeded_one_does_not() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    let first = scene.wait_for("no certificate was issued", is_issued);
    let unneeded = scene.run(&["cert", "renew"]);
    assert!(unneeded.status.success(), "{}", String::from_utf8_lossy(&unneeded.stderr));
    assert_eq!(scene.certificate()["fingerprint_sha256"], first["fingerprint_sha256"]);
    let forced = scene.run(&["cert", "renew", "--force"]);
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    let second = scene.certificate();
    assert_ne!(second["fingerprint_sha256"], first["fingerprint_sha256"]);
    assert_eq!(second["source"], "acme");
}

/// What an operator mistypes is his, with what to correct, and the page is served meanwhile.
#[test]
fn a_directory_that_is_none_and_a_root_that_is_gone_are_told_as_what_they_are() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    let file = scene.home.join("config.yaml");
    let right = std::fs::read_to_string(&file).unwrap();
    let preflight = |words: &str| {
        let looked = scene.run(&["cert", "preflight"]);
        let said = String::from_utf8_lossy(&looked.stdout).into_owned();
        assert!(looked.status.code() == Some(1) && said.contains(words), "{words}: {looked:?}");
    };
    let wrong = format!("\"{}/wrong\"", scene.pebble.directory());
    let text = rtcctl::config::set_value(&right, "certificate.acme_directory", &wrong).unwrap();
    rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o644).unwrap();
    preflight("with no directory of ACME");
    scene.start();
    let failed =
        scene.wait_for("the failure is not told", |certificate| !certificate["renewal"]["last"]["error"].is_null());
    let last = &failed["renewal"]["last"];
    assert_eq!((&last["class"], &failed["source"]), (&"ours".into(), &"self-signed".into()), "{failed:#}");
    assert!(last["hint"].as_str().unwrap().contains("certificate.acme_directory"), "{last}");
    // The root is taken away, then comes back: what is right is taken up by a reload.
    rtcctl::sys::fs::write_atomic(&file, right.as_bytes(), 0o644).unwrap();
    let root = scene.pebble.root();
    let kept = std::fs::read(&root).unwrap();
    std::fs::remove_file(&root).unwrap();
    preflight("root.pem");
    rtcctl::sys::fs::write_atomic(&root, &kept, 0o600).unwrap();
    let reloaded = scene.run(&["reload"]);
    assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    scene.wait_for("no certificate was issued", is_issued);
}

#[test]
fn a_damaged_account_key_is_put_aside_and_the_next_renewal_succeeds() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    scene.wait_for("no certificate was issued", is_issued);
    let acme = scene.home.join("certs/acme");
    let files = || std::fs::read_dir(&acme).unwrap().map(|entry| entry.unwrap().path());
    let account = files().find(|path| path.to_string_lossy().contains("account-")).unwrap();
    let text = std::fs::read_to_string(&account).unwrap();
    let mut saved: Value = serde_json::from_str(&text).unwrap();
    saved["key"] = "AAAA".into();
    rtcctl::sys::fs::write_atomic(&account, saved.to_string().as_bytes(), 0o600).unwrap();
    let renewed = scene.run(&["cert", "renew", "--force"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    assert!(files().any(|path| path.extension().is_some_and(|name| name == "damaged")), "it was not kept");
}

/// From the local authority to an address to a name, each told by `status`, while one connection stays.
#[test]
fn a_certificate_is_promoted_twice_without_a_restart_and_each_step_is_told() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["127.0.0.1"], &[]);
    let write = |key: &str, value: &str| {
        let file = scene.home.join("config.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = rtcctl::config::set_value(&text, key, value).unwrap();
        rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o644).unwrap();
    };
    write("certificate.source", "self-signed");
    scene.start();
    let names = |certificate: &Value| certificate["names"].to_string();
    let first = scene.certificate();
    assert_eq!(first["source"], "self-signed");
    let mut kept = std::net::TcpStream::connect(("127.0.0.1", scene.web)).unwrap();
    let set = |key: &str, value: &str| {
        write(key, value);
        let reloaded = scene.run(&["reload"]);
        assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    };
    set("certificate.source", "acme");
    let address = scene.wait_for("no certificate for the address", is_issued);
    assert_eq!(names(&address), "[\"127.0.0.1\"]");
    set("hosts", "[call.rtc.test, 127.0.0.1]");
    let name =
        scene.wait_for("no certificate for the name", |certificate| names(certificate).contains("call.rtc.test"));
    assert_eq!((&name["source"], names(&name).contains("127.0.0.1")), (&"acme".into(), true));
    let record = std::fs::read_to_string(scene.home.join("log/rtcctl.log")).unwrap();
    assert_eq!(record.matches("serving another certificate").count(), 3, "{record}");
    // A STUN Binding by the connection of the beginning.
    use std::io::{Read as _, Write as _};
    kept.write_all(b"\0\x01\0\0\x21\x12\xa4\x42twelve bytes").unwrap();
    let mut answer = [0; 2];
    kept.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [1, 1]);
}

/// A home with two pebbles, the first of which is its authority.
fn two_authorities(role: &str) -> Option<(Scene, pebble::Pebble)> {
    let scene = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() })?;
    let second = pebble::Pebble::start(scene.http, scene.web, &Manners { env: &SMOOTH, ..Manners::default() });
    scene.init(&["call.rtc.test"], &[]);
    // Both are private authorities, each with a root of its own.
    let roots = scene.home.join("roots.pem");
    let read = |pebble: &pebble::Pebble| std::fs::read_to_string(pebble.root()).unwrap();
    rtcctl::sys::fs::write_atomic(&roots, (read(&scene.pebble) + &read(&second)).as_bytes(), 0o644).unwrap();
    let file = scene.home.join("config.yaml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (key, value) in [("acme_ca_root", roots.to_str().unwrap()), (role, &second.directory())] {
        text = rtcctl::config::set_value(&text, &format!("certificate.{key}"), &format!("\"{value}\"")).unwrap();
    }
    rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o644).unwrap();
    Some((scene, second))
}

/// What was attempted, oldest first: at whose directory, whether it was a rehearsal, and whether it succeeded.
fn attempts(scene: &Scene) -> Vec<(String, bool, bool)> {
    let text = std::fs::read(scene.home.join("certs/acme/record.json")).unwrap();
    let record: Value = serde_json::from_slice(&text).unwrap();
    let of = |attempt: &Value| {
        let authority = attempt["authority"].as_str().unwrap().to_owned();
        (authority, attempt["rehearsal"].as_bool().unwrap(), attempt["outcome"] == "succeeded")
    };
    record["attempts"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn the_first_order_is_rehearsed_at_the_twin_before_the_authority_itself_is_asked() {
    let Some((scene, twin)) = two_authorities("acme_staging") else { return };
    scene.start();
    scene.wait_for("no certificate was issued", is_issued);
    let directory = scene.pebble.directory();
    assert_eq!(attempts(&scene), [(directory.clone(), true, true), (directory, false, true)]);
    let issued = |log: &str| log.matches("Issued certificate serial").count();
    assert_eq!((issued(&twin.log()), issued(&scene.pebble.log())), (1, 1), "{}", twin.log());
    // Proven once, it is not rehearsed again.
    let renewed = scene.run(&["cert", "renew", "--force"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    assert_eq!((issued(&twin.log()), issued(&scene.pebble.log())), (1, 2));
}

#[test]
fn a_mistake_of_ours_is_found_by_the_rehearsal_and_costs_the_authority_nothing() {
    let Some((mut scene, twin)) = two_authorities("acme_staging") else { return };
    // Nobody answers where both look for HTTP-01.
    scene.http = free_port();
    let file = scene.home.join("config.yaml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (key, value) in [("web.http_port", scene.http.to_string().as_str()), ("certificate.acme_challenge", "http-01")]
    {
        text = rtcctl::config::set_value(&text, key, value).unwrap();
    }
    rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o644).unwrap();
    scene.start();
    let failed =
        scene.wait_for("the failure is not told", |certificate| !certificate["renewal"]["last"]["error"].is_null());
    let last = &failed["renewal"]["last"];
    assert_eq!((&last["class"], &last["rehearsal"]), (&"ours".into(), &true.into()), "{last}");
    assert!(
        !scene.pebble.log().contains("new-order") && !scene.pebble.log().contains("/order-plz"),
        "{}",
        scene.pebble.log()
    );
    assert!(twin.log().contains("/order-plz") || twin.log().contains("new-order"), "{}", twin.log());
}

#[test]
fn a_second_authority_issues_where_the_first_one_is_down() {
    let Some((mut scene, second)) = two_authorities("acme_fallback") else { return };
    scene.pebble.stop();
    scene.start();
    scene.wait_for("the failure is not told", |certificate| !certificate["renewal"]["last"]["error"].is_null());
    // The operator's wish stands in for the pauses between attempts.
    for _ in 0..6 {
        scene.run(&["cert", "renew"]);
        if is_issued(&scene.certificate()) {
            break;
        }
    }
    let issued = scene.wait_for("the second authority was not asked", is_issued);
    assert_eq!(issued["renewal"]["state"], "idle", "{issued:#}");
    let attempts = attempts(&scene);
    let (last, before) = attempts.split_last().unwrap();
    assert_eq!(*last, (second.directory(), false, true));
    assert!(
        before.len() >= 3 && before.iter().all(|one| *one == (scene.pebble.directory(), false, false)),
        "{attempts:?}"
    );
}

#[test]
fn an_authority_that_is_down_is_told_and_the_page_is_served_all_the_same() {
    let Some(mut scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.pebble.stop();
    let output = scene.run(&["start"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let certificate =
        scene.wait_for("the failure is not told", |certificate| !certificate["renewal"]["last"]["error"].is_null());
    assert_eq!(certificate["source"], "self-signed");
    assert_eq!(certificate["renewal"]["last"]["class"], "theirs", "{certificate:#}");
    assert_eq!(certificate["renewal"]["state"], "waiting");
    assert_eq!(scene.run(&["status"]).status.code(), Some(10));
    let answer = pebble::get_plain(scene.http, "/healthz");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Whatever is killed in the middle leaves a service that starts, serves and gets its certificate, by one account.
#[test]
fn a_kill_at_any_step_loses_nothing() {
    let Some(scene) = Scene::new(&Manners { env: &THOROUGH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    let points = [
        "begun",
        "account-key-kept",
        "account-made",
        "ordered",
        "challenged",
        "key-kept",
        "finalized",
        "obtained",
        "kept",
        "recorded",
    ];
    let acme = scene.home.join("certs/acme");
    for point in points {
        // Each from the beginning, but for the account, which is made once.
        for name in ["record.json", "bundle.pem", "previous.pem", "pending.json"] {
            let _ = std::fs::remove_file(acme.join(name));
        }
        if point.starts_with("account") {
            for entry in std::fs::read_dir(&acme).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        let signed = || scene.pebble.log().matches("Issued certificate serial").count();
        let before = signed();
        let mut daemon = scene.command(&["run"]);
        daemon.env("RTCCTL_FAULT", point).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = daemon.spawn().unwrap();
        let deadline = Instant::now() + ISSUED_WITHIN;
        let status = loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                daemon.kill().unwrap();
                panic!("{point}: it was not killed in time, so it does not come there");
            }
            std::thread::park_timeout(Duration::from_millis(50));
        };
        assert!(!status.success(), "{point}: it was not killed");
        let account = account_key(&acme);
        let started = scene.run(&["start"]);
        assert!(started.status.success(), "{point}: {}", String::from_utf8_lossy(&started.stderr));
        scene.wait_for(point, is_issued);
        if let Some(account) = account {
            assert_eq!(account_key(&acme), Some(account), "{point}: the account's key was lost");
        }
        let record: Value = serde_json::from_slice(&std::fs::read(acme.join("record.json")).unwrap()).unwrap();
        assert!(record["attempts"].as_array().unwrap().len() <= 2, "{point}: {record:#}");
        assert_eq!(signed() - before, 1, "{point}: an order was made twice");
        assert!(!acme.join("pending.json").exists(), "{point}");
        scene.run(&["stop"]);
        let drafts = std::fs::read_dir(&acme).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".new")
        });
        assert_eq!(drafts.count(), 0, "{point}: half a file stayed");
    }
}

fn account_key(acme: &std::path::Path) -> Option<String> {
    let entries = std::fs::read_dir(acme).ok()?;
    let account = entries
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("account-"))?;
    let account: Value = serde_json::from_slice(&std::fs::read(account).unwrap()).unwrap();
    Some(account["key"].as_str().unwrap().to_owned())
}

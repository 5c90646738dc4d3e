//! What goes wrong around the certificate of an authority while the service runs: full and read-only disks, ports that
//! somebody else has, wrong clocks, files that are gone, authorities that say nothing, and machines that sleep.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/acme_scene.rs"]
mod acme_scene;
mod common;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/pebble.rs"]
mod pebble;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use self::acme_scene::{SMOOTH, Scene, THOROUGH, is_issued};
use self::common::ports::free_port;
use self::common::skip;
use self::pebble::{Manners, get_plain};

const NAME: &str = "call.rtc.test";
/// How long the service may take to notice something.
const NOTICED_WITHIN: Duration = Duration::from_secs(40);
/// What a file of up to so many bytes takes of the small disk.
const PAGE: u64 = 4096;

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn status(scene: &Scene) -> Value {
    serde_json::from_slice(&scene.run(&["status", "--json"]).stdout).unwrap_or_default()
}

/// Waits until it is so, and gives the status that shows it.
fn until(scene: &Scene, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + NOTICED_WITHIN;
    loop {
        let status = status(scene);
        if is_it(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what}: {status:#}\n{}", scene.pebble.log());
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn finding(status: &Value, code: &str) -> Option<String> {
    let one = status["findings"].as_array()?.iter().find(|finding| finding["code"] == code)?;
    Some(format!("{} {} {}", one["title"], one["evidence"], one["hint"]))
}

fn set(scene: &Scene, key: &str, value: &str) {
    let file = scene.home.join("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = rtcctl::config::set_value(&text, key, value).unwrap();
    rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o644).unwrap();
}

/// How often the authority has signed.
fn signed(scene: &Scene) -> usize {
    scene.pebble.log().matches("Issued certificate serial").count()
}

/// A folder that was put on a disk of its own, of which nobody else knows.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: this user may mount nothing, which was told.
    fn under(folder: &Path) -> Option<Self> {
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            skip("a mount namespace of its own needs root");
            return None;
        }
        let disk = Self(folder.to_owned());
        let kept = tempfile::tempdir().unwrap();
        let copy = |from: &Path, to: &Path| {
            let output = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        copy(folder, kept.path());
        run("mount", &["--make-rprivate", "/"]);
        run("mount", &["-t", "tmpfs", "-o", "size=1m,mode=0700", "small", folder.to_str().unwrap()]);
        copy(kept.path(), folder);
        Some(disk)
    }

    /// Leaves room for so many more pages.
    fn leave(&self, pages: u64) {
        let found = nix::sys::statvfs::statvfs(&self.0).unwrap();
        let used = (found.blocks() - found.blocks_free()) * found.fragment_size();
        self.remount(&format!("size={}", used + pages * PAGE));
    }

    fn remount(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), self.0.to_str().unwrap()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

fn account(scene: &Scene) -> Vec<u8> {
    let files = std::fs::read_dir(scene.home.join("certs/acme")).unwrap().map(|entry| entry.unwrap().path());
    let mut accounts = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("account-"));
    std::fs::read(accounts.next().unwrap()).unwrap()
}

/// At every step of a save: nothing can be written, the order but not its key, all but the certificate.
#[test]
fn a_disk_that_is_full_or_read_only_keeps_the_old_pair_served_and_room_is_all_that_is_needed() {
    let Some(scene) = Scene::new(&Manners { env: &THOROUGH, ..Manners::default() }) else { return };
    scene.init(&[NAME], &[]);
    let Some(disk) = SmallDisk::under(&scene.home.join("certs")) else { return };
    scene.start();
    let first = scene.wait_for("no certificate was issued", is_issued);
    let account_before = account(&scene);
    let renew = || said(&scene.run(&["cert", "renew", "--force"]));
    let is_kept = |when: &str| {
        let now = scene.certificate();
        assert_eq!(now["fingerprint_sha256"], first["fingerprint_sha256"], "{when}");
        assert_eq!(account(&scene), account_before, "{when}");
        let drafts = std::fs::read_dir(scene.home.join("certs/acme")).unwrap();
        let is_draft = |name: &str| name.ends_with(".new");
        assert!(!drafts.into_iter().any(|entry| is_draft(&entry.unwrap().file_name().to_string_lossy())), "{when}");
    };
    // Nothing can be written: nothing is begun, and the service says why.
    disk.leave(0);
    let told = renew();
    assert!(told.contains("No space left"), "{told}");
    let now = until(&scene, "a full disk is not told", |status| finding(status, "task-degraded").is_some());
    assert!(finding(&now, "task-degraded").unwrap().contains("No space left"), "{now:#}");
    is_kept("with no room");
    assert_eq!(signed(&scene), 1);
    // The wish stands: with room for the record it begins, and fails at the key of the order.
    disk.leave(1);
    let failed = |certificate: &Value| certificate["renewal"]["last"]["class"] == "ours";
    let now = scene.wait_for("the failure is not told", failed);
    let last = &now["renewal"]["last"];
    assert!(last["error"].as_str().unwrap().contains("No space left"), "{last}");
    assert!(last["hint"].as_str().unwrap().contains("free some space"), "{last}");
    is_kept("with room for the record");
    assert_eq!(signed(&scene), 1, "what cannot be kept is not signed");
    // It is signed, and there is no room for what was signed.
    disk.leave(2);
    let told = renew();
    assert!(told.contains("No space left"), "{told}");
    is_kept("with no room for the certificate");
    assert_eq!(signed(&scene), 2);
    // What was signed is fetched, and not ordered again.
    disk.leave(64);
    let told = renew();
    assert!(told.contains("renewed"), "{told}");
    assert_eq!(signed(&scene), 2);
    let second = scene.certificate();
    assert_ne!(second["fingerprint_sha256"], first["fingerprint_sha256"]);
    // A disk that has become read-only, as they do when they fail.
    disk.remount("ro");
    let told = renew();
    assert!(told.contains("Read-only"), "{told}");
    assert_eq!(scene.certificate()["fingerprint_sha256"], second["fingerprint_sha256"]);
    disk.remount("rw");
    let is_third = |certificate: &Value| certificate["fingerprint_sha256"] != second["fingerprint_sha256"];
    scene.wait_for("it does not go on by itself", is_third);
    let shown = scene.run(&["cert", "show", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["served"], true, "{shown:#}");
    drop(scene);
}

#[test]
fn a_port_that_somebody_else_has_leaves_the_other_challenge_and_is_taken_once_it_is_free() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&[NAME], &[]);
    let own = format!("(pid {})", std::process::id());
    let thief = TcpListener::bind((Ipv4Addr::UNSPECIFIED, scene.http)).unwrap();
    // Both: nothing can be served, and who has them is named.
    let second = TcpListener::bind((Ipv4Addr::UNSPECIFIED, scene.web)).unwrap();
    let refused = scene.run(&["start"]);
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("`web.port`") && told.contains(&own), "{told}");
    drop(second);
    // The one of HTTP alone, where only that was allowed: the authority is not asked for what must fail.
    set(&scene, "certificate.acme_challenge", "http-01");
    scene.start();
    let now = scene.wait_for("the failure is not told", |one| !one["renewal"]["last"]["error"].is_null());
    let last = &now["renewal"]["last"];
    assert!(last["error"].as_str().unwrap().contains("another process has the port"), "{last}");
    assert!(last["hint"].as_str().unwrap().contains("acme_challenge"), "{last}");
    assert!(!scene.pebble.log().contains("order-plz"), "{}", scene.pebble.log());
    let now = until(&scene, "the port is not told", |status| finding(status, "http-port-taken").is_some());
    let told = finding(&now, "http-port-taken").unwrap();
    assert!(told.contains(&own) && told.contains("web.http_port"), "{told}");
    // Where both are allowed, the other one is taken.
    set(&scene, "certificate.acme_challenge", "auto");
    scene.run(&["reload"]);
    let renewed = scene.run(&["cert", "renew"]);
    assert!(renewed.status.success(), "{}", said(&renewed));
    scene.wait_for("the other challenge was not taken", is_issued);
    let record = std::fs::read_to_string(scene.home.join("certs/acme/record.json")).unwrap();
    assert!(record.contains("\"challenge\": \"tls-alpn-01\""), "{record}");
    // Another change is no reason to insist on the port; a wish for that very port is.
    set(&scene, "turn.tls_port", &free_port().to_string());
    let reloaded = scene.run(&["reload"]);
    assert!(reloaded.status.success(), "{}", said(&reloaded));
    drop(thief);
    let now = until(&scene, "the port is not taken again", |status| finding(status, "http-port-taken").is_none());
    assert_eq!(now["state"], "ready", "{now:#}");
    let answer = get_plain(scene.http, "/healthz");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The clock is another one than the machine's, as it is after a battery died or a virtual machine woke up.
#[cfg(feature = "faults")]
#[test]
fn a_clock_that_is_years_ahead_orders_nothing_and_all_is_well_when_it_is_right_again() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, life: Some(90 * 86_400), ..Manners::default() }) else {
        return;
    };
    scene.init(&[NAME], &[]);
    scene.start();
    let issued = scene.wait_for("no certificate was issued", is_issued);
    let jump = |seconds: i64| {
        let done = scene.run(&["fault", "supervisor", "jump", "--seconds", &seconds.to_string()]);
        assert!(done.status.success(), "{}", said(&done));
    };
    let year = 365 * 86_400;
    jump(year);
    let now = until(&scene, "a certificate that is over is served", |status| {
        let certificate = &status["certificate"];
        certificate["source"] == "self-signed" && !certificate["renewal"]["last"]["error"].is_null()
    });
    assert!(now["certificate"]["days_left"].as_f64().unwrap() > 300.0, "{now:#}");
    let last = &now["certificate"]["renewal"]["last"];
    assert!(last["error"].as_str().unwrap().contains("365 days ahead"), "{last}");
    assert!(finding(&now, "clock-jumped").is_some(), "{now:#}");
    // The ladder, climbed in a moment.
    for pause in [70, 700, 20_000] {
        let attempts = |status: &Value| status["certificate"]["renewal"]["last"]["at"].clone();
        let before = attempts(&status(&scene));
        jump(pause);
        until(&scene, "it gave up", |status| {
            attempts(status) != before && !status["certificate"]["renewal"]["last"]["error"].is_null()
        });
    }
    assert_eq!(signed(&scene), 1, "certificates that nobody can use were ordered");
    jump(-year - 20_770);
    let is_back = |certificate: &Value| certificate["fingerprint_sha256"] == issued["fingerprint_sha256"];
    scene.wait_for("the good certificate is not served again", is_back);
    // A year behind, it is not valid yet by this clock, but by everybody else's.
    jump(-year);
    let renewed = scene.run(&["cert", "renew", "--force"]);
    assert!(renewed.status.success(), "{}", said(&renewed));
    assert_eq!((signed(&scene), scene.certificate()["source"].clone()), (2, "acme".into()));
}

#[test]
fn files_that_are_deleted_under_a_running_service_cost_one_order_at_the_next_start() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&[NAME], &[]);
    scene.start();
    let first = scene.wait_for("no certificate was issued", is_issued);
    std::fs::remove_dir_all(scene.home.join("certs")).unwrap();
    let now = status(&scene);
    assert_eq!((&now["state"], &now["certificate"]["source"]), (&"ready".into(), &"acme".into()), "{now:#}");
    // Two at once are not two orders.
    let again = scene.run(&["run"]);
    assert_eq!(again.status.code(), Some(14), "{}", said(&again));
    let restarted = scene.run(&["restart"]);
    assert!(restarted.status.success(), "{}", said(&restarted));
    let second = scene.wait_for("no certificate was issued", is_issued);
    assert_ne!(second["fingerprint_sha256"], first["fingerprint_sha256"]);
    assert_eq!(signed(&scene), 2);
}

/// It takes connections and says nothing, for as long as anybody waits.
#[test]
fn an_authority_that_never_answers_holds_nobody_up() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&[NAME], &[]);
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("\"https://localhost:{}/dir\"", silent.local_addr().unwrap().port());
    set(&scene, "certificate.acme_directory", &url);
    scene.start();
    let now = scene.wait_for("nothing is ordered", |certificate| certificate["renewal"]["state"] == "ordering");
    assert_eq!(now["source"], "self-signed");
    assert!(get_plain(scene.http, "/healthz").starts_with("HTTP/1.1 200"));
    let begin = Instant::now();
    let stopped = scene.run(&["stop"]);
    assert!(stopped.status.success() && begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // The page of something else, with a certificate that is trusted: a web server, and no authority.
    let page = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.web));
    assert!(page.is_err(), "it still serves");
}

/// Asleep for longer than a certificate lives, as a laptop or a virtual machine is.
#[test]
#[ignore = "certificates of twelve seconds take their time to end"]
fn a_service_that_slept_through_its_renewal_renews_when_it_wakes() {
    use nix::sys::signal::{Signal, kill};
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, life: Some(12), ..Manners::default() }) else { return };
    scene.init(&[NAME], &[]);
    let mut daemon = scene.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(daemon.id().try_into().unwrap());
    let first = scene.wait_for("no certificate was issued", is_issued);
    // Awake, it renews at half of its life.
    let second = scene.wait_for("it is not renewed", |one| {
        is_issued(one) && one["fingerprint_sha256"] != first["fingerprint_sha256"]
    });
    kill(pid, Signal::SIGSTOP).unwrap();
    let end = Instant::now() + Duration::from_secs(14);
    while Instant::now() < end {
        std::thread::park_timeout(Duration::from_millis(200));
    }
    kill(pid, Signal::SIGCONT).unwrap();
    let third = scene.wait_for("it is not renewed", |one| {
        is_issued(one) && one["fingerprint_sha256"] != second["fingerprint_sha256"]
    });
    assert!(third["days_left"].as_f64().unwrap() >= 0.0);
    kill(pid, Signal::SIGTERM).unwrap();
    daemon.wait().unwrap();
}

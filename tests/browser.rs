//! Calls between real browsers: headless Chromium with cameras of known colours, each in a network of its own.
//!
//! The scenarios are in `tests/browser`. They need root for the networks, and Chromium, certutil and Node.js.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod common;
#[path = "browser/nat.rs"]
mod nat;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{has_program, skip};
use nat::Nat;

/// The server's address, on its loopback interface: every network reaches it by its default route.
const SERVER: &str = "10.77.0.1";

/// The name under which the server is known where it has one: Chromium verifies certificates of TURN by name.
const NAME: &str = "call.test";
const WEB_PORT: &str = "8443";

/// A server in a network of its own, and networks for three people around it.
struct World {
    name: String,
    /// What the people call the server.
    host: &'static str,
    web_port: &'static str,
    home: tempfile::TempDir,
}

impl World {
    fn new(name: &str, host: &'static str) -> Self {
        Self::with(name, host, &[])
    }

    /// Set up by these flags besides.
    fn with(name: &str, host: &'static str, flags: &[&str]) -> Self {
        Self::at_port(name, host, WEB_PORT, flags)
    }

    fn at_port(name: &str, host: &'static str, web_port: &'static str, flags: &[&str]) -> Self {
        let name = format!("rb{}{name}", std::process::id());
        let world = Self { name, host, web_port, home: tempfile::tempdir().unwrap() };
        let server = world.server();
        must("ip", &["netns", "add", &server]);
        for (device, address) in [("lo", "127.0.0.1/8"), ("lo", &format!("{SERVER}/32"))] {
            // The loopback address comes by itself once the interface is up.
            let _ = run("ip", &["-n", &server, "address", "add", address, "dev", device]);
        }
        must("ip", &["-n", &server, "link", "set", "lo", "up"]);
        must("ip", &["netns", "exec", &server, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        for (number, person) in world.people().iter().enumerate() {
            let (gateway, address) = (format!("10.77.{}.1", number + 1), format!("10.77.{}.2", number + 1));
            let cable = format!("v{number}");
            must("ip", &["netns", "add", person]);
            // Addresses that come by themselves a second later make Chromium drop what it loads.
            must("ip", &["netns", "exec", person, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
            must("ip", &["netns", "exec", person, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
            must(
                "ip",
                &["link", "add", &cable, "netns", &server, "type", "veth", "peer", "name", "eth0", "netns", person],
            );
            must("ip", &["-n", &server, "address", "add", &format!("{gateway}/24"), "dev", &cable]);
            must("ip", &["-n", person, "address", "add", &format!("{address}/24"), "dev", "eth0"]);
            must("ip", &["-n", &server, "link", "set", &cable, "up"]);
            for device in ["lo", "eth0"] {
                must("ip", &["-n", person, "link", "set", device, "up"]);
            }
            must("ip", &["-n", person, "route", "add", "default", "via", &gateway]);
        }
        for network in world.people().iter().chain([&world.server()]) {
            // `ip netns exec` puts it in the place of /etc/hosts. WebRTC asks for names with a dot at the end.
            let folder = Path::new("/etc/netns").join(network);
            std::fs::create_dir_all(&folder).unwrap();
            let hosts = format!("127.0.0.1 localhost\n{SERVER} {NAME} {NAME}.\n");
            rtcctl::sys::fs::write_atomic(&folder.join("hosts"), hosts.as_bytes(), 0o644).unwrap();
        }
        let init = ["init", "--yes", "--host", host, "--reach", "lan", "--relay-ip", SERVER];
        world.rtcctl(
            &[&init[..], &["--web-port", web_port, "--http-port", "8080", "--turn-port", "3478"], flags].concat(),
        );
        world.rtcctl(&["start"]);
        world
    }

    /// Puts a firewall around each person that lets nothing pass but what `rule` says, and what belongs to it.
    fn let_people_out_only_by(&self, rule: &str) {
        let rules = format!(
            "table inet firewall {{
                chain in {{ type filter hook input priority 0; policy drop; iif lo accept; ct state established accept; }}
                chain out {{ type filter hook output priority 0; policy drop; oif lo accept; ct state established accept; {rule}; }}
            }}"
        );
        for person in self.people() {
            must("ip", &["netns", "exec", &person, "nft", &rules]);
        }
    }

    /// Loses two in a hundred of the datagrams that reach the server.
    fn lose_datagrams(&self) {
        let rules = "table inet loss {
            chain in { type filter hook input priority 0; meta l4proto udp numgen random mod 100 < 2 drop; }
        }";
        must("ip", &["netns", "exec", &self.server(), "nft", rules]);
    }

    fn server(&self) -> String {
        format!("{}s", self.name)
    }

    fn people(&self) -> Vec<String> {
        ["a", "b", "c"].iter().map(|person| format!("{}{person}", self.name)).collect()
    }

    /// What stands between the first two people and the server, where they were put behind routers.
    fn routers(&self) -> Vec<String> {
        ["ra", "rb"].iter().map(|router| format!("{}{router}", self.name)).collect()
    }

    /// The words that go after `ip` and before a command of rtcctl.
    fn words(&self) -> Vec<String> {
        let home = self.home.path().to_str().unwrap();
        let server = self.server();
        ["netns", "exec", &server, env!("CARGO_BIN_EXE_rtcctl"), "--home", home].map(str::to_owned).into()
    }

    fn rtcctl(&self, arguments: &[&str]) -> Output {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        must("ip", &words)
    }

    fn play(&self, scenario: &str) {
        self.play_with(scenario, &[]);
    }

    /// Plays a scenario that needs these folders, too.
    fn play_with(&self, scenario: &str, folders: &[(&str, &Path)]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        let output = Command::new("node")
            .arg(folder.join("scenarios.mjs"))
            .arg(scenario)
            .env("URL", format!("https://{}:{}", self.host, self.web_port))
            .env("CA", self.home.path().join("certs/ca.pem"))
            .env("NETWORKS", self.people().join(","))
            .env("RTCCTL", serde_json::to_string(&self.words()).unwrap())
            .envs(folders.iter().copied())
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let log = std::fs::read_to_string(self.home.path().join("log/rtcctl.log")).unwrap_or_default();
        assert!(output.status.success(), "{text}\n--- the service's log\n{log}");
        assert!(text.contains(&format!("passed: {scenario}")), "{text}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let home = self.home.path().to_str().unwrap();
        let _ = run(env!("CARGO_BIN_EXE_rtcctl"), &["--home", home, "stop"]);
        for network in self.people().iter().chain(&self.routers()).chain([&self.server()]) {
            let _ = run("ip", &["netns", "delete", network]);
            let _ = std::fs::remove_dir_all(Path::new("/etc/netns").join(network));
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn must(program: &str, arguments: &[&str]) -> Output {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Installs what the scenarios need from npm, once. `false`: something is missing, which was told.
fn is_possible() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            skip("browser tests need root for network namespaces");
            return false;
        }
        if !["chromium", "certutil", "ip", "nft", "node", "npm"].into_iter().all(has_program) {
            return false;
        }
        common::npm_ci(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser"))
    })
}

fn play(scenario: &str) {
    if is_possible() {
        World::new(&scenario[..3], SERVER).play(scenario);
    }
}

#[test]
fn two_browsers_see_and_hear_each_other_directly() {
    play("host");
}

#[test]
fn two_browsers_see_each_other_through_the_relay_alone() {
    play("relay");
}

#[test]
fn two_browsers_behind_cone_nats_call_through_holes_that_they_punch() {
    if is_possible() {
        let world = World::new("co", SERVER);
        world.put_behind_routers(Nat::Cone, "accept");
        world.play("punch");
    }
}

#[test]
fn two_browsers_behind_symmetric_nats_call_through_the_relay_by_udp() {
    if is_possible() {
        let world = World::new("sy", SERVER);
        world.put_behind_routers(Nat::Symmetric, "accept");
        world.play("udp");
    }
}

#[test]
fn two_browsers_behind_symmetric_nats_that_block_udp_call_by_tcp() {
    if is_possible() {
        let world = World::new("tc", SERVER);
        world.put_behind_routers(Nat::Symmetric, "meta l4proto tcp accept");
        world.play("tcp");
    }
}

#[test]
fn two_browsers_behind_symmetric_nats_with_port_443_alone_call_by_verified_tls() {
    if is_possible() {
        let world = World::at_port("tl", NAME, "443", &[]);
        world.put_behind_routers(Nat::Symmetric, &format!("ip daddr {SERVER} tcp dport 443 accept"));
        world.play("tls");
    }
}

#[test]
fn two_browsers_that_may_only_use_the_https_port_call_a_server_known_by_its_address_alone() {
    if is_possible() {
        let world = World::new("ad", SERVER);
        world.let_people_out_only_by(&format!("ip daddr {SERVER} tcp dport {WEB_PORT} accept"));
        world.play("address");
    }
}

#[test]
fn a_third_finds_the_room_full_and_who_leaves_can_come_back() {
    play("room");
}

#[test]
fn a_relayed_call_outlives_restarts_of_signaling_and_of_turn() {
    play("mend");
}

#[test]
fn people_share_screens_chat_send_files_mute_and_come_back() {
    play("talk");
}

#[test]
fn a_large_file_arrives_whole_by_a_relay_that_loses_packets() {
    if is_possible() {
        let world = World::new("fi", SERVER);
        world.lose_datagrams();
        world.play("files");
    }
}

#[test]
fn one_without_a_camera_shows_a_screen_instead() {
    play("alone");
}

#[test]
fn a_call_outlives_a_change_of_address_within_five_seconds() {
    play("network");
}

#[test]
fn a_call_behind_symmetric_nats_outlives_a_change_of_address_within_five_seconds() {
    if is_possible() {
        let world = World::new("ro", SERVER);
        world.put_behind_routers(Nat::Symmetric, "accept");
        world.play("roams");
    }
}

#[test]
fn a_relayed_call_is_back_within_five_seconds_after_a_restart_of_turn_and_can_be_forced_elsewhere() {
    play("ways");
}

#[test]
fn each_failure_of_a_device_is_told_in_its_own_words() {
    play("devices");
}

#[test]
fn every_state_of_the_pages_fits_and_is_accessible() {
    play("looks");
}

#[test]
fn every_state_of_the_pages_fits_a_phone_and_is_accessible() {
    play("looksSmall");
}

#[test]
fn a_relayed_call_goes_on_while_the_configuration_changes() {
    play("reload");
}

#[test]
fn a_direct_call_outlives_kills_of_the_daemon_and_of_its_guardian() {
    play("killed");
}

#[test]
fn pages_of_the_tutorial_call_our_page_and_are_called_by_it() {
    play("old");
}

#[test]
fn where_a_key_is_needed_an_invite_link_leads_into_a_call_and_nothing_else_does() {
    if is_possible() {
        World::with("ke", SERVER, &["--access", "key"]).play("key");
    }
}

#[test]
fn pages_that_know_nothing_of_keys_call_behind_one() {
    if is_possible() {
        let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/site");
        World::with("kd", SERVER, &["--access", "key", "--web-root", site.to_str().unwrap()]).play("keyed");
    }
}

#[test]
fn pages_of_the_tutorial_call_by_each_version_of_the_stock_client() {
    let signaling = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signaling");
    if !is_possible() || !common::npm_ci(&signaling) {
        return;
    }
    let site = tempfile::tempdir().unwrap();
    for name in ["index.html", "main.js"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/site").join(name);
        std::fs::copy(from, site.path().join(name)).unwrap();
    }
    World::with("bu", SERVER, &["--web-root", site.path().to_str().unwrap()])
        .play_with("builds", &[("SITE", site.path()), ("BUILDS", &signaling.join("node_modules"))]);
}

#[test]
fn the_pages_speak_two_languages_and_the_ice_test_finds_the_relay() {
    play("pages");
}

#[test]
fn a_phone_proves_that_calls_work_and_its_code_is_good_once() {
    play("phone");
}

#[test]
fn a_phone_whose_camera_is_refused_says_so_and_a_code_ends_with_its_command() {
    play("refusals");
}

#[test]
fn a_phone_that_went_on_after_a_warning_is_known_by_it() {
    play("warned");
}

#[test]
fn a_phone_whose_network_blocks_udp_finds_the_way_by_tcp() {
    if is_possible() {
        let world = World::new("bl", SERVER);
        world.let_people_out_only_by("meta l4proto tcp accept");
        world.play("blocked");
    }
}

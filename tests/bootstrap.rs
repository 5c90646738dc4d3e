//! What a fresh machine is told makes it a node: in namespaces with files, a network and a firewall of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

#[allow(dead_code, reason = "other tests boot other machines")]
#[path = "common/booted.rs"]
mod booted;
mod common;
#[allow(dead_code, reason = "one release is enough here")]
#[path = "common/debian.rs"]
mod debian;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use booted::{Machine, PATIENCE};

use common::{has_program, skip, until};
use serde_json::Value;

/// A digest, where it does not matter which.
const Z: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a machine is made of here: folders of its own, an address, and a firewall that lets SSH alone in.
const MACHINE: &str = r#"
set -eu
mount --make-rprivate /
cp -a /etc "$1/etc"
rm -rf "$1/etc/rtcctl"
mount --bind "$1/etc" /etc
for folder in /run /var/lib /var/log /usr/local/bin; do mount -t tmpfs tmpfs "$folder"; done
ip link set lo up
ip link add wire type veth peer name far
ip link set far up
ip address add 203.0.113.9/24 dev wire
ip link set wire up
ip route add default via 203.0.113.1
nft 'add table inet filter; add chain inet filter input { type filter hook input priority filter; policy drop; }'
nft 'add rule inet filter input iif lo accept; add rule inet filter input tcp dport 22 accept'
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap 'rtcctl stop >/dev/null 2>&1 || true' EXIT
sh "$1/node.sh"
echo "== first: $?"
cat /var/lib/rtcctl-bootstrap.json
first=$(rtcctl status --json | sed -n 's/^  "pid": \([0-9]*\).*/\1/p')
sh "$1/node.sh"
echo "== second: $?"
second=$(rtcctl status --json | sed -n 's/^  "pid": \([0-9]*\).*/\1/p')
echo "== pids: $first $second"
echo "== page: $(curl -sk -o /dev/null -w '%{http_code}' https://203.0.113.9/healthz)"
echo "== invite: $(rtcctl invite --quiet)"
echo "== rules: $(nft list ruleset | grep -c rtcctl)"
RTCCTL_PROGRAM=/usr/local/bin/other RTCCTL_PATIENCE=1 sh "$1/wrong.sh" || echo "== wrong: $?"
test ! -e /usr/local/bin/other && test ! -e /usr/local/bin/.rtcctl.bootstrap
echo "== end"
"#;

fn rtcctl(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
    command.args(args).env("RTCCTL_HOME", "/nonexistent/rtcctl").output().unwrap()
}

/// What is printed for a node that is called by its address.
fn emitted(form: &str, url: &str, more: &[&str]) -> String {
    let init = ["--", "--reach", "ip", "--host", "203.0.113.9", "--cert", "self-signed", "--offline"];
    let output = rtcctl(&[&["bootstrap", "--emit", form, "--url", url][..], more, &init].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn user_data_is_short_and_cloud_init_accepts_it() {
    let digest = ["--sha256", Z];
    let text = emitted("cloud-init", "https://dl.example.org/rtcctl", &digest);
    assert!(text.starts_with("#cloud-config\n") && text.len() < 16 * 1024, "{}", text.len());
    let terraform = emitted("terraform", "https://dl.example.org/rtcctl", &digest);
    for port in ["\"tcp-443\"", "\"tcp-80\"", "\"udp-3478\"", "first = 49160, last = 51159"] {
        assert!(terraform.contains(port), "{port}\n{terraform}");
    }
    for (args, wanted) in [
        (["--url", "http://x/rtcctl", "--sha256", Z, "--"].as_slice(), "no plain `https://` address"),
        (&["--url", "https://x/rtcctl", "--sha256", "abc", "--"], "64 hexadecimal digits"),
        (&["--url", "https://x/rtcctl", "--sha256", Z, "--", "--reach", "moon"], "no arguments for `rtcctl init`"),
        (&["--url", "https://x/rtcctl", "--sha256", Z, "--", "--no-such-flag"], "no arguments for `rtcctl init`"),
        (&["--url", "https://x/rtcctl", "--sha256", Z, "--", "--dry-run"], "are for this machine"),
        (&["--"], "--url"),
    ] {
        let output = rtcctl(&[&["bootstrap", "--emit", "shell"][..], args].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(wanted), "{args:?}: {told}");
    }
    if !has_program("cloud-init") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("user-data.yaml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new("cloud-init").args(["schema", "--config-file"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_machine_becomes_a_node_and_stays_one() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may make a machine of namespaces");
    }
    if !(has_program("nft") && has_program("unshare")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", env!("CARGO_BIN_EXE_rtcctl"));
    std::fs::write(dir.path().join("node.sh"), emitted("shell", &url, &[])).unwrap();
    std::fs::write(dir.path().join("wrong.sh"), emitted("shell", &url, &["--sha256", Z])).unwrap();
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", MACHINE, "bash"])
        .arg(dir.path())
        .env_remove("RTCCTL_HOME")
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}");
    if told.contains("Operation not permitted") && !told.contains("== first") {
        return skip("this user may not make a machine of namespaces");
    }
    let line = |name: &str| {
        let found = told.lines().find_map(|line| line.strip_prefix(&format!("== {name}: ")));
        found.unwrap_or_else(|| panic!("{name} is missing\n{told}")).to_owned()
    };
    assert_eq!((line("first"), line("second")), ("0".to_owned(), "0".to_owned()));
    let result: Value = told
        .lines()
        .find(|line| line.starts_with("{\"schema_version\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .unwrap();
    assert_eq!((result["result"].as_str(), result["exit_code"].as_u64()), (Some("ready"), Some(0)), "{result}");
    assert_eq!(result["page"], "https://203.0.113.9/");
    assert_eq!(told.matches("rtcctl-bootstrap-result {").count(), 3);
    let pids = line("pids");
    let (first, second) = pids.split_once(' ').unwrap();
    assert!(first == second && first.parse::<u32>().is_ok(), "a second time nothing is disturbed: {pids}");
    assert_eq!(line("page"), "200");
    assert!(line("rules").parse::<u32>().unwrap() > 0, "the firewall lets callers in");
    // The link is shown to who asks on the machine, and stands nowhere in what was said.
    let (_, key) = line("invite").split_once("#key=").map(|(link, key)| (link.to_owned(), key.to_owned())).unwrap();
    assert_eq!(told.matches(&key).count(), 1, "{told}");
    assert_eq!(line("wrong"), "1");
    assert!(told.lines().any(|line| line == "== end"), "{told}");
    assert!(!Path::new("/var/lib/rtcctl-bootstrap.json").exists());
}

/// A machine of a cloud: firmware that names it, an address of its own behind another one, and a metadata service. `OUTER` is
/// the network of everybody else, who reach the machine by its public address.
const CLOUD: &str = r#"
ip link add wire type veth peer name far netns OUTER
ip -n OUTER address add 10.98.0.2/24 dev far
ip -n OUTER link set far up
ip -n OUTER route add 203.0.113.9 via 10.98.0.1
mkdir "$root/run/net"
mount --bind "$root/sys/class/net" "$root/run/net"
mount -t tmpfs tmpfs "$root/sys/class"
mkdir -p "$root/sys/class/net" "$root/sys/class/dmi/id"
mount --move "$root/run/net" "$root/sys/class/net"
echo 'Amazon EC2' >"$root/sys/class/dmi/id/sys_vendor"
echo 'Amazon EC2' >"$root/sys/class/dmi/id/bios_vendor"
echo ec2e1916-9099-7caf-fd21-012345abcdef | tee "$root/sys/class/dmi/id/product_uuid" >"$root/sys/class/dmi/id/product_serial"
"#;

/// The network around the machine, and who serves in it.
struct Outside {
    name: String,
    servers: Option<Child>,
}

impl Outside {
    fn new(folder: &Path) -> Self {
        let name = format!("rtcctl-cloud-{}", std::process::id());
        let mut outside = Self { name: name.clone(), servers: None };
        let setup = format!(
            "set -e; ip netns add {name}; ip -n {name} link set lo up
             for address in 169.254.169.254 198.51.100.7; do ip -n {name} address add $address/32 dev lo; done
             ip netns exec {name} nft 'add table ip nat; add chain ip nat output {{ type nat hook output priority -100; }}
                add rule ip nat output ip daddr 203.0.113.9 dnat to 10.98.0.1'
             cd '{folder}'; mkdir files
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=files -keyout server.key -out server.csr
             printf '%s\\n' subjectAltName=IP:198.51.100.7 authorityKeyIdentifier=keyid >server.ext
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem",
            folder = folder.display()
        );
        let output = Command::new("sh").args(["-c", &setup]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::copy(env!("CARGO_BIN_EXE_rtcctl"), folder.join("files/rtcctl")).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cloud/surroundings.py");
        let mut command = outside.command("python3");
        command.arg(script).arg(folder).args(["169.254.169.254", "198.51.100.7"]).stdout(Stdio::piped());
        let servers = outside.servers.insert(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(servers.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        outside
    }

    /// A program that runs there.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    fn page(&self) -> String {
        let mut command = self.command("curl");
        command.args(["-sk", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "https://203.0.113.9/"]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(mut servers) = self.servers.take() {
            let _ = servers.kill();
            let _ = servers.wait();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

#[test]
#[ignore = "it fetches a Debian and boots it: minutes, and a network"]
fn the_real_cloud_init_makes_a_machine_a_node_and_keeps_it_one() {
    let programs = ["openssl", "python3", "nft", "curl", "ip"];
    if !programs.into_iter().all(has_program) {
        return;
    }
    let packages = ["systemd-sysv", "dbus", "cloud-init", "netcat-openbsd", "ca-certificates", "nftables", "iproute2"];
    let dir = tempfile::tempdir().unwrap();
    let outside = Outside::new(dir.path());
    let machine = debian::debian("trixie", &packages)
        .and_then(|base| Machine::bare(&base, CLOUD.replace("OUTER", &outside.name)).map(|machine| (base, machine)));
    let (base, machine) = match machine {
        Ok(found) => found,
        Err(why) => return skip(&format!("no machine to run cloud-init on: {why}")),
    };

    // What is emitted is all that the machine is told.
    let output = rtcctl(&[
        "bootstrap",
        "--emit",
        "cloud-init",
        "--url",
        "https://198.51.100.7/rtcctl",
        "--",
        "--cert",
        "self-signed",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(dir.path().join("user-data"), &output.stdout).unwrap();
    let given = |path: &str, text: &str| {
        let path = machine.upper(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    given(
        "/etc/cloud/cloud.cfg.d/90_test.cfg",
        "datasource_list: [ Ec2 ]\ndatasource: {Ec2: {strict_id: false}}\nnetwork: {config: disabled}\n",
    );
    // Nobody answers there, and at once.
    given("/etc/resolv.conf", "nameserver 10.98.0.2\n");
    let authorities = std::fs::read_to_string(base.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    let own = std::fs::read_to_string(dir.path().join("ca.pem")).unwrap();
    given("/etc/ssl/certs/ca-certificates.crt", &(authorities + &own));
    given(
        "/etc/nftables.conf",
        "table inet filter { chain input { type filter hook input priority filter; policy drop; iif lo accept; ct state established,related accept; tcp dport 22 accept; }; }\ninclude \"/etc/nftables.d/*.nft\"\n",
    );
    std::fs::create_dir(machine.upper("/etc/nftables.d")).unwrap();
    let wish = machine.upper("/etc/systemd/system/sysinit.target.wants/nftables.service");
    std::fs::create_dir_all(wish.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/usr/lib/systemd/system/nftables.service", wish).unwrap();
    let mut machine = machine.on().unwrap();

    let done = |machine: &Machine| {
        let mut told = String::new();
        until("cloud-init is done", PATIENCE * 3, || {
            told = String::from_utf8(machine.run(&["cloud-init", "status", "--long"]).stdout).unwrap();
            !["running", "not started"].into_iter().any(|word| told.contains(&format!("status: {word}")))
        });
        let log = String::from_utf8_lossy(&machine.run(&["cat", "/var/log/cloud-init-output.log"]).stdout).into_owned();
        assert!(told.contains("status: done"), "{told}\n{log}");
        log
    };
    let log = done(&machine);
    let result: Value = serde_json::from_str(&machine.succeeds(&["cat", "/var/lib/rtcctl-bootstrap.json"])).unwrap();
    assert_eq!((result["result"].as_str(), result["exit_code"].as_u64()), (Some("ready"), Some(0)), "{result}\n{log}");
    assert_eq!(result["page"], "https://203.0.113.9/", "the metadata service knows the public address\n{log}");
    assert_eq!(log.matches("rtcctl-bootstrap-result {").count(), 1, "{log}");
    let requests = std::fs::read_to_string(dir.path().join("requests")).unwrap();
    for wanted in ["200 PUT /latest/api/token", "200 GET /latest/meta-data/public-ipv4", "200 GET /rtcctl"] {
        assert!(requests.contains(wanted), "{wanted} in {requests}");
    }

    // A node for those outside: the page, and a call through the relay.
    let serves = |machine: &Machine| {
        assert_eq!(outside.page(), "200");
        let told: Value =
            serde_json::from_str(&machine.succeeds(&["rtcctl", "--json", "turn", "credentials"])).unwrap();
        let mut command = outside.command(env!("CARGO_BIN_EXE_rtcctl"));
        command.args(["turn", "test", "turn:203.0.113.9:3478?transport=udp", "--username"]);
        command
            .arg(told["username"].as_str().unwrap())
            .env("RTCCTL_TURN_CREDENTIAL", told["credential"].as_str().unwrap());
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    };
    serves(&machine);

    // No secret is anywhere but where it belongs.
    let secrets = machine.succeeds(&["cat", "/etc/rtcctl/secrets.yaml"]);
    let secrets: Vec<&str> = secrets
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_matches(['"', '\'']))
        .filter(|word| word.len() >= 20)
        .collect();
    assert!(secrets.len() >= 2, "{} secrets", secrets.len());
    let places = "cat /var/log/cloud-init*.log /var/lib/rtcctl-bootstrap.* /proc/[0-9]*/cmdline; journalctl --no-pager; find /var/lib/cloud /run/cloud-init -type f -exec cat {} +";
    let told = machine.succeeds(&["sh", "-c", &format!("{places}; true")]) + &requests;
    for secret in secrets {
        assert!(!told.contains(secret), "a secret has come out");
    }

    // A second start of the machine, and the script once more by hand, disturb nothing.
    machine.reboot();
    done(&machine);
    until("the service starts with the machine", PATIENCE, || outside.page() == "200");
    let pid = machine.succeeds(&["systemctl", "show", "rtcctl.service", "--property", "MainPID", "--value"]);
    let told = machine.succeeds(&["sh", "/var/lib/rtcctl-bootstrap.sh"]);
    assert!(told.contains("the program is there already") && told.contains("\"result\":\"ready\""), "{told}");
    assert_eq!(machine.succeeds(&["systemctl", "show", "rtcctl.service", "--property", "MainPID", "--value"]), pid);
    serves(&machine);
}

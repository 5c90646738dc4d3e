//! coturn's client against a whole service with both IP families, to a peer on another machine: what `turn_streams`
//! and `turn_interop` leave out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/coturn.rs"]
mod coturn;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use common::{has_program, skip};
use coturn::{EchoPeer, Namespaces, PATIENCE, enter, is_without_loss, tool};
use serde_json::Value;
use service::Service;

const SERVER: [&str; 2] = ["10.77.0.1", "fd77::1"];
const PEER: [&str; 2] = ["10.77.0.2", "fd77::2"];
const IPV4: usize = 0;
const IPV6: usize = 1;

/// Family of the client, family of the relay and peer, transport.
const WAYS: [(usize, usize, &[&str]); 6] = [
    (IPV4, IPV4, &[]),
    (IPV6, IPV6, &[]),
    (IPV6, IPV6, &["-t"]),
    (IPV6, IPV6, &["-t", "-S"]),
    // RFC 8656: a relay need not be of the client's family.
    (IPV4, IPV6, &[]),
    (IPV6, IPV4, &["-t", "-S"]),
];

#[test]
fn coturns_client_reaches_peers_of_both_families_by_udp_tcp_and_tls() {
    if !["turnutils_uclient", "turnutils_peer", "ip"].into_iter().all(has_program) {
        return;
    }
    let Some(net) = Namespaces::new() else { return skip("network namespaces need root") };
    for (namespace, address) in [(&net.server, SERVER[IPV6]), (&net.peer, PEER[IPV6])] {
        let address = format!("{address}/64");
        let mut ip = assert_cmd::Command::new("ip");
        ip.args(["-n", namespace, "address", "add", &address, "dev", "wire", "nodad"]);
        if !ip.timeout(PATIENCE).output().unwrap().status.success() {
            return skip("this kernel has no IPv6");
        }
    }
    let _peers = PEER.map(|address| EchoPeer::start_at(&net, address.parse().unwrap()));
    let within = || {
        // What this thread starts runs there, too.
        enter(&net.server);
        let relays = format!("['{}', '{}']", SERVER[IPV4], SERVER[IPV6]);
        Service::start(&[("turn.relay_ips", &relays), ("turn.user_quota", "1000")])
    };
    let service = std::thread::scope(|scope| scope.spawn(within).join().unwrap());
    // A connection to the control socket crosses namespaces.
    let printed: Value = serde_json::from_str(&service.run(&["turn", "credentials", "--json"])).unwrap();
    let text = |key: &str| printed[key].as_str().unwrap().to_owned();
    let (username, password) = (text("username"), text("credential"));
    let run = |port: u16, (client, relay, transport): (usize, usize, &[&str]), form: &[&str]| {
        let port = port.to_string();
        let family = if relay == IPV6 { "-x" } else { "-X" };
        let load =
            ["-v", "-c", "-n", "100", "-l", "173", "-z", "5", "-m", "2", family, "-e", PEER[relay], "-r", "3480"];
        let pair = ["-u", &username, "-w", &password, "-p", &port, SERVER[client]];
        let told = tool(Some(&net.peer), "turnutils_uclient", &[transport, form, &load, &pair].concat());
        assert!(is_without_loss(&told), "from {client} to {relay} {transport:?} {form:?} on {port}\n{told}");
    };
    std::thread::scope(|scope| {
        for way in WAYS {
            // By channels on its own port; by indications where there is another port, on that.
            let other = if way.2.is_empty() { service.turn_port } else { service.web_port };
            for (port, form) in [(service.turn_port, &[][..]), (other, &["-s"])] {
                let run = &run;
                scope.spawn(move || run(port, way, form));
            }
        }
    });
}

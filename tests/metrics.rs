//! `/metrics` as Prometheus reads it: by its own tools, and by a real Prometheus that evaluates every query of the
//! dashboard and of the alerts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/socket_io.rs"]
mod socket_io;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::has_program;
use common::ports::free_port;
use serde_json::Value;
use service::Service;
use socket_io::Socket;
use stream_client::{StreamClient, connect, connect_tls};

/// How long Prometheus may take to have asked.
const ASKED_WITHIN: Duration = Duration::from_secs(40);
/// Series of one service: more than that were labels without a bound.
const MAX_SERIES: usize = 1_000;

fn templates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates")
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["-skf", "--max-time", "20"]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn alerts_come_when_they_should() {
    if !has_program("promtool") {
        return;
    }
    for args in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let output = Command::new("promtool").args(args).current_dir(templates().join("prometheus")).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_page_is_given_in_the_form_that_is_asked_for_and_promtool_finds_no_fault() {
    let service = Service::start(&[]);
    let url = format!("{}/metrics", service.url());
    let text = curl(&[&url]);
    let open = curl(&["-H", "Accept: application/openmetrics-text; version=1.0.0", &url]);
    assert!(open.ends_with("\n# EOF\n") && !text.contains("# EOF"));
    assert!(open.contains("# TYPE rtcctl_turn_relayed_bytes counter\n"));
    assert!(open.contains("\nrtcctl_turn_relayed_bytes_total "));
    assert!(text.contains("# TYPE rtcctl_turn_relayed_bytes_total counter\n"));
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!((100..MAX_SERIES).contains(&samples.len()), "{}", samples.len());
    let names: BTreeSet<&str> = samples.iter().map(|line| line.split([' ', '{']).next().unwrap()).collect();
    for wanted in
        ["rtcctl_build_info", "rtcctl_ready", "rtcctl_finding", "process_open_fds", "process_cpu_seconds_total"]
    {
        assert!(names.contains(wanted), "{wanted}");
    }
    assert!(text.contains("rtcctl_ready 1\n"), "{text}");
    if !has_program("promtool") {
        return;
    }
    let mut check = Command::new("promtool");
    let mut check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What somebody says or asks for must not become a series: anybody could fill the memory of whoever collects them.
#[test]
fn nothing_that_strangers_say_becomes_a_label() {
    let service = Service::start(&[]);
    let page = || curl(&[&format!("{}/metrics", service.url())]);
    let series = |text: &str| -> BTreeSet<String> {
        // A probe has series from its first time on.
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("rtcctl_probe_"));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let before = series(&page());
    let hostile = ["\"} 1\nrtcctl_evil{x=\"y", "\\", "{}", "'; --", "\u{202e}evil", "a=b,c=d"];
    let sockets: Vec<Socket> = (0..48)
        .map(|number| {
            let mut socket = Socket::connect(service.web_port);
            let room = serde_json::json!(format!("evil{}{number}", hostile[number % hostile.len()])).to_string();
            socket.join(room.strip_prefix('"').unwrap().strip_suffix('"').unwrap());
            socket
        })
        .collect();
    for number in 0..20 {
        let asked = format!("/evil{number}?x=evil");
        let head = format!("GET {asked} HTTP/1.1\r\nHost: evil{number}\r\nUser-Agent: evil{number}\r\nX: evil\r\n");
        let mut stream = connect_tls(service.web_port, &["http/1.1"]);
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let credential = (format!("1999999999:evil{number}"), "evil".to_owned());
        let mut client = StreamClient::new(connect(service.turn_port), credential);
        assert!(client.try_allocate().unwrap().is_none());
    }
    let text = page();
    assert!(text.contains("\nrtcctl_signaling_rooms 48\n"), "{text}");
    assert!(!text.contains("evil"), "{text}");
    let new: Vec<String> = series(&text).difference(&before).cloned().collect();
    assert_eq!(new, Vec::<String>::new());
    drop(sockets);
}

/// A real Prometheus, which ends when this does.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn of(service: &Service, dir: &Path) -> Self {
        let port = free_port();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n  \
             - job_name: rtcctl\n    scheme: https\n    tls_config: {{ca_file: {}}}\n    static_configs:\n      \
             - targets: ['localhost:{}']\n",
            templates().join("prometheus/alerts.yaml").display(),
            service.ca_file().display(),
            service.web_port,
        );
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    fn try_ask(&self, query: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let data = format!("query={query}");
        let output = Command::new("curl").args(["-s", "--data-urlencode", &data, &url]).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }
}

/// Every `expr` of a document.
fn expressions(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(entries) => {
            for (key, value) in entries {
                if key == "expr" {
                    found.extend(value.as_str().map(str::to_owned));
                }
                expressions(value, found);
            }
        }
        Value::Array(members) => members.iter().for_each(|member| expressions(member, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
#[ignore = "takes ten seconds"]
fn prometheus_itself_reads_them_and_every_query_of_the_dashboard_finds_something() {
    if !has_program("prometheus") {
        return;
    }
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::of(&service, dir.path());
    let log = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    let end = Instant::now() + ASKED_WITHIN;
    // Twice, so that there are rates.
    while prometheus
        .try_ask("count_over_time(up[1m]) > 2 and up == 1")
        .is_none_or(|told| told["data"]["result"].as_array().is_none_or(Vec::is_empty))
    {
        let targets = format!("http://127.0.0.1:{}/api/v1/targets", prometheus.port);
        let targets = Command::new("curl").args(["-s", &targets]).output().unwrap();
        assert!(Instant::now() < end, "{}\n{}", log(), String::from_utf8_lossy(&targets.stdout));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(templates().join("grafana/rtcctl.json")).unwrap()).unwrap();
    let mut queries = Vec::new();
    expressions(&dashboard, &mut queries);
    assert!(queries.len() > 25, "{queries:?}");
    for query in queries {
        let filled = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
        // What is compared finds something only when something is wrong.
        let plain = [" == 1", " > 0"].iter().fold(filled.clone(), |query, end| query.trim_end_matches(end).to_owned());
        let told = prometheus.try_ask(&plain).unwrap();
        assert_eq!(told["status"], "success", "{filled}: {told}");
        assert_ne!(told["data"]["result"], Value::Array(Vec::new()), "{filled} finds nothing");
        assert_eq!(prometheus.try_ask(&filled).unwrap()["status"], "success", "{filled}");
    }
    let told = prometheus.try_ask("ALERTS{alertstate=\"firing\"}").unwrap();
    assert_eq!(told["data"]["result"], Value::Array(Vec::new()), "a healthy service alerts nobody");
}

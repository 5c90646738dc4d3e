//! `rtcctl ports --format CLOUD`, typed as printed into the providers' own tools, as they are today: each argument is known
//! to them, and what they send, to a server of this test, carries every port. `gcloud` and `doctl` come from nowhere that
//! these tests may ask, nor does `terraform` itself; for Alibaba Cloud its library stands in, which sends the same.
//!
//! `scripts/test --full` runs them; the tools are fetched once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use common::ports::free_port;
use common::{has_program, skip};
use serde_json::Value;

/// Where tools are kept from one run to the next.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cloud-tools").join(name)
}

/// Makes `kept(name)` by a script that is given the folder, once for all test processes. `None`: it cannot be, which was told.
fn fetched(name: &str, script: &str) -> Option<PathBuf> {
    let folder = kept(name);
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let lock = std::fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !folder.join("whole").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        let output = Command::new("bash").args(["-euc", script, "bash"]).arg(&folder).output().unwrap();
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            skip(&format!("{name} cannot be fetched here: {}", told.lines().last().unwrap_or("it does not say why")));
            return None;
        }
        std::fs::File::create(folder.join("whole")).unwrap();
    }
    Some(folder)
}

/// A Python of its own with these packages; those after `--` without what they depend on, of which they need little.
fn python(name: &str, packages: &str, bare: &str) -> Option<PathBuf> {
    if !has_program("python3") {
        return None;
    }
    let script = format!(
        "python3 -m venv \"$1\"
         \"$1/bin/pip\" install --quiet --disable-pip-version-check {packages}
         for package in {bare}; do \"$1/bin/pip\" install --quiet --disable-pip-version-check --no-deps $package 2>/dev/null; done"
    );
    fetched(name, &script)
}

/// A request as it came.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    head: String,
    body: String,
}

/// A provider that takes everything down and agrees to all.
struct Provider {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Provider {
    fn start(kind: &'static str, answer: fn(&Asked) -> String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let provider = Self { at: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&provider.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // Whoever only tries whether somebody listens asks nothing.
                let Some(one) = read(&mut stream) else { continue };
                let body = answer(&one);
                asked.lock().unwrap().push(one);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n");
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        provider
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (line, rest) = head.split_once("\r\n").unwrap();
    let length =
        rest.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Asked { line: line.to_owned(), head: rest.to_owned(), body: String::from_utf8(body).unwrap() })
}

/// A port, or a range: `tcp 443 443`.
type Port = (String, u64, u64);

struct Scene {
    dir: tempfile::TempDir,
    /// What callers must reach.
    wanted: Vec<Port>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        let mut scene = Self { dir, wanted: Vec::new() };
        // Ports that nobody else tries at the same time.
        let [web, http, turn] = [free_port(), free_port(), free_port()].map(|port| port.to_string());
        let ports = ["--web-port", &web, "--http-port", &http, "--turn-port", &turn];
        let args = ["init", "--yes", "--reach", "lan", "--host", "11.22.33.44", "--firewall", "skip"];
        scene.rtcctl(&[&args[..], &ports].concat());
        let document: Value = serde_json::from_str(&scene.rtcctl(&["ports", "--format", "json"])).unwrap();
        let port = |port: &Value| {
            (
                port["transport"].as_str().unwrap().to_owned(),
                port["first"].as_u64().unwrap(),
                port["last"].as_u64().unwrap(),
            )
        };
        scene.wanted = document["ports"].as_array().unwrap().iter().map(port).collect();
        scene.wanted.sort();
        assert_eq!(scene.wanted.len(), 5);
        scene
    }

    fn rtcctl(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
        command.arg("--home").arg(self.dir.path().join("home")).args(args).env_remove("RTCCTL_HOME");
        String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
    }

    /// A program that the printed commands find by this name.
    fn program(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.dir.path().join("bin").join(name);
        std::fs::File::create(&file).unwrap().write_all(text.as_bytes()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs what is printed for a cloud, with what is to be replaced replaced by `change`, and then the comment that says
    /// how to find that. Whether the first succeeded, and what was said.
    fn types(&self, format: &str, change: fn(String) -> String, variables: &[(&str, &str)]) -> (bool, String) {
        let printed = self.rtcctl(&["ports", "--format", format]);
        let finds: String =
            printed.lines().filter_map(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect();
        assert!(!finds.is_empty(), "{printed}");
        let path = format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap());
        let run = |script: &str| {
            let mut command = Command::new("bash");
            command.arg("-eu").write_stdin(script).env("PATH", &path).env("HOME", self.dir.path());
            let output = command.envs(variables.iter().copied()).output().unwrap();
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            (output.status.success(), said)
        };
        let (found, said) = run(&finds.replace("REGION ", "eu-frankfurt "));
        assert!(found, "{finds}: {said}");
        run(&change(printed))
    }
}

/// A word of a form.
fn decoded(word: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn sorted(mut ports: Vec<Port>) -> Vec<Port> {
    ports.sort();
    ports
}

/// `443` or `49160-51159`.
fn range(text: &str, between: char) -> (u64, u64) {
    let (first, last) = text.split_once(between).unwrap_or((text, text));
    (first.parse().unwrap(), last.parse().unwrap())
}

#[test]
#[ignore = "it fetches the provider's tool"]
fn aws_knows_each_argument_and_sends_each_port() {
    let Some(venv) = python("aws", "awscli", "") else { return };
    let provider = Provider::start("text/xml", |asked| {
        let action =
            if asked.body.contains("Describe") { "DescribeInstances" } else { "AuthorizeSecurityGroupIngress" };
        format!("<{action}Response><return>true</return></{action}Response>")
    });
    let scene = Scene::new();
    scene.program("aws", &format!("#!/bin/sh\nexec {}/bin/aws \"$@\"\n", venv.display()));
    let endpoint = format!("http://{}", provider.at);
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ];
    let (ok, said) = scene.types("aws", |text| text.replace("REPLACE-WITH-SECURITY-GROUP-ID", "sg-7"), &variables);
    assert!(ok, "{said}");
    let asked = provider.asked();
    assert!(asked[0].body.contains("Action=DescribeInstances&") && asked[0].body.contains("11.22.33.44"), "{asked:?}");
    let query: Vec<(String, String)> = asked[1]
        .body
        .split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect();
    let value = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!(value("GroupId").unwrap(), "sg-7");
    let mut sent = Vec::new();
    for number in 1.. {
        let of = |name: &str| value(&format!("IpPermissions.{number}.{name}"));
        let Some(protocol) = of("IpProtocol") else { break };
        assert_eq!(
            (of("IpRanges.1.CidrIp").unwrap(), of("Ipv6Ranges.1.CidrIpv6").unwrap()),
            ("0.0.0.0/0".into(), "::/0".into())
        );
        // What is allowed there, and how much of it.
        let told = of("IpRanges.1.Description").unwrap();
        let is_allowed = |sign: char| sign.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(sign);
        assert!(told.len() <= 255 && told.chars().all(is_allowed), "{told}");
        sent.push((protocol, of("FromPort").unwrap().parse().unwrap(), of("ToPort").unwrap().parse().unwrap()));
    }
    assert_eq!(sorted(sent), scene.wanted);
    // It would say so if it did not know something.
    let (ok, said) = scene.types("aws", |text| text.replace("FromPort", "FirstPort"), &variables);
    assert!(!ok && said.contains("FirstPort"), "{said}");
}

/// The real program with nobody logged in: who asks it for a credential is given one, and it may be sent in the clear.
const AZ: &str = "
import sys
import azure.cli.core._profile as profile
import azure.cli.core.aaz._http_policy as http
import azure.cli.core.cloud as cloud
from azure.core.credentials import AccessToken

class Credential:
    def get_token(self, *args, **kwargs):
        return AccessToken('x', 4102444800)

subscription = '00000000-0000-0000-0000-000000000001'
profile.Profile.get_login_credentials = lambda self, *args, **kwargs: (Credential(), subscription, 'tenant')
profile.Profile.get_subscription_id = lambda self, *args, **kwargs: subscription
for one in cloud.KNOWN_CLOUDS:
    one.endpoints.resource_manager = 'http://@ADDRESS@'
for name in dir(http):
    if hasattr(getattr(http, name), '_enforce_https'):
        setattr(getattr(http, name), '_enforce_https', staticmethod(lambda request: None))
from azure.cli.core import get_default_cli
sys.exit(get_default_cli().invoke(sys.argv[1:]))
";

#[test]
#[ignore = "it fetches the provider's tool"]
fn az_knows_each_argument_and_sends_each_port() {
    let Some(venv) = python("az", "azure-cli-core msrest msrestazure azure-common", "azure-cli") else { return };
    let provider = Provider::start("application/json", |asked| {
        let answer = if asked.line.starts_with("GET ") {
            r#"{"value":[]}"#
        } else {
            r#"{"name":"x","properties":{"provisioningState":"Succeeded"}}"#
        };
        answer.to_owned()
    });
    let scene = Scene::new();
    scene.program(
        "az",
        &format!("#!{}/bin/python3{}", venv.display(), AZ.replace("@ADDRESS@", &provider.at.to_string())),
    );
    let variables = [("AZURE_CORE_COLLECT_TELEMETRY", "no"), ("AZURE_CORE_NO_COLOR", "yes")];
    let (ok, said) = scene.types(
        "az",
        |text| {
            text.replace("REPLACE-WITH-RESOURCE-GROUP", "group").replace("REPLACE-WITH-NETWORK-SECURITY-GROUP", "nsg")
        },
        &variables,
    );
    assert!(ok, "{said}");
    let asked = provider.asked();
    assert!(asked[0].line.starts_with("GET ") && asked[0].line.contains("networkSecurityGroups"), "{asked:?}");
    let mut sent = Vec::new();
    let mut priorities = Vec::new();
    for one in &asked[1..] {
        let place = "resourceGroups/group/providers/Microsoft.Network/networkSecurityGroups/nsg/securityRules/rtcctl-";
        assert!(one.line.starts_with("PUT ") && one.line.contains(place), "{one:?}");
        let rule: Value = serde_json::from_str(&one.body).unwrap();
        let rule = &rule["properties"];
        for (key, value) in [
            ("access", "Allow"),
            ("direction", "Inbound"),
            ("sourceAddressPrefix", "*"),
            ("sourcePortRange", "*"),
            ("destinationAddressPrefix", "*"),
        ] {
            assert_eq!(rule[key], value, "{rule}");
        }
        priorities.push(rule["priority"].as_u64().unwrap());
        for ports in rule["destinationPortRanges"].as_array().unwrap() {
            let (first, last) = range(ports.as_str().unwrap(), '-');
            sent.push((rule["protocol"].as_str().unwrap().to_lowercase(), first, last));
        }
    }
    assert_eq!(sorted(sent), scene.wanted);
    assert!(priorities.iter().all(|priority| (100..=4096).contains(priority)) && priorities[0] != priorities[1]);
    let (ok, said) = scene.types("az", |text| text.replace("--destination-port-ranges", "--ports"), &variables);
    assert!(!ok && said.contains("--ports"), "{said}");
}

/// The real program, that speaks in the clear to whom it is told.
const TCCLI: &str = "
import sys
import tencentcloud.common.profile.http_profile as http

usual = http.HttpProfile.__init__
def plain(self, *args, **kwargs):
    usual(self, *args, **kwargs)
    self.scheme = self.protocol = 'http'
http.HttpProfile.__init__ = plain
sys.argv += ['--endpoint', '@ADDRESS@']
from tccli.main import main
sys.exit(main())
";

#[test]
#[ignore = "it fetches the provider's tool"]
fn tccli_knows_each_argument_and_sends_each_port() {
    let Some(venv) = python("tccli", "tccli", "") else { return };
    let provider = Provider::start("application/json", |_| r#"{"Response":{"RequestId":"x"}}"#.to_owned());
    let scene = Scene::new();
    let program = format!("#!{}/bin/python3{}", venv.display(), TCCLI.replace("@ADDRESS@", &provider.at.to_string()));
    scene.program("tccli", &program);
    let variables = [("TENCENTCLOUD_SECRET_ID", "a"), ("TENCENTCLOUD_SECRET_KEY", "b")];
    let fill = |text: String| {
        text.replace("REPLACE-WITH-REGION", "eu-frankfurt").replace("REPLACE-WITH-SECURITY-GROUP-ID", "sg-7")
    };
    let (ok, said) = scene.types("tccli", fill, &variables);
    assert!(ok, "{said}");
    let asked = provider.asked();
    let action = |number: usize, action: &str| {
        asked[number].head.to_lowercase().contains(&format!("x-tc-action: {}", action.to_lowercase()))
    };
    assert!(action(0, "DescribeInstances") && asked[0].body.contains("11.22.33.44"), "{asked:?}");
    assert!(action(1, "CreateSecurityGroupPolicies"), "{asked:?}");
    let sent: Value = serde_json::from_str(&asked[1].body).unwrap();
    assert_eq!(sent["SecurityGroupId"], "sg-7");
    for (key, network) in [("CidrBlock", "0.0.0.0/0"), ("Ipv6CidrBlock", "::/0")] {
        let rules = sent["SecurityGroupPolicySet"]["Ingress"].as_array().unwrap().iter();
        let of_family = rules.filter(|rule| rule[key] == network).map(|rule| {
            assert!(rule["Action"] == "ACCEPT" && rule["PolicyDescription"].as_str().unwrap().len() <= 100, "{rule}");
            let (first, last) = range(rule["Port"].as_str().unwrap(), '-');
            (rule["Protocol"].as_str().unwrap().to_lowercase(), first, last)
        });
        assert_eq!(sorted(of_family.collect()), scene.wanted);
    }
    let (ok, said) =
        scene.types("tccli", |text| text.replace("--SecurityGroupPolicySet", "--SecurityGroupPolicies"), &variables);
    assert!(!ok && said.contains("SecurityGroupPolic"), "{said}");
}

#[test]
#[ignore = "it fetches the provider's tool"]
fn hcloud_knows_each_argument_and_sends_each_port() {
    if !has_program("apt-get") {
        return;
    }
    let fetch =
        "mkdir -p \"$1\"; cd \"$1\"; apt-get download -qq hcloud-cli 2>&1 >/dev/null; dpkg-deb -x hcloud-cli_*.deb .";
    let Some(folder) = fetched("hcloud", fetch) else { return };
    let provider = Provider::start("application/json", |_| {
        let there = r#"{"id":7,"name":"fw","created":"2024-01-01T00:00:00+00:00","labels":{},"applied_to":[],"rules":[
            {"direction":"in","protocol":"tcp","port":"22","source_ips":["0.0.0.0/0"],"destination_ips":[],"description":null}]}"#;
        let page = r#"{"page":1,"per_page":25,"previous_page":null,"next_page":null,"last_page":1,"total_entries":1}"#;
        format!(r#"{{"firewalls":[{there}],"actions":[],"meta":{{"pagination":{page}}}}}"#)
    });
    let scene = Scene::new();
    scene.program("hcloud", &format!("#!/bin/sh\nexec {}/usr/bin/hcloud \"$@\"\n", folder.display()));
    let (endpoint, token) = (format!("http://{}", provider.at), "a".repeat(64));
    let variables = [("HCLOUD_ENDPOINT", endpoint.as_str()), ("HCLOUD_TOKEN", &token)];
    let (ok, said) = scene.types("hcloud", |text| text.replace("REPLACE-WITH-FIREWALL-NAME", "fw"), &variables);
    assert!(ok, "{said}");
    let changes = provider.asked().into_iter().filter(|one| one.line.starts_with("POST "));
    let sent = changes.map(|one| {
        let body: Value = serde_json::from_str(&one.body).unwrap();
        let rules = body["rules"].as_array().unwrap();
        assert!(rules.len() == 2 && rules[0]["port"] == "22", "what was there stays: {rules:?}");
        let rule = &rules[1];
        assert_eq!(rule["source_ips"], serde_json::json!(["0.0.0.0/0", "::/0"]));
        assert!(rule["direction"] == "in" && rule["description"].as_str().unwrap().len() <= 255, "{rule}");
        let (first, last) = range(rule["port"].as_str().unwrap(), '-');
        (rule["protocol"].as_str().unwrap().to_owned(), first, last)
    });
    assert_eq!(sorted(sent.collect()), scene.wanted);
    let (ok, said) = scene.types("hcloud", |text| text.replace("--source-ips", "--sources"), &variables);
    assert!(!ok && said.contains("--sources"), "{said}");
}

/// Takes the arguments of `aliyun ecs AuthorizeSecurityGroup`, and prints the query that the library would send for them;
/// it leaves out what it does not know.
const ALIYUN: &str = "
import json, sys
from aliyunsdkecs.request.v20140526.AuthorizeSecurityGroupRequest import AuthorizeSecurityGroupRequest
words = sys.argv[1:]
assert words[:2] == ['ecs', 'AuthorizeSecurityGroup'], words
given = {flag[2:]: value for flag, value in zip(words[2::2], words[3::2])}
assert all(flag.startswith('--') for flag in words[2::2]), words
request = AuthorizeSecurityGroupRequest()
permissions = {}
for name, value in given.items():
    if name == 'RegionId':
        continue
    if not name.startswith('Permissions.'):
        getattr(request, 'set_' + name)(value)
        continue
    _, number, field = name.split('.')
    permissions.setdefault(int(number), {})[field] = value
assert sorted(permissions) == list(range(1, len(permissions) + 1)), permissions
request.set_Permissions([permissions[number] for number in sorted(permissions)])
sent = request.get_query_params()
missing = [name for name in given if name != 'RegionId' and sent.get(name) != given[name]]
if missing:
    sys.exit('unknown: ' + ' '.join(missing))
print(json.dumps({name: value for name, value in sent.items() if name in given}))
";

#[test]
#[ignore = "it fetches the provider's library"]
fn the_library_of_aliyun_knows_each_argument_and_sends_each_port() {
    let Some(venv) = python("aliyun", "aliyun-python-sdk-ecs", "") else { return };
    let scene = Scene::new();
    let find = "if sys.argv[1:3] == ['ecs', 'DescribeInstances']:\n    import aliyunsdkecs.request.v20140526.DescribeInstancesRequest as find\n    \
                [getattr(find.DescribeInstancesRequest, 'set_' + flag[2:]) for flag in sys.argv[3::2] if flag != '--RegionId']\n    sys.exit()";
    let program = ALIYUN.replacen("words =", &format!("{find}\nwords ="), 1);
    scene.program("aliyun", &format!("#!{}/bin/python3{program}", venv.display()));
    let (ok, said) = scene.types("aliyun", |text| text.replace("REPLACE-WITH-SECURITY-GROUP-ID", "sg-7"), &[]);
    assert!(ok, "{said}");
    let sent: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(sent["SecurityGroupId"], "sg-7");
    for (key, network) in [("SourceCidrIp", "0.0.0.0/0"), ("Ipv6SourceCidrIp", "::/0")] {
        let mut ports = Vec::new();
        for number in 1..=scene.wanted.len() * 2 {
            let of = |name: &str| sent[&format!("Permissions.{number}.{name}")].as_str();
            if of(key) != Some(network) {
                continue;
            }
            assert!(of("Policy") == Some("Accept") && of("Description").unwrap().len() <= 512, "{sent}");
            let (first, last) = range(of("PortRange").unwrap(), '/');
            ports.push((of("IpProtocol").unwrap().to_lowercase(), first, last));
        }
        assert_eq!(sorted(ports), scene.wanted);
    }
    let (ok, said) = scene.types("aliyun", |text| text.replace("SourceCidrIp", "SourceCidr"), &[]);
    assert!(!ok && said.contains("unknown: "), "{said}");
}

/// Reads HCL, and compares its resources' arguments with those of the bindings that are made from the provider's schema.
const TERRAFORM: &str = "
import ast, json, sys, zipfile
import hcl2
document = hcl2.loads(sys.stdin.read())
bare = lambda text: text.strip('\"') if isinstance(text, str) else text
with zipfile.ZipFile(sys.argv[1]) as bindings:
    tree = ast.parse(bindings.read('cdktf_cdktf_provider_aws/vpc_security_group_ingress_rule/__init__.py'))
made = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == 'VpcSecurityGroupIngressRule')
init = next(node for node in made.body if isinstance(node, ast.FunctionDef) and node.name == '__init__')
arguments = [argument.arg for argument in init.args.kwonlyargs]
needed = [argument.arg for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults) if default is None]
names = []
for resource in document['resource']:
    for kind, each in resource.items():
        assert bare(kind) == 'aws_vpc_security_group_ingress_rule', kind
        for name, body in each.items():
            own = [key for key in body if not key.startswith('__')]
            unknown = [key for key in own if key not in arguments]
            missing = [key for key in needed if key not in own]
            if unknown or missing:
                sys.exit('unknown: %s, missing: %s' % (unknown, missing))
            names.append(bare(name))
ports = document['locals'][0]['rtcctl_ports']
plain = lambda value: bare(value) if isinstance(value, (str, int)) else value
print(json.dumps({'names': names, 'ports': [{bare(key): plain(value) for key, value in port.items()} for key, port in ports.items() if not key.startswith('__')]}))
";

#[test]
#[ignore = "it fetches the provider's bindings"]
fn terraform_is_read_and_its_arguments_are_those_of_the_provider() {
    let Some(venv) = python("terraform", "python-hcl2", "") else { return };
    let fetch = "mkdir -p \"$1\"; \"$(dirname \"$1\")/terraform/bin/pip\" download --quiet --no-deps --dest \"$1\" cdktf-cdktf-provider-aws";
    let Some(bindings) = fetched("terraform-aws", fetch) else { return };
    let wheel = std::fs::read_dir(bindings).unwrap().map(|entry| entry.unwrap().path());
    let wheel = wheel.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl")).unwrap();
    let scene = Scene::new();
    let read = |text: String| {
        let mut command = Command::new(venv.join("bin/python3"));
        let output = command.args(["-c", TERRAFORM]).arg(&wheel).write_stdin(text).output().unwrap();
        (output.status.success(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
    };
    let printed = scene.rtcctl(&["ports", "--format", "terraform"]);
    let (ok, said) = read(printed.clone());
    assert!(ok, "{said}");
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(document["names"], serde_json::json!(["rtcctl_ipv4", "rtcctl_ipv6"]));
    let ports = document["ports"].as_array().unwrap().iter().map(|port| {
        (port["protocol"].as_str().unwrap().to_owned(), port["first"].as_u64().unwrap(), port["last"].as_u64().unwrap())
    });
    assert_eq!(sorted(ports.collect()), scene.wanted);
    let (ok, said) = read(printed.replace("cidr_ipv4 ", "cidr_blocks "));
    assert!(!ok && said.contains("cidr_blocks"), "{said}");
    assert!(!read(printed.replacen('}', "", 1)).0);
}

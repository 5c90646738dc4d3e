//! What operators bring as certificates: expired, incomplete, mixed up, in other forms, or no certificate at all. Each is
//! refused with what is wrong, where, and what to do, and nothing is changed; what merely looks odd is taken.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

mod common;
#[allow(dead_code, reason = "one part of it is used here")]
#[path = "common/service.rs"]
mod service;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, DnType, IsCa, Issuer,
    KeyPair, PublicKeyData,
};

use self::common::ports::free_port;
use self::common::{has_program, until};
use self::service::Undertaker;

const HOST: &str = "call.example";
const DAY: Duration = Duration::from_secs(86_400);
/// How long it may take until an operator is told.
const TOLD_WITHIN: Duration = Duration::from_secs(120);
/// id-pe-authorityInfoAccess: caIssuers is `http://ca.example/i.crt`. RFC 5280, section 4.2.2.1.
const CA_ISSUERS: &[u8] = b"\x30\x25\x30\x23\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x02\x86\x17http://ca.example/i.crt";

/// A root, an authority below it, and what that has signed.
struct Chain {
    root: String,
    between: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Chain {
    /// The authority in between is good for so many days before and after now.
    fn new(from: i64, until: i64) -> Self {
        let named = |name: &str, from: i64, until: i64| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            (params.not_before, params.not_after) = (day(from).into(), day(until).into());
            params
        };
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = named("Root", -3650, 3650);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let params = named("In Between", from, until);
        let between = params.signed_by(&key, &Issuer::new(root, root_key)).unwrap().pem();
        Self { root: root_pem, between, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a key, good from one day to another.
    fn leaf(&self, key: &impl PublicKeyData, from: i64, until: i64) -> String {
        let mut params = CertificateParams::new([HOST.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (day(from).into(), day(until).into());
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], CA_ISSUERS.to_vec())];
        params.signed_by(key, &self.issuer).unwrap().pem()
    }
}

fn day(number: i64) -> SystemTime {
    let now = rtcctl::sys::clock::now().wall;
    let span = DAY * u32::try_from(number.unsigned_abs()).unwrap();
    if number < 0 { now - span } else { now + span }
}

/// A home that is set up for [`HOST`], and never started.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let set_up = home.run(&["init", "--yes", "--offline", "--reach", "lan", "--host", HOST]);
        assert!(set_up.status.success(), "{set_up:?}");
        home
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("home")
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
        command.arg("--home").arg(self.path()).args(args).args(ports(args)).env_remove("RTCCTL_HOME");
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn import(&self, file: &Path) -> (Option<i32>, String) {
        told(&self.run(&["cert", "import", file.to_str().unwrap()]))
    }

    /// What `init` says of a pair of files.
    fn plan(&self, chain: &Path, key: &Path) -> (Option<i32>, String) {
        let mut args = vec!["init", "--yes", "--offline", "--dry-run", "--reach", "lan", "--host", HOST];
        args.extend(["--cert-file", chain.to_str().unwrap(), "--key-file", key.to_str().unwrap()]);
        told(&self.run(&args))
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), std::fs::read(&path).unwrap_or_default());
                }
            }
        }
        files
    }
}

/// Ports above those that only root may have, for `init`.
fn ports(args: &[&str]) -> Vec<String> {
    if args[0] != "init" {
        return Vec::new();
    }
    let [web, turn] = [free_port(), free_port()].map(|port| port.to_string());
    ["--relay-ip", "127.0.0.1", "--web-port", &web, "--http-port", "off", "--turn-port", &turn]
        .map(str::to_owned)
        .to_vec()
}

fn told(output: &Output) -> (Option<i32>, String) {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&bytes).into_owned())
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

/// The files that both ways of bringing a certificate are tried with, each with what must be said of it. `leaf` makes a
/// certificate for the right key.
fn bad_chains(home: &Home, leaf: &dyn Fn(&Chain, i64, i64) -> String) -> Vec<(PathBuf, &'static str)> {
    let chain = Chain::new(-100, 100);
    let (old, future) = (Chain::new(-100, -1), Chain::new(2, 100));
    let good = leaf(&chain, -1, 90);
    let stranger = chain.leaf(&KeyPair::generate().unwrap(), -1, 90);
    let with = |leaf: &str, chain: &Chain| format!("{leaf}{}", chain.between);
    let der = pem_body(&good);
    let folder = home.0.path().join("a-folder");
    std::fs::create_dir_all(&folder).unwrap();
    vec![
        (home.file("expired.pem", with(&leaf(&chain, -90, -1), &chain)), "it has expired"),
        (home.file("early.pem", with(&leaf(&chain, 2, 90), &chain)), "not valid yet by this host's clock"),
        (home.file("old-issuer.pem", with(&leaf(&old, -1, 90), &old)), "vouches for it, has expired"),
        (home.file("early-issuer.pem", with(&leaf(&future, -1, 90), &future)), "vouches for it, is not valid yet"),
        (home.file("backwards.pem", format!("{}{good}", chain.between)), "begins with the certificate of an authority"),
        (home.file("mixed.pem", format!("{good}{}{}", chain.root, chain.between)), "is out of order: certificate 1"),
        (home.file("stranger.pem", with(&stranger, &chain)), "is not the key of"),
        (home.file("chain.der", der), "is DER, not PEM"),
        (home.file("empty.pem", ""), "holds no certificate"),
        (home.file("cut.pem", &good[..good.len() / 2]), "damaged"),
        (home.file("page.html", "<!doctype html><title>Sign in</title>"), "holds no certificate"),
        (home.file("noise.pem", noise(3 << 20)), "is larger than 1048576 bytes"),
        (home.file("small-noise.pem", noise(3000)), "is no text in UTF-8"),
        (home.file("long.pem", "x".repeat(3 << 20)), "is larger than 1048576 bytes"),
        (folder, "Is a directory"),
        (home.0.path().join("nowhere.pem"), "No such file"),
    ]
}

fn pem_body(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[test]
fn an_answer_that_cannot_be_served_is_refused_with_its_own_words_and_changes_nothing() {
    let home = Home::new();
    let request = String::from_utf8(home.run(&["cert", "csr"]).stdout).unwrap();
    let key = CertificateSigningRequestParams::from_pem(&request).unwrap().public_key;
    let before = home.files();
    for (file, words) in bad_chains(&home, &|chain, from, until| chain.leaf(&key, from, until)) {
        let (code, said) = home.import(&file);
        assert_eq!(code, Some(1), "{}: {said}", file.display());
        assert!(said.contains(words) && said.contains(file.to_str().unwrap()), "{}: {said}", file.display());
        assert!(said.contains("hint: ") && said.len() < 2000, "{}: {said}", file.display());
        assert!(home.files() == before, "{} has changed something", file.display());
    }
    // Alone, it is good for those who know its issuer: taken, and told.
    let chain = Chain::new(-100, 100);
    let good = chain.leaf(&key, -1, 90);
    let (code, said) = home.import(&home.file("alone.pem", &good));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("devices that lack that of `CN=In Between` refuse it"), "{said}");
    // As Windows and mail leave it, and with the root besides.
    let whole = format!("{good}{}{}", chain.between, chain.root).replace('\n', "\r\n");
    let (code, said) = home.import(&home.file("windows.pem", format!("\u{feff}Subject: yours\r\n\r\n{whole}")));
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("warning"), "{said}");
    // A newer answer is refused, and the one that was taken stays.
    let taken = home.files();
    let (code, _) = home.import(&home.file("late.pem", chain.leaf(&key, -9, -1)));
    assert_eq!(code, Some(1));
    assert!(home.files() == taken);
    let shown = home.run(&["cert", "show"]);
    assert!(told(&shown).1.contains("files, your own"), "{shown:?}");
}

#[test]
fn files_that_cannot_be_served_are_refused_with_their_own_words_and_change_nothing() {
    let home = Home::new();
    let key = KeyPair::generate().unwrap();
    let right = home.file("right.key", key.serialize_pem());
    let chain = Chain::new(-100, 100);
    let good = home.file("good.pem", format!("{}{}", chain.leaf(&key, -1, 90), chain.between));
    let before = home.files();
    let mut cases: Vec<(PathBuf, PathBuf, &str)> = Vec::new();
    for (file, words) in bad_chains(&home, &|chain, from, until| chain.leaf(&key, from, until)) {
        cases.push((file, right.clone(), words));
    }
    let other = KeyPair::generate().unwrap();
    let keys = [
        (home.file("other.key", other.serialize_pem()), "is not the key of"),
        (home.file("key.der", key.serialize_der()), "is DER, not PEM"),
        (home.file("empty.key", ""), "holds no private key"),
        (home.file("noise.key", noise(3 << 20)), "is larger than 1048576 bytes"),
        (home.0.path().join("a-folder"), "Is a directory"),
        (good.clone(), "holds no private key"),
    ];
    cases.extend(keys.into_iter().map(|(file, words)| (good.clone(), file, words)));
    if has_program("openssl") {
        for (name, args) in [
            ("locked.key", &["pkcs8", "-topk8", "-in", "right.key", "-passout", "pass:x"][..]),
            ("old-locked.key", &["ec", "-in", "right.key", "-aes128", "-passout", "pass:x"]),
        ] {
            let output = Command::new("openssl").args(args).current_dir(home.0.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            cases.push((good.clone(), home.file(name, output.stdout), "is encrypted"));
        }
    }
    for (chain, key, words) in &cases {
        let (code, said) = home.plan(chain, key);
        let what = format!("{} {}: {said}", chain.display(), key.display());
        assert_eq!(code, Some(1), "{what}");
        let bad = if *chain == good { key } else { chain };
        assert!(said.contains(words) && said.contains(bad.to_str().unwrap()), "{words}: {what}");
        assert!(said.contains("hint: ") || said.contains("--cert-file"), "{what}");
        assert!(home.files() == before, "{what}: something was changed");
    }
    let (code, said) = home.plan(&good, &right);
    assert_eq!(code, Some(0), "{said}");
    // The service itself, which was told of such files by hand.
    let config = home.path().join("config.yaml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    let expired = cases[0].0.to_str().unwrap();
    for (name, value) in [("cert_file", expired), ("key_file", right.to_str().unwrap()), ("source", "files")] {
        text = rtcctl::config::set_value(&text, &format!("certificate.{name}"), &format!("\"{value}\"")).unwrap();
    }
    rtcctl::sys::fs::write_atomic(&config, text.as_bytes(), 0o600).unwrap();
    let (code, said) = told(&home.run(&["run"]));
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("it has expired") && said.contains(expired) && said.contains("hint: "), "{said}");
}

#[test]
fn an_operator_is_told_of_files_that_end_soon_and_that_the_next_ones_are_served() {
    let home = Home::new();
    let _undertaker = Undertaker::of(&home.path());
    let key = KeyPair::generate().unwrap();
    let chain = Chain::new(-100, 100);
    let key_file = home.file("own.key", key.serialize_pem());
    let bundle = |from, until| format!("{}{}", chain.leaf(&key, from, until), chain.between);
    let chain_file = home.file("own.pem", bundle(-80, 3));
    let mut args = vec!["init", "--yes", "--offline", "--reach", "lan", "--host", HOST];
    args.extend(["--cert-file", chain_file.to_str().unwrap(), "--key-file", key_file.to_str().unwrap()]);
    let (code, said) = told(&home.run(&args));
    assert_eq!(code, Some(0), "{said}");
    let (script, heard) =
        (home.file("tell", "#!/bin/sh\ncat >> \"$1\"\necho >> \"$1\"\n"), home.0.path().join("heard"));
    std::fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
    let config = home.path().join("config.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let command = format!("[{}, {}]", script.display(), heard.display());
    let text = rtcctl::config::set_value(&text, "notify.command", &command).unwrap();
    rtcctl::sys::fs::write_atomic(&config, text.as_bytes(), 0o600).unwrap();
    let (code, said) = told(&home.run(&["start"]));
    assert_eq!(code, Some(0), "{said}");

    let heard = |event: &str| {
        let text = std::fs::read_to_string(&heard).unwrap_or_default();
        text.contains(&format!("\"event\":\"{event}\"")) && text.contains("\"code\":\"certificate-ends\"")
    };
    until("the alarm is told", TOLD_WITHIN, || heard("raised"));
    let status = home.run(&["status"]);
    let (code, said) = told(&status);
    assert_eq!(code, Some(10), "{said}");
    assert!(said.contains("error: the certificate ends soon") && said.contains("[certificate-ends]"), "{said}");
    assert!(said.contains("it is valid for 2 more days") && said.contains("  hint: "), "{said}");

    rtcctl::sys::fs::write_atomic(&chain_file, bundle(-1, 90).as_bytes(), 0o600).unwrap();
    until("the next certificate is served, and the alarm over", TOLD_WITHIN, || heard("cleared"));
    let (code, said) = told(&home.run(&["status"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("89.9 days left"), "{said}");
    assert_eq!(home.run(&["stop"]).status.code(), Some(0));
}

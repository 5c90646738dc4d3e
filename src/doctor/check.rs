//! The checks that there are: what each looks at, and whose failure explains it.

use crate::word;

/// A check. Its word is for scripts and never changes; it is the code of what the check finds, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    Config,
    Secrets,
    HomePermissions,
    HomeWritable,
    Disk,
    StaleSocket,
    Clock,
    OpenFiles,
    UdpBuffers,
    Conntrack,
    Memory,
    Container,
    DefaultRoute,
    Cloud,
    PublicAddress,
    StunAgreement,
    RelayAddress,
    Bandwidth,
    PortPrivilege,
    PortTaken,
    RelayRange,
    CertificateFiles,
    CertificateDates,
    CertificateNames,
    Running,
    Version,
    Tasks,
    WebAnswers,
    HttpAnswers,
    SignalingAnswers,
    StunAnswers,
    TurnAnswers,
    RelayWorks,
    RelayRefuses,
    CertificateServed,
    CertificateTrusted,
    CertificateRenewal,
    Findings,
    DnsName,
    DnsV4,
    DnsV6,
    DnsHosts,
    DnsCaa,
    FirewallDrift,
    FirewallRange,
    FirewallWeb,
    FirewallHttp,
    FirewallTurnUdp,
    FirewallTurnTcp,
    FirewallRelay,
    Hairpin,
    OutsideView,
}

/// What has to be gathered for a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    Home,
    Host,
    Outside,
    Ports,
    Certificate,
    Service,
    Dns,
    Firewall,
    Hairpin,
    Clock,
}

struct Entry {
    check: Check,
    word: &'static str,
    looks_at: &'static str,
    sight: Sight,
    /// While one of these fails, a failure of this one is no news.
    after: &'static [Check],
}

/// In the order in which they are told: what others follow from comes first.
const TABLE: [Entry; 52] = {
    use Check as C;
    use Sight as S;
    const fn entry(
        check: Check,
        word: &'static str,
        looks_at: &'static str,
        sight: Sight,
        after: &'static [Check],
    ) -> Entry {
        Entry { check, word, looks_at, sight, after }
    }
    [
        entry(C::Config, "config", word!("config.yaml is there and means something"), S::Home, &[]),
        entry(C::Secrets, "secrets", word!("secrets.yaml is there, whole and private"), S::Home, &[C::Config]),
        entry(
            C::HomePermissions,
            "home-permissions",
            word!("secrets and keys are readable by their owner alone"),
            S::Home,
            &[],
        ),
        entry(C::HomeWritable, "home-writable", word!("state and logs can be written"), S::Home, &[]),
        entry(C::Disk, "disk", word!("the disks of state and logs have room"), S::Home, &[]),
        entry(C::StaleSocket, "stale-socket", word!("no socket is left behind by a daemon that is gone"), S::Home, &[]),
        entry(C::Clock, "clock", word!("the clock is right, compared with time servers"), S::Clock, &[]),
        entry(C::OpenFiles, "open-files", word!("as many files may be open as the relay needs"), S::Host, &[]),
        entry(
            C::UdpBuffers,
            "udp-buffers",
            word!("sockets may have the buffers that the relay asks for"),
            S::Host,
            &[],
        ),
        entry(C::Conntrack, "conntrack", word!("connection tracking has room for every relayed caller"), S::Host, &[]),
        entry(C::Memory, "memory", word!("some memory is left"), S::Host, &[]),
        entry(C::Container, "container", word!("the service has the host's network"), S::Host, &[]),
        entry(C::DefaultRoute, "default-route", word!("a way leads out of this host"), S::Outside, &[]),
        entry(C::Cloud, "cloud", word!("the cloud's metadata service answers"), S::Outside, &[]),
        entry(
            C::StunAgreement,
            "stun-agreement",
            word!("STUN servers and the cloud see the same public address"),
            S::Outside,
            &[C::DefaultRoute],
        ),
        entry(
            C::PublicAddress,
            "public-address",
            word!("the configured public address is the one that the internet sees"),
            S::Outside,
            &[C::Config, C::DefaultRoute, C::StunAgreement],
        ),
        entry(
            C::RelayAddress,
            "relay-address",
            word!("callers are told a relay address that they can reach"),
            S::Outside,
            &[C::Config, C::PublicAddress],
        ),
        entry(C::Bandwidth, "bandwidth", word!("the network interface is fast enough for relayed calls"), S::Host, &[]),
        entry(
            C::PortPrivilege,
            "port-privilege",
            word!("this user may have the configured ports"),
            S::Ports,
            &[C::Config],
        ),
        entry(C::PortTaken, "port-taken", word!("nobody else has the configured ports"), S::Ports, &[C::Config]),
        entry(
            C::RelayRange,
            "relay-range",
            word!("the relay's ports are not in use by others"),
            S::Ports,
            &[C::Config],
        ),
        entry(
            C::CertificateFiles,
            "certificate-files",
            word!("the certificate and its key are there and belong together"),
            S::Certificate,
            &[C::Config],
        ),
        entry(
            C::CertificateDates,
            "certificate-dates",
            word!("the certificate is valid now and for a while"),
            S::Certificate,
            &[C::Clock, C::CertificateFiles],
        ),
        entry(
            C::CertificateNames,
            "certificate-names",
            word!("the certificate has every configured host"),
            S::Certificate,
            &[C::CertificateFiles],
        ),
        entry(
            C::Running,
            "running",
            word!("the service runs and answers commands"),
            S::Service,
            &[
                C::Config,
                C::Secrets,
                C::HomeWritable,
                C::Disk,
                C::PortPrivilege,
                C::PortTaken,
                C::CertificateFiles,
                C::CertificateDates,
                C::CertificateNames,
            ],
        ),
        entry(C::Version, "version", word!("the service runs this version of the program"), S::Service, &[C::Running]),
        entry(C::Tasks, "tasks", word!("every task of the service is ready"), S::Service, &[C::Running]),
        entry(
            C::WebAnswers,
            "web-answers",
            word!("the page answers on this host"),
            S::Service,
            &[C::Running, C::Tasks],
        ),
        entry(
            C::HttpAnswers,
            "http-answers",
            word!("the port that redirects to HTTPS answers on this host"),
            S::Service,
            &[C::Running, C::Tasks],
        ),
        entry(
            C::SignalingAnswers,
            "signaling-answers",
            word!("signaling answers on this host"),
            S::Service,
            &[C::Running, C::Tasks, C::WebAnswers],
        ),
        entry(C::StunAnswers, "stun-answers", word!("STUN answers on this host"), S::Service, &[C::Running, C::Tasks]),
        entry(
            C::TurnAnswers,
            "turn-answers",
            word!("TURN by TCP answers on this host"),
            S::Service,
            &[C::Running, C::Tasks],
        ),
        entry(
            C::RelayWorks,
            "relay-works",
            word!("two clients talk through the relay, with candidates as a browser gathers them"),
            S::Service,
            &[C::Running, C::Tasks, C::StunAnswers],
        ),
        entry(
            C::RelayRefuses,
            "relay-refuses",
            word!("the relay refuses loopback and cloud metadata"),
            S::Service,
            &[C::Running, C::Tasks, C::StunAnswers, C::RelayWorks],
        ),
        entry(
            C::CertificateServed,
            "certificate-served",
            word!("every listener serves the certificate that is on disk"),
            S::Service,
            &[C::Running, C::CertificateFiles],
        ),
        entry(
            C::CertificateTrusted,
            "certificate-trusted",
            word!("who knows this host's authorities trusts the certificate that is served"),
            S::Certificate,
            &[
                C::Running,
                C::Clock,
                C::CertificateFiles,
                C::CertificateDates,
                C::CertificateNames,
                C::CertificateServed,
            ],
        ),
        entry(
            C::CertificateRenewal,
            "certificate-renewal",
            word!("the certificate is renewed in time"),
            S::Service,
            &[C::Running, C::Clock, C::DnsName, C::DnsV4, C::DnsV6, C::DnsCaa],
        ),
        entry(
            C::Findings,
            "findings",
            word!("the running service has found nothing itself"),
            S::Service,
            &[C::Running],
        ),
        entry(
            C::DnsName,
            "dns-name",
            word!("the names of this host are in the DNS"),
            S::Dns,
            &[C::Config, C::DefaultRoute],
        ),
        entry(
            C::DnsV4,
            "dns-v4",
            word!("the A records lead to this host"),
            S::Dns,
            &[C::Config, C::DnsName, C::StunAgreement, C::DefaultRoute],
        ),
        entry(
            C::DnsV6,
            "dns-v6",
            word!("the AAAA records lead to this host, and it has IPv6"),
            S::Dns,
            &[C::Config, C::DnsName, C::DefaultRoute],
        ),
        entry(
            C::DnsHosts,
            "dns-hosts",
            word!("this host itself takes its names for the same addresses"),
            S::Dns,
            &[C::Config, C::DnsName],
        ),
        entry(C::DnsCaa, "dns-caa", word!("CAA records let the authority issue"), S::Dns, &[C::Config, C::DnsName]),
        entry(
            C::FirewallDrift,
            "firewall-drift",
            word!("what rtcctl opened in this host's firewall is open still, and what is needed"),
            S::Firewall,
            &[C::Config],
        ),
        entry(
            C::FirewallRange,
            "firewall-range",
            word!("this host's firewall lets in the whole relay range, port by port"),
            S::Firewall,
            &[C::Config, C::FirewallDrift],
        ),
        entry(
            C::FirewallWeb,
            "firewall-web",
            word!("a packet to the HTTPS port passes this host's firewall"),
            S::Firewall,
            &[C::Config, C::PortTaken, C::FirewallDrift],
        ),
        entry(
            C::FirewallHttp,
            "firewall-http",
            word!("a packet to the HTTP port passes this host's firewall"),
            S::Firewall,
            &[C::Config, C::PortTaken, C::FirewallDrift],
        ),
        entry(
            C::FirewallTurnUdp,
            "firewall-turn-udp",
            word!("a packet to the UDP port of STUN and TURN passes this host's firewall"),
            S::Firewall,
            &[C::Config, C::PortTaken, C::FirewallDrift],
        ),
        entry(
            C::FirewallTurnTcp,
            "firewall-turn-tcp",
            word!("a packet to the TCP ports of TURN passes this host's firewall"),
            S::Firewall,
            &[C::Config, C::PortTaken, C::FirewallDrift],
        ),
        entry(
            C::FirewallRelay,
            "firewall-relay",
            word!("packets to the whole relay range pass this host's firewall"),
            S::Firewall,
            &[C::Config, C::FirewallDrift, C::FirewallRange],
        ),
        entry(
            C::Hairpin,
            "hairpin",
            word!("this host reaches itself by its public address"),
            S::Hairpin,
            &[
                C::Config,
                C::DefaultRoute,
                C::PublicAddress,
                C::StunAgreement,
                C::Running,
                C::StunAnswers,
                C::WebAnswers,
                C::FirewallWeb,
                C::FirewallTurnUdp,
            ],
        ),
        entry(
            C::OutsideView,
            "outside-view",
            word!("another machine reached this one when it last tried (`rtcctl probe`)"),
            S::Home,
            &[
                C::Config,
                C::Running,
                C::DnsName,
                C::DnsV4,
                C::PublicAddress,
                C::FirewallWeb,
                C::FirewallTurnUdp,
                C::FirewallRelay,
            ],
        ),
    ]
};

impl Check {
    /// Every check, in the order in which they are told.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|entry| entry.check)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().word
    }

    /// What is as it should be where it succeeds.
    #[must_use]
    pub fn looks_at(self) -> &'static str {
        self.entry().looks_at
    }

    #[must_use]
    pub fn sight(self) -> Sight {
        self.entry().sight
    }

    /// Whose failure explains a failure of this one.
    #[must_use]
    pub fn after(self) -> &'static [Self] {
        self.entry().after
    }

    /// The check with this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        TABLE.iter().find(|entry| entry.word == word).map(|entry| entry.check)
    }

    /// This one and everything that may explain it.
    #[must_use]
    pub fn with_causes(self) -> Vec<Self> {
        let mut found = vec![self];
        let mut at = 0;
        while let Some(check) = found.get(at).copied() {
            for cause in check.after() {
                if !found.contains(cause) {
                    found.push(*cause);
                }
            }
            at += 1;
        }
        found
    }

    fn entry(self) -> &'static Entry {
        TABLE.iter().find(|entry| entry.check == self).expect("the table has every check, which a test sees to")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_word_of_its_own_and_causes_come_first() {
        let all: Vec<Check> = Check::all().collect();
        assert!(all.len() >= 30);
        for (at, check) in all.iter().enumerate() {
            assert_eq!(Check::named(check.as_str()), Some(*check));
            assert_eq!(all.iter().filter(|other| *other == check).count(), 1, "{check:?}");
            let word = check.as_str();
            assert!(
                word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
                "{word}"
            );
            assert!(!check.with_causes()[1..].contains(check), "{check:?} explains itself");
            let _ = at;
        }
        assert_eq!(all.last(), Some(&Check::OutsideView), "a check that is missing from the table");
        assert_eq!(Check::OutsideView as usize + 1, all.len());
        assert_eq!(Check::named("nonsense"), None);
    }
}

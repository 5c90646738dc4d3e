//! Under which address the internet sees this host: what the cloud says and what STUN servers see, weighed against each
//! other. Where they disagree, that is told and nothing is chosen.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::network::Routes;
use crate::probe;
use crate::setup::cloud::{self, Cloud, Told};
use crate::sys::clock;
use crate::sys::net::{Family, resolve};
use crate::text;
use crate::words::Text;

/// Asked where no others are named; of different companies, so that one mistake is outvoted.
pub const STUN_SERVERS: [&str; 5] = [
    "stun.cloudflare.com:3478",
    "stun.l.google.com:19302",
    "stun.nextcloud.com:3478",
    "stun.miwifi.com:3478",
    "stun.chat.bilibili.com:3478",
];
/// How long all of them may take together.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// More are not asked.
const MAX_SERVERS: usize = 8;

/// Whom to ask outside of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Nobody at all.
    pub offline: bool,
    pub metadata: bool,
    /// Each `host:port`.
    pub stun: Vec<String>,
}

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    pub cloud: Cloud,
    /// In the order in which they were named.
    pub seen: Vec<Seen>,
}

/// What one STUN server sees, by one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub server: String,
    pub family: Family,
    /// The address that packets of this host come from, or why there is none.
    pub address: Result<IpAddr, Text>,
}

/// What all of that comes to, for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// The sources that say so, and the ones that say something else and are outvoted.
    Agreed { address: IpAddr, by: Vec<String>, against: Vec<(String, IpAddr)> },
    /// What is said by whom.
    Split(BTreeMap<IpAddr, Vec<String>>),
    /// Nobody says anything; why.
    Nothing(Vec<Text>),
}

/// Asks the cloud, if there is one, and the STUN servers; three seconds for the first and two for the others at most.
#[must_use]
pub fn look_outside(sources: &Sources, routes: &Routes) -> Outside {
    let may_ask = !sources.offline;
    let cloud = cloud::look(may_ask && sources.metadata);
    let seen = if may_ask { ask_servers(&sources.stun, routes) } else { Vec::new() };
    Outside { cloud, seen }
}

/// Asks all servers at once, by each family that has a way out.
fn ask_servers(servers: &[String], routes: &Routes) -> Vec<Seen> {
    let until = clock::now().mono + SEEN_WITHIN;
    let families = [Family::V4, Family::V6].into_iter().filter(|family| routes.of(*family).is_some());
    let questions: Vec<(String, Family)> = families
        .flat_map(|family| servers.iter().take(MAX_SERVERS).map(move |server| (server.clone(), family)))
        .collect();
    std::thread::scope(|scope| {
        let asking: Vec<_> = questions
            .into_iter()
            .map(|(server, family)| {
                let thread = scope.spawn({
                    let server = server.clone();
                    move || {
                        let at = address_of(&server, family)?;
                        let seen = probe::mapped(at, until).map_err(|fault| fault.told())?;
                        Ok(seen.ip().to_canonical())
                    }
                });
                (server, family, thread)
            })
            .collect();
        asking
            .into_iter()
            .map(|(server, family, thread)| {
                let address = thread.join().unwrap_or_else(|_| Err(text!("it could not be asked")));
                Seen { server, family, address }
            })
            .collect()
    })
}

fn address_of(server: &str, family: Family) -> Result<SocketAddr, Text> {
    let (host, port) = server.rsplit_once(':').ok_or(text!("it has no port"))?;
    let port = port.parse().map_err(|_| text!("its port is no number"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = resolve(host, port, SEEN_WITHIN)?;
    let fits = |address: &&SocketAddr| address.is_ipv4() == (family == Family::V4);
    found.iter().find(fits).copied().ok_or_else(|| text!("it has no address of this family"))
}

impl Outside {
    /// What everybody says, taken together.
    ///
    /// The cloud has one vote that must not be contradicted by most of the servers, and the other way round: each
    /// knows something that the other cannot.
    #[must_use]
    pub fn opinion(&self, family: Family) -> Opinion {
        let is_family = |address: &IpAddr| address.is_ipv4() == (family == Family::V4);
        let cloud: Vec<IpAddr> = match &self.cloud.told {
            Told::Addresses(addresses) => addresses.iter().copied().filter(is_family).collect(),
            Told::NotAsked(_) | Told::NoAddress | Told::Fault(_) => Vec::new(),
        };
        let cloud_name = self.cloud.provider.map_or("the cloud", cloud::Provider::title);
        let mut votes: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        let mut silent = Vec::new();
        for seen in self.seen.iter().filter(|seen| seen.family == family) {
            match &seen.address {
                Ok(address) if is_family(address) => votes.entry(*address).or_default().push(seen.server.clone()),
                Ok(address) => silent.push(text!("{}: it sees {}", seen.server, address)),
                Err(why) => silent.push(text!("{}: {}", seen.server, why)),
            }
        }
        let all: usize = votes.values().map(Vec::len).sum();
        let majority = votes.iter().find(|(_, by)| by.len() * 2 > all).map(|(address, _)| *address);
        let chosen = match (cloud.first(), majority) {
            (None, None) if votes.is_empty() => {
                if let Told::Fault(why) = &self.cloud.told {
                    silent.insert(0, text!("{}: {}", cloud_name, why));
                }
                return Opinion::Nothing(silent);
            }
            (Some(first), None) if votes.is_empty() => *first,
            // A machine may have more addresses than the one that it goes out by.
            (Some(_), Some(seen)) if cloud.contains(&seen) => seen,
            (None, Some(seen)) => seen,
            (Some(_), Some(_)) | (_, None) => {
                for address in &cloud {
                    votes.entry(*address).or_default().insert(0, cloud_name.to_owned());
                }
                return Opinion::Split(votes);
            }
        };
        let mut by = votes.remove(&chosen).unwrap_or_default();
        if cloud.contains(&chosen) {
            by.insert(0, cloud_name.to_owned());
        }
        let against =
            votes.into_iter().flat_map(|(address, by)| by.into_iter().map(move |one| (one, address))).collect();
        Opinion::Agreed { address: chosen, by, against }
    }

    /// What whoever sets this host up should know: where it is, and what is not agreed on.
    #[must_use]
    pub fn notes(&self) -> Vec<Text> {
        let mut notes = Vec::new();
        if let Some(provider) = self.cloud.provider {
            let told = match &self.cloud.told {
                Told::Addresses(addresses) => {
                    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                    text!("its public address is {}", addresses.join(", "))
                }
                Told::NoAddress => text!("it has no public address of its own"),
                Told::NotAsked(why) | Told::Fault(why) => text!("its public address is not known: {}", why),
            };
            notes.push(text!("this machine is at {} ({}); {}", provider.title(), self.cloud.how, told));
        }
        for family in [Family::V4, Family::V6] {
            if let Opinion::Split(votes) = self.opinion(family) {
                let said = votes.iter().map(|(address, by)| {
                    text!("{} by {}", address, Text::both(by.iter().map(|one| Text::verbatim(one.as_str()))))
                });
                notes.push(text!(
                    "it is not clear under which address callers reach this host ({}); say it by `--public-ip`",
                    Text::list(said)
                ));
            }
        }
        notes
    }

    /// The addresses that are agreed on, at most one a family.
    #[must_use]
    pub fn public_addresses(&self) -> Vec<IpAddr> {
        let agreed = [Family::V4, Family::V6].map(|family| match self.opinion(family) {
            Opinion::Agreed { address, .. } => Some(address),
            Opinion::Split(_) | Opinion::Nothing(_) => None,
        });
        agreed.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::cloud::Provider;

    const A: &str = "203.0.113.7";
    const B: &str = "203.0.113.8";

    fn outside(cloud: &[&str], seen: &[Option<&str>]) -> Outside {
        let addresses: Vec<IpAddr> = cloud.iter().map(|text| text.parse().unwrap()).collect();
        let told = if addresses.is_empty() { Told::NoAddress } else { Told::Addresses(addresses) };
        let seen = seen.iter().zip(1..).map(|(address, number)| Seen {
            server: format!("s{number}"),
            family: Family::V4,
            address: address.map(|text| text.parse().unwrap()).ok_or_else(|| "no answer".into()),
        });
        let cloud = Cloud { provider: Some(Provider::Aws), how: Default::default(), told };
        Outside { cloud, seen: seen.collect() }
    }

    fn agreed(outside: &Outside) -> Option<String> {
        match outside.opinion(Family::V4) {
            Opinion::Agreed { address, .. } => Some(address.to_string()),
            Opinion::Split(_) | Opinion::Nothing(_) => None,
        }
    }

    #[test]
    fn a_majority_is_believed_and_its_opponents_are_named() {
        assert_eq!(agreed(&outside(&[], &[Some(A)])).as_deref(), Some(A));
        assert_eq!(agreed(&outside(&[A], &[])).as_deref(), Some(A));
        assert_eq!(agreed(&outside(&[A], &[None, Some(A)])).as_deref(), Some(A));
        let outvoted = outside(&[], &[Some(A), Some(B), Some(A)]).opinion(Family::V4);
        let against = vec![("s2".to_owned(), B.parse().unwrap())];
        let by = vec!["s1".to_owned(), "s3".to_owned()];
        assert_eq!(outvoted, Opinion::Agreed { address: A.parse().unwrap(), by, against });
        // A second address of the machine, by which it goes out.
        assert_eq!(agreed(&outside(&[A, B], &[Some(B)])).as_deref(), Some(B));
    }

    #[test]
    fn a_tie_and_a_contradiction_choose_nothing() {
        assert!(matches!(outside(&[], &[Some(A), Some(B)]).opinion(Family::V4), Opinion::Split(_)));
        let Opinion::Split(votes) = outside(&[A], &[Some(B), Some(B)]).opinion(Family::V4) else { panic!("chosen") };
        assert_eq!(votes[&A.parse::<IpAddr>().unwrap()], ["Amazon EC2"]);
        assert_eq!(votes.len(), 2);
        assert!(matches!(outside(&[A], &[Some(A), Some(B)]).opinion(Family::V4), Opinion::Split(_)));
        assert_eq!(outside(&[A], &[Some(B)]).public_addresses(), Vec::<IpAddr>::new());
    }

    #[test]
    fn a_contradiction_is_noted_with_what_to_do() {
        let notes = outside(&[A], &[Some(B)]).notes();
        assert!(notes[0].starts_with("this machine is at Amazon EC2") && notes[0].ends_with(A), "{notes:?}");
        assert!(notes[1].contains("203.0.113.8 by s1") && notes[1].contains("--public-ip"), "{notes:?}");
        assert_eq!(Outside::default().notes(), Vec::<String>::new());
    }

    #[test]
    fn who_says_nothing_counts_for_nothing_and_is_told() {
        let Opinion::Nothing(why) = outside(&[], &[None, None]).opinion(Family::V4) else { panic!("something") };
        assert_eq!(why, ["s1: no answer", "s2: no answer"]);
        let faulty = Outside {
            cloud: Cloud {
                provider: Some(Provider::Gcp),
                how: Default::default(),
                told: Told::Fault("it hangs".into()),
            },
            seen: Vec::new(),
        };
        assert_eq!(faulty.opinion(Family::V4), Opinion::Nothing(vec!["Google Compute Engine: it hangs".into()]));
        assert_eq!(outside(&[A], &[]).opinion(Family::V6), Opinion::Nothing(Vec::new()));
    }
}

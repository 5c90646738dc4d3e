//! What has to get through: ports by transport.

use serde::{Deserialize, Serialize};

use crate::setup::ports::{PortSet, PortUse, ports_of};
use crate::sys::ports::Transport;

/// The ports that callers must reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub tcp: PortSet,
    pub udp: PortSet,
}

impl Needs {
    #[must_use]
    pub fn of(uses: &[PortUse]) -> Self {
        Self { tcp: ports_of(uses, Transport::Tcp), udp: ports_of(uses, Transport::Udp) }
    }

    #[must_use]
    pub fn ports(&self, transport: Transport) -> &PortSet {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
        }
    }

    pub(super) fn ports_mut(&mut self, transport: Transport) -> &mut PortSet {
        match transport {
            Transport::Tcp => &mut self.tcp,
            Transport::Udp => &mut self.udp,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }

    /// Each transport that has ports, with them.
    #[must_use]
    pub fn each(&self) -> Vec<(Transport, PortSet)> {
        let both = [(Transport::Tcp, self.tcp.clone()), (Transport::Udp, self.udp.clone())];
        both.into_iter().filter(|(_, ports)| !ports.is_empty()).collect()
    }

    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self { tcp: self.tcp.or(&other.tcp), udp: self.udp.or(&other.udp) }
    }

    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self { tcp: self.tcp.without(&other.tcp), udp: self.udp.without(&other.udp) }
    }

    /// As firewalld writes ports: `443/tcp`, `49160-51159/udp`.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let words = |(transport, ports): (Transport, PortSet)| -> Vec<String> {
            ports.text("-", ",").split(',').map(|range| format!("{range}/{transport}")).collect()
        };
        self.each().into_iter().flat_map(words).collect()
    }

    /// The ports of words such as [`Needs::words`] gives; others are left out.
    #[must_use]
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut needs = Self::default();
        for word in words {
            let Some((range, transport)) = word.split_once('/') else { continue };
            let Some(range) = range_of(range) else { continue };
            let more = [range].into_iter().collect();
            match transport {
                "tcp" => needs.tcp = needs.tcp.or(&more),
                "udp" => needs.udp = needs.udp.or(&more),
                _ => {}
            }
        }
        needs
    }
}

/// `80` or `49160-51159`, also with a colon.
pub(super) fn range_of(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
    Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
}

/// `443/tcp 3478,49160-51159/udp`: for a line of talk.
impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> =
            self.each().into_iter().map(|(transport, ports)| format!("{}/{transport}", ports.text("-", ","))).collect();
        f.write_str(&parts.join(" "))
    }
}

impl Serialize for Needs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Needs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        Ok(Self::of_words(words.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_written_and_read_as_firewalld_does() {
        let needs = Needs::of_words(["443/tcp", "80/tcp", "49160-51159/udp", "x/udp", "7/sctp"]);
        assert_eq!(needs.words(), ["80/tcp", "443/tcp", "49160-51159/udp"]);
        assert_eq!(needs.to_string(), "80,443/tcp 49160-51159/udp");
        let text = serde_json::to_string(&needs).unwrap();
        assert_eq!(serde_json::from_str::<Needs>(&text).unwrap(), needs);
    }
}

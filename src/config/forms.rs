//! Forms that values of the configuration take: hosts, networks, port ranges, rates.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{Host, Network};
use crate::text;
use crate::words::Text;

/// Why a value has not the form it should have; completes the sentence "`value` ...".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub Text);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.english())
    }
}

impl std::error::Error for Malformed {}

/// An address, with or without brackets, or a DNS name.
impl FromStr for Host {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return if address.is_unspecified() || address.is_multicast() {
                Err(Malformed(text!("is not the address of one host")))
            } else {
                Ok(Self::Address(address))
            };
        }
        if !text.is_ascii() {
            return Err(Malformed(text!("is not ASCII; write the name in its `xn--` form")));
        }
        if text.contains("://") || text.contains('/') {
            return Err(Malformed(text!("is a URL; write the name or the address alone")));
        }
        let label_fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // `1.2.3` and `256.1.1.1` are mistyped addresses, not names: a top-level domain has a letter.
        let is_numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.len() > 253 || is_numeric || !text.split('.').all(label_fits) {
            return Err(Malformed(text!("is neither an IP address nor a DNS name")));
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

/// `10.0.0.0/8`; an address alone is a network of one.
impl FromStr for Network {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr =
            address.parse().map_err(|_| Malformed(text!("is not a network like `10.0.0.0/8` or `fd00::/8`")))?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= bits)
                .ok_or_else(|| Malformed(text!("has a prefix that is no number from 0 to {}", bits)))?,
        };
        let network = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into())
            }
        };
        if network == address {
            Ok(Self { address, prefix })
        } else {
            Err(Malformed(text!("has bits set behind its prefix; the network is `{}/{}`", network, prefix)))
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Reads `49160-51159`.
///
/// # Errors
/// If it is not two ports, or runs backwards.
pub fn parse_port_range(text: &str) -> Result<RangeInclusive<u16>, Malformed> {
    let ports = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?)));
    let Some((first, last)) = ports else {
        return Err(Malformed(text!("`{}` is not a range like `49160-51159`", text)));
    };
    if first > last {
        return Err(Malformed(text!("{}..{} runs backwards", first, last)));
    }
    if first < 1024 {
        return Err(Malformed(text!("{}..{} starts below 1024, where other services live", first, last)));
    }
    Ok(first..=last)
}

/// The least rate: below it not even a voice gets through.
const MIN_RATE: u64 = 1_000;

/// Reads bytes a second: `250000`, `500k`, `2M`, `1G`, in powers of a thousand as networks are measured.
///
/// # Errors
/// If it is no number with such a letter, or less than a call needs.
pub(super) fn parse_rate(text: &str) -> Result<u64, Malformed> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        Some((at, 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let rate = digits.parse::<u64>().ok().filter(|_| is_number).and_then(|number| number.checked_mul(factor));
    match rate {
        None => Err(Malformed(text!(
            "`{}` is neither off nor bytes a second like `250000`, `500k` or `2M`",
            text.escape_debug()
        ))),
        Some(rate) if rate < MIN_RATE => {
            Err(Malformed(text!("{} bytes a second carry no call; the least is {}", rate, MIN_RATE)))
        }
        Some(rate) => Ok(rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names_and_nothing_else() {
        assert_eq!("[2001:db8::1]".parse(), Ok(Host::Address("2001:db8::1".parse().unwrap())));
        assert_eq!("Call.Example.org".parse(), Ok(Host::Name("call.example.org".to_owned())));
        for bad in
            ["", "0.0.0.0", "::", "256.1.1.1", "1.2.3", "a b", "-a.example", "https://x.org", "müller.de", "a..b"]
        {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_has_no_bits_behind_its_prefix() {
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("0.0.0.0/0".parse::<Network>().unwrap().to_string(), "0.0.0.0/0");
        assert_eq!("::/0".parse::<Network>().unwrap().to_string(), "::/0");
        assert_eq!("192.0.2.7".parse::<Network>().unwrap().to_string(), "192.0.2.7/32");
        let failure = "10.1.2.3/8".parse::<Network>().unwrap_err();
        assert_eq!(failure.0, "has bits set behind its prefix; the network is `10.0.0.0/8`");
        for bad in ["10.0.0.0/33", "fd00::/129", "10.0.0.0/", "lan", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_range_runs_forwards() {
        assert_eq!(parse_port_range("49160-51159"), Ok(49160..=51159));
        assert_eq!(parse_port_range("49152-40000").unwrap_err().0, "49152..40000 runs backwards");
        assert!(parse_port_range("49152").is_err());
        assert!(parse_port_range("1-70000").is_err());
    }

    #[test]
    fn a_rate_is_a_number_with_or_without_a_letter() {
        let rates = ["250000", "500k", "500K", "2M", "1G", "1000"].map(|text| parse_rate(text).unwrap());
        assert_eq!(rates, [250_000, 500_000, 500_000, 2_000_000, 1_000_000_000, 1_000]);
        for bad in ["", "k", "-1k", "+1k", "1.5M", "2m", "2MB", "1 M", "999", "99999999999999999999", "99999999999G"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}

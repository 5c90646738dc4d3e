//! The two framings of relayed data, and what the codec leaves open.

use std::net::SocketAddr;
use std::ops::Range;

use stun_types::attribute::{
    Attribute as _, AttributeExt as _, AttributeFromRaw as _, AttributeStaticType as _, AttributeType, ErrorCode,
    Fingerprint, MessageIntegrity, MessageIntegritySha256, Nonce, PasswordAlgorithm, Realm, UnknownAttributes,
    Userhash, Username, XorMappedAddress,
};
use stun_types::message::{MAGIC_COOKIE, Message};
use turn_types::attribute::{
    ChannelNumber, Data, DontFragment, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport,
    ReservationToken, XorPeerAddress, XorRelayedAddress,
};

use super::Transport;

/// Bytes of a STUN header. RFC 8489, section 5.
const HEADER: usize = 20;
/// Bytes of an attribute's type and length. RFC 8489, section 14.
const ATTRIBUTE_HEADER: usize = 4;
/// Bytes of a ChannelData header. RFC 8656, section 12.4.
const CHANNEL_HEADER: usize = 4;
/// A Data indication's type. RFC 8656, section 17.
const DATA_INDICATION: u16 = 0x0017;
/// Attributes from here on may be ignored by who does not know them. RFC 8489, section 14.
const FIRST_OPTIONAL: u16 = 0x8000;
/// Unknown attributes that a reply lists; a hostile request has hundreds.
const MAX_LISTED: usize = 8;

/// The mapped address of older servers. RFC 8489, section 14.1.
const MAPPED_ADDRESS: AttributeType = AttributeType::new(0x0001);
/// What of STUN and TURN must be understood, and is. A message that has no use for one of these ignores it: RFC 8489,
/// section 6.3. Whether DONT-FRAGMENT is among them depends on the sockets.
const UNDERSTOOD: [AttributeType; 20] = [
    MAPPED_ADDRESS,
    Username::TYPE,
    MessageIntegrity::TYPE,
    ErrorCode::TYPE,
    UnknownAttributes::TYPE,
    ChannelNumber::TYPE,
    Lifetime::TYPE,
    XorPeerAddress::TYPE,
    Data::TYPE,
    Realm::TYPE,
    Nonce::TYPE,
    XorRelayedAddress::TYPE,
    RequestedAddressFamily::TYPE,
    EvenPort::TYPE,
    RequestedTransport::TYPE,
    MessageIntegritySha256::TYPE,
    PasswordAlgorithm::TYPE,
    Userhash::TYPE,
    XorMappedAddress::TYPE,
    ReservationToken::TYPE,
];

/// How data is wrapped for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// ChannelData on this channel.
    Channel(u16),
    /// A Data indication; `serial` makes its transaction id.
    Indication { peer: SocketAddr, serial: u64 },
}

impl Frame {
    /// The longest header: a Data indication from an IPv6 peer.
    pub const MAX_HEADER: usize = HEADER + ATTRIBUTE_HEADER + 20 + ATTRIBUTE_HEADER;

    /// Writes what goes before `len` bytes of payload. Gives the header's length and how many zero bytes go after.
    ///
    /// ChannelData is padded on a stream alone: RFC 8656, section 12.5. `None` if the payload is too long for this frame.
    #[must_use]
    pub fn write_header(
        &self,
        transport: Transport,
        len: usize,
        header: &mut [u8; Self::MAX_HEADER],
    ) -> Option<(usize, usize)> {
        let data_length = u16::try_from(len).ok()?;
        match *self {
            Self::Channel(number) => {
                header[..2].copy_from_slice(&number.to_be_bytes());
                header[2..4].copy_from_slice(&data_length.to_be_bytes());
                let padding = if transport == Transport::Udp { 0 } else { len.wrapping_neg() % 4 };
                Some((CHANNEL_HEADER, padding))
            }
            Self::Indication { peer, serial } => {
                let padding = len.wrapping_neg() % 4;
                let address_length = if peer.is_ipv4() { 8 } else { 20 };
                let header_length = HEADER + ATTRIBUTE_HEADER + address_length + ATTRIBUTE_HEADER;
                let message_length = u16::try_from(header_length - HEADER + len + padding).ok()?;
                header[..2].copy_from_slice(&DATA_INDICATION.to_be_bytes());
                header[2..4].copy_from_slice(&message_length.to_be_bytes());
                header[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
                header[8..12].copy_from_slice(&0_u32.to_be_bytes());
                header[12..20].copy_from_slice(&serial.to_be_bytes());
                let mask: [u8; 16] = header[4..20].try_into().expect("a cookie and a transaction id are 16 bytes");
                let at = HEADER;
                header[at..at + 2].copy_from_slice(&XorPeerAddress::TYPE.value().to_be_bytes());
                header[at + 2..at + 4].copy_from_slice(&u16::try_from(address_length).ok()?.to_be_bytes());
                let at = at + ATTRIBUTE_HEADER;
                header[at] = 0;
                header[at + 1] = if peer.is_ipv4() { 1 } else { 2 };
                for (byte, (port, mask)) in peer.port().to_be_bytes().into_iter().zip(mask).enumerate() {
                    header[at + 2 + byte] = port ^ mask;
                }
                let mut put = |octets: &[u8]| {
                    for (byte, (octet, mask)) in octets.iter().zip(mask).enumerate() {
                        header[at + 4 + byte] = octet ^ mask;
                    }
                };
                match peer.ip() {
                    std::net::IpAddr::V4(v4) => put(&v4.octets()),
                    std::net::IpAddr::V6(v6) => put(&v6.octets()),
                }
                let at = at + address_length;
                header[at..at + 2].copy_from_slice(&Data::TYPE.value().to_be_bytes());
                header[at + 2..at + 4].copy_from_slice(&data_length.to_be_bytes());
                Some((header_length, padding))
            }
        }
    }
}

/// A channel's number and its payload. Over UDP, bytes after the payload are padding.
pub(super) fn channel_data(bytes: &[u8]) -> Option<(u16, Range<usize>)> {
    let header = bytes.first_chunk::<CHANNEL_HEADER>()?;
    let number = u16::from_be_bytes([header[0], header[1]]);
    let end = CHANNEL_HEADER + usize::from(u16::from_be_bytes([header[2], header[3]]));
    (end <= bytes.len()).then_some((number, CHANNEL_HEADER..end))
}

/// What a Send indication asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Send {
    pub(super) peer: SocketAddr,
    pub(super) payload: Range<usize>,
    pub(super) dont_fragment: bool,
}

/// Reads a Send indication in one pass; of two attributes of a kind the first one counts.
///
/// `None` if it lacks a peer or data, or has what must be understood and is not: RFC 8656, section 11.2.
pub(super) fn send(message: &Message<'_>) -> Option<Send> {
    let (mut peer, mut payload, mut dont_fragment) = (None, None, false);
    for (offset, raw) in message.iter_attributes() {
        match raw.get_type() {
            XorPeerAddress::TYPE if peer.is_none() => {
                peer = Some(XorPeerAddress::from_raw_ref(&raw).ok()?.addr(message.transaction_id()));
            }
            Data::TYPE if payload.is_none() => {
                let start = offset + ATTRIBUTE_HEADER;
                payload = Some(start..start + usize::from(raw.header.length()));
            }
            DontFragment::TYPE => dont_fragment = true,
            kind if kind.value() < FIRST_OPTIONAL && !UNDERSTOOD.contains(&kind) => return None,
            _ => {}
        }
    }
    Some(Send { peer: peer?, payload: payload?, dont_fragment })
}

/// Whether the datagram is exactly one STUN message by its header: RFC 8489, section 6.3.
pub(super) fn is_whole_message(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return false };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    header[4..8] == MAGIC_COOKIE.to_be_bytes() && length % 4 == 0 && length + HEADER == bytes.len()
}

/// Whether nothing follows the fingerprint, if there is one: RFC 8489, section 14.7.
pub(super) fn ends_with_its_fingerprint(message: &Message<'_>) -> bool {
    let end = message.as_bytes().len();
    message.raw_attribute_and_offset(Fingerprint::TYPE).is_none_or(|(offset, raw)| offset + raw.padded_len() == end)
}

/// The attributes that must be understood and are not. Those after the integrity do not count.
pub(super) fn unknown_attributes(message: &Message<'_>, dont_fragment: bool) -> Vec<AttributeType> {
    let mut unknown = Vec::new();
    for (_, attribute) in message.iter_attributes() {
        let kind = attribute.get_type();
        let is_understood = UNDERSTOOD.contains(&kind) || (kind == DontFragment::TYPE && dont_fragment);
        let must_be_known = kind.value() < FIRST_OPTIONAL;
        if must_be_known && !is_understood && !unknown.contains(&kind) && unknown.len() < MAX_LISTED {
            unknown.push(kind);
        }
    }
    unknown
}

//! What the service asks its own relay: whether it relays, by every way there is, and whether it refuses what it must.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::client::Client;
use super::hints::Trouble;
use super::message::{Ask, CHANNEL, Login};
use super::url::Carrier;
use super::wire::Wire;
use crate::probe::{Fault, Secured, reachable, tls};
use crate::sys::clock;
use crate::text;
use crate::words::Text;
use crate::words::text::Worth;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long data may take until it is sent again, and how often it is sent: a datagram may get lost.
const DATA_WITHIN: Duration = Duration::from_millis(500);
const TRIES: usize = 3;
/// What a client binds that should not be let.
const FORBIDDEN_PORT: u16 = 8080;
/// Codes by which a peer is refused: Forbidden, and Peer Address Family Mismatch. RFC 8656, section 19.
const REFUSALS: [u16; 2] = [403, 443];

/// A relay of this process, by one of its listeners.
#[derive(Clone, Copy)]
pub struct OwnRelay<'a> {
    pub carrier: Carrier,
    /// Where it listens. By UDP and TCP, only the address and the deadline count.
    pub at: Secured<'a>,
    /// Its relay addresses as clients are told them.
    pub addresses: &'a [IpAddr],
    /// What else is its own: a permission for it is granted, and reaches no more than live relays.
    pub own: &'a [IpAddr],
}

/// Relays data between two clients and back, with each of these credentials. By UDP that is done for each family; what
/// carries a client's messages does not matter to its relay, and handshakes are dear.
///
/// # Errors
/// At the first thing that is not as it should be; what was allocated is given back all the same.
pub fn relays(relay: OwnRelay<'_>, logins: &[(&str, Login)]) -> Result<(), Fault> {
    let families = if relay.carrier == Carrier::Udp { relay.addresses.len() } else { 1 };
    for (route, login) in logins {
        for address in relay.addresses.iter().take(families) {
            let allocate = allocate_like(*address);
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let by = relay.carrier.as_str();
            relay_once(relay, login, allocate)
                .map_err(|fault| fault.at(Text::verbatim(format!("{by}, {family}, {route}"))))?;
        }
    }
    Ok(())
}

fn relay_once(relay: OwnRelay<'_>, login: &Login, allocate: Ask) -> Result<(), Fault> {
    let (mut one, one_at) = allocated(relay, login, allocate)?;
    let (mut two, two_at) = allocated(relay, login, allocate)?;
    introduce((&mut one, one_at), (&mut two, two_at))?;
    let (there, back): ([u8; 32], [u8; 32]) = (rand::random(), rand::random());
    carry(&mut one, &mut two, &there)?;
    carry(&mut two, &mut one, &back)?;
    for client in [&mut one, &mut two] {
        ask(client, Ask::Refresh(0), "Refresh")?;
    }
    match one.ask(Ask::Refresh(600)) {
        Err(Trouble::Refused { code: 437, .. } | Trouble::Closed) => Ok(()),
        Err(trouble) => Err(told(&trouble, text!("Refresh of what has ended"))),
        Ok(_) => Err(Fault::new(text!("an allocation goes on after it was ended"))),
    }
}

/// Asks for peers that no relay may reach, in all three ways; nothing of it may be granted, or arrive.
///
/// # Errors
/// At the first that is, and if the relay cannot be asked at all.
pub fn refuses_peers(relay: OwnRelay<'_>, login: &Login) -> Result<(), Denial> {
    for address in relay.addresses {
        let allocate = if address.is_ipv4() { Ask::Allocate } else { Ask::AllocateV6 };
        let (mut client, _) = allocated(relay, login, allocate).map_err(Denial::Broken)?;
        // A relay on loopback lets its own clients meet there.
        let is_own = |peer: &IpAddr| relay.addresses.contains(peer) || relay.own.contains(peer);
        for peer in forbidden().into_iter().filter(|peer| !is_own(peer)) {
            let peer = SocketAddr::new(peer, FORBIDDEN_PORT);
            for (wish, what) in
                [(Ask::Permit(peer), "CreatePermission"), (Ask::Bind { channel: CHANNEL, peer }, "ChannelBind")]
            {
                match client.ask(wish) {
                    Err(Trouble::Refused { code, .. }) if REFUSALS.contains(&code) => {}
                    Ok(_) => return Err(Denial::Granted(text!("{} for {} is granted", what, peer.ip()))),
                    Err(trouble) => return Err(Denial::Broken(told(&trouble, text!("{} for {}", what, peer.ip())))),
                }
            }
        }
        hears_nothing(&mut client, *address)?;
        ask(&mut client, Ask::Refresh(0), "Refresh").map_err(Denial::Broken)?;
    }
    Ok(())
}

/// What a relay did that must refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// It granted what it must not; in words.
    Granted(Text),
    /// It could not be asked.
    Broken(Fault),
}

/// Asks with a wrong password, and with a credential whose time is over.
///
/// # Errors
/// If one of them is accepted, or the relay cannot be asked at all.
pub fn refuses_logins(relay: OwnRelay<'_>, wrong: &Login, expired: &Login) -> Result<(), Denial> {
    for (login, what) in [(wrong, text!("a wrong password")), (expired, text!("an expired credential"))] {
        let mut client = connected(relay, login).map_err(Denial::Broken)?;
        match client.ask(Ask::Allocate) {
            Err(Trouble::Refused { code: 401, .. }) => {}
            Ok(_) => return Err(Denial::Granted(text!("an allocation is granted to {}", what))),
            Err(trouble) => return Err(Denial::Broken(told(&trouble, what))),
        }
    }
    Ok(())
}

/// Sends to a socket of this host through the relay, without asking for a permission.
fn hears_nothing(client: &mut Client, relay: IpAddr) -> Result<(), Denial> {
    let here: IpAddr = if relay.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let failed = |error: std::io::Error| Denial::Broken(Fault::new(text!("no socket to listen with: {}", error)));
    let witness = UdpSocket::bind((here, 0)).map_err(failed)?;
    witness.set_nonblocking(true).map_err(failed)?;
    let peer = witness.local_addr().map_err(failed)?;
    client.send_to(peer, b"rtcctl").map_err(|trouble| Denial::Broken(told(&trouble, "Send")))?;
    // What is relayed has left once the second answer has come: it leaves with the first one at the latest.
    for _ in 0..2 {
        let answered = client.ask_unsigned(Ask::Binding);
        answered.map_err(|trouble| Denial::Broken(told(&trouble, "Binding")))?;
    }
    let mut heard = [0; 16];
    match witness.recv(&mut heard) {
        Err(_) => Ok(()),
        Ok(_) => Err(Denial::Granted(text!("data sent to {} arrives there", here))),
    }
}

/// Loopback, its mapped form, and where clouds hand out credentials.
fn forbidden() -> [IpAddr; 7] {
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    [
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::UNSPECIFIED.into(),
        metadata.into(),
        Ipv6Addr::LOCALHOST.into(),
        Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        metadata.to_ipv6_mapped().into(),
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254).into(),
    ]
}

fn allocated(relay: OwnRelay<'_>, login: &Login, allocate: Ask) -> Result<(Client, SocketAddr), Fault> {
    let mut client = connected(relay, login)?;
    let relayed = relayed_by(&mut client, allocate)?;
    if relay.addresses.contains(&relayed.ip()) {
        return Ok((client, relayed));
    }
    Err(Fault::new(text!("Allocate: the relayed address is `{}`, which is none of the relay's", relayed)))
}

/// Asks for a relay of the family that an address is of.
pub(super) fn allocate_like(address: IpAddr) -> Ask {
    if address.is_ipv4() { Ask::Allocate } else { Ask::AllocateV6 }
}

/// The relay that a client is given.
pub(super) fn relayed_by(client: &mut Client, allocate: Ask) -> Result<SocketAddr, Fault> {
    let answer = client.ask(allocate).map_err(|trouble| told(&trouble, "Allocate"))?;
    answer.relayed.ok_or_else(|| Fault::new(text!("Allocate: the answer has no relayed address")))
}

/// Has two clients, each with its relay, hear each other on the channel.
pub(super) fn introduce(one: (&mut Client, SocketAddr), two: (&mut Client, SocketAddr)) -> Result<(), Fault> {
    for (client, peer) in [(one.0, two.1), (two.0, one.1)] {
        ask(client, Ask::Permit(peer), "CreatePermission")?;
        ask(client, Ask::Bind { channel: CHANNEL, peer }, "ChannelBind")?;
    }
    Ok(())
}

/// Connected, challenged, and about to sign.
fn connected(relay: OwnRelay<'_>, login: &Login) -> Result<Client, Fault> {
    let Secured { marks, until, .. } = relay.at;
    let address = reachable(relay.at.address);
    let wire = match relay.carrier {
        Carrier::Udp => Wire::udp(address).map_err(|error| Fault::of_io(address, "udp", &error))?,
        Carrier::Tcp => Wire::own_tcp(address, marks, until).map_err(|error| Fault::of_io(address, "tcp", &error))?,
        Carrier::Tls => Wire::of_tls(tls::connect(Secured { address, ..relay.at })?),
    };
    let mut client = Client::new(wire, PATIENCE).ending(until);
    client.challenge().map_err(|trouble| {
        if let Trouble::Io(error) = &trouble {
            return Fault::of_io(address, relay.carrier.protocol(), error);
        }
        told(&trouble, text!("the first Allocate to `{}`", address))
    })?;
    client.log_in(login);
    Ok(client)
}

fn ask(client: &mut Client, wish: Ask, what: &str) -> Result<(), Fault> {
    client.ask(wish).map(drop).map_err(|trouble| told(&trouble, what))
}

/// Has the other client hear these bytes.
fn carry(from: &mut Client, to: &mut Client, payload: &[u8]) -> Result<(), Fault> {
    for _ in 0..TRIES {
        from.send_data(payload).map_err(|trouble| told(&trouble, "ChannelData"))?;
        let until: Instant = clock::now().mono + DATA_WITHIN;
        while let Some(heard) = to.receive_data(until).map_err(|trouble| told(&trouble, "ChannelData"))? {
            if heard == payload {
                return Ok(());
            }
        }
    }
    Err(Fault::new(text!("ChannelData: what one client sends does not reach the other")))
}

pub(super) fn told(trouble: &Trouble, what: impl Worth) -> Fault {
    let text = match trouble {
        Trouble::Io(error) => Text::of_error(error),
        Trouble::Silence => text!("no answer in time"),
        Trouble::Closed => text!("the connection was closed"),
        Trouble::Foreign => text!("what answers does not speak STUN"),
        Trouble::Open => text!("granted without credentials"),
        Trouble::Refused { code, .. } => text!("refused by {}", code),
        Trouble::Lacking(missing) => text!("the answer has no {}", missing),
        Trouble::Tls { text, .. } => text.clone(),
    };
    Fault::new(text!("{}: {}", what, text))
}

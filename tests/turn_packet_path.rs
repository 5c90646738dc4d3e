//! What the relay takes of the heap: nothing for a packet, since what is done a hundred thousand times a second must not
//! wait for it, and little for an allocation, of which there are ten thousand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(unsafe_code, reason = "counting allocations takes an allocator, whose trait is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rtcctl::config::{PeerMode, Secret};
use rtcctl::sys::clock::{self, Now};
use rtcctl::turn::credentials::{Credentials, issue};
use rtcctl::turn::peers::PeerPolicy;
use rtcctl::turn::server::{
    Action, Client, Forward, Frame, RelayAddress, RelayId, Server, Settings, Shared, Transport,
};
use stun_types::attribute::{Nonce, Realm, Username};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec,
};
use turn_types::attribute::{ChannelNumber, Data, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, SEND};

const REALM: &str = "rtcctl";
const CHANNEL: u16 = 0x4000;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counter any more, and nobody asks for it.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_add(taken(layout))));
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_sub(taken(layout))));
        // SAFETY: `pointer` came from `System` by `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What the system's allocator takes for a piece: a multiple of 16 with a header of 8.
fn taken(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many heap allocations `work` makes on this thread.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn relaying_makes_no_heap_allocation_in_any_direction() {
    let mut stage = Stage::new();
    let (alice, bob) = (stage.allocate("alice", 1), stage.allocate("bob", 2));
    let peer: SocketAddr = "9.9.9.9:5000".parse().unwrap();
    stage.bind(&alice, CHANNEL, peer);
    stage.bind(&alice, CHANNEL + 1, bob.relay);
    stage.bind(&bob, CHANNEL, alice.relay);
    let (to_peer, to_bob) = (channel_data(CHANNEL), channel_data(CHANNEL + 1));
    let indication = send_indication(peer);
    let (server, now) = (&mut stage.server, stage.now);
    let mut header = [0; Frame::MAX_HEADER];
    let mut relay = || {
        let forward = server.handle_client(alice.client, &to_peer, now);
        assert!(matches!(forward, Some(Forward::ToPeer { .. })));
        let forward = server.handle_client(alice.client, &indication, now);
        assert!(matches!(forward, Some(Forward::ToPeer { .. })));
        let forward = server.handle_client(alice.client, &to_bob, now);
        assert!(matches!(forward, Some(Forward::ToClient { frame: Frame::Channel(CHANNEL), .. })));
        let forward = server.handle_peer(alice.socket, peer, 1200, now);
        let Some(Forward::ToClient { frame, .. }) = forward else { panic!("a permitted peer is heard") };
        assert!(frame.write_header(Transport::Udp, 1200, &mut header).is_some());
        let forward = server.handle_peer(alice.socket, SocketAddr::new(peer.ip(), 5001), 1200, now);
        let Some(Forward::ToClient { frame, .. }) = forward else { panic!("a permitted peer is heard") };
        assert!(frame.write_header(Transport::Udp, 1200, &mut header).is_some());
        assert!(server.handle_client(alice.client, &[0x4f, 0xff, 0, 0], now).is_none());
    };
    // Once before, for what is made at first use.
    relay();
    assert_eq!(allocations(|| (0..1000).for_each(|_| relay())), 0);
}

#[test]
fn relaying_to_another_shard_makes_no_heap_allocation() {
    let shared = Arc::new(Shared::new(49_152..=65_535));
    let (mut here, mut there) = (Stage::sharing(&shared), Stage::sharing(&shared));
    let (alice, bob) = (here.allocate("alice", 1), there.allocate("bob", 2));
    here.bind(&alice, CHANNEL, bob.relay);
    there.bind(&bob, CHANNEL + 1, alice.relay);
    let data = channel_data(CHANNEL);
    let mut relay = || {
        let forward = here.server.handle_client(alice.client, &data, here.now);
        assert!(matches!(forward, Some(Forward::ToClient { client, .. }) if client == bob.client));
    };
    relay();
    assert_eq!(allocations(|| (0..1000).for_each(|_| relay())), 0);
}

/// Bytes of heap that an allocation may take, with a permission and a channel, at ten thousand.
const BYTES_PER_ALLOCATION: usize = 1024;

#[test]
fn an_allocation_with_a_permission_and_a_channel_takes_little_memory() {
    const COUNT: usize = 10_000;
    let mut stage = Stage::new();
    let peer: SocketAddr = "9.9.9.9:5000".parse().unwrap();
    let before = BYTES.with(Cell::get);
    for number in 0..COUNT {
        let caller = stage.allocate(&format!("room-{}/{number}", number / 2), number);
        stage.bind(&caller, CHANNEL, peer);
    }
    let each = BYTES.with(Cell::get).wrapping_sub(before) / COUNT;
    assert!(each <= BYTES_PER_ALLOCATION, "{each} bytes each");
    stage.server.shut();
    while stage.server.poll_action().is_some() {}
    assert!(stage.server.is_empty());
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

struct Stage {
    server: Server,
    now: Now,
    secret: Secret,
}

struct Caller {
    client: Client,
    issued: Credentials,
    nonce: String,
    socket: RelayId,
    relay: SocketAddr,
}

impl Stage {
    fn new() -> Self {
        Self::sharing(&Arc::new(Shared::new(49_152..=65_535)))
    }

    /// One of several shards.
    fn sharing(shared: &Arc<Shared>) -> Self {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        let relay = "198.51.100.1".parse().unwrap();
        let settings = Settings {
            realm: REALM.to_owned(),
            secrets: vec![secret.clone()],
            old_secrets_until: None,
            policy: PeerPolicy::new(PeerMode::Public, Vec::new(), Vec::new(), Vec::new()),
            relays: vec![RelayAddress { local: relay, told: relay }],
            users: BTreeMap::new(),
            listeners: Vec::new(),
            user_quota: 10,
            total_quota: 10_000,
            allocation_bandwidth: Some(1 << 40),
            total_bandwidth: Some(1 << 40),
            dont_fragment: true,
            nonce_key: [7; 32],
            probe_key: secret.clone(),
        };
        let now = clock::now();
        Self { server: Server::new(Arc::new(settings), Arc::clone(shared), now, Box::new(|| 4)), now, secret }
    }

    fn allocate(&mut self, user: &str, number: usize) -> Caller {
        let number = u16::try_from(number).unwrap();
        let [high, low] = number.to_be_bytes();
        let remote = SocketAddr::new([203, 1, high, low].into(), 40_000);
        let client = Client { remote, local: "192.0.2.1".parse().unwrap(), transport: Transport::Udp, via: 0 };
        let issued = issue(&self.secret, user, 600, self.now);
        let (socket, relay) = (RelayId(0), SocketAddr::new([198, 51, 100, 1].into(), 49_160 + number));
        let mut caller = Caller { client, issued, nonce: String::new(), socket, relay };
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        assert_eq!(self.server.handle_client(client, &request.finish(), self.now), None);
        let Some(Action::Reply { message, .. }) = self.server.poll_action() else { panic!("a challenge comes back") };
        caller.nonce = Message::from_bytes(&message).unwrap().attribute::<Nonce>().unwrap().nonce().to_owned();
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        self.sign_and_send(&caller, request);
        let Some(Action::Open { relay: socket, .. }) = self.server.poll_action() else { panic!("a socket is wanted") };
        self.server.handle_opened(socket, Some(relay), self.now);
        self.expect_success();
        Caller { socket, ..caller }
    }

    fn bind(&mut self, caller: &Caller, number: u16, peer: SocketAddr) {
        let mut request = Message::builder_request(CHANNEL_BIND, MessageWriteVec::new());
        let address = XorPeerAddress::new(peer, request.transaction_id());
        request.add_attribute(&ChannelNumber::new(number)).unwrap();
        request.add_attribute(&address).unwrap();
        self.sign_and_send(caller, request);
        self.expect_success();
    }

    fn sign_and_send(&mut self, caller: &Caller, mut request: MessageWriteVec) {
        let Credentials { username, credential, .. } = &caller.issued;
        let key = LongTermKeyCredentials::new(username.clone(), credential.clone(), REALM.to_owned());
        request.add_attribute(&Username::new(username).unwrap()).unwrap();
        request.add_attribute(&Realm::new(REALM).unwrap()).unwrap();
        request.add_attribute(&Nonce::new(&caller.nonce).unwrap()).unwrap();
        request
            .add_message_integrity_with_key(&key.make_key(IntegrityAlgorithm::Sha1), IntegrityAlgorithm::Sha1)
            .unwrap();
        assert_eq!(self.server.handle_client(caller.client, &request.finish(), self.now), None);
    }

    fn expect_success(&mut self) {
        let Some(Action::Reply { message, .. }) = self.server.poll_action() else { panic!("an answer comes back") };
        assert!(!Message::from_bytes(&message).unwrap().has_class(stun_types::message::MessageClass::Error));
    }
}

fn channel_data(number: u16) -> Vec<u8> {
    [&number.to_be_bytes()[..], &1200_u16.to_be_bytes(), &[7; 1200]].concat()
}

fn send_indication(peer: SocketAddr) -> Vec<u8> {
    let mut indication = Message::builder_indication(SEND, MessageWriteVec::new());
    let address = XorPeerAddress::new(peer, indication.transaction_id());
    indication.add_attribute(&address).unwrap();
    indication.add_attribute(&Data::new(&[7; 1200])).unwrap();
    indication.finish()
}

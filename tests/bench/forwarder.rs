//! The limit: forwards as a TURN server does, by `recvfrom` and `sendto`, and does nothing else.
//!
//! No authentication, no timers, no permissions, no bounds: never to be run but by the benchmark.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::sock;
use crate::stun::{self, CHANNEL, CHANNEL_HEADER, Message};

const LISTENER: u64 = u64::MAX;

struct Flow {
    client: SocketAddr,
    relay: UdpSocket,
    peer: Option<SocketAddrV4>,
}

pub(crate) fn run(address: SocketAddrV4) -> io::Result<()> {
    let listener = sock::udp(address, false)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut flows: Vec<Flow> = Vec::new();
    let mut flows_by_client: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut events = [EpollEvent::empty(); 128];
    let mut buffer = vec![0; sock::TRAIN];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            if event.data() == LISTENER {
                while let Ok((length, client)) = listener.recv_from(&mut buffer) {
                    let bytes = &buffer[..length];
                    let flow = flows_by_client.get(&client).copied();
                    if let (Some(flow), true) = (flow, bytes.starts_with(&CHANNEL.to_be_bytes())) {
                        let flow = &flows[flow];
                        if let Some(peer) = flow.peer {
                            let _ = flow.relay.send_to(&bytes[CHANNEL_HEADER..], peer);
                        }
                        continue;
                    }
                    let Some(message) = Message::parse(bytes) else { continue };
                    let mut answer = message.success();
                    if message.kind == stun::ALLOCATE {
                        let relay = sock::udp(SocketAddrV4::new(*address.ip(), 0), false)?;
                        relay.set_nonblocking(true)?;
                        let number = flow.unwrap_or(flows.len());
                        epoll.add(relay.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
                        if let SocketAddr::V4(relayed) = relay.local_addr()? {
                            answer = answer.address(stun::XOR_RELAYED_ADDRESS, relayed);
                        }
                        flows_by_client.insert(client, number);
                        flows.push(Flow { client, relay, peer: None });
                    } else if let (stun::CHANNEL_BIND, Some(flow)) = (message.kind, flow) {
                        flows[flow].peer = message.address(stun::XOR_PEER_ADDRESS);
                    }
                    let _ = listener.send_to(&answer.finish(), client);
                }
                continue;
            }
            let flow = &flows[event.data() as usize];
            while let Ok((length, _)) = flow.relay.recv_from(&mut buffer[CHANNEL_HEADER..]) {
                buffer[..2].copy_from_slice(&CHANNEL.to_be_bytes());
                buffer[2..CHANNEL_HEADER].copy_from_slice(&(length as u16).to_be_bytes());
                let _ = listener.send_to(&buffer[..CHANNEL_HEADER + length], flow.client);
            }
        }
    }
}

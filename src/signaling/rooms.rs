//! Decides who is in which room, and who is told what. At most two are in a room.
//!
//! | asked | told |
//! |---|---|
//! | `join` | `joined` to the one that joins, `otherjoin` to the one that is there; `full` to a third |
//! | `leave` | `leaved` to the one that leaves, `bye` to the other |
//! | socket lost | `bye` to the other |
//!
//! A page may bring a *session*, a secret of its own. If it comes back with another socket while its place is still
//! taken by the old one, it takes that place over: it is told `joined`, and the other is told `rejoined`, which old
//! pages do not know and ignore. Without a session a lost socket's place is free at once.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// A page that lost its connection and has a session keeps its place for so long.
pub(super) const GRACE: Duration = Duration::from_secs(15);
/// The most in one room.
const PLACES: usize = 2;

/// A Socket.IO socket id.
pub(super) type SocketId = String;

/// What a client is told about a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) to: SocketId,
    pub(super) event: &'static str,
    pub(super) room: String,
    /// Whom it is about.
    pub(super) about: SocketId,
}

/// What became of a wish to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// In, with so many others.
    In {
        others: usize,
    },
    Full,
    /// There are as many rooms as there may be.
    TooManyRooms,
    /// This socket is in as many rooms as it may be.
    TooManyOfSocket,
}

/// One place in a room.
#[derive(Debug)]
struct Member {
    socket: SocketId,
    session: Option<String>,
    /// The connection is lost; the place is kept until then.
    kept_until: Option<Instant>,
}

/// All rooms.
#[derive(Debug)]
pub(super) struct Rooms {
    max_rooms: usize,
    max_rooms_per_socket: usize,
    members_by_room: HashMap<String, Vec<Member>>,
    rooms_by_socket: HashMap<SocketId, BTreeSet<String>>,
    /// The places that are kept, the first to end first: whose, and in which room.
    kept: BTreeSet<(Instant, SocketId, String)>,
}

impl Rooms {
    pub(super) fn new(max_rooms: usize, max_rooms_per_socket: usize) -> Self {
        let (members_by_room, rooms_by_socket, kept) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { max_rooms, max_rooms_per_socket, members_by_room, rooms_by_socket, kept }
    }

    /// Nothing is made or joined beyond these numbers; what is there stays.
    pub(super) fn set_bounds(&mut self, max_rooms: usize, max_rooms_per_socket: usize) {
        (self.max_rooms, self.max_rooms_per_socket) = (max_rooms, max_rooms_per_socket);
    }

    /// Gives room back that many others needed.
    pub(super) fn shrink(&mut self) {
        self.members_by_room.shrink_to_fit();
        self.rooms_by_socket.shrink_to_fit();
    }

    /// Rooms with somebody in them.
    pub(super) fn rooms(&self) -> usize {
        self.members_by_room.len()
    }

    /// Sockets that are in a room.
    pub(super) fn peers(&self) -> usize {
        self.rooms_by_socket.len()
    }

    /// Whether somebody with this session is in a room, or has a place kept.
    #[expect(clippy::disallowed_methods, reason = "what is asked of it does not depend on the order")]
    pub(super) fn knows(&self, session: &str) -> bool {
        let is_its = |member: &Member| member.session.as_deref() == Some(session);
        self.members_by_room.values().flatten().any(is_its)
    }

    /// The others in `room`, if `socket` is in it. A lost one hears nothing.
    pub(super) fn others(&self, socket: &str, room: &str) -> Option<Vec<SocketId>> {
        let members = self.members_by_room.get(room)?;
        members.iter().any(|member| member.socket == socket).then(|| {
            let others = members.iter().filter(|member| member.socket != socket && member.kept_until.is_none());
            others.map(|member| member.socket.clone()).collect()
        })
    }

    pub(super) fn join(&mut self, socket: &str, session: Option<&str>, room: &str) -> (Joined, Vec<Told>) {
        let told = |to: &str, event, about: &str| Told {
            to: to.to_owned(),
            event,
            room: room.to_owned(),
            about: about.to_owned(),
        };
        let (own_rooms, rooms) = (self.rooms_by_socket.get(socket).map_or(0, BTreeSet::len), self.rooms());
        let members = self.members_by_room.get_mut(room);
        let is_new_room = members.is_none();
        let is_in = members.as_ref().is_some_and(|members| members.iter().any(|member| member.socket == socket));
        if !is_in && own_rooms >= self.max_rooms_per_socket {
            return (Joined::TooManyOfSocket, Vec::new());
        }
        if is_new_room && rooms >= self.max_rooms {
            return (Joined::TooManyRooms, Vec::new());
        }
        let mut out = vec![told(socket, "joined", socket)];
        let Some(members) = members else {
            let member = Member { socket: socket.to_owned(), session: session.map(str::to_owned), kept_until: None };
            self.members_by_room.insert(room.to_owned(), vec![member]);
            self.rooms_by_socket.entry(socket.to_owned()).or_default().insert(room.to_owned());
            return (Joined::In { others: 0 }, out);
        };
        let others: Vec<SocketId> =
            members.iter().filter(|member| member.socket != socket).map(|member| member.socket.clone()).collect();
        if is_in {
            // Joining twice is harmless, and tells nobody else.
            return (Joined::In { others: others.len() }, out);
        }
        let own_place = members.iter_mut().find(|member| session.is_some() && member.session.as_deref() == session);
        if let Some(member) = own_place {
            let before = std::mem::replace(&mut member.socket, socket.to_owned());
            if let Some(until) = member.kept_until.take() {
                self.kept.remove(&(until, before.clone(), room.to_owned()));
            }
            let others: Vec<SocketId> = others.into_iter().filter(|other| *other != before).collect();
            out.extend(others.iter().map(|other| told(other, "rejoined", socket)));
            self.forget(&before, room);
            self.rooms_by_socket.entry(socket.to_owned()).or_default().insert(room.to_owned());
            return (Joined::In { others: others.len() }, out);
        }
        if members.len() >= PLACES {
            return (Joined::Full, vec![told(socket, "full", socket)]);
        }
        out.extend(others.iter().map(|other| told(other, "otherjoin", socket)));
        members.push(Member { socket: socket.to_owned(), session: session.map(str::to_owned), kept_until: None });
        self.rooms_by_socket.entry(socket.to_owned()).or_default().insert(room.to_owned());
        (Joined::In { others: others.len() }, out)
    }

    /// Nothing is told to a socket that was not in the room.
    pub(super) fn leave(&mut self, socket: &str, room: &str) -> Vec<Told> {
        let mut out = self.vacate(socket, room);
        if let Some(out) = &mut out {
            let leaved = Told { to: socket.into(), event: "leaved", room: room.into(), about: socket.into() };
            out.push(leaved);
        }
        out.unwrap_or_default()
    }

    /// The socket is gone. Unless it said goodbye (`is_clean`), a place with a session is kept for a while.
    pub(super) fn lose(&mut self, socket: &str, is_clean: bool, now: Instant) -> Vec<Told> {
        let rooms: Vec<String> = self.rooms_by_socket.get(socket).into_iter().flatten().cloned().collect();
        let mut out = Vec::new();
        for room in rooms {
            let members = self.members_by_room.get_mut(&room).map(Vec::as_mut_slice).unwrap_or_default();
            let member = members.iter_mut().find(|member| member.socket == socket);
            if let Some(member) = member.filter(|member| !is_clean && member.session.is_some()) {
                let until = now + GRACE;
                if let Some(before) = member.kept_until.replace(until) {
                    self.kept.remove(&(before, socket.to_owned(), room.clone()));
                }
                self.kept.insert((until, socket.to_owned(), room));
            } else {
                out.extend(self.vacate(socket, &room).unwrap_or_default());
            }
        }
        out
    }

    /// When [`Rooms::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.kept.first().map(|(until, ..)| *until)
    }

    /// Frees the places that were kept in vain.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Told> {
        let mut out = Vec::new();
        while self.poll_timeout().is_some_and(|until| until <= now) {
            let Some((_, socket, room)) = self.kept.pop_first() else { break };
            out.extend(self.vacate(&socket, &room).unwrap_or_default());
        }
        out
    }

    /// Takes `socket` out of `room` and says `bye` to who is left. `None`: it was not in it.
    fn vacate(&mut self, socket: &str, room: &str) -> Option<Vec<Told>> {
        let members = self.members_by_room.get_mut(room)?;
        let place = members.iter().position(|member| member.socket == socket)?;
        let gone = members.remove(place);
        if let Some(until) = gone.kept_until {
            self.kept.remove(&(until, gone.socket, room.to_owned()));
        }
        let others = members.iter().filter(|member| member.kept_until.is_none());
        let bye = others.map(|other| Told {
            to: other.socket.clone(),
            event: "bye",
            room: room.to_owned(),
            about: socket.to_owned(),
        });
        let out = bye.collect();
        if members.is_empty() {
            self.members_by_room.remove(room);
        }
        self.forget(socket, room);
        Some(out)
    }

    fn forget(&mut self, socket: &str, room: &str) {
        if let Some(rooms) = self.rooms_by_socket.get_mut(socket) {
            rooms.remove(room);
            if rooms.is_empty() {
                self.rooms_by_socket.remove(socket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::clock;

    /// `event to about`, for short.
    fn short(told: &[Told]) -> Vec<String> {
        told.iter().map(|told| format!("{} {} {}", told.event, told.to, told.about)).collect()
    }

    fn pair() -> Rooms {
        let mut rooms = Rooms::new(10, 8);
        rooms.join("a", None, "r");
        rooms.join("b", None, "r");
        rooms
    }

    #[test]
    fn two_meet_and_a_third_is_told_that_the_room_is_full() {
        let mut rooms = Rooms::new(10, 8);
        let (joined, told) = rooms.join("a", None, "r");
        assert_eq!((joined, short(&told)), (Joined::In { others: 0 }, vec!["joined a a".to_owned()]));
        let (joined, told) = rooms.join("b", None, "r");
        assert_eq!(joined, Joined::In { others: 1 });
        assert_eq!(short(&told), ["joined b b", "otherjoin a b"]);
        let (joined, told) = rooms.join("c", None, "r");
        assert_eq!((joined, short(&told)), (Joined::Full, vec!["full c c".to_owned()]));
        assert_eq!(rooms.others("c", "r"), None, "the third is not in the room");
        assert_eq!(rooms.others("a", "r"), Some(vec!["b".to_owned()]));
    }

    #[test]
    fn a_place_that_was_left_is_free_for_anyone_the_leaver_included() {
        let mut rooms = pair();
        assert_eq!(short(&rooms.leave("a", "r")), ["bye b a", "leaved a a"]);
        assert_eq!(short(&rooms.leave("a", "r")), Vec::<String>::new());
        assert_eq!(short(&rooms.join("a", None, "r").1), ["joined a a", "otherjoin b a"]);
    }

    #[test]
    fn joining_twice_disturbs_nobody() {
        let mut rooms = pair();
        let (joined, told) = rooms.join("b", None, "r");
        assert_eq!((joined, short(&told)), (Joined::In { others: 1 }, vec!["joined b b".to_owned()]));
    }

    #[test]
    fn a_lost_socket_says_bye_in_all_its_rooms() {
        let mut rooms = pair();
        rooms.join("a", None, "s");
        rooms.join("c", None, "s");
        assert_eq!(short(&rooms.lose("a", false, clock::now().mono)), ["bye b a", "bye c a"]);
        assert_eq!((rooms.rooms(), rooms.peers()), (2, 2));
    }

    #[test]
    fn a_page_with_a_session_comes_back_to_its_place() {
        let now = clock::now().mono;
        let mut rooms = Rooms::new(10, 8);
        rooms.join("a", Some("secret of a"), "r");
        rooms.join("b", None, "r");
        assert_eq!(short(&rooms.lose("a", false, now)), Vec::<String>::new());
        assert_eq!(rooms.join("c", Some("a guess"), "r").0, Joined::Full);
        assert_eq!(rooms.others("b", "r"), Some(Vec::new()), "nothing is sent to a lost socket");
        assert_eq!(short(&rooms.join("a2", Some("secret of a"), "r").1), ["joined a2 a2", "rejoined b a2"]);
        assert_eq!(rooms.poll_timeout(), None);
        // Also before the server has noticed that the old connection is gone.
        assert_eq!(short(&rooms.join("a3", Some("secret of a"), "r").1), ["joined a3 a3", "rejoined b a3"]);
        assert_eq!(short(&rooms.lose("a2", false, now)), Vec::<String>::new(), "it has no place any more");
        assert_eq!(rooms.peers(), 2);
    }

    #[test]
    fn a_place_is_not_kept_for_ever_nor_after_a_goodbye() {
        let now = clock::now().mono;
        let mut rooms = Rooms::new(10, 8);
        rooms.join("a", Some("secret of a"), "r");
        rooms.join("b", None, "r");
        rooms.lose("a", false, now);
        assert_eq!(rooms.poll_timeout(), Some(now + GRACE));
        assert_eq!(short(&rooms.handle_timeout(now + GRACE - Duration::from_secs(1))), Vec::<String>::new());
        assert_eq!(short(&rooms.handle_timeout(now + GRACE)), ["bye b a"]);
        rooms.join("c", Some("secret of c"), "r");
        assert_eq!(short(&rooms.lose("c", true, now)), ["bye b c"]);
    }

    #[test]
    fn rooms_are_bounded_in_all_and_for_one_socket() {
        let mut rooms = Rooms::new(10, 8);
        let join = |rooms: &mut Rooms, socket: &str, room: usize| rooms.join(socket, None, &room.to_string()).0;
        for room in 0..8 {
            assert_eq!(join(&mut rooms, "a", room), Joined::In { others: 0 });
        }
        assert_eq!(join(&mut rooms, "a", 90), Joined::TooManyOfSocket);
        assert_eq!(join(&mut rooms, "b", 90), Joined::In { others: 0 });
        assert_eq!(join(&mut rooms, "b", 91), Joined::In { others: 0 });
        assert_eq!(join(&mut rooms, "b", 92), Joined::TooManyRooms);
        assert_eq!(join(&mut rooms, "b", 0), Joined::In { others: 1 }, "it is no new one");
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Join,
        Leave,
        Lose(bool),
        Later(u8),
    }

    proptest! {
        #[test]
        fn never_three_in_a_room_and_every_counter_is_right(
            steps in proptest::collection::vec(
                (0..6_usize, 0..4_usize, prop_oneof![
                    3 => Just(Step::Join),
                    1 => Just(Step::Leave),
                    1 => any::<bool>().prop_map(Step::Lose),
                    1 => (0..20_u8).prop_map(Step::Later),
                ]),
                1..200,
            )
        ) {
            let mut now = clock::now().mono;
            let mut rooms = Rooms::new(3, 8);
            for (socket, room, step) in steps {
                let (name, room) = (format!("s{socket}"), format!("r{room}"));
                // Two sockets share each session.
                let session = format!("session {}", socket / 2);
                let told = match step {
                    Step::Join => rooms.join(&name, Some(&session), &room).1,
                    Step::Leave => rooms.leave(&name, &room),
                    Step::Lose(is_clean) => rooms.lose(&name, is_clean, now),
                    Step::Later(seconds) => {
                        now += Duration::from_secs(seconds.into());
                        rooms.handle_timeout(now)
                    }
                };
                for told in &told {
                    prop_assert!(told.event == "full" || told.to == told.about || told.event != "joined");
                }
                prop_assert!(rooms.rooms() <= 3);
                let (mut seen, mut kept) = (BTreeSet::new(), BTreeSet::new());
                for (room, members) in &rooms.members_by_room {
                    prop_assert!((1..=PLACES).contains(&members.len()));
                    for member in members {
                        prop_assert!(rooms.rooms_by_socket[&member.socket].contains(room));
                        seen.insert((member.socket.clone(), room.clone()));
                        kept.extend(member.kept_until.map(|until| (until, member.socket.clone(), room.clone())));
                    }
                }
                prop_assert_eq!(&rooms.kept, &kept);
                // As many pairs as there are, each of them known, are all of them.
                let sockets: BTreeSet<&SocketId> = seen.iter().map(|(socket, _)| socket).collect();
                prop_assert_eq!(sockets.len(), rooms.peers());
                for socket in sockets {
                    let own = seen.iter().filter(|(other, _)| other == socket).count();
                    prop_assert_eq!(own, rooms.rooms_by_socket[socket].len());
                }
            }
        }
    }
}

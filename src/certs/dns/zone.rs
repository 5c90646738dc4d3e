//! Looks whether a zone's own servers have a record: what a resolver remembers says nothing of what an authority finds.

use std::net::SocketAddr;

use super::{Kind, ask, ask_one};

/// Servers of one zone that are asked; zones have up to thirteen.
const MAX_SERVERS: usize = 16;
/// How many names a name may be another word for, one after the other.
const MAX_ALIASES: usize = 8;

/// Who has a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Every server that answers has it.
    Everywhere,
    /// These servers answer and do not have it.
    MissingAt(Vec<SocketAddr>),
    /// No server answers: nothing is known.
    Nobody,
}

/// The servers of the zone that `name` is in, as the resolvers know them; empty if they cannot be found.
#[must_use]
pub fn name_servers(resolvers: &[SocketAddr], name: &str, port: u16) -> Vec<SocketAddr> {
    let mut zone = name;
    loop {
        let answer = ask(resolvers, zone, Kind::Ns).unwrap_or_default();
        if !answer.servers.is_empty() {
            let addresses = answer.servers.iter().flat_map(|server| {
                [Kind::A, Kind::Aaaa].into_iter().flat_map(move |kind| {
                    let addresses = ask(resolvers, server, kind).unwrap_or_default().addresses;
                    addresses.into_iter().map(move |address| SocketAddr::from((address, port)))
                })
            });
            return addresses.take(MAX_SERVERS).collect();
        }
        match zone.split_once('.') {
            // Nobody adds records to a top-level domain by a hook.
            Some((_, above)) if above.contains('.') => zone = above,
            Some(_) | None => return Vec::new(),
        }
    }
}

/// The name that holds the records of `name`: names for challenges are often words for others, in a zone that a program
/// may write. `servers_of` finds the servers of a zone.
pub fn final_name(name: &str, mut servers_of: impl FnMut(&str) -> Vec<SocketAddr>) -> (String, Vec<SocketAddr>) {
    let mut name = name.to_owned();
    let mut servers = servers_of(&name);
    for _ in 0..MAX_ALIASES {
        let alias = servers.iter().find_map(|server| ask_one(*server, &name, Kind::Cname)?.alias);
        let Some(alias) = alias.filter(|alias| *alias != name) else { break };
        servers = servers_of(&alias);
        name = alias;
    }
    (name, servers)
}

/// Asks every server for a text of `name`.
#[must_use]
pub fn sight(servers: &[SocketAddr], name: &str, text: &str) -> Sight {
    let answers = servers.iter().filter_map(|server| Some((*server, ask_one(*server, name, Kind::Txt)?)));
    let mut has_anybody = false;
    let mut missing = Vec::new();
    for (server, answer) in answers.filter(|(_, answer)| !answer.fails) {
        has_anybody = true;
        if !answer.texts.iter().any(|found| found == text) {
            missing.push(server);
        }
    }
    match (has_anybody, missing.is_empty()) {
        (false, _) => Sight::Nobody,
        (true, true) => Sight::Everywhere,
        (true, false) => Sight::MissingAt(missing),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use super::*;

    /// A server that knows these records, each a name, a kind and its data; it is asked so many questions.
    fn server(records: Vec<(&'static str, u16, Vec<u8>)>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut question) {
                let asked = &question[12..length];
                let found: Vec<_> = records
                    .iter()
                    .filter(|(name, kind, _)| {
                        let labels = name.split('.').map(|label| format!("{}{label}", char::from(label.len() as u8)));
                        let name = [labels.collect::<String>().as_bytes(), &[0]].concat();
                        asked == [&name[..], &kind.to_be_bytes(), &[0, 1]].concat()
                    })
                    .collect();
                let mut answer = question[..length].to_vec();
                answer[2] |= 0x80;
                answer[7] = found.len() as u8;
                for (_, kind, data) in found {
                    answer.extend([0xc0, 12]);
                    answer.extend(kind.to_be_bytes());
                    answer.extend([0, 1, 0, 0, 0, 1]);
                    answer.extend((data.len() as u16).to_be_bytes());
                    answer.extend(data);
                }
                socket.send_to(&answer, client).unwrap();
            }
        });
        address
    }

    const NAME: &str = "_acme-challenge.call.rtc.dev";

    fn txt(text: &str) -> (&'static str, u16, Vec<u8>) {
        (NAME, 16, [&[text.len() as u8], text.as_bytes()].concat())
    }

    #[test]
    fn the_servers_of_a_zone_are_found_from_the_name_upwards() {
        let ns = ("rtc.dev", 2, b"\x02ns\x03rtc\x03dev\0".to_vec());
        let resolver = server(vec![ns, ("ns.rtc.dev", 1, vec![192, 0, 2, 53])]);
        assert_eq!(name_servers(&[resolver], NAME, 53), ["192.0.2.53:53".parse().unwrap()]);
        assert_eq!(name_servers(&[resolver], "_acme-challenge.elsewhere.dev", 53), []);
    }

    #[test]
    fn a_record_is_seen_once_every_server_that_answers_has_it() {
        let (with, without) = (server(vec![txt("other"), txt("v")]), server(vec![txt("other")]));
        let silent: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert_eq!(sight(&[with, silent], NAME, "v"), Sight::Everywhere);
        assert_eq!(sight(&[with, without], NAME, "v"), Sight::MissingAt(vec![without]));
        assert_eq!(sight(&[silent], NAME, "v"), Sight::Nobody);
        assert_eq!(sight(&[], NAME, "v"), Sight::Nobody);
    }

    #[test]
    fn a_name_that_is_a_word_for_another_is_looked_for_there() {
        let alias = server(vec![(NAME, 5, b"\x01x\x04acme\x03net\0".to_vec())]);
        let elsewhere = server(vec![]);
        let servers_of = |name: &str| if name.ends_with(".net") { vec![elsewhere] } else { vec![alias] };
        assert_eq!(final_name(NAME, servers_of), ("x.acme.net".to_owned(), vec![elsewhere]));
        let circle =
            server(vec![("a.b.c", 5, b"\x01b\x01b\x01c\0".to_vec()), ("b.b.c", 5, b"\x01a\x01b\x01c\0".to_vec())]);
        assert_eq!(final_name("a.b.c", |_| vec![circle]).1, vec![circle], "a circle is left");
    }
}

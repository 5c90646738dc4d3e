//! A call's signaling and media that must outlive whatever is done to the service.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::common::{has_program, npm_ci};
use crate::datagrams::Datagrams;
use crate::service::Service;
use crate::stream_client::StreamClient;

/// Two people in a room, by Socket.IO's own client.
pub(crate) struct Room {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Room {
    /// `None`: Node.js or its packages are missing, which was told.
    pub(crate) fn join(service: &Service) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signaling");
        if !(has_program("node") && has_program("npm") && npm_ci(&folder)) {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let mut child = Command::new("node")
            .arg(folder.join("survivor.js"))
            .arg(service.url())
            .env("NODE_EXTRA_CA_CERTS", service.ca_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut room = Self { child, input, output };
        assert_eq!(room.line(), "joined");
        Some(room)
    }

    /// Whether one still hears the other, by the same sockets; `held`, or why not.
    pub(crate) fn talk(&mut self) -> String {
        self.input.write_all(b"talk\n").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two callers who are both relayed.
pub(crate) struct Relayed {
    pub(crate) anna: StreamClient<Datagrams>,
    pub(crate) bo: StreamClient<Datagrams>,
    count: u64,
}

impl Relayed {
    /// They come to `port` by UDP.
    pub(crate) fn call(service: &Service, port: u16) -> Self {
        let allocate = || {
            let stream = Datagrams::connect(Ipv4Addr::LOCALHOST.into(), server(port)).unwrap();
            let mut client = StreamClient::new(stream, credentials(service));
            let relay = client.allocate();
            (client, relay)
        };
        let ((mut anna, annas), (mut bo, bos)) = (allocate(), allocate());
        anna.bind_channel(bos);
        bo.bind_channel(annas);
        let mut call = Self { anna, bo, count: 0 };
        call.talk();
        call
    }

    /// Each hears what the other says.
    pub(crate) fn talk(&mut self) {
        self.count += 1;
        let said = self.count.to_be_bytes();
        self.anna.send(&said);
        assert_eq!(self.bo.receive(), said);
        self.bo.send(&said);
        assert_eq!(self.anna.receive(), said);
    }

    pub(crate) fn hang_up(mut self) {
        self.anna.release();
        self.bo.release();
    }
}

pub(crate) fn server(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A user name and its password.
pub(crate) fn credentials(service: &Service) -> (String, String) {
    let printed: Value = serde_json::from_str(&service.run(&["turn", "credentials", "--json"])).unwrap();
    let text = |key: &str| printed[key].as_str().unwrap().to_owned();
    (text("username"), text("credential"))
}

//! A client of TURN over anything that is read and written as a stream.

use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use stun_types::attribute::{AttributeWrite, Nonce, Realm, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWrite as _, MessageWriteExt as _,
    MessageWriteVec, Method,
};
use turn_types::attribute::{ChannelNumber, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, REFRESH};

/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// The channel of all data.
const CHANNEL: u16 = 0x4000;

/// A client with the credential of a user.
pub(crate) struct StreamClient<S> {
    pub(crate) stream: S,
    pub(crate) username: String,
    pub(crate) password: String,
    nonce: Option<(String, String)>,
}

pub(crate) fn connect(port: u16) -> TcpStream {
    connect_to(([127, 0, 0, 1], port).into())
}

pub(crate) fn connect_to(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
    stream.set_write_timeout(Some(ANSWERED_WITHIN)).unwrap();
    stream
}

/// Shakes hands, offering these protocols. Whose certificate it is does not matter here.
pub(crate) fn connect_tls(port: u16, protocols: &[&str]) -> StreamOwned<ClientConnection, TcpStream> {
    shake_hands(connect(port), protocols).unwrap()
}

/// As [`connect_tls`], over a connection.
pub(crate) fn shake_hands(stream: TcpStream, protocols: &[&str]) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("not.our.name").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// A Binding request.
pub(crate) fn binding() -> Vec<u8> {
    Message::builder_request(BINDING, MessageWriteVec::new()).finish()
}

impl<S: Read + Write> StreamClient<S> {
    pub(crate) fn new(stream: S, (username, password): (String, String)) -> Self {
        Self { stream, username, password, nonce: None }
    }

    /// Whether a Binding request is answered.
    pub(crate) fn is_answered(&mut self) -> bool {
        self.stream.write_all(&binding()).unwrap();
        self.stream.flush().unwrap();
        self.read_frame().starts_with(&[1, 1])
    }

    /// Its relay.
    pub(crate) fn allocate(&mut self) -> SocketAddr {
        self.try_allocate().unwrap().unwrap()
    }

    /// Its relay, unless it is refused.
    pub(crate) fn try_allocate(&mut self) -> Result<Option<SocketAddr>> {
        let udp = RequestedTransport::new(RequestedTransport::UDP);
        let refused = self.ask(ALLOCATE, &[&udp])?;
        let refused = Message::from_bytes(&refused).map_err(Error::other)?;
        let realm = refused.attribute::<Realm>().map_err(Error::other)?.realm().to_owned();
        self.nonce = Some((realm, refused.attribute::<Nonce>().map_err(Error::other)?.nonce().to_owned()));
        let answer = self.ask(ALLOCATE, &[&udp])?;
        let answer = Message::from_bytes(&answer).map_err(Error::other)?;
        Ok(answer.attribute::<XorRelayedAddress>().ok().map(|relay| relay.addr(answer.transaction_id())))
    }

    /// Keeps the relay for so many seconds.
    pub(crate) fn refresh(&mut self, seconds: u32) {
        let answer = self.ask(REFRESH, &[&Lifetime::new(seconds)]).unwrap();
        assert_eq!(answer[..2], [1, 4], "{answer:?}");
    }

    /// Gives the relay back.
    pub(crate) fn release(&mut self) {
        let answer = self.ask(REFRESH, &[&Lifetime::new(0)]).unwrap();
        assert_eq!(answer[..2], [1, 4], "{answer:?}");
    }

    /// Binds the one channel to a peer.
    pub(crate) fn bind_channel(&mut self, peer: SocketAddr) {
        let answer = self.try_bind_channel(peer).unwrap();
        assert_eq!(answer[..2], [1, 9], "{answer:?}");
    }

    /// The answer to binding the one channel to a peer.
    pub(crate) fn try_bind_channel(&mut self, peer: SocketAddr) -> Result<Vec<u8>> {
        let mut request = Message::builder_request(CHANNEL_BIND, MessageWriteVec::new());
        let peer = XorPeerAddress::new(peer, request.transaction_id());
        request.add_attribute(&ChannelNumber::new(CHANNEL)).unwrap();
        request.add_attribute(&peer).unwrap();
        self.sign_and_ask(request)
    }

    /// Sends data by the channel.
    pub(crate) fn send(&mut self, payload: &[u8]) {
        self.try_send(payload).unwrap();
    }

    pub(crate) fn try_send(&mut self, payload: &[u8]) -> Result<()> {
        let length = u16::try_from(payload.len()).unwrap();
        let padding = &[0; 3][..payload.len().wrapping_neg() % 4];
        let frame = [&CHANNEL.to_be_bytes()[..], &length.to_be_bytes(), payload, padding].concat();
        self.stream.write_all(&frame)?;
        self.stream.flush()
    }

    /// The payload of the next ChannelData.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        self.try_receive().unwrap()
    }

    pub(crate) fn try_receive(&mut self) -> Result<Vec<u8>> {
        let frame = self.try_read_frame()?;
        assert_eq!(frame[..2], CHANNEL.to_be_bytes());
        Ok(frame[4..].to_vec())
    }

    /// The next message, without padding.
    pub(crate) fn read_frame(&mut self) -> Vec<u8> {
        self.try_read_frame().unwrap()
    }

    fn try_read_frame(&mut self) -> Result<Vec<u8>> {
        let mut frame = vec![0; 4];
        self.stream.read_exact(&mut frame)?;
        let length = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
        let whole = length + if frame[0] < 0x40 { 20 } else { 4 };
        frame.resize(whole.next_multiple_of(4), 0);
        self.stream.read_exact(&mut frame[4..])?;
        frame.truncate(whole);
        Ok(frame)
    }

    fn ask(&mut self, method: Method, attributes: &[&dyn AttributeWrite]) -> Result<Vec<u8>> {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        for attribute in attributes {
            request.add_attribute(*attribute).unwrap();
        }
        self.sign_and_ask(request)
    }

    fn sign_and_ask(&mut self, mut request: MessageWriteVec) -> Result<Vec<u8>> {
        if let Some((realm, nonce)) = &self.nonce {
            request.add_attribute(&Username::new(&self.username).unwrap()).unwrap();
            request.add_attribute(&Realm::new(realm).unwrap()).unwrap();
            request.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
            let key = LongTermKeyCredentials::new(self.username.clone(), self.password.clone(), realm.clone());
            let key = key.make_key(IntegrityAlgorithm::Sha1);
            request.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
        }
        self.stream.write_all(&request.finish())?;
        self.stream.flush()?;
        loop {
            let frame = self.try_read_frame()?;
            // Data may come before the answer.
            if frame[0] < 0x40 {
                return Ok(frame);
            }
        }
    }
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

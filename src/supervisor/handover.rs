//! How work reaches a task that may be restarting: the message boundary between tasks.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

/// How many messages may wait for one instance before the sender has to wait too.
const QUEUE: usize = 1024;

/// A door to a task. It outlives the task's instances: a message sent while none is open waits for the next one.
pub struct Door<T> {
    instance: Arc<watch::Sender<Option<Instance<T>>>>,
}

struct Instance<T> {
    sender: mpsc::Sender<T>,
    bell: Option<Bell>,
}

/// Rung after each message, for an instance that does not wait for its receiver.
type Bell = Arc<dyn Fn() + Send + Sync>;

impl<T> Clone for Instance<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<T> Clone for Door<T> {
    fn clone(&self) -> Self {
        Self { instance: Arc::clone(&self.instance) }
    }
}

impl<T> Default for Door<T> {
    fn default() -> Self {
        Self { instance: Arc::new(watch::Sender::new(None)) }
    }
}

impl<T: Send> Door<T> {
    /// Opens the door for a new instance. Whatever was open before is fenced: nothing new reaches it.
    #[must_use]
    pub fn open(&self) -> mpsc::Receiver<T> {
        self.open_for(None)
    }

    /// As [`Door::open`], for an instance that sleeps elsewhere: `bell` wakes it up after each message.
    #[must_use]
    pub fn open_with_bell(&self, bell: impl Fn() + Send + Sync + 'static) -> mpsc::Receiver<T> {
        self.open_for(Some(Arc::new(bell)))
    }

    fn open_for(&self, bell: Option<Bell>) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.instance.send_replace(Some(Instance { sender, bell }));
        receiver
    }

    /// Shuts the door: messages wait until the next [`Door::open`].
    pub fn shut(&self) {
        self.instance.send_replace(None);
    }

    /// Hands `message` to the open instance, waiting up to `patience` for one.
    ///
    /// # Errors
    /// The message, if no instance took it in time.
    pub async fn hand(&self, message: T, patience: Duration) -> Result<(), T> {
        let mut waiting = Some(message);
        let mut instance = self.instance.subscribe();
        let handing = async {
            loop {
                let open = instance.borrow_and_update().clone();
                if let Some(Instance { sender, bell }) = open
                    && let Ok(permit) = sender.reserve().await
                {
                    if let Some(message) = waiting.take() {
                        permit.send(message);
                    }
                    if let Some(ring) = bell {
                        ring();
                    }
                    return;
                }
                if instance.changed().await.is_err() {
                    return;
                }
            }
        };
        // A time-out leaves the message in `waiting`: reserving comes before taking.
        let _ = tokio::time::timeout(patience, handing).await;
        waiting.map_or(Ok(()), Err)
    }
}

/// Found among a request's extensions if it came from a probe of this process: it is nobody's, and counts nowhere.
#[derive(Debug, Clone, Copy)]
pub struct OwnRequest;

/// One HTTP request on its way from `edge` to `web` or `signaling`, with the way back.
///
/// An `Upgrade` (WebSocket) travels in the request's extensions as `hyper::upgrade::OnUpgrade`.
pub struct HttpJob {
    pub request: http::Request<hyper::body::Incoming>,
    pub client: SocketAddr,
    pub reply: oneshot::Sender<http::Response<axum::body::Body>>,
}

/// A connection on its way from `edge` to `turn`, which owns it from then on.
pub struct TurnStream {
    /// It never blocks.
    pub stream: TcpStream,
    /// The session, if it is TURN over TLS; what it has decrypted already may still be inside.
    pub tls: Option<Box<rustls::ServerConnection>>,
    /// The first bytes, decrypted, that were read to find out what it is. What the session holds comes after them.
    pub received: Vec<u8>,
    pub client: SocketAddr,
    /// The address of ours that the client came to.
    pub local: IpAddr,
    /// Its place among all connections; to be dropped with the stream.
    pub hold: Box<dyn Send>,
}

//! How work reaches a task that may be restarting: the message boundary between tasks.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

/// How many messages may wait for one instance before the sender has to wait too.
const QUEUE: usize = 1024;

/// A door to a task. It outlives the task's instances: a message that no instance has taken waits for the next one,
/// whatever became of the one that it was meant for.
pub struct Door<T> {
    state: Arc<watch::Sender<State<T>>>,
}

struct State<T> {
    /// The number of the last instance that has opened the door.
    instance: u64,
    /// `None`: it is shut.
    open: Option<Open<T>>,
    /// What instances up to this one have taken, they answer no more.
    fenced: u64,
}

struct Open<T> {
    sender: mpsc::Sender<Parcel<T>>,
    bell: Option<Bell>,
}

/// Rung after each message, for an instance that does not wait for its inbox.
type Bell = Arc<dyn Fn() + Send + Sync>;

/// A message until somebody takes it: its instance, or its sender who takes it back.
type Content<T> = Arc<Mutex<Option<T>>>;

struct Parcel<T> {
    content: Content<T>,
    taken: oneshot::Sender<()>,
}

impl<T> Clone for Open<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<T> Clone for Door<T> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<T> Default for Door<T> {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::new(State { instance: 0, open: None, fenced: 0 })) }
    }
}

impl<T: Send> Door<T> {
    /// Opens the door for a new instance. Whatever was open before is fenced: nothing new reaches it.
    #[must_use]
    pub fn open(&self) -> Inbox<T> {
        self.open_for(None)
    }

    /// As [`Door::open`], for an instance that sleeps elsewhere: `bell` wakes it up after each message.
    #[must_use]
    pub fn open_with_bell(&self, bell: impl Fn() + Send + Sync + 'static) -> Inbox<T> {
        self.open_for(Some(Arc::new(bell)))
    }

    fn open_for(&self, bell: Option<Bell>) -> Inbox<T> {
        let (sender, parcels) = mpsc::channel(QUEUE);
        let mut instance = 0;
        self.state.send_modify(|state| {
            state.fenced = state.instance;
            state.instance += 1;
            state.open = Some(Open { sender, bell });
            instance = state.instance;
        });
        Inbox { parcels, latch: Latch { door: self.clone(), instance } }
    }

    /// Shuts the door because the instance behind it hangs: messages wait until the next [`Door::open`], and who waits
    /// for an answer of that instance is told.
    pub fn fence(&self) {
        self.state.send_modify(|state| {
            state.fenced = state.instance;
            state.open = None;
        });
    }

    /// Hands `message` to the open instance, waiting up to `patience` for one to take it.
    ///
    /// # Errors
    /// The message, if no instance took it in time.
    pub async fn hand(&self, message: T, patience: Duration) -> Result<Handed<T>, T> {
        let content: Content<T> = Arc::new(Mutex::new(Some(message)));
        let mut state = self.state.subscribe();
        let mut instance = 0;
        let handing = async {
            while is_there(&content) {
                let open = {
                    let state = state.borrow_and_update();
                    instance = state.instance;
                    state.open.clone()
                };
                let gone = tokio::select! {
                    biased;
                    is_taken = give(open, &content) => if is_taken { return } else { state.changed().await },
                    changed = state.changed() => changed,
                };
                if gone.is_err() {
                    return;
                }
            }
        };
        // However this ends, the message has been taken or is still ours.
        let _ = tokio::time::timeout(patience, handing).await;
        let left = content.lock().unwrap_or_else(PoisonError::into_inner).take();
        left.map_or(Ok(Handed { state, instance }), Err)
    }
}

fn is_there<T>(content: &Content<T>) -> bool {
    content.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Whether the instance took it. Waits for ever where the door is shut.
async fn give<T>(open: Option<Open<T>>, content: &Content<T>) -> bool {
    let Some(Open { sender, bell }) = open else { return std::future::pending().await };
    let Ok(permit) = sender.reserve().await else { return false };
    let (taken, is_taken) = oneshot::channel();
    permit.send(Parcel { content: Arc::clone(content), taken });
    if let Some(ring) = bell {
        ring();
    }
    is_taken.await.is_ok()
}

/// What one instance gets its messages by. Dropping it shuts the door.
pub struct Inbox<T: Send> {
    parcels: mpsc::Receiver<Parcel<T>>,
    latch: Latch<T>,
}

impl<T: Send> Inbox<T> {
    /// The next message; `None` once the door was opened for another instance, or fenced.
    pub async fn recv(&mut self) -> Option<T> {
        loop {
            if let Some(message) = self.parcels.recv().await?.take() {
                return Some(message);
            }
        }
    }

    /// The next message that is there already.
    pub fn try_recv(&mut self) -> Option<T> {
        loop {
            if let Some(message) = self.parcels.try_recv().ok()?.take() {
                return Some(message);
            }
        }
    }

    /// What shuts the door for this instance, to be kept elsewhere.
    #[must_use]
    pub fn latch(&self) -> Latch<T> {
        Latch { door: self.latch.door.clone(), instance: self.latch.instance }
    }
}

impl<T: Send> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.latch.shut();
    }
}

impl<T> Parcel<T> {
    fn take(self) -> Option<T> {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever does not listen any more finds it gone.
        let _ = self.taken.send(());
        content
    }
}

/// Shuts the door for one instance.
pub struct Latch<T> {
    door: Door<T>,
    instance: u64,
}

impl<T: Send> Latch<T> {
    /// Nothing new reaches the instance; what waits for it waits for the next one. A door that was opened for another
    /// instance meanwhile stays as it is.
    pub fn shut(&self) {
        self.door.state.send_if_modified(|state| {
            let is_ours = state.instance == self.instance && state.open.is_some();
            if is_ours {
                state.open = None;
            }
            is_ours
        });
    }
}

/// A message that an instance has taken.
pub struct Handed<T> {
    state: watch::Receiver<State<T>>,
    instance: u64,
}

impl<T> Handed<T> {
    /// Waits until the instance that has taken the message answers nothing any more: it was fenced, or another one is
    /// there.
    pub async fn fenced(&mut self) {
        // A door that is gone is never opened again.
        let _ = self.state.wait_for(|state| state.fenced >= self.instance).await;
    }
}

/// Found among a request's extensions if it came from a probe of this process: it is nobody's, and counts nowhere.
#[derive(Debug, Clone, Copy)]
pub struct OwnRequest;

/// Found among a request's extensions: ends its connection in both directions, whoever has it and whatever is written
/// to it. Cheap to clone.
#[derive(Clone)]
pub struct Hangup(Arc<dyn Fn() + Send + Sync>);

impl Hangup {
    pub fn new(hang_up: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(hang_up))
    }

    pub fn hang_up(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hangup").finish_non_exhaustive()
    }
}

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
    /// Its place among all connections; to be dropped before the stream is closed.
    pub hold: Box<dyn Send>,
    /// It never blocks.
    pub stream: TcpStream,
    /// The session, if it is TURN over TLS; what it has decrypted already may still be inside.
    pub tls: Option<Box<rustls::ServerConnection>>,
    /// The first bytes, decrypted, that were read to find out what it is. What the session holds comes after them.
    pub received: Vec<u8>,
    pub client: SocketAddr,
    /// The address of ours that the client came to.
    pub local: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const AT_ONCE: Duration = Duration::ZERO;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn a_message_waits_for_an_instance_and_comes_back_if_there_is_none() {
        block_on(async {
            let door = Door::default();
            assert_eq!(door.hand(7, AT_ONCE).await.err(), Some(7));
            let (handed, taken) = tokio::join!(door.hand(8, PATIENCE), async { door.open().recv().await });
            assert!(handed.is_ok());
            assert_eq!(taken, Some(8));
        });
    }

    #[test]
    fn what_a_hanging_instance_has_not_taken_goes_to_the_next_one() {
        block_on(async {
            let door = Door::default();
            let mut hangs = door.open();
            let handing = tokio::spawn({
                let door = door.clone();
                async move { door.hand(7, PATIENCE).await.is_ok() }
            });
            while hangs.parcels.is_empty() {
                tokio::task::yield_now().await;
            }
            door.fence();
            let mut next = door.open();
            assert_eq!(next.recv().await, Some(7));
            assert!(handing.await.unwrap());
            assert_eq!(hangs.recv().await, None, "it comes to itself and finds nothing");
            drop(hangs);
            let (handed, taken) = tokio::join!(door.hand(8, PATIENCE), next.recv());
            assert!(handed.is_ok(), "the end of an old instance shuts no door");
            assert_eq!(taken, Some(8));
        });
    }

    #[test]
    fn what_an_instance_that_drains_has_not_taken_goes_to_the_next_one() {
        block_on(async {
            let door = Door::default();
            let drains = door.open();
            let handing = async { door.hand(7, PATIENCE).await.is_ok() };
            let restarting = async {
                while drains.parcels.is_empty() {
                    tokio::task::yield_now().await;
                }
                drains.latch().shut();
                drop(drains);
                door.open().recv().await
            };
            assert_eq!(tokio::join!(handing, restarting), (true, Some(7)));
        });
    }

    #[test]
    fn who_waits_for_an_answer_is_told_when_the_instance_is_fenced_and_not_when_it_drains() {
        block_on(async {
            let door = Door::default();
            let mut first = door.open();
            let (handed, _) = tokio::join!(door.hand(1, PATIENCE), first.recv());
            let Ok(mut handed) = handed else { panic!("nobody took it") };
            first.latch().shut();
            assert!(tokio::time::timeout(AT_ONCE, handed.fenced()).await.is_err(), "it may still answer");
            let mut second = door.open();
            handed.fenced().await;
            let (handed, _) = tokio::join!(door.hand(2, PATIENCE), second.recv());
            let Ok(mut handed) = handed else { panic!("nobody took it") };
            door.fence();
            handed.fenced().await;
        });
    }
}

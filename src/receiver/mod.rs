//! An HTTP/1.1 server on loopback that says what its handler wants said, faults included. It is the
//! endpoint of `receive`, of the demo, of the benches and of `testing`.
#![cfg_attr(
    not(feature = "testing"),
    allow(dead_code, unreachable_pub, reason = "the program's endpoints have no faults")
)]

mod answer;
mod connection;
mod reading;
mod refusing;
mod request;
mod verify;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_rt::time::{sleep, timeout};
use openssl::ssl::SslAcceptor;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

pub use answer::Answer;
use connection::serve;
pub(crate) use refusing::Refusing;
pub use request::Request;
pub use verify::Unverified;

/// Most connections at one time. For one more that which has rested longest is closed (RFC 9112,
/// section 9.3: a server may close one that is idle at any time); where none rests, it waits.
const MAX_CONNECTIONS: usize = 1024;

/// How long requests that were received may still be answered at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long no connection is taken after one could not be, such as for want of open files.
const NO_CONNECTION: Duration = Duration::from_millis(100);

/// Decides what is said. It is called on the receiver's thread: while it blocks, senders wait.
pub trait Handler: Send + Sync {
    /// The answer to a request that has come whole.
    fn answer(&self, request: Request) -> Arc<Answer>;

    /// What happens to a new connection in the place of reading a request from it.
    fn greet(&self) -> Option<Arc<Answer>> {
        None
    }
}

/// A running receiver, on a thread of its own. It ends when dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Told whether what was received is still to be answered. `None` once it has ended.
    running: Option<(oneshot::Sender<bool>, JoinHandle<()>)>,
}

/// What the receiver's thread and its owner both look at.
struct Shared {
    handler: Box<dyn Handler>,
    tls: Option<SslAcceptor>,
    /// Whether held answers may be said.
    released: watch::Sender<bool>,
    load: Load,
    /// Some request was answered.
    answered: Notify,
    /// A connection waits for a place. Whoever has waited longest for this hears of it.
    crowded: Notify,
}

/// How many connections and requests there were and are.
#[derive(Default)]
struct Load {
    connections: AtomicUsize,
    /// Requests that came and for which nothing was said yet.
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
    /// Requests that came and whose answer was not said to its end.
    unanswered: AtomicUsize,
}

impl Load {
    fn begin(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_waiting.fetch_max(waiting, Ordering::Relaxed);
    }

    /// Before its answer's first byte: the sender may send another at once when it has the last.
    fn begin_answer(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Receiver {
    /// Starts to answer, over TLS if that is given.
    ///
    /// # Errors
    /// No thread could be started, or the listener cannot be used.
    pub fn start(
        listener: TcpListener,
        tls: Option<SslAcceptor>,
        handler: impl Handler + 'static,
    ) -> io::Result<Self> {
        Self::with_places(MAX_CONNECTIONS, listener, tls, handler)
    }

    fn with_places(
        places: usize,
        listener: TcpListener,
        tls: Option<SslAcceptor>,
        handler: impl Handler + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            released: watch::Sender::new(false),
            load: Load::default(),
            answered: Notify::new(),
            crowded: Notify::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let of_thread = shared.clone();
        let thread = thread::Builder::new().name("receiver".to_owned()).spawn(move || {
            let ended = actix_rt::Runtime::new()
                .and_then(|executor| executor.block_on(listen(places, listener, of_thread, stopped)));
            if let Err(error) = ended {
                log::error!("the receiver ended: {error}");
            }
        })?;
        Ok(Self { address, shared, running: Some((stop, thread)) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets held answers be said, now and from now on.
    pub(crate) fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.load.connections.load(Ordering::Relaxed)
    }

    /// The most requests that waited for their answer at one time.
    pub(crate) fn most_waiting(&self) -> usize {
        self.shared.load.most_waiting.load(Ordering::Relaxed)
    }

    /// Ends once the requests received were answered, or after a second.
    pub(crate) fn finish(mut self) {
        self.end(true);
    }

    fn end(&mut self, is_graceful: bool) {
        let Some((stop, thread)) = self.running.take() else { return };
        if stop.send(is_graceful).is_err() {
            log::debug!("the receiver has ended already");
        }
        if thread.join().is_err() {
            log::error!("the receiver's thread panicked");
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Takes connections, each as a task on this thread, until it is told to stop.
async fn listen(
    places: usize,
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<bool>,
) -> io::Result<()> {
    let listener = actix_rt::net::TcpListener::from_std(listener)?;
    let free = Arc::new(Semaphore::new(places));
    let next = async || {
        let stream = listener.accept().await?.0;
        if free.available_permits() == 0 {
            shared.crowded.notify_one();
        }
        // Never closed: there is always a permit to be had in the end.
        let permit = free.clone().acquire_owned().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>((stream, permit))
    };
    let is_graceful = loop {
        tokio::select! {
            accepted = next() => match accepted {
                Ok((stream, permit)) => {
                    let shared = shared.clone();
                    actix_rt::spawn(async move {
                        if let Err(error) = serve(stream, &shared).await {
                            log::debug!("a connection ended: {error}");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    log::debug!("no connection could be taken: {error}");
                    sleep(NO_CONNECTION).await;
                }
            },
            told = &mut stopped => break told.unwrap_or(false),
        }
    };
    let last_answers = async {
        loop {
            let answered = shared.answered.notified();
            if shared.load.unanswered.load(Ordering::Relaxed) == 0 {
                return;
            }
            answered.await;
        }
    };
    if is_graceful && timeout(LAST_ANSWERS, last_answers).await.is_err() {
        log::debug!("requests are left without an answer");
    }
    Ok(())
}

#[cfg(test)]
mod tests;

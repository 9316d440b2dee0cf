//! The way to the cluster: a thread of its own, at most four connections to whichever node is
//! read-write, a deadline for every question.

mod node;

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use postgres_openssl::MakeTlsConnector;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket};

use super::error::{EngineError, Kind};
use super::lease::MemberId;
use crate::clock;
use crate::config::FleetConfig;
use crate::env::Environment;
use crate::http::TlsSettings;
use crate::secret::shown_variable;
use node::{each_node, is_local};

/// How long one node may take until it is connected and has said whether it is read-write.
const CONNECT_WITHIN: Duration = Duration::from_millis(2500);

/// After so long without a sign of life a connection counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(5);

/// What a connection is for: a slow question of one kind holds up no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Accepting events.
    Accept,
    /// Looking.
    Read,
    /// What became of deliveries.
    Write,
    /// Who does what.
    Lease,
}

/// All that one process has.
const LINES: usize = 4;

/// See the module's first lines. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    handle: Handle,
    nodes: Arc<Nodes>,
    /// Dropped with this, which ends the thread.
    _stop: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Nodes {
    config: FleetConfig,
    environment: Environment,
    /// Who this process is: its sessions are named after it.
    member: MemberId,
    lines: [Mutex<Option<Arc<Connected>>>; LINES],
}

/// One connection to the node that is read-write.
pub(crate) struct Connected {
    pub(crate) client: Client,
    /// Held by whoever has a transaction on it.
    transaction: Mutex<()>,
    /// Warnings so far: one of them may say that a COMMIT waits for no standby any more.
    warnings: Arc<AtomicU64>,
    /// Host and port.
    pub(crate) node: String,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.node)
    }
}

impl Link {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// No thread could be had.
    pub(crate) fn new(config: FleetConfig, environment: Environment) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("spec-notify-fleet".to_owned()).spawn(move || {
            // The sender is only ever dropped.
            drop(runtime.block_on(stopped));
        })?;
        let member = MemberId::new(&clock::uuid().to_string());
        let nodes = Arc::new(Nodes { config, environment, member, lines: Default::default() });
        Ok(Self(Arc::new(Inner { handle, nodes, _stop: stop })))
    }

    /// Who this process is among those that deliver.
    pub(crate) fn member(&self) -> &MemberId {
        &self.0.nodes.member
    }

    /// What the fleet's table says.
    pub(crate) fn config(&self) -> &FleetConfig {
        &self.0.nodes.config
    }

    /// Runs a future on the link's own thread; the answer comes to a thread that may block.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.0.handle.spawn(async move {
            // Whoever asked may have stopped waiting.
            drop(reply.send(work.await));
        });
        answer
    }

    /// Number of nodes that the URL names; 0 where it cannot be read.
    pub(super) fn nodes(&self) -> usize {
        let Nodes { config, environment, .. } = &*self.0.nodes;
        let url = environment.get(&config.url_env).and_then(|url| url.parse::<Config>().ok());
        url.map_or(0, |url| url.get_hosts().len())
    }

    /// The answer to what was asked, for a thread that waits and runs no futures.
    ///
    /// # Errors
    /// As what was asked, or there was no answer in time.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        within: Duration,
        asking: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        self.begin(asking).recv_timeout(within).unwrap_or_else(|_| Err(EngineError::late(within)))
    }

    /// Asks on a connection, from any executor.
    ///
    /// # Errors
    /// What was asked may have been done all the same where the error is [`Kind::Silent`].
    pub(crate) async fn ask<T, F>(
        &self,
        line: Line,
        within: Duration,
        work: impl FnOnce(Arc<Connected>) -> F + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        let nodes = self.0.nodes.clone();
        self.on_its_thread(within, async move { nodes.ask(line, within, work).await }).await
    }

    /// The same from a thread that may block and runs no futures.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) fn ask_blocking<T, F>(
        &self,
        line: Line,
        within: Duration,
        work: impl FnOnce(Arc<Connected>) -> F + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        let nodes = self.0.nodes.clone();
        let answer = self.begin(async move { nodes.ask(line, within, work).await });
        // Longer than the question itself may take.
        let answer = answer.recv_timeout(within + DEAD_AFTER);
        answer.unwrap_or_else(|_| Err(EngineError::late(within)))
    }

    /// As [`ask`](Self::ask), all in one transaction: done whole or not at all. A member that stops
    /// in the middle of it holds nobody up for longer than a quarter of a lease.
    ///
    /// # Errors
    /// As `ask`; `work`'s own errors undo what it did.
    pub(super) async fn transact<T, F>(
        &self,
        line: Line,
        within: Duration,
        work: impl FnOnce(Arc<Connected>) -> F + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send,
    {
        let (nodes, quarter) = (self.0.nodes.clone(), self.config().lease.as_millis() / 4);
        let begin = format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {quarter}; \
             SET LOCAL lock_timeout = {quarter}"
        );
        let transacting = async move {
            nodes
                .connected(line, within, async |connected: Arc<Connected>| {
                    let client = &connected.client;
                    let _alone = connected.transaction.lock().await;
                    client.batch_execute(&begin).await?;
                    match work(connected.clone()).await {
                        Ok(done) => {
                            client.batch_execute("COMMIT").await?;
                            Ok(done)
                        }
                        Err(error) => {
                            // One that is gone has undone it by itself.
                            drop(client.batch_execute("ROLLBACK").await);
                            Err(error)
                        }
                    }
                })
                .await
        };
        self.on_its_thread(within, transacting).await
    }

    async fn on_its_thread<T: Send + 'static>(
        &self,
        within: Duration,
        asking: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        let asked = self.0.handle.spawn(asking).await;
        asked.unwrap_or_else(|_| Err(EngineError::late(within)))
    }
}

impl Nodes {
    async fn ask<T, F>(
        &self,
        line: Line,
        within: Duration,
        work: impl FnOnce(Arc<Connected>) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        self.connected(line, within, async |connected| Ok(work(connected).await?)).await
    }

    async fn connected<T>(
        &self,
        line: Line,
        within: Duration,
        work: impl AsyncFnOnce(Arc<Connected>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut used = None;
        let asked = timeout(within, async {
            let connected = self.connection(line).await?;
            used = Some(connected.clone());
            let before = connected.warnings.load(Ordering::Acquire);
            let answer = work(connected.clone()).await;
            match connected.warnings.load(Ordering::Acquire) == before {
                true => answer,
                // Whose it was cannot be known: all that was under way is asked again.
                false => answer.and(Err(EngineError::unconfirmed())),
            }
        });
        let asked = asked.await.unwrap_or_else(|_| Err(EngineError::late(within)));
        if asked.as_ref().is_err_and(|error| error.kind == Kind::Silent) {
            self.give_up(line, used.as_ref()).await;
        }
        asked
    }

    async fn connection(&self, line: Line) -> Result<Arc<Connected>, EngineError> {
        let mut place = self.lines[line as usize].lock().await;
        if let Some(connected) = place.as_ref().filter(|connected| !connected.client.is_closed()) {
            return Ok(connected.clone());
        }
        let connected = Arc::new(self.connect().await?);
        log::debug!("connected to {}", connected.node);
        *place = Some(connected.clone());
        Ok(connected)
    }

    /// A connection that did not answer is not used again.
    async fn give_up(&self, line: Line, used: Option<&Arc<Connected>>) {
        let mut place = self.lines[line as usize].lock().await;
        let is_it = place.as_ref().zip(used).is_some_and(|(place, used)| Arc::ptr_eq(place, used));
        if is_it {
            *place = None;
        }
    }

    /// Asks all nodes at once: a frozen one costs nothing. The first that is read-write is taken.
    async fn connect(&self) -> Result<Connected, EngineError> {
        let name = &self.config.url_env;
        if let Err(error) = self.environment.refresh() {
            log::debug!("the env_file: {error}");
        }
        let Some(url) = self.environment.get(name) else {
            let what = format!("{} is not set", shown_variable(name));
            return Err(EngineError::new(Kind::Settings, what, "it holds the cluster's URL"));
        };
        let parsed: Config = url.parse().map_err(|_| {
            let what = format!("{} holds no URL of a PostgreSQL cluster", shown_variable(name));
            let hint = "write postgresql://user:password@host1,host2/database; % in a password is %25";
            EngineError::new(Kind::Settings, what, hint)
        })?;
        let mut asked: FuturesUnordered<_> = each_node(&parsed, &self.member)
            .into_iter()
            .map(|(node, config)| self.connect_to(node, config))
            .collect();
        let mut failed = Vec::new();
        while let Some(tried) = asked.next().await {
            match tried {
                Ok(connected) => return Ok(connected),
                Err((node, error)) => failed.push((node, error)),
            }
        }
        let is_refused = |error: &EngineError| matches!(error.kind, Kind::Refused | Kind::Denied);
        let kind = match failed.iter().all(|(_, error)| is_refused(error)) && !failed.is_empty() {
            true => Kind::Refused,
            false => Kind::Silent,
        };
        let words: Vec<String> =
            failed.iter().map(|(node, error)| format!("{node}: {}", error.what)).collect();
        let hint = failed.first().map_or("the URL names no node", |(_, error)| error.hint.as_str());
        Err(EngineError::new(kind, format!("no node is read-write: {}", words.join("; ")), hint))
    }

    async fn connect_to(&self, node: String, config: Config) -> Result<Connected, (String, EngineError)> {
        let connecting = async {
            match is_local(&config) {
                true => open(&node, &config, NoTls).await,
                false => {
                    let tls = TlsSettings::default().of(&self.config.tls_files);
                    let tls = tls.map_err(|error| EngineError::of_tls(&error))?;
                    open(&node, &config, MakeTlsConnector::new(tls.connector())).await
                }
            }
        };
        let connected = timeout(CONNECT_WITHIN, connecting).await;
        connected.unwrap_or_else(|_| Err(EngineError::late(CONNECT_WITHIN))).map_err(|error| (node, error))
    }
}

/// Connects to one node, if it is read-write.
async fn open<T>(node: &str, config: &Config, tls: T) -> Result<Connected, EngineError>
where
    T: MakeTlsConnect<Socket> + 'static,
    T::Stream: Send,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, mut connection) = config.connect(tls).await.map_err(|error| EngineError::of(&error))?;
    let warnings = Arc::new(AtomicU64::new(0));
    let heard = warnings.clone();
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) if notice.severity() == "WARNING" => {
                    log::warn!("the cluster says: {}", notice.message());
                    heard.fetch_add(1, Ordering::AcqRel);
                }
                Ok(_) => {}
                Err(error) => {
                    log::debug!("a connection to the cluster ended: {error}");
                    return;
                }
            }
        }
    });
    let read_only = client.query_typed("SELECT pg_is_in_recovery()", &[]).await;
    let read_only = read_only.map_err(|error| EngineError::of(&error))?;
    match read_only.first().and_then(|row| row.try_get::<_, bool>(0).ok()) {
        Some(false) => {
            Ok(Connected { client, transaction: Mutex::default(), warnings, node: node.to_owned() })
        }
        _ => Err(EngineError::new(Kind::Silent, "it is a standby", "see that a primary runs")),
    }
}

//! One run of the actors by the process that owns the spool, from start to drain, panic, or
//! failure to start.

mod equipment;
mod reload;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor as _, Addr};
use actix_rt::time::{sleep, timeout};
use actix_rt::{Arbiter, ArbiterHandle, System};
use futures_util::future::{Either, select};
use tokio::sync::{Notify, mpsc, watch};

use super::beside::{count_again, show_status};
use super::block::block_on;
use super::{Current, Drained, Mode, Setting, StartError};
use crate::actors::{
    Alarm, AlarmBell, Announce, Close, CloseLedger, Door, Ledger, Member, ReloadReply, Ring, Router,
    look_after_files, look_once, take_inbox_in,
};
use crate::archive::{Healths, Pauses};
use crate::config::WatchFrom;
use crate::control::Server;
use crate::event::Event;
use crate::fleet::Link;
use crate::inspect::Watching;
use crate::names::counted;
use crate::sources::checkout::Checkout;
use crate::spool::Recovered;
use crate::store::Store;
use crate::watch::{Fate, Said, Watch};
use equipment::Equipment;
use reload::take_reloads;

/// How long the spool may take to accept what the watcher found.
const WATCH_EMIT: Duration = Duration::from_secs(5);

/// How long a runtime that stepped down still answers those who are connected.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long requests under way may take before the spool is opened again.
const REOPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long a member of a fleet may take to give its leases up.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// How a run ended.
pub(super) enum Ended {
    /// It was told to stop.
    Stopped(Drained),
    /// An actor or one of its tasks panicked.
    Panicked,
    /// The spool has to be opened again: another process owns it, or a restart would take in more.
    Reopen,
    /// It failed before it could take events.
    NotStarted(StartError),
}

/// Runs the Subscriptions and the control port on this thread, the Ledger and the Router on
/// another: the Ledger blocks, and the Router beside it saves each event two changes of thread.
pub(super) fn run(setting: &Arc<Setting>, (store, recovered): (Store, Recovered)) -> Ended {
    System::new().block_on(async move {
        let (alarm, mut bell) = Alarm::new();
        let intake = Arbiter::new();
        let (its_alarm, healths, pauses) = (alarm.clone(), store.healths().clone(), store.pauses().clone());
        let (fleet, recovered) = match of_fleet(&setting.current, recovered) {
            Ok(of_fleet) => of_fleet,
            Err(error) => return Ended::NotStarted(error),
        };
        let feed = setting.current.feed.clone();
        let shared = fleet.clone().filter(|fleet| fleet.delivers);
        let ledger = Ledger::start_in_arbiter(&intake.handle(), move |_| {
            let ledger = Ledger::new(store, its_alarm, feed);
            match shared {
                Some(OfFleet { link, routed, .. }) => ledger.sharing(link, routed),
                None => ledger,
            }
        });
        let started = start_actors(
            &setting.current,
            &intake.handle(),
            &ledger,
            (recovered, healths, pauses),
            fleet,
            alarm,
        );
        let ended = match started {
            Err(error) => Ended::NotStarted(error),
            Ok(started) => serve(setting, &ledger, started, &mut bell).await,
        };
        let ended = match ledger.send(CloseLedger).await {
            Ok(Ok(())) => ended,
            Ok(Err(why)) => {
                log::error!("not everything that is pending is on disk: {why}");
                match ended {
                    Ended::Stopped(drained) => Ended::Stopped(Drained { is_kept: false, ..drained }),
                    ended => ended,
                }
            }
            Err(_) => {
                log::error!("the ledger had stopped already; what is pending is on disk");
                ended
            }
        };
        intake.stop();
        if intake.join().is_err() {
            log::error!("the intake thread panicked; what is pending is on disk");
        }
        ended
    })
}

/// Opens the control port, takes the inbox in, and waits for the end.
async fn serve(
    setting: &Arc<Setting>,
    ledger: &Addr<Ledger>,
    Started { door, reloads, equipment, member }: Started,
    bell: &mut AlarmBell,
) -> Ended {
    let config = setting.current.config();
    let member = member.filter(|_| config.takes_part);
    if let Some(member) = &member
        && let Err(why) = member.may_begin().await
    {
        return Ended::NotStarted(StartError::Fleet(why));
    }
    let port = config.control_port;
    let server = match Server::bind(port).await {
        Ok(server) => server,
        Err(source) => return Ended::NotStarted(StartError::ControlPort { port, source }),
    };
    // Only now, with the port open: a process that cannot start must not send what was recovered.
    door.began().await;
    announce(ledger, serde_json::to_vec(&server.runtime_file()).ok()).await;
    let files = actix_rt::spawn(look_after_files(ledger.clone(), door.router().clone()));
    let (looked, inbox_looked) = watch::channel(false);
    let inbox = actix_rt::spawn(take_inbox_in(ledger.clone(), door.clone(), looked));
    let showing = actix_rt::spawn(show_status(setting.current.feed.clone(), door.clone()));
    let counting = actix_rt::spawn(count_again(ledger.clone(), setting.clone()));
    let reloading = take_reloads(reloads, setting.current.clone(), equipment, door.clone(), ledger.clone());
    let reloading = actix_rt::spawn(reloading);
    let watch = config.watch.and_then(|from| start_watch(&setting.current, from, &door, inbox_looked));
    log::debug!("control port {}", server.address());
    if let Some(member) = &member {
        member.begin();
    }
    setting.is_ready(Mode::Owner(door.clone()));
    let mut stop = setting.stop.clone();
    let stopped = async {
        let serving = pin!(server.serve(door.clone()));
        match select(pin!(stop.wait_for(Option::is_some)), serving).await {
            // The sender is gone, so the runtime was dropped: stop at once.
            Either::Left((Ok(deadline), _)) => deadline.unwrap_or_default(),
            Either::Left((Err(_), _)) | Either::Right(_) => Duration::ZERO,
        }
    };
    let ended = match select(pin!(stopped), pin!(bell.rings())).await {
        Either::Left((deadline, _)) => Ok(deadline),
        Either::Right((ring, _)) => Err(ring),
    };
    setting.set_mode(Mode::Starting);
    inbox.abort();
    files.abort();
    counting.abort();
    showing.abort();
    reloading.abort();
    // The watcher may be waiting for these actors, so this thread must not block on it.
    if let Some(watch) = watch
        && actix_rt::task::spawn_blocking(move || watch.stop()).await.is_err()
    {
        log::error!("the watcher was not waited for");
    }
    drop(server);
    announce(ledger, None).await;
    // Deliveries whose payload was removed are given up while the Ledger can still record it.
    look_once(ledger, door.router()).await;
    let ended = end(ended, &door).await;
    if let Some(member) = &member {
        member.leave(LEAVE_WITHIN).await;
    }
    ended
}

/// Ends the actors' work, each kind of end in its way.
async fn end(ended: Result<Duration, Ring>, door: &Door) -> Ended {
    match ended {
        Ok(deadline) => Ended::Stopped(drain(door.router(), deadline).await),
        Err(Ring::Panicked) => Ended::Panicked,
        Err(Ring::Deposed) => {
            log::error!("another process owns the spool by now: this one steps down");
            drain(door.router(), Duration::ZERO).await;
            // Connected clients hear that this runtime has ended, and ask the new owner.
            sleep(FAREWELL).await;
            Ended::Reopen
        }
        Err(Ring::Outdated) => {
            log::info!("a part of the spool that was set aside can be read: starting again from disk");
            drain(door.router(), REOPEN_WITHIN).await;
            Ended::Reopen
        }
    }
}

/// Writes `runtime.json`, which says where the runtime is; `None` removes it.
async fn announce(ledger: &Addr<Ledger>, content: Option<Vec<u8>>) {
    if ledger.send(Announce(content)).await.is_err() {
        log::debug!("the ledger has stopped");
    }
}

/// Begins to watch the repo; a failure is logged and everything else goes on.
fn start_watch(
    current: &Arc<Current>,
    from: WatchFrom,
    door: &Door,
    mut inbox_looked: watch::Receiver<bool>,
) -> Option<Watch> {
    let (reading, emitting, telling) = (current.clone(), door.clone(), door.clone());
    let mut is_first = true;
    let emit = move |event: Event| {
        // The inbox goes first: its events are older, and of two versions of a session the newer
        // must be told last.
        if std::mem::replace(&mut is_first, false) {
            block_on(inbox_looked.wait_for(|looked| *looked), WATCH_EMIT);
        }
        if let Err(error) = event.check_limits() {
            return Fate::Refused(error.to_string());
        }
        match block_on(emitting.emit(Box::new(event), None, WATCH_EMIT), 2 * WATCH_EMIT) {
            Some(Ok(_)) => Fate::Taken,
            Some(Err(error)) if error.is_temporary() => Fate::NotNow(error.reason()),
            Some(Err(error)) => Fate::Refused(error.reason()),
            None => Fate::NotNow("the runtime is busy or stopping".to_owned()),
        }
    };
    door.tell_of_watch(Watching::On);
    let tell = move |said: Said| match said {
        Said::Trouble(trouble) => telling.tell_of_watch(trouble.map_or(Watching::On, Watching::Troubled)),
        Said::Awaited(awaited) => {
            if block_on(telling.tell_of_awaited(awaited), WATCH_EMIT).is_none() {
                log::debug!("the runtime is stopping");
            }
        }
    };
    match Watch::start(move || reading.config(), from == WatchFrom::Start, emit, tell) {
        Ok(watch) => Some(watch),
        Err(error) => {
            let what = format!(
                "the repo is not watched: {error}; events that are emitted are delivered all the same"
            );
            log::error!("{what}");
            door.tell_of_watch(Watching::Troubled(what));
            None
        }
    }
}

/// The way to the cluster of a fleet.
#[derive(Clone)]
struct OfFleet {
    link: Link,
    delivers: bool,
    /// Told when deliveries were added there.
    routed: Arc<Notify>,
}

/// The way to the cluster, and what of the spool is for these actors: a member of a fleet that
/// delivers has nothing of its own.
fn of_fleet(current: &Current, recovered: Recovered) -> Result<(Option<OfFleet>, Recovered), StartError> {
    let config = current.config();
    let Some(fleet) = config.fleet.clone() else { return Ok((None, recovered)) };
    let environment = current.environment.with_file(config.env_file.as_deref());
    let (link, delivers) = (Link::new(fleet, environment)?, config.delivers_for_a_fleet());
    let left: usize = recovered.unfinished.values().map(Vec::len).sum();
    if delivers && left > 0 {
        let left = counted(left, "delivery waits", "deliveries wait");
        log::warn!(
            "{left} in this machine's own spool, from before it was one of a fleet, and nothing sends it: \
             run spec-notify drain once with a config without the fleet table"
        );
    }
    let recovered = if delivers { Recovered::default() } else { recovered };
    Ok((Some(OfFleet { link, delivers, routed: Arc::default() }), recovered))
}

/// The actors of a run, and what they were started with.
struct Started {
    door: Door,
    reloads: mpsc::Receiver<ReloadReply>,
    equipment: Equipment,
    /// Its part in a fleet that it delivers for.
    member: Option<Member>,
}

fn start_actors(
    current: &Arc<Current>,
    intake: &ArbiterHandle,
    ledger: &Addr<Ledger>,
    recovered: (Recovered, Healths, Pauses),
    fleet: Option<OfFleet>,
    alarm: Alarm,
) -> Result<Started, StartError> {
    let config = current.config();
    let mut equipment = Equipment::new(&config);
    let entries = equipment.entries(&config, current)?;
    let (to_ledger, deliveries, its_config) = (ledger.clone(), Arbiter::current(), config.clone());
    let checkout = Checkout::new(&config.repo, current.environment.clone());
    let its_checkout = checkout.clone();
    let feed = current.feed.clone();
    let router = Router::start_in_arbiter(intake, move |_| {
        Router::new(entries, recovered, to_ledger, deliveries, its_config, its_checkout, (alarm, feed))
    });
    let link = fleet.as_ref().map(|fleet| fleet.link.clone());
    let (door, reloads) = Door::new(router, ledger.clone(), &config, checkout, link, current.feed.clone());
    let member = fleet.filter(|fleet| fleet.delivers).map(|OfFleet { link, routed, .. }| {
        let current = current.clone();
        Member::new(link, door.clone(), ledger.clone(), move || current.config(), routed)
    });
    Ok(Started { door, reloads, equipment, member })
}

async fn drain(router: &Addr<Router>, deadline: Duration) -> Drained {
    // Without a deadline there is no wait: the second `Close` below only counts what is left.
    if !deadline.is_zero() && timeout(deadline, router.send(Close { wait: true })).await.is_err() {
        log::warn!("requests still under way after {} ms are cut off", deadline.as_millis());
    }
    let pending = router.send(Close { wait: false }).await.unwrap_or_default();
    Drained { pending, is_kept: true }
}

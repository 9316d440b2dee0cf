//! One run of the actors by the process that owns the spool, from start to drain, panic, or failure to start.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor as _, Addr};
use actix_rt::time::timeout;
use actix_rt::{Arbiter, System};
use futures_util::future::{Either, select};
use tokio::sync::Semaphore;

use super::{Drained, Mode, Setting, StartError};
use crate::actors::{
    Alarm, AlarmBell, Close, CloseLedger, Door, Lanes, Ledger, Limits, Router, Sender, Subscription, Target,
    take_inbox_in,
};
use crate::config::SubscriptionConfig;
use crate::control::Server;
use crate::delivery::{Dedupe, SubscriptionId};
use crate::http::Client;
use crate::store::{Recovered, Store, Unfinished};

/// How a run ended.
pub(super) enum Ended {
    /// As it was told to.
    Stopped(Drained),
    /// A part of it panicked.
    Panicked,
    /// Before it could take events.
    NotStarted(StartError),
}

/// Runs the actors on this thread, and the Ledger on one of its own.
pub(super) fn run(setting: &Setting, (store, recovered): (Store, Recovered)) -> Ended {
    System::new().block_on(async move {
        let (alarm, mut bell) = Alarm::new();
        let ledger_thread = Arbiter::new();
        let its_alarm = alarm.clone();
        let ledger =
            Ledger::start_in_arbiter(&ledger_thread.handle(), move |_| Ledger::new(store, its_alarm));
        let ended = match start_actors(setting, &ledger, recovered, &alarm) {
            Err(error) => Ended::NotStarted(error),
            Ok(door) => serve(setting, &ledger, door, &mut bell).await,
        };
        if ledger.send(CloseLedger).await.is_err() {
            log::error!("the ledger had stopped already; what is pending is on disk");
        }
        ledger_thread.stop();
        if ledger_thread.join().is_err() {
            log::error!("the ledger's thread panicked; what is pending is on disk");
        }
        ended
    })
}

/// Opens the control port, takes the inbox in, and waits for the end.
async fn serve(setting: &Setting, ledger: &Addr<Ledger>, door: Door, bell: &mut AlarmBell) -> Ended {
    let port = setting.config.control_port;
    let server = match Server::bind(&setting.config.spool_dir, port).await {
        Ok(server) => server,
        Err(source) => return Ended::NotStarted(StartError::ControlPort { port, source }),
    };
    let inbox = actix_rt::spawn(take_inbox_in(ledger.clone(), door.clone()));
    log::debug!("control port {}", server.address());
    setting.is_ready(Mode::Owner(door.clone()));
    let mut stop = setting.stop.clone();
    let stopped = async {
        let serving = pin!(server.serve(door.clone()));
        match select(pin!(stop.wait_for(Option::is_some)), serving).await {
            // A dropped sender is a dropped runtime: stop at once.
            Either::Left((Ok(deadline), _)) => deadline.unwrap_or_default(),
            Either::Left((Err(_), _)) | Either::Right(_) => Duration::ZERO,
        }
    };
    let deadline = match select(pin!(stopped), pin!(bell.rings())).await {
        Either::Left((deadline, _)) => Some(deadline),
        Either::Right(_) => None,
    };
    setting.mode.send_replace(Mode::Starting);
    inbox.abort();
    drop(server);
    match deadline {
        None => Ended::Panicked,
        Some(deadline) => Ended::Stopped(drain(door.router(), deadline).await),
    }
}

fn start_actors(
    setting: &Setting,
    ledger: &Addr<Ledger>,
    recovered: Recovered,
    alarm: &Alarm,
) -> Result<Door, StartError> {
    let config = &setting.config;
    let active: Vec<Arc<SubscriptionConfig>> = config
        .subscriptions
        .iter()
        .filter(|subscription| subscription.active)
        .cloned()
        .map(Arc::new)
        .collect();
    let endpoints = active
        .iter()
        .map(|s| s.endpoint.clone().ok_or_else(|| StartError::NoEndpoint(s.id.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    // A TLS context costs tens of milliseconds and megabytes: only where an endpoint needs it.
    let client = Client::new(endpoints.iter().any(|endpoint| endpoint.is_tls()))?;
    let permits = Arc::new(Semaphore::new(config.max_concurrency));
    let limits = Limits { max_concurrency: config.max_concurrency, max_pending: config.max_pending };
    let mut known = Dedupe::new(config.dedupe_window);
    for (key, at) in recovered.known {
        known.remember(key, at);
    }
    let mut unfinished: HashMap<SubscriptionId, Vec<Unfinished>> = HashMap::new();
    for delivery in recovered.unfinished {
        unfinished.entry(delivery.delivery.subscription.clone()).or_default().push(delivery);
    }
    let mut targets = Vec::new();
    for (config_entry, endpoint) in active.into_iter().zip(endpoints) {
        let waiting = unfinished.remove(&config_entry.id).unwrap_or_default();
        if !waiting.is_empty() {
            log::info!(
                "{} pending deliveries of {} recovered from the spool",
                waiting.len(),
                config_entry.id
            );
        }
        let sender = Sender {
            config: config_entry.clone(),
            endpoint,
            environment: setting.environment.clone(),
            client: client.clone(),
            permits: permits.clone(),
        };
        let address = Subscription::new(sender, ledger.clone(), limits, waiting, alarm.clone()).start();
        targets.push(Target { id: config_entry.id.clone(), filter: config_entry.filter.clone(), address });
    }
    for (subscription, waiting) in unfinished {
        log::warn!(
            "{} pending deliveries are for `{subscription}`, which is not an active subscription: they stay in the \
             spool and go on when it returns",
            waiting.len()
        );
    }
    let router = Router::new(targets, ledger.clone(), known, alarm.clone()).start();
    Ok(Door::new(router, &config.repo))
}

async fn drain(router: &Addr<Router>, deadline: Duration) -> Drained {
    if timeout(deadline, router.send(Close { wait: true })).await.is_err() {
        log::warn!("requests still under way after {} ms are cut off", deadline.as_millis());
    }
    let Lanes { waiting, in_flight } = router.send(Close { wait: false }).await.unwrap_or_default();
    Drained { pending: waiting + in_flight }
}

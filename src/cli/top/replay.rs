//! Replays from the screen, on threads of their own, because an endpoint may be slow: one dead
//! letter, or all of a cause.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use super::model::is_of;
use super::{CONNECT, News};
use crate::ask::{ReplayDeadLetter, SentOutcome, SentReport};
use crate::cli::test::PATIENCE;
use crate::control::{Client, ClientError};
use crate::delivery::{DeliveryId, OPEN_AFTER, SubscriptionId};
use crate::event::SpecId;
use crate::inspect::{DeliveryState, Listed, Listing, MAX_LISTED, Query, Trouble, counted, latency};

/// The least time from one replay of many to the next: 20 a second, as `replay --all` has it.
const PACE: Duration = Duration::from_millis(50);

/// Replays one dead letter.
pub(super) fn one(spool_dir: PathBuf, spec: SpecId, id: DeliveryId, tell: SyncSender<News>) {
    thread::spawn(move || {
        let sent = connect(&spool_dir).and_then(|mut client| send(&mut client, spec.clone(), id));
        let told = match sent {
            Ok(report) => match (report.outcome, report.error) {
                (_, Some(error)) => format!("{id} failed again: {error}"),
                (outcome, None) => format!("{id}: {outcome} in {}", latency(report.latency_ms)),
            },
            Err(ClientError::Unreachable(_) | ClientError::Absent(_)) => {
                format!("no runtime is running: spec-notify replay {spec} --delivery-id {id}")
            }
            Err(ClientError::Refused(error)) => error,
        };
        // The screen may be gone by now.
        drop(tell.send(News::Replayed(told)));
    });
}

/// Replays all dead letters of a cause, of each subscription the oldest first, until `stop` says
/// so. A subscription that fails five times in a row gets no more.
pub(super) fn all(spool_dir: PathBuf, trouble: Trouble, stop: Arc<AtomicBool>, tell: SyncSender<News>) {
    thread::spawn(move || {
        let told = match connect(&spool_dir) {
            Ok(mut client) => replay_all(&mut client, &trouble, &stop, &tell),
            Err(_) => format!("no runtime is running: {}", trouble.command),
        };
        drop(tell.send(News::Replayed(told)));
    });
}

fn connect(spool_dir: &Path) -> Result<Client, ClientError> {
    Client::connect(spool_dir, CONNECT)
}

fn send(client: &mut Client, spec: SpecId, id: DeliveryId) -> Result<SentReport, ClientError> {
    client.request(&ReplayDeadLetter { spec, delivery_id: id, unless_paused: false }, PATIENCE)
}

fn replay_all(client: &mut Client, trouble: &Trouble, stop: &AtomicBool, tell: &SyncSender<News>) -> String {
    let letters = match letters(client, trouble) {
        Ok(letters) => letters,
        Err(error) => return error.to_string(),
    };
    let (mut arrived, mut failed) = (0, 0);
    let mut in_a_row: HashMap<SubscriptionId, u32> = HashMap::new();
    let mut why_not = None;
    for letter in &letters {
        if stop.load(Ordering::SeqCst) {
            why_not = Some("stopped".to_owned());
            break;
        }
        let failures = in_a_row.entry(letter.subscription.clone()).or_default();
        if *failures >= OPEN_AFTER {
            why_not = Some(format!("{} failed {OPEN_AFTER} times in a row", letter.subscription));
            continue;
        }
        let progress =
            format!("replaying {} of {}, {failed} failed (Esc stops)", arrived + failed + 1, letters.len());
        // Not waited for: the next one says more.
        drop(tell.try_send(News::Replaying(progress)));
        let started = Instant::now();
        let is_good = match send(client, letter.spec.clone(), letter.id) {
            Ok(report) => report.outcome != SentOutcome::Failed,
            Err(ClientError::Refused(_)) => false,
            Err(error) => {
                why_not = Some(error.to_string());
                break;
            }
        };
        *failures = if is_good { 0 } else { *failures + 1 };
        let count = if is_good { &mut arrived } else { &mut failed };
        *count += 1;
        thread::sleep(PACE.saturating_sub(started.elapsed()));
    }
    let left = letters.len() - arrived - failed;
    let mut told =
        format!("{} replayed: {arrived} delivered", counted(arrived + failed, "dead letter", "dead letters"));
    if failed > 0 {
        told += &format!(", {failed} failed");
    }
    if let Some(why) = why_not.filter(|_| left > 0) {
        told += &format!(", {left} not tried: {why}");
    }
    told
}

/// The dead letters of a cause, of each subscription the oldest first.
fn letters(client: &mut Client, trouble: &Trouble) -> Result<Vec<Listed>, ClientError> {
    let mut letters: Vec<Listed> = Vec::new();
    for subscription in &trouble.subscriptions {
        let mut before = None;
        loop {
            let query = Query {
                subscription: Some(subscription.clone()),
                states: vec![DeliveryState::DeadLetter, DeliveryState::Dropped],
                before,
                ..Query::newest(MAX_LISTED)
            };
            let Listing { deliveries, more } = client.request(&query, PATIENCE)?;
            before = deliveries.last().map(Listed::cursor);
            letters.extend(deliveries.into_iter().filter(|letter| is_of(letter, trouble)));
            if before.is_none() || !more {
                break;
            }
        }
    }
    // Each subscription's came newest first.
    letters.reverse();
    Ok(letters)
}

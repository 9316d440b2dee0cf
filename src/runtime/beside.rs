//! Tasks beside the actors of a run that only look: at the status for those who watch, at the
//! evidence for the figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use actix_rt::time::{sleep, timeout};

use super::Setting;
use crate::actors::{Door, Ledger, Remember};
use crate::archive::evidence_parts;
use crate::clock;
use crate::feed::Feed;
use crate::figures::from_evidence;

/// The pause after each status that was gathered for watchers, and how many times as long as that
/// took.
const SHOW_AGAIN: Duration = Duration::from_millis(100);
const SHOW_REST: u32 = 4;

/// How often it is gathered where nothing is known to have changed: what a person does to the
/// files, and what the clock alone changes.
const SHOW_ANYWAY: Duration = Duration::from_secs(5);

/// Gathers the status for those who watch, whenever something may have changed.
pub(super) async fn show_status(feed: Feed, door: Door) {
    loop {
        let is_watched = match feed.is_watched() {
            true => timeout(SHOW_ANYWAY, feed.touched()).await.unwrap_or(true),
            false => feed.touched().await,
        };
        if !is_watched {
            continue;
        }
        let began = Instant::now();
        match door.status().await {
            Ok(status) => feed.show(status),
            Err(error) => log::debug!("no status for those who watch: {error}"),
        }
        sleep(SHOW_AGAIN.max(began.elapsed() * SHOW_REST)).await;
    }
}

/// Fills the figures from what the evidence has of the last day, without holding anybody up.
pub(super) async fn count_again(ledger: Addr<Ledger>, setting: Arc<Setting>) {
    let (evidence_dir, until) = (setting.current.config().evidence_dir.clone(), clock::now());
    let reading = move || {
        let parts = evidence_parts(&evidence_dir, None).unwrap_or_else(|error| {
            log::warn!("the evidence cannot be listed, and its figures are left out: {error}");
            Vec::new()
        });
        from_evidence(&parts, until, || setting.stop.borrow().is_none())
    };
    let Ok(counts) = actix_rt::task::spawn_blocking(reading).await else {
        return log::error!("the figures of the last day could not be read from the evidence");
    };
    if ledger.send(Remember(counts)).await.is_err() {
        log::debug!("the ledger has stopped");
    }
}

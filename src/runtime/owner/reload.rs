//! Reloads while the actors run: the config read again and, if it is valid, put in force.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::mpsc;

use super::equipment::Equipment;
use crate::actors::{ConfigureStore, Door, Ledger, Reconfigure, ReloadReply};
use crate::config::{Loaded, Problem, Report};
use crate::runtime::Current;

/// Carries out reloads, one after the other. Attempts under way end with the old config.
pub(super) async fn take_reloads(
    mut reloads: mpsc::Receiver<ReloadReply>,
    current: Arc<Current>,
    mut equipment: Equipment,
    door: Door,
    ledger: Addr<Ledger>,
) {
    while let Some(reply) = reloads.recv().await {
        let report = reload(&current, &mut equipment, &door, &ledger).await;
        match report.ok {
            true => log::info!("the config was read again and is in force"),
            false => log::error!(
                "the config was read again and refused, the old one stays in force: {}",
                listed(&report)
            ),
        }
        if reply.send(report).is_err() {
            log::debug!("nobody waits any more for the reload");
        }
    }
}

fn listed(report: &Report) -> String {
    report.errors.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

async fn reload(
    current: &Arc<Current>,
    equipment: &mut Equipment,
    door: &Door,
    ledger: &Addr<Ledger>,
) -> Report {
    let reading = current.clone();
    let refused = |why: &dyn std::fmt::Display| {
        Loaded::refused(&why.to_string(), "look into the log; the old config stays in force").report()
    };
    let loaded = match actix_rt::task::spawn_blocking(move || reading.read_again()).await {
        Ok(loaded) => loaded,
        Err(error) => return refused(&error),
    };
    let report = loaded.report();
    let Some(config) = loaded.config else { return report };
    equipment.refit(&config);
    let entries = match equipment.entries(&config, current) {
        Ok(entries) => entries,
        Err(error) => return refused(&error),
    };
    let config = Arc::new(config);
    let reconfigure = Reconfigure { entries, config: config.clone() };
    let told = door.router().send(reconfigure).await.is_ok()
        && ledger.send(ConfigureStore(config.store_options())).await.is_ok();
    if !told {
        return refused(&"the runtime has stopped");
    }
    door.tell_of_config(config.origin.clone());
    current.set(config);
    report
}

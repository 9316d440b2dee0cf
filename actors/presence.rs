//! Checks twice a second that all spool files are still there, and gives up deliveries whose
//! payload was removed.

use std::time::Duration;

use actix::Addr;
use actix_rt::time::sleep;

use super::ledger::{Ledger, Look};
use super::router::{GiveUpLost, Router};

/// How often.
const LOOK_AFTER_FILES: Duration = Duration::from_millis(500);

/// Looks after the files until the actors end.
pub(crate) async fn look_after_files(ledger: Addr<Ledger>, router: Addr<Router>) {
    while look_once(&ledger, &router).await {
        sleep(LOOK_AFTER_FILES).await;
    }
}

/// Looks after the files once; whether the actors are there still.
pub(crate) async fn look_once(ledger: &Addr<Ledger>, router: &Addr<Router>) -> bool {
    match ledger.send(Look).await {
        Ok(lost) if lost.is_empty() => true,
        Ok(lost) => router.send(GiveUpLost(lost)).await.is_ok(),
        Err(_) => false,
    }
}

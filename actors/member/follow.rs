//! Gives each Subscription what was routed since it was looked for last, and notices when somebody
//! gave a lease up.

use std::time::Duration;

use actix_rt::time::{sleep, timeout};

use super::{AGAIN, Member, POLL};
use crate::actors::subscription::Follow;
use crate::delivery::SubscriptionId;
use crate::fleet::{Duty, Waiting};

/// Looks for deliveries from one look for leases that were given up to the next.
const FREE_AFTER: u32 = 2;

impl Member {
    pub(super) async fn follow(&self) {
        let mut looks: u32 = 0;
        loop {
            // Either may come first.
            drop(timeout(POLL, self.routed.notified()).await);
            looks = looks.wrapping_add(1);
            if self.give_what_came().await.is_err() {
                sleep(AGAIN).await;
            } else if looks.is_multiple_of(FREE_AFTER) {
                self.look_for_free().await;
            }
        }
    }

    async fn give_what_came(&self) -> Result<(), ()> {
        let cursors: Vec<(SubscriptionId, i64)> = self
            .work
            .borrow()
            .held
            .iter()
            .filter(|(_, holding)| !holding.is_ending)
            .filter_map(|(duty, holding)| match duty {
                Duty::Deliver(id) => Some((id.clone(), holding.cursor?)),
                Duty::Route => None,
            })
            .collect();
        if cursors.is_empty() {
            return Ok(());
        }
        let came = self.link.tail(cursors.clone()).await.map_err(|error| log::debug!("{error}"))?;
        for (id, Waiting { unfinished, cursor }) in came {
            let before = cursors.iter().find(|(of, _)| *of == id).map(|(_, cursor)| *cursor);
            let duty = Duty::Deliver(id.clone());
            let address = {
                let mut work = self.work.borrow_mut();
                // Another tenure has begun meanwhile, which read all of it.
                let holding = work.held.get_mut(&duty);
                let Some(holding) = holding.filter(|it| it.cursor == before && !it.is_ending) else {
                    continue;
                };
                holding.cursor = Some(cursor);
                work.deliverable.get(&id).cloned()
            };
            if let Some(address) = address
                && address.send(Follow(unfinished)).await.is_err()
            {
                log::error!("{id} has stopped: another member takes it over");
            }
        }
        Ok(())
    }

    /// Looks at once where somebody gave a lease up, instead of at the next renewal.
    async fn look_for_free(&self) {
        let mut wished: Vec<Duty> =
            self.work.borrow().deliverable.keys().cloned().map(Duty::Deliver).collect();
        wished.push(Duty::Route);
        if let Ok(free) = self.link.free(wished).await {
            let known = std::mem::replace(&mut self.work.borrow_mut().free, free);
            if free > known {
                // Not all members at the very same moment.
                let wait = Duration::from_millis(200).mul_f64(crate::clock::fraction());
                sleep(wait).await;
                self.look.notify_one();
            }
        }
    }
}

//! The Router as one of a fleet: it leads while it has the lease, with what the cluster says of the
//! runs and keys, and knows nothing else.

use actix::prelude::*;

use super::{From, Router, Seat};
use crate::actors::subscription::Subscription;
use crate::delivery::{Dedupe, Identities, SubscriptionId};
use crate::event::SpecId;
use crate::fleet::{Known, Routed, Term};
use crate::run::Silences;

/// From the fleet's member: it has the lease, and this is what the cluster knows. Again after a
/// write failed. One at a time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Lead {
    pub(crate) term: Term,
    pub(crate) known: Known,
}

/// From the fleet's member: another may have the lease. One at a time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StandDown;

/// From the fleet's member: where these subscriptions are. One per look.
#[derive(Message)]
#[rtype(result = "Vec<(SubscriptionId, Addr<Subscription>)>")]
pub(crate) struct FindDeliverable;

impl Router {
    /// Where an event that is accepted now lies in the cluster; `None` where it lies on this disk.
    pub(super) fn routed(&self, spec: &SpecId, from: &From) -> Option<Routed> {
        let Some(Seat::Leads(term)) = self.seat else { return None };
        let seq = if let From::Cluster { seq, .. } = from { Some(*seq) } else { None };
        Some(Routed { term, seq, run: self.runs.get(spec).cloned() })
    }

    /// Forgets all that is known of runs and keys.
    fn forget(&mut self, context: &mut Context<Self>) {
        self.seat = Some(Seat::Stands);
        self.runs.clear();
        self.sequences.clear();
        self.identities = Identities::default();
        self.known = Dedupe::new(self.config.dedupe_window);
        for (_, timer) in std::mem::take(&mut self.ending) {
            context.cancel_future(timer);
        }
        self.silences = Silences::default();
        self.await_silence(context);
    }
}

impl Handler<Lead> for Router {
    type Result = ();

    fn handle(&mut self, Lead { term, known }: Lead, context: &mut Self::Context) {
        self.forget(context);
        self.seat = Some(Seat::Leads(term));
        self.runs.extend(known.runs);
        self.sequences.extend(known.sequences);
        for (key, at) in known.keys {
            self.known.remember(key, at);
        }
        for (spec, key, told) in known.told {
            self.identities.restore(&spec, key, told);
        }
        let specs: Vec<SpecId> = self.runs.keys().cloned().collect();
        for spec in specs {
            self.tell_of_run(&spec, context);
            self.expect_life(&spec, None);
        }
        self.await_silence(context);
    }
}

impl Handler<StandDown> for Router {
    type Result = ();

    fn handle(&mut self, _: StandDown, context: &mut Self::Context) {
        self.forget(context);
    }
}

impl Handler<FindDeliverable> for Router {
    type Result = MessageResult<FindDeliverable>;

    /// Those that can be delivered to from here.
    fn handle(&mut self, _: FindDeliverable, _: &mut Self::Context) -> Self::Result {
        let active = self.active_ones().map(|(config, address)| (config.id.clone(), address.clone()));
        MessageResult(active.collect())
    }
}

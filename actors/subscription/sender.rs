//! What a Subscription makes attempts with: client, target, place among the permits; rebuilt at a
//! reload.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::Subscription;
use crate::actors::attempt::{self, Settings};
use crate::actors::permits::{Asked, Permit, Seat};
use crate::archive::Attempt;
use crate::delivery::{Delivery, DeliveryId, Payload, RetryPolicy};
use crate::http::{Client, Target};

/// The requests of a subscription that are under way at its endpoint, an operator's too.
#[derive(Clone, Default)]
pub(super) struct Requests(Rc<RefCell<HashMap<DeliveryId, usize>>>);

/// One of them, until it is dropped.
pub(super) struct UnderWay {
    among: Requests,
    id: DeliveryId,
}

impl Requests {
    pub(super) fn begin(&self, id: DeliveryId) -> UnderWay {
        *self.0.borrow_mut().entry(id).or_default() += 1;
        UnderWay { among: self.clone(), id }
    }

    /// Whether one of this delivery is under way.
    pub(super) fn has(&self, id: DeliveryId) -> bool {
        self.0.borrow().contains_key(&id)
    }

    /// Their number.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().values().sum()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Entry::Occupied(mut place) = self.among.0.borrow_mut().entry(self.id) {
            *place.get_mut() -= 1;
            if *place.get() == 0 {
                place.remove();
            }
        }
    }
}

/// What an attempt needs; shared with the tasks that make them.
pub(super) struct Sender {
    settings: Settings,
    pub(super) client: Client,
    pub(super) target: Target,
    /// Its place among those that share the permits; absent for a dry run, which sends nothing.
    pub(super) seat: Option<Rc<Seat>>,
    requests: Requests,
    /// Whether the config was read again since: what waits for its turn is not sent by it.
    is_replaced: Cell<bool>,
}

impl Sender {
    /// Whether it is the one of the config in force.
    pub(super) fn is_in_force(&self) -> bool {
        !self.is_replaced.get()
    }

    /// Asks for a permit, where one is needed; `spare` may be given back for it.
    pub(super) fn ask(&self, is_proven: bool, spare: &mut Option<Permit>) -> Option<Asked> {
        self.seat.as_ref().map(|seat| seat.ask(is_proven, spare))
    }

    /// Waits for the permit, where one was asked for. Whoever has it drops it after asking for the
    /// next one.
    pub(super) async fn permit(asked: Option<Asked>) -> Option<Permit> {
        asked?.permit().await
    }

    /// Makes an attempt now.
    pub(super) async fn make(
        &self,
        delivery: Arc<Delivery>,
        payload: Payload,
        number: u32,
        dry_run: bool,
    ) -> Attempt {
        let settings = &self.settings;
        let dry_run = dry_run || settings.config.dry_run;
        let _under_way = (!dry_run).then(|| self.requests.begin(delivery.id));
        attempt::make(&self.client, &self.target, settings, &delivery, payload, number, dry_run).await
    }
}

impl Subscription {
    pub(super) fn configure(&mut self, settings: Option<Settings>) {
        let before = self.sender.take();
        if let Some(before) = &before {
            before.is_replaced.set(true);
        }
        let Some(settings) = settings else {
            // What waits is kept, never dropped, while there is no config entry for it.
            self.lane.configure(RetryPolicy::default(), 0, usize::MAX);
            self.lane.close();
            return;
        };
        let config = &settings.config;
        self.lane.configure(config.retry.clone(), config.max_in_flight, settings.max_pending);
        self.workers.keep(config.max_in_flight);
        self.lane.set_rate(config.rate_limit_per_s);
        let of_before = before.as_ref().and_then(|before| before.seat.clone());
        let seat = (!config.dry_run).then(|| {
            let kept = of_before.filter(|seat| seat.is_of(&settings.permits));
            kept.unwrap_or_else(|| Rc::new(Seat::new(&settings.permits)))
        });
        // Keeps the client, and so its open connections, if TLS and proxy are unchanged.
        let is_usable =
            |before: &Rc<Sender>| before.client.is_with(settings.tls.as_ref(), config.proxy.as_ref());
        let client = before.filter(is_usable).map_or_else(
            || Client::new(settings.tls.clone(), config.proxy.clone(), settings.connections.clone()),
            |before| before.client.clone(),
        );
        let target = Target::new(&settings.endpoint);
        let (requests, is_replaced) = (self.requests.clone(), Cell::new(false));
        self.sender = Some(Rc::new(Sender { settings, client, target, seat, requests, is_replaced }));
    }
}

//! The Router's lifecycle: a reload, waiting until nothing is under way, the stop.

use std::pin::pin;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{Router, Subscriber};
use crate::actors::attempt::Settings;
use crate::actors::subscription::{Configure, ReadQueue, Settle};
use crate::config::Config;
use crate::delivery::SubscriptionId;

/// From the runtime, at a reload: these config entries from now on. Answered when every
/// subscription knows. One at a time, as reloads are.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Reconfigure {
    /// Settings are absent where an entry is not active.
    pub(crate) entries: Vec<(SubscriptionId, Option<Settings>)>,
    pub(crate) config: Arc<Config>,
}

/// From a `Handle`: answered when nothing is under way and nothing is due. One per waiting caller.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WaitIdle;

/// From the runtime, at the end: refuse new events and start no attempts. Answered with the number
/// of deliveries left, once the attempts under way have ended. Two a run.
#[derive(Message)]
#[rtype(result = "usize")]
pub(crate) struct Close {
    /// False: answer at once, without waiting for attempts under way.
    pub(crate) wait: bool,
}

impl Handler<Reconfigure> for Router {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Reconfigure, _: &mut Self::Context) -> Self::Result {
        let Reconfigure { entries, config } = message;
        if !self.open {
            return Box::pin(std::future::ready(()));
        }
        self.known.set_window(config.dedupe_window);
        self.config = config;
        let mut before = std::mem::take(&mut self.subscribers);
        let mut told = Vec::new();
        for (id, settings) in entries {
            match before.iter().position(|subscriber| subscriber.id == id) {
                None => self.add(id, settings, Vec::new()),
                Some(at) => {
                    let Subscriber { address, .. } = before.swap_remove(at);
                    let config = settings.as_ref().map(|settings| settings.config.clone());
                    told.push(address.send(Configure(settings)));
                    self.subscribers.push(Subscriber { id, config, address });
                }
            }
        }
        // An entry that left the config keeps its Subscription: what waits goes on when it returns.
        for subscriber in before {
            told.push(subscriber.address.send(Configure(None)));
            self.subscribers.push(Subscriber { config: None, ..subscriber });
        }
        Box::pin(async move {
            for told in told {
                if told.await.is_err() {
                    log::error!("a subscription has stopped: its deliveries wait on disk for the next start");
                }
            }
        })
    }
}

impl Router {
    /// Tells every subscription now; resolves when all are quiet. A stopped one counts as quiet.
    fn settle(&self, close: bool) -> impl Future<Output = ()> + use<> {
        let tell_one = |one: &Subscriber| {
            let (reply, answer) = oneshot::channel();
            // `send` takes the message at once; awaiting it only tells whether someone is there.
            (one.address.send(Settle { close, reply }), answer)
        };
        let told: Vec<_> = self.subscribers.iter().map(tell_one).collect();
        async move {
            for (request, answer) in told {
                if request.await.is_err() {
                    continue;
                }
                if answer.await.is_err() {
                    log::error!("a subscription stopped before it was quiet");
                }
            }
        }
    }
}

impl Handler<WaitIdle> for Router {
    type Result = ResponseActFuture<Self, ()>;

    /// Tells due ends of runs first, without their usual wait.
    fn handle(&mut self, _: WaitIdle, context: &mut Self::Context) -> Self::Result {
        let mut telling = actix::fut::wrap_future(std::future::ready(())).boxed_local();
        for (spec, timer) in std::mem::take(&mut self.ending) {
            context.cancel_future(timer);
            let told = self.tell_of_ends(spec);
            telling = telling.then(|(), _, _| told).boxed_local();
        }
        Box::pin(telling.then(|(), router, _| router.settle(false).into_actor(router)))
    }
}

impl Handler<Close> for Router {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, Close { wait }: Close, _: &mut Self::Context) -> Self::Result {
        self.open = false;
        let settled = self.settle(true);
        let addresses: Vec<_> = self.subscribers.iter().map(|one| one.address.clone()).collect();
        Box::pin(async move {
            // Lives until the queues are read: actix skips a message whose sender is gone.
            let mut settled = pin!(settled);
            if wait {
                settled.as_mut().await;
            }
            let mut left = 0;
            for address in addresses {
                let queue = address.send(ReadQueue).await.unwrap_or_default();
                left += queue.waiting + queue.in_flight;
            }
            left
        })
    }
}

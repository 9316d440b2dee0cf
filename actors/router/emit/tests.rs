//! What the Router knows of a run after the disk refused some of its events.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use actix::prelude::*;
use actix_rt::SystemRunner;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{Emit, From, Router};
use crate::actors::alarm::Alarm;
use crate::actors::ledger::{Ledger, ReadRun};
use crate::archive::{Healths, Pauses};
use crate::config::LoadOptions;
use crate::env::Environment;
use crate::event::{Event, Stage, Status};
use crate::feed::{Feed, RuntimeState};
use crate::files::fault;
use crate::run::Run;
use crate::sources::checkout::Checkout;
use crate::spool::Recovered;
use crate::store::{Store, StoreOptions};

#[derive(Message)]
#[rtype(result = "Option<Run>")]
struct RunKnown;

impl Handler<RunKnown> for Router {
    type Result = Option<Run>;

    fn handle(&mut self, _: RunKnown, _: &mut Self::Context) -> Self::Result {
        self.runs.get(&"SPEC-1".parse().unwrap()).cloned()
    }
}

/// A Router and its Ledger on this thread, where faults are injected.
fn start(dir: &Path) -> (SystemRunner, Addr<Router>, Addr<Ledger>) {
    let environment = Environment::fixed([]);
    let options = LoadOptions::in_dir(dir).repo(dir);
    let config = Arc::new(options.parse("", &environment).into_config().unwrap());
    let checkout = Checkout::new(dir, environment);
    let (store, _) = Store::open(StoreOptions::in_dir(dir)).unwrap();
    let feed = Feed::new(RuntimeState::Running);
    let system = actix::System::new();
    let (router, ledger) = system.block_on(async {
        let ledger = Ledger::new(store, Alarm::new().0, feed.clone()).start();
        let recovered = (Recovered::default(), Healths::new(), Pauses::new());
        let (of_router, here, told) = (ledger.clone(), Arbiter::current(), (Alarm::new().0, feed));
        let router = Router::new(Vec::new(), recovered, of_router, here, config, checkout, told);
        (router.start(), ledger)
    });
    (system, router, ledger)
}

/// Emits after other tasks had this many turns.
async fn emit(router: Addr<Router>, event: Event, turns: usize) -> bool {
    let mut left = turns;
    // A task that tokio yields waits until nothing else is ready, which is too late here.
    poll_fn(|context| match left.checked_sub(1) {
        None => Poll::Ready(()),
        Some(fewer) => {
            left = fewer;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
    let (reply, answer) = oneshot::channel();
    let emit = Emit { event: event.into(), published: vec![], from: From::Emitter, admission: None, reply };
    router.send(emit).await.unwrap();
    answer.await.unwrap().result.is_ok()
}

/// Each operation on the disk fails once, while further events of the run come at any moment.
#[test]
fn whichever_of_its_events_is_not_written_the_run_is_known_as_it_is_on_disk() {
    let stages = [Stage::Plan, Stage::Tasks, Stage::Implement, Stage::Validate, Stage::Audit];
    let mut refused = 0;
    for apart in 0..20 {
        for operations in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let (system, router, ledger) = start(dir.path());
            let event = |n: usize| {
                let spec = "SPEC-1".parse().unwrap();
                Event::stage(spec, stages[n], Status::Success).session(format!("s{n}")).build()
            };
            let all = || {
                let emitted = (0..stages.len()).map(|n| {
                    let (router, event) = (router.clone(), event(n));
                    let turns = if n == 0 { 0 } else { apart + n };
                    async move { actix_rt::spawn(emit(router, event, turns)).await.unwrap() }
                });
                refused += system.block_on(join_all(emitted)).iter().filter(|taken| !**taken).count();
            };
            if !fault::full_after(operations, 1, all) {
                assert!(operations > 3);
                break;
            }
            system.block_on(async {
                // Whoever was refused tries again.
                for n in 0..stages.len() {
                    assert!(emit(router.clone(), event(n), 0).await);
                }
                let on_disk = ledger.send(ReadRun("SPEC-1".parse().unwrap())).await.unwrap().unwrap();
                let known = router.send(RunKnown).await.unwrap().unwrap();
                assert_eq!(known, on_disk, "{operations} operations, {apart} apart");
            });
        }
    }
    assert!(refused > 0);
}

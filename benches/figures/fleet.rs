//! A fleet beside its bare engine: three nodes of PostgreSQL on loopback, a quorum for each commit,
//! in the same run. Needs PostgreSQL's programs.

#[allow(dead_code, clippy::panic, reason = "written for the tests, which need more of it")]
#[path = "../../tests/fleet/cluster.rs"]
mod cluster;
mod engine;

use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use spec_notify::{Receipt, Runtime};

use self::cluster::Cluster;
use self::engine::Engine;
use super::accept::{IN_TURN, WITHIN};
use super::machine::{Core, median, memory, now, on_core, wait_for};
use super::repo::{Entry, Repo, SPEC, Serve, drain, event};
use super::table::{Figure, Target};
use super::{Bench, raw};

/// Machines that emit at a time.
const EMITTERS: usize = 64;

const SUBSCRIPTIONS: usize = 10;

/// The lease of takeovers: the shortest there is.
const LEASE_S: f64 = 5.0;

/// What the figures of a run share.
struct Fleet<'a> {
    bench: &'a Bench,
    cluster: Cluster,
    engine: Engine,
}

pub(super) fn all(bench: &Bench) -> Vec<Figure> {
    let cluster = Cluster::start();
    let engine = Engine::new(&cluster.url_of(cluster.primary()));
    let fleet = Fleet { bench, cluster, engine };
    let ready = fleet.machine("emit", &[]).command(super::repo::PROGRAM).args(["fleet", "init"]).status();
    super::machine::succeeded(ready.expect("the program starts"));
    let mut figures = vec![fleet.one_emitter(), fleet.many_emitters()];
    figures.extend([1, 2, 3].map(|deliverers| fleet.recorded(deliverers)));
    figures.extend([fleet.takeover(), fleet.memory(), fleet.idle()]);
    figures
}

impl Fleet<'_> {
    /// The repo of a machine of the fleet.
    fn machine(&self, role: &str, entries: &[Entry]) -> Repo {
        let settings = format!(
            "env_file = \"engine.env\"\nmax_pending = 1000000\nmax_concurrency = 64\n\
             [spec_ops.webhooks.fleet]\nurl_env = \"ENGINE_URL\"\nnamespace = \"bench\"\nrole = \"{role}\"\n\
             lease_s = {LEASE_S}\n"
        );
        let repo = Repo::new(&settings, entries);
        repo.write("engine.env", &format!("ENGINE_URL={}\n", self.cluster.url("postgres")));
        repo
    }

    fn deliverer(&self) -> Repo {
        let entries: Vec<Entry> = (0..SUBSCRIPTIONS)
            .map(|n| Entry::new(format!("s{n}"), self.bench.receiver.url(&format!("s{n}")), ""))
            .collect();
        self.machine("deliver", &entries)
    }

    /// Deliverers that are ready, with a share of the leases each.
    fn deliverers(&self, count: usize) -> Vec<(Repo, Serve)> {
        let machines = (0..count).map(|_| {
            let repo = self.deliverer();
            let serve = repo.serve(&["--no-watch"]);
            (repo, serve)
        });
        let machines: Vec<_> = machines.collect();
        wait_for("the leases to be shared", Duration::from_millis(50), || {
            let held = "SELECT count(*) = 11 AND count(DISTINCT holder) = ";
            let held = format!(
                "{held}{count} FROM spec_notify.lease WHERE name NOT LIKE 'member:%' \
                 AND until > clock_timestamp()"
            );
            (self.cluster.sql(&held) == "t").then_some(())
        });
        machines
    }

    fn nothing_left(&self) {
        let left = "SELECT (SELECT count(*) FROM spec_notify.delivery WHERE ended_at IS NULL) + \
                    (SELECT count(*) FROM spec_notify.event WHERE NOT routed)";
        wait_for("nothing pending", Duration::from_millis(50), || {
            (self.cluster.sql(left) == "0").then_some(())
        });
    }

    fn one_emitter(&self) -> Figure {
        let (mut ours, mut reference) = (Vec::new(), Vec::new());
        let repo = self.machine("emit", &[]);
        let runtime = repo.runtime();
        for round in 0..self.bench.rounds() {
            let (mut emits, mut upserts) = (Vec::new(), Vec::new());
            for turn in 0..self.bench.count(5, 1) {
                for n in 0..IN_TURN {
                    emits.push(emit(&runtime, format!("one-{round}-{turn}-{n}")));
                }
                upserts.extend(self.engine.upserts(&format!("one-{round}-{turn}"), IN_TURN));
            }
            ours.push(median(&emits) * 1e3);
            reference.push(median(&upserts) * 1e3);
        }
        drain(runtime);
        let what = "fleet: durable accept, one emitter, p50 / a bare upsert";
        Figure::new("20", what, "ms", median(&ours), Target::RatioAtMost(1.3)).over(median(&reference))
    }

    fn many_emitters(&self) -> Figure {
        let each = self.bench.count(40, 2);
        let repos: Vec<Repo> = (0..EMITTERS).map(|_| self.machine("emit", &[])).collect();
        let runtimes: Vec<Runtime> = repos.iter().map(Repo::runtime).collect();
        let handles: Vec<_> = runtimes.iter().map(Runtime::handle).collect();
        let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
        let ours = |round: usize| {
            let started = Instant::now();
            tokio.block_on(join_all(handles.iter().enumerate().map(async |(machine, handle)| {
                for n in 0..each {
                    let receipt = handle.emit(event(format!("many-{round}-{machine}-{n}"))).await;
                    assert!(matches!(receipt, Ok(Receipt::Accepted(_))), "{receipt:?}");
                }
            })));
            (EMITTERS * each) as f64 / started.elapsed().as_secs_f64()
        };
        // The first connects.
        ours(usize::MAX);
        let (mut rates, mut bare) = (Vec::new(), Vec::new());
        for round in 0..self.bench.rounds() {
            rates.push(ours(round));
            bare.push(self.engine.upserts_a_second(&format!("many-{round}"), EMITTERS, each));
        }
        for runtime in runtimes {
            drain(runtime);
        }
        let what = "fleet: durable accepts a second, 64 machines / bare upserts on 64 connections";
        Figure::new("21", what, "/s", median(&rates), Target::RatioAtLeast(0.8)).over(median(&bare))
    }

    /// Deliveries a second from the first request to the last, all of them due at the same moment.
    fn recorded(&self, deliverers: usize) -> Figure {
        self.cluster
            .sql("TRUNCATE spec_notify.event, spec_notify.delivery, spec_notify.body, spec_notify.evidence");
        let machines = self.deliverers(deliverers);
        self.keep_a_payload();
        let events = self.bench.count(800, 4);
        let (mut ours, mut bare, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.bench.slow_rounds() {
            self.bench.receiver.take();
            self.insert_due_together(events);
            let arrivals = self.bench.receiver.wait_for(events * SUBSCRIPTIONS);
            let times: Vec<f64> = arrivals.iter().map(|arrival| arrival.at).collect();
            self.nothing_left();
            let span =
                times.iter().copied().fold(0.0, f64::max) - times.iter().copied().fold(f64::MAX, f64::min);
            ours.push(times.len() as f64 / span);
            let each = self.bench.count(60, 2);
            bare.push(self.engine.outcomes_a_second(deliverers, SUBSCRIPTIONS, each, |_| {}));
            let url = self.bench.receiver.url("");
            let send = move |count| {
                raw::posted(&url, count, SUBSCRIPTIONS);
            };
            both.push(self.engine.outcomes_a_second(deliverers, SUBSCRIPTIONS, each, send));
        }
        drop(machines);
        self.forget_members();
        let label = ["22a", "22b", "22c"][deliverers - 1];
        let what = format!(
            "fleet: deliveries sent and recorded a second, {deliverers} deliverers, {SUBSCRIPTIONS} \
             subscriptions / bare fenced transactions of 16 on {deliverers} connections"
        );
        let figure = Figure::new(label, what, "/s", median(&ours), Target::RatioAtLeast(0.8));
        let both = median(&both);
        figure.over(median(&bare)).note(format!(
            "the bare transactions with as many bare signed requests beside them, on the same cores: \
             {both:.0} /s, of which spec-notify reaches {:.2}",
            median(&ours) / both
        ))
    }

    /// Has one event routed, and keeps the payload that it got.
    fn keep_a_payload(&self) {
        let mut count = 0;
        wait_for("a payload", Duration::from_millis(50), || {
            self.insert(&format!("payload-{count}"), 1);
            count += 1;
            self.nothing_left();
            let kept = "CREATE TABLE IF NOT EXISTS spec_notify.bench_payload (bytes bytea NOT NULL); \
                        INSERT INTO spec_notify.bench_payload SELECT bytes FROM spec_notify.body LIMIT 1; \
                        SELECT count(*) FROM spec_notify.bench_payload";
            (self.cluster.sql(kept) != "0").then_some(())
        });
    }

    /// Deliveries of as many events that have been tried and wait for one moment, so that all
    /// deliverers have read them by then and begin together.
    fn insert_due_together(&self, events: usize) {
        self.cluster.sql(&format!(
            "WITH payload AS (INSERT INTO spec_notify.body \
                 SELECT gen_random_uuid(), 'bench', (SELECT bytes FROM spec_notify.bench_payload LIMIT 1) \
                 FROM generate_series(1, {events}) RETURNING id) \
             INSERT INTO spec_notify.delivery (id, ns, subscription, spec, body, format, kind, key, accepted_at, \
                 attempts, next_attempt_at) \
             SELECT gen_random_uuid(), 'bench', 's' || n, '{SPEC}', payload.id, 'spec-kit', \
                 'spec-auto.stage.completed', '{SPEC}:plan:attempt-1:' || payload.id, now(), \
                 3, now() + interval '2 seconds' \
             FROM payload, generate_series(0, {SUBSCRIPTIONS} - 1) AS n"
        ));
    }

    /// Events that lie in the cluster as emitters would have put them there.
    fn insert(&self, name: &str, count: usize) {
        let event = serde_json::to_string(&event(format!("{name}-%"))).expect("JSON");
        self.cluster.sql(&format!(
            "INSERT INTO spec_notify.event (ns, key, spec, event) SELECT 'bench', \
             sha256(convert_to('{SPEC}:plan:attempt-1:{name}-' || n, 'UTF8')), '{SPEC}', \
             replace('{event}', '{name}-%', '{name}-' || n) FROM generate_series(1, {count}) AS n"
        ));
    }

    fn forget_members(&self) {
        self.cluster.sql("DELETE FROM spec_notify.lease");
    }

    /// From the kill of the owner to the first request of the next one, over the lease.
    fn takeover(&self) -> Figure {
        let mut times = Vec::new();
        for round in 0..self.bench.slow_rounds() {
            let mut machines = self.deliverers(2);
            let holder = "SELECT m.info::jsonb ->> 'pid' FROM spec_notify.lease AS l JOIN spec_notify.lease AS m \
                          ON m.name = 'member:' || l.holder WHERE l.name = 'sub:s0'";
            let owner = self.cluster.sql(holder);
            machines.sort_by_key(|(_, serve)| serve.child.id().to_string() != owner);
            self.bench.receiver.take();
            let (_repo, serve) = machines.remove(0);
            drop(serve);
            let killed = now();
            self.insert(&format!("takeover-{round}"), 1);
            let arrivals = self.bench.receiver.wait_for(SUBSCRIPTIONS);
            let last = arrivals.iter().map(|arrival| arrival.at).fold(0.0, f64::max);
            times.push(last - killed);
            self.nothing_left();
            drop(machines);
            self.forget_members();
        }
        let what =
            "fleet: kill of a deliverer to the last of its subscriptions served by another / the lease";
        Figure::new("23", what, "s", median(&times), Target::RatioAtMost(1.25)).over(LEASE_S)
    }

    fn memory(&self) -> Figure {
        let count = self.bench.count(100_000, 200);
        self.cluster
            .sql("TRUNCATE spec_notify.event, spec_notify.delivery, spec_notify.body, spec_notify.evidence");
        let repo = self.deliverer();
        let few = repo.serve(&["--no-watch"]);
        let held = "SELECT count(*) = 11 FROM spec_notify.lease WHERE name NOT LIKE 'member:%'";
        let has_all = || {
            wait_for("its leases", Duration::from_millis(50), || {
                (self.cluster.sql(held) == "t").then_some(())
            })
        };
        has_all();
        let idle = memory(&few.child);
        drop(few);
        self.forget_members();
        self.cluster.sql(&format!(
            "INSERT INTO spec_notify.body SELECT gen_random_uuid(), 'bench', convert_to(repeat('x', 2048), 'UTF8'); \
             INSERT INTO spec_notify.delivery (id, ns, subscription, spec, body, format, kind, key, accepted_at, \
                 attempts, next_attempt_at) \
             SELECT gen_random_uuid(), 'bench', 's0', '{SPEC}', (SELECT id FROM spec_notify.body LIMIT 1), \
                 'spec-kit', 'spec-auto.stage.completed', '{SPEC}:plan:attempt-1:pending-' || n, now(), 1, \
                 now() + interval '1 hour' FROM generate_series(1, {count}) AS n"
        ));
        let many = repo.serve(&["--no-watch"]);
        has_all();
        // Until it has read all: it grows no more.
        let mut before = 0.0;
        wait_for("all to be read", Duration::from_secs(2), || {
            let now = memory(&many.child);
            let grew = now - std::mem::replace(&mut before, now);
            (grew.abs() < 0.2).then_some(())
        });
        let loaded = memory(&many.child);
        drop(many);
        self.forget_members();
        self.cluster.sql("TRUNCATE spec_notify.delivery, spec_notify.body");
        let what = "fleet: resident memory of a deliverer, 100,000 pending";
        let figure = Figure::new("24", what, "MiB", loaded, Target::AtMost(80.0));
        figure.note(format!("with nothing pending {idle:.1} MiB"))
    }

    /// What a deliverer with nothing to do asks of the engine.
    fn idle(&self) -> Figure {
        let machines = self.deliverers(1);
        let seconds = self.bench.count(20, 2);
        let count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'postgres'";
        // What the engine counted arrives with a delay.
        let look = || {
            thread::sleep(Duration::from_secs(1));
            self.cluster.sql(count).parse::<f64>().expect("a number")
        };
        let (before, started) = (look(), Instant::now());
        thread::sleep(Duration::from_secs(seconds as u64));
        let transactions = look() - before;
        let rate = transactions / started.elapsed().as_secs_f64();
        on_core(Core::First, || drop(machines));
        self.forget_members();
        let what = "fleet: transactions a second that one idle deliverer costs, 10 subscriptions";
        Figure::new("25", what, "/s", rate, Target::AtMost(20.0))
    }
}

/// How long one takes to be accepted, in seconds.
fn emit(runtime: &Runtime, key: String) -> f64 {
    let event = event(key);
    let started = Instant::now();
    let receipt = runtime.handle().emit_blocking(event, WITHIN).expect("an answer");
    assert!(matches!(receipt, Receipt::Accepted(_)), "{receipt:?}");
    started.elapsed().as_secs_f64()
}

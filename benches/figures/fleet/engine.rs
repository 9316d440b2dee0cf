//! The bare engine: the statements that a fleet cannot do without, by a client that does nothing
//! else.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

use crate::repo::{SPEC, event};

const UPSERT: &str = "INSERT INTO spec_notify.event (ns, key, spec, event) \
    VALUES ($1, sha256(convert_to($2, 'UTF8')), $3, $4) \
    ON CONFLICT (ns, key) DO UPDATE SET seen = spec_notify.event.seen + 1 RETURNING seen";

const FENCE: &str = "SELECT epoch FROM spec_notify.lease WHERE ns = 'bare' AND name = $1 \
    AND until > clock_timestamp() FOR NO KEY UPDATE";

const END: &str = "DELETE FROM spec_notify.delivery WHERE id = ANY($1::text[]::uuid[])";

const EVIDENCE: &str = "INSERT INTO spec_notify.evidence (ns, spec, delivery, attempt, is_end, at, line) \
    SELECT 'bare', $1, new.id::uuid, 1, new.is_end, clock_timestamp(), $3 \
    FROM (SELECT unnest($2::text[]) AS id, false AS is_end UNION ALL SELECT unnest($2::text[]), true) AS new";

/// Deliveries whose outcomes one transaction records.
const AT_A_TIME: usize = 16;

/// See the module's first line.
pub(super) struct Engine {
    runtime: Runtime,
    url: String,
    first: Client,
}

impl Engine {
    pub(super) fn new(url: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("an executor");
        let first = runtime.block_on(connect(url));
        Self { runtime, url: url.to_owned(), first }
    }

    /// How long each upsert took, one after the other, in seconds.
    pub(super) fn upserts(&self, name: &str, count: usize) -> Vec<f64> {
        let upsert = async |n: usize| {
            let (key, event) = offered(&format!("{name}-{n}"));
            let started = Instant::now();
            upsert(&self.first, &key, &event).await;
            started.elapsed().as_secs_f64()
        };
        self.runtime.block_on(async {
            let mut times = Vec::with_capacity(count);
            for n in 0..count {
                times.push(upsert(n).await);
            }
            times
        })
    }

    /// Upserts a second on as many connections at a time.
    pub(super) fn upserts_a_second(&self, name: &str, connections: usize, each: usize) -> f64 {
        self.runtime.block_on(async {
            let clients = self.connections(connections).await;
            let offered: Vec<Vec<_>> = (0..connections)
                .map(|of| (0..each).map(|n| offered(&format!("{name}-{of}-{n}"))).collect())
                .collect();
            let started = Instant::now();
            join_all(clients.iter().zip(offered).map(async |(client, offered)| {
                for (key, event) in offered {
                    upsert(client, &key, &event).await;
                }
            }))
            .await;
            (connections * each) as f64 / started.elapsed().as_secs_f64()
        })
    }

    /// Outcomes a second: transactions that hold a lease, remove what arrived and add its evidence.
    /// Until both they and `beside`, on a thread of its own, are done with as many.
    pub(super) fn outcomes_a_second(
        &self,
        connections: usize,
        subscriptions: usize,
        each: usize,
        beside: impl FnOnce(usize) + Send + 'static,
    ) -> f64 {
        self.runtime.block_on(async {
            let clients = self.connections(connections).await;
            let deliveries = connections * each * AT_A_TIME;
            let setup = format!(
                "DELETE FROM spec_notify.evidence WHERE ns = 'bare'; \
                 DELETE FROM spec_notify.lease WHERE ns = 'bare'; \
                 INSERT INTO spec_notify.lease (ns, name, holder, until) \
                     SELECT 'bare', 'sub:s' || n, 'm', 'infinity' FROM generate_series(0, {}) AS n; \
                 INSERT INTO spec_notify.delivery (id, ns, subscription, spec, body, format, kind, key, accepted_at) \
                     SELECT gen_random_uuid(), 'bare', 's0', '{SPEC}', gen_random_uuid(), 'spec-kit', 'x', 'k', \
                     now() FROM generate_series(1, {deliveries})",
                subscriptions - 1
            );
            self.first.batch_execute(&setup).await.expect("rows");
            let rows = self.first.query("SELECT id::text FROM spec_notify.delivery WHERE ns = 'bare'", &[]).await;
            let ids: Vec<String> = rows.expect("ids").iter().map(|row| row.get(0)).collect();
            let batches: Vec<&[String]> = ids.chunks(AT_A_TIME).collect();
            let line = json!({"v": 2, "record": "attempt", "filler": "x".repeat(700)}).to_string();
            let outcomes = join_all(clients.iter().zip(batches.chunks(each)).map(async |(client, batches)| {
                for (n, batch) in batches.iter().enumerate() {
                    let name = format!("sub:s{}", n % subscriptions);
                    outcome(client, &name, &batch.to_vec(), &line).await.expect("a transaction");
                }
            }));
            let started = Instant::now();
            let beside = spawn_blocking(move || beside(deliveries));
            outcomes.await;
            beside.await.expect("it ends");
            deliveries as f64 / started.elapsed().as_secs_f64()
        })
    }

    async fn connections(&self, count: usize) -> Vec<Client> {
        join_all((0..count).map(|_| connect(&self.url))).await
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// An event as an emitter offers it.
fn offered(name: &str) -> (String, String) {
    let event = event(format!("bare-{name}"));
    (name.to_owned(), serde_json::to_string(&event).expect("JSON"))
}

async fn upsert(client: &Client, key: &str, event: &str) {
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] =
        [(&"bare", Type::TEXT), (&key, Type::TEXT), (&SPEC, Type::TEXT), (&event, Type::TEXT)];
    client.query_typed(UPSERT, &parameters).await.expect("an upsert");
}

async fn outcome(
    client: &Client,
    lease: &str,
    ids: &Vec<String>,
    line: &str,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    client.query_typed(FENCE, &[(&lease, Type::TEXT)]).await?;
    client.query_typed(END, &[(ids, Type::TEXT_ARRAY)]).await?;
    client
        .query_typed(EVIDENCE, &[(&SPEC, Type::TEXT), (ids, Type::TEXT_ARRAY), (&line, Type::TEXT)])
        .await?;
    client.batch_execute("COMMIT").await
}

//! The reference of a delivery: raw awc that sends one prebuilt body, with both signatures
//! computed for each request.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use spec_notify::DeliveryId;
use spec_notify::EventKind;
use spec_notify::internals::Delivery;
use spec_notify::internals::Format;
use spec_notify::internals::Secret;
use spec_notify::internals::{Secrets, sign};

use super::machine::own_cpu_seconds;
use super::repo::{SECRET, SPEC, event};

/// Sends the same request again and again.
pub(super) struct Raw {
    client: awc::Client,
    url: String,
    body: Bytes,
    secrets: Secrets,
}

impl Raw {
    /// To be called where actix runs.
    pub(super) fn to(url: &str) -> Self {
        let connector = awc::Connector::new().limit(0);
        Self {
            client: awc::Client::builder().connector(connector).no_default_headers().finish(),
            url: url.to_owned(),
            body: serde_json::to_vec(&event("raw")).expect("JSON").into(),
            secrets: Secrets { current: Secret::parse(SECRET).expect("a secret"), previous: None },
        }
    }

    pub(super) async fn post(&self, body: &Bytes) {
        let delivery = Delivery {
            id: DeliveryId::random(),
            subscription: "raw".parse().expect("an id"),
            spec: SPEC.parse().expect("a SPEC id"),
            key: "key".parse().expect("a key"),
            kind: EventKind::StageCompleted,
            stage: None,
            status: None,
            accepted_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            format: Format::SpecKit,
        };
        let mut request = self.client.post(&self.url);
        for (name, value) in sign::headers(&delivery, body, 1, 1_767_225_600, &self.secrets) {
            request = request.insert_header((name, value.as_ref()));
        }
        let mut answer = request.send_body(body.clone()).await.expect("an answer");
        black_box(answer.body().await.expect("its body"));
    }
}

/// What POSTs with `concurrency` under way come to.
pub(super) struct Posted {
    /// A second.
    pub(super) rate: f64,
    /// CPU seconds of the process for each.
    pub(super) cpu: f64,
}

/// `count` POSTs, or a few more so that each of `concurrency` has as many.
pub(super) fn posted(url: &str, count: usize, concurrency: usize) -> Posted {
    actix_rt::System::new().block_on(async {
        let raw = Raw::to(url);
        let each = count.div_ceil(concurrency);
        let (started, before) = (Instant::now(), own_cpu_seconds());
        join_all((0..concurrency).map(async |_| {
            for _ in 0..each {
                raw.post(&raw.body).await;
            }
        }))
        .await;
        let (elapsed, cpu) = (started.elapsed().as_secs_f64(), own_cpu_seconds() - before);
        let all = (each * concurrency) as f64;
        Posted { rate: all / elapsed, cpu: cpu / all }
    })
}

/// How long each of `count` POSTs took, in seconds, with a pause before each.
pub(super) fn times(url: &str, count: usize, pause: Duration) -> Vec<f64> {
    actix_rt::System::new().block_on(async {
        let raw = Raw::to(url);
        raw.post(&raw.body).await;
        let mut times = Vec::new();
        for _ in 0..count {
            actix_rt::time::sleep(pause).await;
            let started = Instant::now();
            raw.post(&raw.body).await;
            times.push(started.elapsed().as_secs_f64());
        }
        times
    })
}

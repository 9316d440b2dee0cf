//! The storm of faults for an hour, while Patroni moves the primary by itself.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::machine::Machine;
use crate::storm::{Length, storm};

/// `MINUTES=10 PATRONI=…/patroni cargo test --features fleet --test fleet -- --ignored patroni` for
/// less than an hour; `SEED=n` for other faults.
#[test]
#[ignore = "takes an hour, and Patroni from PyPI (patroni[raft,psycopg3])"]
fn an_hour_of_faults_while_patroni_moves_the_primary_loses_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(cluster) = Cluster::under_patroni() else {
        panic!("there is no patroni: pip install 'patroni[raft,psycopg3]', and name it in PATRONI");
    };
    Machine::new(&cluster.url("postgres"), "").json(0, &["fleet", "init"]);
    let lasts = Duration::from_secs(60 * number("MINUTES").unwrap_or(60));
    storm(cluster, number("SEED").unwrap_or(0x5eed), 12, 3, Length::Lasts(lasts));
}

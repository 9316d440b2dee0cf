//! Whoever lives delivers.

use crate::cluster::wait_for;
use crate::harness::Endpoint;
use crate::machine::{Machine, arrived, ready};

#[test]
fn what_is_emitted_on_one_machine_is_delivered_by_another() {
    let cluster = ready();
    let endpoint = Endpoint::replying(&[200]);
    let emitter = Machine::new(&cluster.url("postgres"), "");
    let deliverer = Machine::deliverer(&cluster, &[("chatops", &endpoint.url(), "")]);
    let _serve = deliverer.serve();
    for n in 0..5 {
        assert_eq!(emitter.emit("SPEC-1", &format!("k{n}"))["outcome"], "accepted");
    }
    endpoint.wait_for(5);
    let mut keys: Vec<String> = arrived(&endpoint).into_iter().map(|(_, key)| key).collect();
    keys.sort();
    assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4"]);
    wait_for("nothing pending", || {
        (cluster.sql("SELECT count(*) FROM spec_notify.delivery") == "0").then_some(())
    });
    assert_eq!(cluster.sql("SELECT count(*) FROM spec_notify.evidence"), "10");
    assert_eq!(cluster.sql("SELECT count(*) FROM spec_notify.event WHERE NOT routed"), "0");
}

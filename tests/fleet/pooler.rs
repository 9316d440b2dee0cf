//! A fleet behind pgbouncer in transaction mode, with fewer sessions of the cluster than its
//! machines have connections.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::cluster::{Cluster, free_port, wait_for};
use crate::deliver::{nothing_left, pid_of, wait_for_holder};
use crate::harness::{Endpoint, has_tool};
use crate::machine::{LEASE_S, Machine, arrived, ready};

/// Where Debian has it, which is not on everybody's PATH.
const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

/// Killed when dropped.
struct Pooler {
    child: Child,
    port: u16,
}

impl Pooler {
    fn before(cluster: &Cluster) -> Option<Self> {
        let program = if fs::exists(PGBOUNCER).unwrap() { PGBOUNCER } else { "pgbouncer" };
        if program != PGBOUNCER && !has_tool(program) {
            return None;
        }
        let (port, to) = (free_port(), cluster.ports()[cluster.primary()]);
        let users = cluster.write("users.txt", "\"postgres\" \"\"\n");
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={to}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 3\n",
            users.display()
        );
        let config = cluster.write("pgbouncer.ini", &config);
        let mut command = cluster.as_user(program.as_ref(), &[config.to_str().unwrap()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pooler = Self { child, port };
        wait_for("the pooler", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(pooler)
    }

    fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_fleet_works_through_a_pooler_that_lends_sessions_for_a_transaction() {
    let cluster = ready();
    let Some(pooler) = Pooler::before(&cluster) else { return };
    let (url, endpoints) = (pooler.url(), [[200], [200]].map(|statuses| Endpoint::replying(&statuses)));
    let urls = endpoints.each_ref().map(Endpoint::url);
    let subscriptions = [("a", &*urls[0], ""), ("b", &*urls[1], "")];
    let deliver = format!("role = \"deliver\"\nlease_s = {LEASE_S}");
    // Up to four connections each, for three sessions of the cluster.
    let machines = [(); 2].map(|()| Machine::with(&url, &deliver, &subscriptions));
    assert_eq!(machines[0].run(&["fleet", "check"]).code, 0);
    let [first, second] = machines.each_ref().map(Machine::serve);
    let emitter = Machine::new(&url, "");
    let emit = |range: std::ops::Range<usize>| {
        for n in range {
            assert_eq!(emitter.emit("SPEC-1", &format!("k{n}"))["outcome"], "accepted");
        }
    };
    emit(0..20);
    // Its sessions go on to be others': what it held must not stay held.
    first.kill();
    emit(20..40);
    for name in ["router", "sub:a", "sub:b"] {
        wait_for_holder(&cluster, name, &machines[1]);
    }
    nothing_left(&cluster);
    for endpoint in &endpoints {
        let came = arrived(endpoint);
        let keys: BTreeSet<&String> = came.iter().map(|(_, key)| key).collect();
        let ids: BTreeSet<&String> = came.iter().map(|(id, _)| id).collect();
        assert_eq!((keys.len(), ids.len()), (40, 40), "each under one id");
    }
    let listed = machines[0].json(0, &["list", "--limit", "100"]);
    let is_delivered = |one: &serde_json::Value| one["state"] == "delivered";
    assert!(listed.as_array().unwrap().iter().all(is_delivered), "{listed}");
    assert_eq!(listed.as_array().unwrap().len(), 80);
    let report = machines[0].json(0, &["status"]);
    assert_eq!(report["fleet"]["members"][0]["pid"].to_string(), pid_of(&machines[1]), "{report}");
    drop(second);
}

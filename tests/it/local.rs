//! Faults of this machine are none of the endpoint's: no attempt is used up, what waits is tried
//! again, and it is said.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Endpoint, Ran, Sandbox, wait_for};

/// A TCP connection to a broadcast address is refused by this machine: no network leads there.
const NOWHERE: &str = "http://127.255.255.255:9/hook";

/// Were an attempt counted, there would be a dead letter.
const ONCE: &str = "max_attempts = 1";

fn status(sandbox: &Sandbox) -> Value {
    serde_json::from_str(&sandbox.run(&["--json", "status"]).stdout).unwrap()
}

fn warning(sandbox: &Sandbox, words: &str) -> Option<String> {
    let status = status(sandbox);
    let warnings = status["warnings"].as_array().unwrap();
    let mut warnings = warnings.iter().map(|warning| warning.as_str().unwrap().to_owned());
    warnings.find(|warning| warning.contains(words))
}

#[test]
fn without_a_network_nothing_is_used_up_and_what_waits_goes_when_there_is_one() {
    let sandbox = Sandbox::new(&[("one", NOWHERE, ONCE)]);
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.emit("SPEC-1", "Tasks", "k2");
    let said = wait_for("status", || warning(&sandbox, "nothing could be sent for"));
    assert!(said.contains("no network that leads there; see that it is connected"), "{said}");
    let status = status(&sandbox);
    let one = &status["subscriptions"][0];
    assert_eq!(
        (&one["health"], &one["pending"], &one["dead_letters"]),
        (&"failing".into(), &2.into(), &0.into())
    );
    assert_eq!((&one["consecutive_failures"], &one["local_fault"]["error"].is_string()), (&0.into(), &true));
    let listed: Value = serde_json::from_str(&sandbox.run(&["--json", "list"]).stdout).unwrap();
    assert!(listed.as_array().unwrap().iter().all(|row| row["attempts"] == 0), "{listed:#}");
    assert_eq!(sandbox.run(&["status", "--banner"]).code, 1);
    assert_eq!(serve.terminate().0, 0);

    // It is remembered while nothing runs, and another endpoint under the same id has both.
    assert!(warning(&sandbox, "nothing could be sent for").is_some());
    let endpoint = Endpoint::answering([200]);
    let config = sandbox.path().join(".spec-kit/config.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace(NOWHERE, &endpoint.url());
    std::fs::write(&config, text).unwrap();
    let _serve = sandbox.serve();
    let finals = sandbox.wait_for_finals("SPEC-1", 2);
    assert!(finals.iter().all(|end| end["state"] == "delivered" && end["attempts"] == 1), "{finals:#?}");
    wait_for("the end of it", || warning(&sandbox, "nothing can be sent").is_none().then_some(()));
}

#[test]
fn a_name_that_does_not_resolve_where_nothing_leads_out_is_no_fault_of_the_endpoint() {
    let mut apart = Command::new("unshare");
    apart.args(["-rn", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !apart.status().is_ok_and(|status| status.success()) {
        return eprintln!("skipped: this machine gives no network namespaces to users");
    }
    let sandbox = Sandbox::new(&[("one", "https://hooks.example.invalid/x", ONCE)]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    let drain = sandbox.command(&["drain", "--timeout", "3"]);
    let mut command = Command::new("unshare");
    command.arg("-rn").arg(drain.get_program()).args(drain.get_args());
    command.envs(drain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(drain.get_current_dir().unwrap()).stdin(Stdio::null());
    let ran = Ran::from(command.output().unwrap());
    assert!(ran.code == 1 && ran.stderr.contains("nothing could be sent for"), "{ran:?}");
    assert!(warning(&sandbox, "nothing could be sent for").unwrap().contains("no network"));
    let listed: Value = serde_json::from_str(&sandbox.run(&["--json", "list"]).stdout).unwrap();
    assert_eq!((&listed[0]["state"], &listed[0]["attempts"]), (&"pending".into(), &0.into()));
}

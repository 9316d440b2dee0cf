//! What operators see and do, on a fleet of which a member is stopped, a subscription fails and a
//! standby is gone: every command is run as a process, and what it says is compared with what is
//! true.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::{Cluster, wait_for};
use crate::deliver::{nothing_left, pid_of, wait_for_holder};
use crate::harness::{Endpoint, Serve, Terminal, kill, wait_for_end};
use crate::machine::{Machine, arrived, ready, said};

/// Events that are emitted: each goes to three subscriptions.
const EVENTS: usize = 4;

/// Three deliverers of which one was killed, three subscriptions of which one fails for good and
/// one for now, three nodes of which one is gone.
struct Scene {
    cluster: Cluster,
    /// One that is well, one that refuses, one that has no time.
    endpoints: [Endpoint; 3],
    /// The first two run; the third was killed, and its machine is still there.
    machines: [Machine; 3],
    serves: Vec<Serve>,
    killed: String,
}

const PUT_OFF: &str = "initial_backoff_ms = 3600000\nmax_backoff_ms = 3600000\njitter_ms = 0\n\
                       max_in_flight = 8";

impl Scene {
    fn set() -> Self {
        let mut cluster = ready();
        let endpoints = [[200], [400], [503]].map(|statuses| Endpoint::answering(statuses));
        let urls: Vec<String> = endpoints.iter().map(Endpoint::url).collect();
        let subscriptions =
            [("good", &*urls[0], ""), ("failing", &*urls[1], ""), ("late", &*urls[2], PUT_OFF)];
        let machines = [(); 3].map(|()| Machine::deliverer(&cluster, &subscriptions));
        let mut serves: Vec<Serve> = machines.iter().map(Machine::serve).collect();
        wait_for("three members", || (member_count(&cluster) == 3).then_some(()));
        for n in 0..EVENTS {
            assert_eq!(machines[0].emit("SPEC-1", &format!("k{n}"))["outcome"], "accepted");
        }
        wait_for("what became of all", || {
            let ended = "SELECT (SELECT count(*) FROM spec_notify.evidence WHERE is_end), \
                         (SELECT count(*) FROM spec_notify.delivery WHERE ended_at IS NULL AND attempts = 1)";
            (cluster.sql(ended) == "8|4").then_some(())
        });
        let killed = pid_of(&machines[2]);
        serves.pop().unwrap().kill();
        wait_for("two members", || (member_count(&cluster) == 2).then_some(()));
        for name in ["router", "sub:good", "sub:failing", "sub:late"] {
            wait_for("its work to be others'", || {
                let holder = crate::deliver::holder(&cluster, name);
                (!holder.is_empty() && holder != killed).then_some(())
            });
        }
        let standby = (cluster.primary() + 1) % 3;
        cluster.kill(standby);
        wait_for("the standby to be missed", || {
            (cluster.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1")
                .then_some(())
        });
        Self { cluster, endpoints, machines, serves, killed }
    }

    /// One with a runtime, and one without.
    fn places(&self) -> [&Machine; 2] {
        [&self.machines[0], &self.machines[2]]
    }

    fn states(&self, machine: &Machine) -> Vec<(String, String)> {
        let listed = machine.json(0, &["list", "--limit", "100"]);
        let state = |one: &Value| (text(&one["subscription"]), text(&one["state"]));
        let mut states: Vec<_> = listed.as_array().unwrap().iter().map(state).collect();
        states.sort();
        states
    }
}

fn member_count(cluster: &Cluster) -> usize {
    let count = "SELECT count(*) FROM spec_notify.lease WHERE name LIKE 'member:%' AND until > \
                 clock_timestamp()";
    cluster.sql(count).parse().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn ids(listed: &Value) -> Vec<String> {
    listed.as_array().unwrap().iter().map(|one| text(&one["id"])).collect()
}

fn of<'a>(report: &'a Value, id: &str) -> &'a Value {
    let all = report["subscriptions"].as_array().unwrap();
    all.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("no {id} in {report}"))
}

#[test]
fn what_is_said_of_a_fleet_is_true_wherever_it_is_asked() {
    let scene = Scene::set();
    let (cluster, [runs, _, stopped]) = (&scene.cluster, &scene.machines);

    // Who does what, and what waits.
    let mut fleets = BTreeSet::new();
    for machine in scene.places() {
        // While work is handed on to share it out evenly nobody has it for a moment.
        let report = wait_for("all work to be somebody's, and that to be said", || {
            let report = machine.json(1, &["status"]);
            let members = report["fleet"]["members"].as_array().unwrap();
            let held = |member: &Value| {
                let pid = member["pid"].to_string();
                let is_its =
                    move |id: &Value| crate::deliver::holder(cluster, &format!("sub:{}", text(id))) == pid;
                member["subscriptions"].as_array().unwrap().iter().map(is_its).collect::<Vec<_>>()
            };
            (members.iter().flat_map(held).collect::<Vec<_>>() == [true; 3]).then_some(report)
        });
        let fleet = &report["fleet"];
        let members = fleet["members"].as_array().unwrap();
        let mut pids: Vec<String> = members.iter().map(|one| one["pid"].to_string()).collect();
        pids.sort();
        let mut true_pids = [pid_of(runs), pid_of(&scene.machines[1])];
        true_pids.sort();
        assert_eq!(pids, true_pids, "{report}");
        assert_eq!(fleet["gone"][0]["pid"].to_string(), scene.killed, "{report}");
        assert_eq!((&fleet["unrouted"], &fleet["streaming"]), (&0.into(), &1.into()), "{report}");
        let names = cluster.sql("SELECT application_name FROM pg_stat_replication");
        assert_eq!(fleet["confirming"], serde_json::json!([names]), "{report}");
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains(&format!("1 of 2 standbys streams ({names})")), "{warnings}");
        assert!(!warnings.contains("configs differ"), "{warnings}");
        assert_eq!(of(&report, "failing")["dead_letters"], EVENTS, "{report}");
        assert_eq!(of(&report, "late")["pending"], EVENTS, "{report}");
        assert_eq!(of(&report, "good")["health"], "healthy", "{report}");
        for (id, delivered, failed) in [("good", EVENTS, 0), ("failing", 0, EVENTS), ("late", 0, EVENTS)] {
            let day = &of(&report, id)["figures"]["day"];
            assert_eq!((&day["delivered"], &day["failed"]), (&delivered.into(), &failed.into()), "{report}");
        }
        let shown = said(&machine.run(&["status"]));
        for part in ["2 members", "went silent", "1 standby confirms", &scene.killed] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        fleets.insert(fleet["members"].to_string());
    }
    assert_eq!(fleets.len(), 1, "the same everywhere: {fleets:?}");

    // Each delivery, and one whole.
    let all: Vec<(String, String)> = [("failing", "dead_letter"), ("good", "delivered"), ("late", "pending")]
        .into_iter()
        .flat_map(|(id, state)| vec![(id.to_owned(), state.to_owned()); EVENTS])
        .collect();
    for machine in scene.places() {
        assert_eq!(scene.states(machine), all);
        for (state, attempts) in [("dead_letter", 1), ("delivered", 1), ("pending", 1)] {
            let listed = machine.json(0, &["list", "--state", state]);
            assert_eq!(listed.as_array().unwrap().len(), EVENTS, "{listed}");
            for row in listed.as_array().unwrap() {
                let what = (&row["stage"], &row["status"]);
                assert_eq!(what, (&"Plan".into(), &"success".into()), "{row}");
            }
            let id = ids(&listed)[0].clone();
            let shown = machine.json(0, &["show", &id[..13], "--body"]);
            assert_eq!((&shown["delivery"]["id"], &shown["delivery"]["state"]), (&id.into(), &state.into()));
            assert_eq!(shown["attempts"].as_array().unwrap().len(), attempts, "{shown}");
            assert!(shown["attempts"][0]["request"]["body_sha256"].is_string(), "{shown}");
            // What arrived leaves no body behind.
            assert_eq!(shown["body"].is_object(), state != "delivered", "{shown}");
            assert_eq!(shown["command"].is_string(), state == "dead_letter", "{shown}");
            let waits: Vec<String> =
                shown["waits"].as_array().unwrap().iter().map(|wait| text(&wait["for"])).collect();
            assert_eq!(waits, if state == "pending" { vec!["owner", "backoff"] } else { vec![] }, "{shown}");
            let of_spec = machine.json(1, &["list", "SPEC-2", "--state", state]);
            assert!(of_spec.as_array().unwrap().is_empty());
        }
        let page = machine.json(0, &["list", "--limit", "2", "--subscription", "good"]);
        assert_eq!(page.as_array().unwrap().len(), 2);
    }

    // Figures.
    for machine in scene.places() {
        let metrics = said(&machine.run(&["metrics"]));
        for line in [
            "spec_notify_fleet_seen 1\n",
            "spec_notify_fleet_members 2\n",
            "spec_notify_fleet_members_gone 1\n",
            "spec_notify_fleet_configs 1\n",
            "spec_notify_fleet_unrouted_events 0\n",
            "spec_notify_fleet_standbys 1\n",
            "spec_notify_fleet_owned{subscription=\"late\"} 1\n",
            "spec_notify_pending_deliveries{subscription=\"late\"} 4\n",
            "spec_notify_dead_letters{subscription=\"failing\"} 4\n",
        ] {
            assert!(metrics.contains(line), "{line}{metrics}");
        }
        let ran = machine.run(&["report", "--format", "json"]);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let total = &report["total"];
        assert_eq!((&total["attempts"], &total["delivered"]), (&12.into(), &4.into()), "{report}");
        assert_eq!(total["ended"], serde_json::json!({"delivered": 4, "dead_letter": 4}), "{report}");
        let page = said(&machine.run(&["report"]));
        assert!(page.contains("1 of 2 standbys streams") && page.contains("status 400"), "{page}");
    }

    // The screen, of a machine without a runtime.
    let mut terminal = Terminal::of_columns(160);
    let mut top = terminal.start(&mut stopped.sandbox().command(&["top"]));
    for part in ["failing", "dead_letter", "400", "late"] {
        terminal.wait_for_text(part);
    }
    terminal.type_in("w");
    terminal.wait_for_text("went silent");
    kill("TERM", &top);
    assert_eq!(wait_for_end("top to end", &mut top), Some(0));
}

#[test]
fn what_an_operator_does_is_done_for_the_whole_fleet() {
    let scene = Scene::set();
    let (cluster, [runs, other, stopped]) = (&scene.cluster, &scene.machines);
    let [good, failing, _] = &scene.endpoints;

    // Given up for good: by its id here, by its subscription there; what is to be sent stays.
    let letters = ids(&runs.json(0, &["list", "--state", "dead_letter"]));
    let discarded = stopped.json(0, &["discard", &letters[0][..18], "--yes"]);
    assert_eq!(
        (&discarded[0]["id"], &discarded[0]["outcome"]),
        (&letters[0].clone().into(), &"discarded".into())
    );
    let shown = runs.json(0, &["show", &letters[0]]);
    assert_eq!(
        (&shown["delivery"]["state"], shown["user"].is_string()),
        (&"discarded".into(), true),
        "{shown}"
    );
    for machine in scene.places() {
        let late = ids(&machine.json(0, &["list", "--state", "pending"]));
        let refused = machine.json(1, &["discard", &late[0], "--yes"]);
        assert_eq!(refused[0]["outcome"], "refused", "{refused}");
        assert!(
            text(&refused[0]["error"]).contains("spec-notify")
                || text(&refused[0]["error"]).contains("pause")
        );
    }

    // Whoever is asked to send all again leaves what is paused alone.
    let before = scene.endpoints[1].requests().len();
    assert_eq!(stopped.json(0, &["pause", "failing"])["changed"], true);
    for machine in [runs, other, stopped] {
        let replayed = machine.json(1, &["replay", "--all"]);
        let outcomes = replayed.as_array().unwrap().iter().map(|one| &one["outcome"]);
        assert!(!ids(&replayed).is_empty() && outcomes.clone().all(|one| one == "not_tried"), "{replayed}");
    }
    assert_eq!(stopped.json(0, &["resume", "failing"])["changed"], true);
    assert_eq!(scene.endpoints[1].requests().len(), before);

    // Sent again: one from a machine without a runtime, the rest through one.
    let mut follow = runs
        .sandbox()
        .command(&["--json", "list", "--follow"])
        .stdout(std::fs::File::create(runs.path().join("followed")).unwrap())
        .spawn()
        .unwrap();
    let followed = || std::fs::read_to_string(runs.path().join("followed")).unwrap();
    wait_for("the first page", || (followed().lines().count() == 12).then_some(()));
    failing.repair([200]);
    let would = stopped.json(0, &["replay", "--all", "--dry-run"]);
    assert_eq!(would.as_array().unwrap().len(), EVENTS - 1);
    let replayed = stopped.json(0, &["replay", &letters[1][..18]]);
    assert_eq!(
        (&replayed[0]["id"], &replayed[0]["outcome"]),
        (&letters[1].clone().into(), &"delivered".into())
    );
    let again = runs.json(0, &["replay", "--all", "--subscription", "failing"]);
    let outcomes: Vec<String> = again.as_array().unwrap().iter().map(|one| text(&one["outcome"])).collect();
    assert_eq!(outcomes, ["delivered", "delivered"]);
    let states = scene.states(other);
    let of_failing: Vec<&str> =
        states.iter().filter(|(id, _)| id == "failing").map(|(_, state)| state.as_str()).collect();
    assert_eq!(of_failing, ["delivered", "delivered", "delivered", "discarded"]);
    let came: BTreeSet<String> = arrived(failing).into_iter().map(|(id, _)| id).collect();
    assert_eq!(came, letters.iter().cloned().collect(), "each under its own id");
    wait_for("what was replayed to be followed", || {
        let told = followed();
        let told = told.lines().skip(12).filter(|line| line.contains("\"delivered\"")).count();
        (told == 3).then_some(())
    });
    kill("INT", &follow);
    assert_eq!(follow.wait().unwrap().code(), Some(0));

    // A sample, a pause, and its end.
    let before = good.requests().len();
    let sample = stopped.json(0, &["test", "SPEC-9", "--subscription", "good"]);
    assert_eq!((&sample[0]["outcome"], good.requests().len()), (&"delivered".into(), before + 1), "{sample}");
    assert_eq!(stopped.json(0, &["pause", "good"])["changed"], true);
    assert_eq!(other.json(0, &["pause", "good"])["changed"], false);
    assert_eq!(of(&runs.json(1, &["status"]), "good")["health"], "paused");
    assert_eq!(stopped.run(&["pause", "nobody"]).code, 1);
    assert_eq!(stopped.json(0, &["resume", "good"])["changed"], true);
    runs.emit("SPEC-1", "after");
    wait_for("it to arrive", || arrived(good).iter().any(|(_, key)| key == "after").then_some(()));

    // Another config somewhere, and one that lacks a subscription for which something waits.
    let url = good.url();
    let differs = Machine::deliverer(cluster, &[("good", &*url, "max_attempts = 3")]);
    let serve = differs.serve();
    wait_for("three members", || (member_count(cluster) == 3).then_some(()));
    let warnings = runs.json(1, &["status"])["warnings"].to_string();
    assert!(warnings.contains("configs differ"), "{warnings}");
    // Nobody sends what `failing` gets once these have ended.
    let unsent =
        "SELECT count(*) FROM spec_notify.delivery WHERE ended_at IS NULL AND subscription <> 'late'";
    wait_for("all but `late` to have its deliveries", || (cluster.sql(unsent) == "0").then_some(()));
    for serve in scene.serves {
        assert_eq!(serve.terminate().0, 0);
    }
    wait_for_holder(cluster, "sub:good", &differs);
    let report = differs.json(1, &["status"]);
    assert_eq!(
        (&of(&report, "late")["health"], &of(&report, "late")["pending"]),
        (&"inactive".into(), &5.into())
    );
    assert!(report["warnings"].to_string().contains("late: 5 deliveries wait and no member"), "{report}");
    let waits = &differs.json(0, &["list", "--state", "pending"]);
    let shown = differs.json(0, &["show", &ids(waits)[0]]);
    assert_eq!(shown["waits"][0]["for"], "no_owner", "{shown}");
    // Nobody sends it any more: it can be given up, but not by whom it is active.
    let refused = stopped.json(1, &["discard", &ids(waits)[0], "--yes"]);
    assert_eq!(refused[0]["outcome"], "refused", "{refused}");
    let discarded = differs.json(0, &["discard", "--all", "--subscription", "late", "--yes"]);
    assert_eq!(discarded.as_array().unwrap().len(), 5, "{discarded}");
    nothing_left(cluster);

    // Nobody is left: what is accepted waits, and is said to.
    assert_eq!(serve.terminate().0, 0);
    runs.emit("SPEC-1", "unheard");
    cluster.sql("UPDATE spec_notify.event SET at = at - interval '5 minutes' WHERE NOT routed");
    for machine in scene.machines.iter().chain([&differs]) {
        let report = machine.json(1, &["status"]);
        let fleet = &report["fleet"];
        assert_eq!(
            (&fleet["unrouted"], fleet["members"].as_array().unwrap().len()),
            (&1.into(), 0),
            "{report}"
        );
        assert!(fleet["oldest_unrouted_s"].as_u64().unwrap() >= 300, "{report}");
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains("no member of the fleet is alive"), "{warnings}");
        assert!(warnings.contains("1 event waits in the cluster to be fanned out"), "{warnings}");
    }
}

#[test]
fn a_machine_that_hands_over_sees_as_much_as_its_role_lets_it() {
    let cluster = ready();
    let all = Machine::new(&cluster.url("postgres"), "").run(&["fleet", "init", "--print"]).stdout;
    cluster.sql(&all[all.find("CREATE ROLE").unwrap()..]);
    let endpoint = Endpoint::answering([400]);
    let deliverer = Machine::deliverer(&cluster, &[("failing", &*endpoint.url(), "")]);
    let _serve = deliverer.serve();
    let emitter = Machine::new(&cluster.url("spec_notify_emitter"), "");
    assert_eq!(emitter.emit("SPEC-1", "k1")["outcome"], "accepted");
    endpoint.wait_for(1);
    nothing_left(&cluster);

    // An emitter may look at nothing: that is said, and is no fault.
    let ran = emitter.run(&["status"]);
    assert!(ran.code == 0 && said(&ran).contains("hands over, and may not look"), "{ran:?}");
    let fleet = &emitter.json(0, &["status"])["fleet"];
    assert!(fleet["unseen"].is_string() && fleet["is_seen"] == false, "{fleet}");
    for command in [&["list"][..], &["report"], &["show", "00000000"]] {
        let ran = emitter.run(command);
        assert!(ran.code == 1 && said(&ran).contains("its role may not look"), "{ran:?}");
    }
    // What it may not look at is neither well nor ill.
    let check = emitter.run(&["fleet", "check"]);
    assert!(check.code == 0 && said(&check).contains("who confirms is not known"), "{check:?}");
    let metrics = said(&emitter.run(&["metrics"]));
    assert!(!metrics.contains("spec_notify_fleet_"), "{metrics}");
    assert!(!metrics.contains("spec_notify_dead_letters"), "{metrics}");
    let event = ["emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1", "--stage", "Plan"];
    let waits = emitter.run(&[&event[..], &["--status", "success", "--key", "w", "--wait"]].concat());
    assert!(waits.code == 1 && said(&waits).contains("its role may not look"), "{waits:?}");
    endpoint.wait_for(2);
    nothing_left(&cluster);
    // Dead letters of the fleet are none of a job's.
    let drained = Machine::new(&cluster.url("spec_notify_reader"), "").json(0, &["drain", "--no-watch"]);
    assert_eq!((&drained["outcome"], &drained["dead_letters"]), (&"drained".into(), &0.into()), "{drained}");
    // A reader sees all, from a machine without any subscription, and changes nothing.
    let reader = Machine::new(&cluster.url("spec_notify_reader"), "");
    let report = reader.json(1, &["status"]);
    assert_eq!(of(&report, "failing")["dead_letters"], 2, "{report}");
    assert_eq!(report["fleet"]["streaming"], 2, "{report}");
    let listed = reader.json(0, &["list"]);
    assert_eq!(listed[0]["state"], "dead_letter", "{listed}");
    let refused = reader.run(&["discard", "--all", "--yes"]);
    assert!(refused.code == 1 && said(&refused).contains("permission denied"), "{refused:?}");
    let refused = reader.run(&["pause", "failing"]);
    assert!(refused.code == 1 && said(&refused).contains("permission denied"), "{refused:?}");
    let refused = reader.run(&["replay", &ids(&listed)[0]]);
    assert!(refused.code == 1 && said(&refused).contains("role"), "{refused:?}");
    assert_eq!(reader.json(0, &["list"]), listed);
}

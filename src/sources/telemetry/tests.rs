//! Every rule of telemetry, both ways.

use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const SPEC: &str = "SPEC-FIX-101-six-stages";
const TREE: &str = "docs/SPEC-OPS-004-integrated-coder-hooks/evidence";

fn repo() -> RepoPaths<'static> {
    RepoPaths {
        root: Path::new("/repo"),
        evidence_dir: Path::new("/repo/docs/SPEC-OPS-004-integrated-coder-hooks/evidence"),
        source_roots: &[],
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("/repo").join(TREE).join("commands").join(SPEC).join(name)
}

fn read_named(name: &str, bytes: &[u8]) -> Result<Event, NotTelemetry> {
    read(&path(name), bytes, &repo())
}

fn base(stage: &str) -> Value {
    json!({"schemaVersion": 1, "command": format!("spec-ops-{stage}"), "specId": SPEC, "sessionId": "s1",
        "timestamp": "2025-11-01T08:00:00Z", "artifacts": []})
}

fn judge(stage: &str, fields: &Value) -> (Status, Vec<String>) {
    let mut telemetry = base(stage);
    telemetry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let event = read_named(&format!("spec-{stage}_s1.json"), telemetry.to_string().as_bytes()).unwrap();
    (event.event.status.unwrap(), event.event.reasons)
}

#[test]
fn when_a_stage_began_is_told_where_its_telemetry_has_a_time_for_it() {
    let began = |fields: Value| {
        let mut telemetry = base("plan");
        telemetry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let event = read_named("spec-plan_s1.json", telemetry.to_string().as_bytes()).unwrap();
        event.pipeline.unwrap().started_at
    };
    let time = "2025-11-01T07:59:00Z";
    for name in ["startedAt", "started_at", "start_time"] {
        assert_eq!(began(json!({name: time})).as_deref(), Some(time), "{name}");
        for none in [json!("yesterday"), json!(1_761_984_000), json!("${started}"), json!(null), json!("")] {
            assert_eq!(began(json!({name: none})), None, "{name}: {none}");
        }
    }
    assert_eq!(began(json!({"startedAt": "soon", "start_time": time})).as_deref(), Some(time));
    assert_eq!(began(json!({})), None);
}

#[test]
fn a_sound_stage_is_no_halt_for_how_its_text_is_written() {
    let mut telemetry = base("plan");
    telemetry["baseline"] = json!({"status": "passed"});
    let written = telemetry.to_string();
    let read_as = |bytes: &[u8]| {
        let event = read_named("spec-plan_s1.json", bytes).unwrap();
        (event.event.status.unwrap(), event.telemetry.unwrap())
    };
    let utf16: Vec<u8> = format!("\u{feff}{written}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in
        [format!("\u{feff}{written}").into_bytes(), written.replace(',', ",\r\n").into_bytes(), utf16]
    {
        let (status, fields) = read_as(&bytes);
        assert_eq!((status, fields), (Status::Success, telemetry.as_object().unwrap().clone().into()));
    }
    let odd = written.replace("\"artifacts\":[]", "\"score\":NaN,\"title\":\"a \\ud83d\"");
    let (status, fields) = read_as(odd.as_bytes());
    assert_eq!(
        (status, &fields["score"], &fields["title"]),
        (Status::Success, &json!(null), &json!("a \u{fffd}"))
    );
    let notes = fields["notes"].as_array().unwrap();
    assert!(notes.len() == 2 && notes[0].as_str().unwrap().contains("NaN"), "{notes:?}");
    // A host's own notes stay.
    let own = odd.replacen('{', "{\"notes\":[\"own\"],", 1);
    assert_eq!(read_as(own.as_bytes()).1["notes"][0], "own");
}

#[test]
fn each_status_rule_holds_both_ways() {
    let scenario = |status: &str| json!({"name": "a", "status": status});
    for (stage, fields, failed_because) in [
        ("plan", json!({"baseline": {"status": "passed"}, "hooks": {"session.start": "ok"}}), ""),
        ("plan", json!({"baseline": {"status": "skipped"}}), ""),
        ("plan", json!({"baseline": {"status": "failed"}}), "baseline.status is failed"),
        ("plan", json!({}), "baseline.status is missing"),
        ("plan", json!({"baseline": {"status": "${status}"}}), "baseline.status is empty"),
        (
            "plan",
            json!({"baseline": {"status": "passed"}, "hooks": {"session.start": "failed"}}),
            "session.start",
        ),
        ("tasks", json!({"tool": {"status": "ok"}}), ""),
        ("tasks", json!({"tool": {"status": "ready"}}), ""),
        ("tasks", json!({"tool": {"status": "skipped"}}), ""),
        ("tasks", json!({"tool": {"status": "broken"}}), "tool.status is broken"),
        ("tasks", json!({"tool": "ok"}), "tool.status is missing"),
        ("implement", json!({"lock_status": "locked", "hook_status": "ok"}), ""),
        ("implement", json!({"lock_status": "open", "hook_status": "ok"}), "lock_status is open"),
        ("implement", json!({"lock_status": "locked"}), "hook_status is missing"),
        ("validate", json!({"scenarios": [scenario("passed"), scenario("skipped")]}), ""),
        ("validate", json!({"scenarios": []}), "there is no scenario"),
        ("validate", json!({}), "there is no scenario"),
        (
            "validate",
            json!({"scenarios": [scenario("passed"), scenario("failed")]}),
            "scenario `a` is failed",
        ),
        ("validate", json!({"scenarios": [{"status": "odd"}]}), "scenario `#1` is odd"),
        ("audit", json!({"scenarios": [scenario("passed")], "hal": {"summary": {"status": "passed"}}}), ""),
        ("audit", json!({"scenarios": [scenario("passed")], "hal": {"summary": {"status": "skipped"}}}), ""),
        (
            "audit",
            json!({"scenarios": [scenario("passed")],
                "hal": {"summary": {"status": "failed", "failed_checks": ["ping"]}}}),
            "hal.summary.status is failed: ping",
        ),
        ("unlock", json!({"unlock_status": "unlocked"}), ""),
        ("unlock", json!({"unlock_status": "locked"}), "unlock_status is locked"),
    ] {
        let (status, reasons) = judge(stage, &fields);
        if failed_because.is_empty() {
            assert_eq!((status, reasons), (Status::Success, vec![]), "{stage} {fields}");
        } else {
            assert_eq!((status, reasons.len()), (Status::Failure, 1), "{stage} {fields}: {reasons:?}");
            assert!(reasons[0].contains(failed_because), "{stage} {fields}: {reasons:?}");
        }
    }
}

#[test]
fn the_fixtures_read_as_what_they_are() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/telemetry/commands").join(SPEC);
    let mut seen = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let told = match read_named(&name, &fs::read(&file).unwrap()) {
            Ok(event) => format!("{} {}", event.event.stage.unwrap(), event.event.status.unwrap()),
            Err(_) => "refused".to_owned(),
        };
        seen.push((name.split("Z-").nth(1).unwrap().to_owned(), told));
    }
    seen.sort();
    let told: Vec<&str> = seen.iter().map(|(_, told)| told.as_str()).collect();
    assert_eq!(
        told,
        [
            "Plan success",
            "Tasks success",
            "Implement success",
            "Validate success",
            "Audit success",
            "refused",
            "Unlock success",
            "Audit halt"
        ]
    );
}

#[test]
fn version_2_brings_consensus_and_plain_artifacts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/telemetry/commands")
        .join(SPEC)
        .join("spec-audit_2025-11-05T08:00:00Z-555.json");
    let event = read_named("spec-audit_2025-11-05T08:00:00Z-555.json", &fs::read(file).unwrap()).unwrap();
    let consensus = serde_json::to_value(event.consensus.unwrap()).unwrap();
    assert_eq!(
        consensus,
        json!({"status": "ok", "conflicts": ["which log counts"], "agents": [
            {"agent": "one", "model": "model-a", "model_release": "2025-08", "reasoning_mode": "auto"},
            {"agent": "two"}]})
    );
    assert_eq!(
        event.evidence.unwrap().paths,
        [
            format!("{TREE}/commands/{SPEC}/spec-audit_2025-11-05T08:00:00Z-555.json"),
            format!("{TREE}/consensus/{SPEC}/one.json")
        ]
    );
}

#[test]
fn what_is_broken_is_a_halt_that_says_why() {
    let whole = base("plan").to_string();
    let without = |field: &str| {
        let mut telemetry = base("plan");
        telemetry.as_object_mut().unwrap().remove(field);
        telemetry.to_string()
    };
    let with = |field: &str, value: &str| {
        let mut telemetry = base("plan");
        telemetry[field] = value.into();
        telemetry.to_string()
    };
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for (bytes, why) in [
        (String::new(), "the file is empty"),
        (" \n".to_owned(), "the file is empty"),
        ("[1]".to_owned(), "not an object"),
        (deep, "levels deep, 99 at most"),
        (whole[..whole.len() / 2].to_owned(), "the file is not valid JSON"),
        (without("command"), "missing or empty: command"),
        (without("sessionId"), "missing or empty: sessionId"),
        (without("timestamp"), "missing or empty: timestamp"),
        (with("specId", "${spec}"), "missing or empty: specId"),
        (with("specId", "../../etc"), "is not a SPEC id"),
        (with("command", "spec-ops-audit"), "name says Plan, its command `spec-ops-audit` says Audit"),
        (with("command", "make all"), "is not a guardrail's (spec-ops-<stage>, "),
        (format!("{{\"x\": \"{}\"}}", "y".repeat(MAX_TELEMETRY_BYTES)), "larger than"),
    ] {
        let event = read_named("spec-plan_s1.json", bytes.as_bytes()).unwrap();
        assert_eq!(event.event.status, Some(Status::Halt), "{why}");
        assert_eq!(event.spec.id.as_str(), SPEC);
        let error = event.telemetry.unwrap()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(why), "{why}: {error}");
        assert_eq!(event.event.reasons, [error]);
        assert_eq!(event.event.idempotency_key.as_str(), "SPEC-FIX-101:plan:attempt-1:s1");
    }
}

#[test]
fn what_cannot_be_placed_is_refused() {
    for (file, bytes, why) in [
        ("/repo/x/notes.json", "{}", "says which stage"),
        ("/repo/x/spec-plan_s1.json", "{broken", "says which SPEC"),
        ("/repo/x/spec-plan_s1.json", r#"{"specId": "a/b"}"#, "is not a SPEC id"),
        ("/repo/x/spec-deploy_s1.json", "{}", "says which stage"),
        ("/repo/x/spec-plan_gemini_s1.json", r#"{"agent": "gemini"}"#, "agent's output"),
    ] {
        let error = read(Path::new(file), bytes.as_bytes(), &repo()).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(file), "{file}: {error}");
    }
}

#[test]
fn a_session_may_have_underscores_where_the_content_agrees() {
    let mut telemetry = base("tasks");
    telemetry["sessionId"] = "nightly_7".into();
    telemetry["tool"] = json!({"status": "ok"});
    let event = read_named("spec-tasks_nightly_7.json", telemetry.to_string().as_bytes()).unwrap();
    assert_eq!(event.event.status, Some(Status::Success));
    telemetry["sessionId"] = "7".into();
    assert!(read_named("spec-tasks_nightly_7.json", telemetry.to_string().as_bytes()).is_err());
}

proptest! {
    #[test]
    fn whatever_a_file_holds_it_is_read_or_refused(
        name in "[a-z_-]{0,20}",
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = read_named(&format!("{name}.json"), &bytes);
        prop_assert_eq!(read_named("spec-plan_s1.json", &bytes).unwrap().event.status, Some(Status::Halt));
    }

    #[test]
    fn every_cut_of_a_good_file_is_a_halt_that_keeps_what_can_be_read(cut in 0usize..150) {
        let text = base("plan").to_string();
        let event = read_named("spec-plan_s1.json", &text.as_bytes()[..cut.min(text.len() - 1)]).unwrap();
        prop_assert_eq!(event.event.status, Some(Status::Halt));
        prop_assert_eq!(event.event.idempotency_key.as_str(), "SPEC-FIX-101:plan:attempt-1:s1");
    }
}

fn native(fields: &Value) -> Vec<u8> {
    let mut telemetry = json!({"schemaVersion": 1, "command": "guardrail.audit", "specId": SPEC,
        "sessionId": "462513",
        "timestamp": "2025-12-26T14:42:21Z", "success": true, "checks": [], "warnings": ["w"], "errors": []});
    telemetry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    telemetry.to_string().into_bytes()
}

const NATIVE: &str = "guardrail-audit-2025-12-26T14-42-21Z_462513.json";
const NATIVE_KEY: &str = "SPEC-FIX-101:audit:attempt-1:2025-12-26T14-42-21Z_462513";

#[test]
fn a_native_guardrail_is_judged_by_its_success_and_known_by_its_time() {
    let docs = Path::new("/repo/docs").join(SPEC).join("evidence").join(NATIVE);
    for path in [path(NATIVE), docs, PathBuf::from("/tmp/renamed.json")] {
        let event = read(&path, &native(&json!({})), &repo()).unwrap();
        assert_eq!(event.event.idempotency_key.as_str(), NATIVE_KEY, "{}", path.display());
        assert_eq!((event.event.status, event.event.stage), (Some(Status::Success), Some(Stage::Audit)));
        assert_eq!(event.telemetry.unwrap()["warnings"], json!(["w"]));
    }
    let checks = json!([{"name": "clean-tree", "status": "failed", "message": "1 change"}]);
    let event = read_named(NATIVE, &native(&json!({"success": false, "checks": checks}))).unwrap();
    assert_eq!(event.event.status, Some(Status::Failure));
    assert_eq!(event.event.reasons, ["clean-tree: 1 change"]);
}

#[test]
fn a_native_guardrail_that_cannot_be_judged_is_a_halt_under_the_same_key() {
    let whole = native(&json!({}));
    let huge = native(&json!({"artifacts": ["x".repeat(MAX_TELEMETRY_BYTES)]}));
    let other = native(&json!({"command": "guardrail.plan"}));
    let (cut, binary) = (whole[..40].to_vec(), vec![0xff, 0x00, 0xfe, 0x80]);
    let silent = native(&json!({"success": null}));
    let timeless = native(&json!({"timestamp": ""}));
    for bytes in [Vec::new(), cut, binary, huge, silent, timeless, other] {
        let event =
            read(&Path::new("/repo/docs").join(SPEC).join("evidence").join(NATIVE), &bytes, &repo()).unwrap();
        assert_eq!((event.event.status, event.event.stage), (Some(Status::Halt), Some(Stage::Audit)));
        assert_eq!(event.spec.id.as_str(), SPEC);
        assert_eq!(event.event.idempotency_key.as_str(), NATIVE_KEY);
    }
}

#[test]
fn a_bash_guardrail_with_the_native_command_is_judged_by_what_it_has() {
    let mut telemetry = base("plan");
    telemetry["command"] = json!("guardrail.plan");
    telemetry["baseline"] = json!({"status": "passed"});
    let read = |telemetry: &Value| read_named("spec-plan_s1.json", telemetry.to_string().as_bytes()).unwrap();
    assert_eq!(read(&telemetry).event.status, Some(Status::Success));
    telemetry["success"] = json!(false);
    assert_eq!(read(&telemetry).event.status, Some(Status::Failure));
}

#[test]
fn stages_that_no_guardrail_judges_are_none_of_a_guardrails_file() {
    for name in ["spec-specify_s-1.json", "guardrail-analyze-2025-12-26T13-50-08Z_7.json"] {
        assert!(named(Path::new(name)).is_none(), "{name}");
    }
    assert!(of_command("speckit.converge").is_none() && of_command("speckit.plan").is_some());
    assert!(Stage::OF_GUARDRAILS.is_sorted(), "runs rely on the order in which they come");
}

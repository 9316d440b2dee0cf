//! Reports: their numbers beside what the endpoint counted, and their form.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::harness::{DeadEndpoint, EVIDENCE, Endpoint, Sandbox, flaky};

fn report(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let all = [&["report", "--json"], arguments].concat();
    let ran = sandbox.run(&all);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

fn page(sandbox: &Sandbox, form: &str) -> String {
    let ran = sandbox.run(&["report", "--format", form]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
    ran.stdout
}

#[test]
fn of_an_incident_it_has_the_numbers_of_the_endpoint() {
    const EVENTS: usize = 60;
    let answers = flaky(1000);
    let endpoint = Endpoint::replying(&answers);
    let down = DeadEndpoint::new();
    let lines =
        "max_in_flight = 1\nmax_attempts = 3\ninitial_backoff_ms = 5\nbackoff_factor = 1.0\njitter_ms = 0";
    let sandbox = Sandbox::new(&[
        ("flaky", &endpoint.url(), lines),
        ("down", &down.url(), "max_attempts = 1"),
        ("dry", &endpoint.url(), "dry_run = true"),
    ]);
    let serve = sandbox.serve();
    for n in 0..EVENTS {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.wait_for_finals("SPEC-1", 3 * EVENTS);
    let requests = endpoint.requests().len();
    let failed = answers[..requests].iter().filter(|status| **status == 503).count();
    let dead =
        sandbox.dead_letters("SPEC-1").iter().filter(|letter| letter["subscription"] == "flaky").count();
    let numbers = |report: &Value, name: &str| {
        let all = report["subscriptions"].as_array().unwrap();
        let one = all.iter().find(|one| one["id"] == name).unwrap();
        let names = ["attempts", "delivered", "failed", "failures", "ended", "given_up", "dead_letters"];
        names.map(|field| one[field].clone())
    };
    let states = |delivered: usize, dead: usize| json!({"delivered": delivered, "dead_letter": dead});
    let of_flaky = [
        json!(requests),
        json!(requests - failed),
        json!(failed),
        json!({"503": failed}),
        states(EVENTS - dead, dead),
        json!(dead),
        json!(dead),
    ];
    let told = report(&sandbox, &[]);
    assert_eq!(numbers(&told, "flaky"), of_flaky);
    assert_eq!(numbers(&told, "down")[..2], [json!(EVENTS), json!(0)]);
    assert_eq!(numbers(&told, "dry")[4], json!({"dry_run": EVENTS}));
    assert_eq!(told["total"]["attempts"], requests + EVENTS);
    let causes: BTreeMap<&str, &Value> = told["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| (cause["what"].as_str().unwrap(), &cause["count"]))
        .collect();
    let expected = [("cannot connect: connection refused", &json!(EVENTS)), ("status 503", &json!(failed))];
    assert_eq!(causes, expected.into());
    let slots = told["over_time"].as_array().unwrap();
    let sum = |name: &str| slots.iter().map(|slot| slot[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("delivered"), sum("failed")), ((requests - failed) as u64, (failed + EVENTS) as u64));
    let markdown = page(&sandbox, "md");
    let row = markdown.lines().find(|line| line.starts_with("| `flaky` ")).unwrap();
    for cell in [format!(" {requests} "), format!(" {failed} ("), format!(" 503 × {failed} ")] {
        assert!(row.contains(&cell), "{cell}: {row}");
    }
    assert!(markdown.contains("\n## Unresolved\n"), "{markdown}");
    assert!(markdown.contains("\n  spec-notify replay --all --subscription down"), "{markdown}");
    assert!(!page(&sandbox, "html").contains(&endpoint.url()));

    // What a replay delivered was given up all the same; without a runtime it says the same.
    endpoint.recover();
    assert_eq!(sandbox.run(&["replay", "--all", "--subscription", "flaky", "--rate", "1000"]).code, 0);
    serve.terminate();
    let told = report(&sandbox, &[]);
    let of_flaky = [
        json!(requests + dead),
        json!(requests - failed + dead),
        json!(failed),
        json!({"503": failed}),
        json!({"delivered": EVENTS}),
        json!(dead),
        json!(0),
    ];
    assert_eq!(numbers(&told, "flaky"), of_flaky);
    assert_eq!(report(&sandbox, &["--since", "2030-01-01T00:00:00Z"])["total"]["attempts"], 0);
}

#[test]
fn a_run_is_told_with_its_stages_and_nothing_in_it_is_markup() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let hostile = "a | b\n<script>x</script> ![p](https://evil.example/p.png) `@team` \u{202e}";
    let stage = |stage: &str, n: usize, status: &str, from: &str, to: &str| {
        json!({
            "event": {"type": "spec-auto.stage.completed", "stage": stage, "status": status,
                      "idempotency_key": format!("SPEC-1:{stage}:{n}"),
                      "reasons": if status == "success" { vec![] } else { vec![hostile] }},
            "spec": {"id": "SPEC-1"},
            "pipeline": {"startedAt": from, "completedAt": to},
            "telemetry": {"cost": {"totalUsd": 0.25}},
        })
    };
    let gate = json!({
        "event": {"type": "spec-auto.pipeline.waiting", "status": "halt", "idempotency_key": "gate"},
        "spec": {"id": "002-kanban"},
        "pipeline": {"run": {"id": "6f9a3c73"}, "startedAt": "2026-01-02T03:00:00Z",
                     "gate": {"step": "review", "message": hostile, "options": ["approve"]}},
    });
    let events = [
        stage("Plan", 1, "success", "2026-01-02T03:00:00Z", "2026-01-02T03:01:30Z"),
        stage("Validate", 1, "failure", "2026-01-02T03:02:00Z", "2026-01-02T03:03:00Z"),
        stage("Validate", 2, "success", "2026-01-02T03:04:00Z", "2026-01-02T03:05:00Z"),
        stage("Unlock", 1, "success", "2026-01-02T03:06:00Z", "2026-01-02T03:06:05Z"),
        // The next run, which goes on.
        stage("Plan", 2, "failure", "2026-01-02T04:00:00Z", "2026-01-02T04:00:01Z"),
        gate,
    ];
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    let file = sandbox.write("events.jsonl", &lines);
    assert_eq!(sandbox.run(&["emit", "--event", file.to_str().unwrap()]).code, 0);
    // Four stages, the end of their run, the next one, and the gate.
    sandbox.wait_for_finals("SPEC-1", 6);
    sandbox.wait_for_finals("002-kanban", 1);
    let told = report(&sandbox, &[]);
    let runs = told["runs"].as_array().unwrap();
    let of = |spec: &str, status: Value| {
        runs.iter()
            .find(|run| run["spec"] == spec && run["status"] == status)
            .unwrap_or_else(|| panic!("{told}"))
    };
    let ended = of("SPEC-1", json!("success"));
    let stages: Vec<_> = ended["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["stage"].as_str().unwrap(), one["attempt"].as_u64(), one["duration_ms"].as_u64()))
        .collect();
    let expected = [
        ("Plan", Some(1), Some(90_000)),
        ("Validate", Some(1), Some(60_000)),
        ("Validate", Some(2), Some(60_000)),
        ("Unlock", Some(1), Some(5_000)),
    ];
    assert_eq!(stages, expected);
    assert_eq!((&ended["duration_ms"], &ended["cost_usd"]), (&json!(365_000), &json!(1.0)));
    assert_eq!(of("SPEC-1", Value::Null)["stages"][0]["status"], "failure");
    assert_eq!(of("002-kanban", Value::Null)["gates"][0]["step"], "review");

    let html = page(&sandbox, "html");
    assert!(html.contains("&lt;script&gt;x&lt;/script&gt;") && !html.contains("<script"), "{html}");
    assert!(!html.contains("<img") && !html.contains("src=") && !html.contains('\u{202e}'), "{html}");
    let markdown = page(&sandbox, "md");
    let code = r"``a \| b <script>x</script> ![p](https://evil.example/p.png) `@team` �``";
    assert!(markdown.contains(code), "{markdown}");
    assert!(markdown.contains("\n### `SPEC-1` run 1 · ✅ success · 6 min 5 s · $1.00\n"), "{markdown}");
    assert!(markdown.contains(" Validate (2) | ✅ success | 1 min | $0.25 |"), "{markdown}");
    assert!(markdown.contains(" gate review | ✋ waits |"), "{markdown}");
    serve.terminate();
    let ran = sandbox.run(&["list", "--format", "html"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--format html is for report"), "{ran:?}");
}

#[test]
fn of_nothing_it_says_so_and_of_much_it_stays_small() {
    let sandbox = Sandbox::new(&[("one", "https://example.com/", "")]);
    for form in ["md", "html"] {
        let page = page(&sandbox, form);
        assert!(page.contains("Nothing is unresolved."), "{page}");
        assert!(page.contains("In this time nothing was sent, and no run was reported."), "{page}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    for spec in 0..10_u32 {
        let mut lines = String::new();
        for n in 0..1000_u32 {
            let id = format!("00000000-0000-4000-8000-{:012}", spec * 1000 + n);
            let time = stamped(now - 3_600_000 + u128::from(n) * 3_000);
            let of = format!(r#""time":"{time}","delivery":"{id}","idempotency_key":"k{n}""#);
            let of = format!(r#"{of},"event":"spec-auto.stage.completed","subscription":"s{spec}""#);
            let failed = n % 10 == 0;
            let error = format!(r#""error":{{"class":"dns","message":"no address for host-{n}.example"}}"#);
            let answer = if failed { error } else { r#""response":{"status":200,"body":""}"#.to_owned() };
            let (outcome, state) =
                if failed { ("failed", "dead_letter") } else { ("delivered", "delivered") };
            lines += &format!(
                "{{\"v\":2,\"record\":\"attempt\",{of},\"attempt\":1,{answer},\"latency_ms\":{n},\
                 \"outcome\":\"{outcome}\"}}\n{{\"v\":2,\"record\":\"final\",{of},\"attempts\":1,\
                 \"state\":\"{state}\",\"accepted_at\":\"{time}\"}}\n"
            );
        }
        sandbox.write(&format!("{EVIDENCE}/commands/SPEC-{spec}/webhooks/deliveries.jsonl"), &lines);
    }
    let told = report(&sandbox, &[]);
    let total = &told["total"];
    assert_eq!(
        [&total["attempts"], &total["failed"], &total["given_up"], &total["p50_ms"], &total["p95_ms"]],
        [&json!(10_000), &json!(1_000), &json!(1_000), &json!(499.0), &json!(949.0)]
    );
    let causes = told["causes"].as_array().unwrap();
    assert_eq!((causes.len(), causes[19]["what"].as_str()), (20, Some("81 others")));
    for form in ["md", "html", "json"] {
        let page = page(&sandbox, form);
        assert!(page.len() < 300_000, "{form}: {}", page.len());
        assert!(page.contains("10,000") || page.contains("10000"), "{form}: {page}");
    }
    // A clock that was set back for a moment hides nothing of what came before it.
    let old = sandbox.path().join(EVIDENCE).join("commands/SPEC-1/webhooks/deliveries.jsonl");
    let text = fs::read_to_string(&old).unwrap();
    let (first, rest) = text.split_at(text.len() / 2 + text[text.len() / 2..].find('\n').unwrap() + 1);
    let id = "00000000-0000-4000-8000-999999999999";
    let of = format!(r#""time":"2020-01-01T00:00:00.000Z","delivery":"{id}","idempotency_key":"k""#);
    let of = format!(r#"{of},"event":"spec-auto.stage.completed","subscription":"s1","attempts":1"#);
    let end = format!(r#"{of},"state":"delivered","accepted_at":"2020-01-01T00:00:00.000Z""#);
    let end = format!(r#"{{"v":2,"record":"final",{end}}}"#);
    fs::write(&old, format!("{first}{end}\n{rest}")).unwrap();
    assert_eq!(report(&sandbox, &[])["total"], *total);
    // A line that is cut, or is none, is passed over.
    let path = sandbox.path().join(EVIDENCE).join("commands/SPEC-0/webhooks/deliveries.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("nonsense\n{text}{{\"v\":2,\"record\":\"attempt\",\"ti")).unwrap();
    assert_eq!(report(&sandbox, &[])["total"], *total);
}

/// Milliseconds since 1970 as the evidence has times.
fn stamped(millis: u128) -> String {
    let at = jiff::Timestamp::from_millisecond(millis.try_into().unwrap()).unwrap();
    format!("{at:.3}")
}

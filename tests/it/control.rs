//! The control port from outside: the documented client, and ten thousand lines of nonsense.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Endpoint, Sandbox, wait_for};

fn runtime(sandbox: &Sandbox) -> Value {
    serde_json::from_slice(&fs::read(sandbox.spool().join("runtime.json")).unwrap()).unwrap()
}

fn connect(runtime: &Value) -> TcpStream {
    let stream = TcpStream::connect(runtime["address"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Says one line and hears one.
fn ask(stream: &mut BufReader<TcpStream>, line: &Value) -> Value {
    stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn the_python_client_of_the_docs_works_as_it_stands() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let docs = include_str!("../../docs/control-port.md");
    let program = docs.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
    assert!(program.lines().count() <= 20);
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let file = sandbox.write("client.py", program);
    let run = || Command::new("python3").arg(&file).arg(sandbox.spool()).output().unwrap();
    let output = run();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("accepted") && said.contains("healthy"), "{said}");
    endpoint.wait_for(1);
}

#[test]
fn every_documented_command_answers_and_an_unknown_one_is_told_so() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let runtime = runtime(&sandbox);
    let mut stream = BufReader::new(connect(&runtime));
    let mut ask = |line: Value| ask(&mut stream, &line);
    assert_eq!(ask(json!({"version": 1, "token": runtime["token"]}))["ok"]["version"], 1);
    let event = json!({"event": {"type": "spec-auto.stage.completed", "idempotency_key": "k"}, "spec": {"id": "SPEC-1"}});
    assert_eq!(ask(json!({"command": "emit", "event": event}))["ok"]["outcome"], "accepted");
    let sent = ask(json!({"command": "test", "spec": "SPEC-1", "subscription": "one"}));
    assert_eq!(sent["ok"]["outcome"], "delivered");
    sandbox.wait_for_finals("SPEC-1", 1);
    assert_eq!(ask(json!({"command": "list", "limit": 5}))["ok"]["deliveries"][0]["state"], "delivered");
    assert_eq!(ask(json!({"command": "attempts", "limit": 5}))["ok"].as_array().unwrap().len(), 2);
    assert_eq!(ask(json!({"command": "status"}))["ok"]["subscriptions"][0]["health"], "healthy");
    assert_eq!(ask(json!({"command": "reload"}))["ok"]["ok"], true);
    let replay =
        json!({"command": "replay", "spec": "SPEC-1", "delivery_id": "0193e5a1-7f00-4abc-8def-0123456789ab"});
    assert!(ask(replay)["error"].as_str().unwrap().contains("there is no dead letter"));
    assert!(
        ask(json!({"command": "stop"}))["error"]
            .as_str()
            .unwrap()
            .contains("unknown command `stop`: this version")
    );
    assert!(
        ask(json!({"command": "list", "limit": 5, "page": 2}))["error"]
            .as_str()
            .unwrap()
            .contains("unknown field `page`")
    );
    let docs = include_str!("../../docs/control-port.md");
    for command in spec_notify::control::COMMANDS {
        assert!(docs.contains(&format!("`{command}`")), "docs/control-port.md does not have `{command}`");
    }
}

/// A frame of nonsense: random bytes, or a good conversation with some bytes changed, cut or said twice.
fn frame(random: &mut fastrand::Rng, token: &str) -> Vec<u8> {
    if random.u8(..4) == 0 {
        return (0..random.usize(..2000)).map(|_| random.u8(..)).collect();
    }
    let hello = format!("{{\"version\":1,\"token\":\"{token}\"}}\n");
    let commands = [
        "{\"command\":\"emit\",\"event\":{\"event\":{\"type\":\"spec-auto.stage.completed\"},\"spec\":{\"id\":\"SPEC-FUZZ\"}}}\n",
        "{\"command\":\"test\",\"spec\":\"SPEC-FUZZ\",\"subscription\":\"one\"}\n",
        "{\"command\":\"replay\",\"spec\":\"SPEC-FUZZ\",\"delivery_id\":\"0193e5a1-7f00-4abc-8def-0123456789ab\"}\n",
        "{\"command\":\"list\",\"limit\":3}\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "POST /emit HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    ];
    let mut bytes = [hello.as_bytes(), commands[random.usize(..commands.len())].as_bytes()].concat();
    // Within the greeting something is always wrong: nothing of what follows may be obeyed.
    let at = random.usize(12..hello.len() - 3);
    match random.u8(..4) {
        0 => bytes[at] ^= 1 << random.u8(..7),
        1 => drop(bytes.drain(at..at + 1)),
        2 => bytes.insert(at, b'\n'),
        _ => bytes.truncate(at),
    }
    bytes
}

#[test]
fn ten_thousand_frames_of_nonsense_harm_nobody_and_are_not_obeyed() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let runtime = runtime(&sandbox);
    let seed = 0x5EED;
    std::thread::scope(|scope| {
        for part in 0..4 {
            let runtime = &runtime;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + part);
                for _ in 0..2500 {
                    let mut stream = connect(runtime);
                    // The other end may have closed already, which is its right.
                    let _ = stream.write_all(&frame(&mut random, runtime["token"].as_str().unwrap()));
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
        }
        // A real client is served meanwhile.
        for n in 0..20 {
            assert_eq!(sandbox.emit("SPEC-1", "Plan", &format!("k{n}"))["outcome"], "accepted");
        }
    });
    sandbox.wait_for_finals("SPEC-1", 20);
    assert_eq!(sandbox.evidence("SPEC-FUZZ"), Vec::<Value>::new());
    assert_eq!(endpoint.requests().len(), 20);
    let (code, log) = serve.terminate();
    assert!(code == 0 && !log.contains("panicked"), "{log}");
}

#[test]
fn the_port_takes_64_at_a_time_and_cuts_who_says_nothing_or_too_much() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let runtime = runtime(&sandbox);
    // Silent ones fill every place, and are cut without a word after the time for a greeting.
    let silent: Vec<TcpStream> = (0..64).map(|_| connect(&runtime)).collect();
    assert_eq!(sandbox.run(&["status"]).code, 0, "served from the disk or in its turn, but served");
    for mut stream in silent {
        let mut said = Vec::new();
        assert_eq!(stream.read_to_end(&mut said).unwrap_or(0), 0, "{said:?}");
    }
    // A greeting without an end, and a line above 1 MiB.
    let mut endless = connect(&runtime);
    let _ = endless.write_all(&[b'{'; 8192]);
    assert_eq!(endless.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    let mut long = BufReader::new(connect(&runtime));
    let hello = json!({"version": 1, "token": runtime["token"]});
    long.get_mut().write_all(format!("{hello}\n").as_bytes()).unwrap();
    long.read_line(&mut String::new()).unwrap();
    let _ = long.get_mut().write_all(&vec![b' '; 2 << 20]);
    assert_eq!(long.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    wait_for("a place", || (sandbox.emit("SPEC-1", "Plan", "k1")["outcome"] == "accepted").then_some(()));
}

/// Requests sent ahead, more than may be under way, and the end of the client's side right behind
/// them.
#[test]
fn what_is_sent_ahead_is_answered_in_its_order() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let runtime = runtime(&sandbox);
    let mut stream = connect(&runtime);
    let hello = json!({"version": 1, "token": runtime["token"]});
    let mut lines = format!("{hello}\n");
    for n in 0..300 {
        let key = format!("k{}", n % 290);
        let event = json!({"event": {"type": "spec-kit.webhook.test", "idempotency_key": key}, "spec": {"id": "SPEC-1"}});
        lines += &match n % 50 {
            17 => "{\"command\":\"nothing\"}\n".to_owned(),
            33 => "{\"command\":\"status\"}\n".to_owned(),
            _ => format!("{}\n", json!({"command": "emit", "event": event})),
        };
    }
    stream.write_all(lines.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers: Vec<Value> =
        BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(answers.len(), 301, "the greeting's, and one each");
    for (n, answer) in answers[1..].iter().enumerate() {
        match n % 50 {
            17 => assert!(answer["error"].as_str().unwrap().contains("unknown command"), "{n}: {answer}"),
            33 => assert!(answer["ok"]["subscriptions"].is_array(), "{n}: {answer}"),
            _ => {
                assert_eq!(answer["ok"]["event"]["idempotency_key"], format!("k{}", n % 290), "{answer}");
                let outcome = if n < 290 { "accepted" } else { "duplicate" };
                assert_eq!(answer["ok"]["outcome"], outcome, "{n}: {answer}");
            }
        }
    }
}

#[test]
fn what_another_user_made_is_not_believed() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let file = sandbox.spool().join("runtime.json");
    if std::os::unix::fs::chown(&file, Some(12345), None).is_err() {
        eprintln!("skipped: only root can make a file another user's");
        return;
    }
    let ran = sandbox.run(&["reload"]);
    assert!(ran.code == 3 && ran.stderr.contains("another user (12345"), "{ran:?}");
    assert_eq!(
        sandbox.emit("SPEC-1", "Plan", "k1")["outcome"],
        "queued",
        "into the inbox, not to a stranger"
    );
    serve.kill();
    std::os::unix::fs::chown(sandbox.spool(), Some(12345), None).unwrap();
    let ran = sandbox.run(&["serve"]);
    assert!(ran.code == 1 && ran.stderr.contains("another user (12345"), "{ran:?}");
}

#[test]
fn pages_have_every_delivery_once_however_they_were_accepted() {
    let slow = Endpoint::answering(vec![Answer::Hang]);
    let sandbox = Sandbox::new(&[("slow", &slow.url(), "")]);
    let _serve = sandbox.serve();
    let emitting: Vec<_> = (0..6)
        .map(|emitter| {
            let event = |n| {
                json!({"event": {"type": "spec-auto.stage.completed", "idempotency_key": format!("{emitter}-{n}")},
                       "spec": {"id": format!("SPEC-{emitter}")}})
            };
            let lines: String = (0..100).map(|n| event(n).to_string() + "\n").collect();
            let file = sandbox.write(&format!("events-{emitter}.jsonl"), &lines);
            let arguments = ["emit", "--deadline", "20000", "--event", file.to_str().unwrap()];
            sandbox.command(&arguments).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    emitting.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    let runtime = runtime(&sandbox);
    let mut stream = BufReader::new(connect(&runtime));
    assert!(ask(&mut stream, &json!({"version": 1, "token": runtime["token"]}))["ok"].is_object());
    let (mut ids, mut before) = (HashSet::new(), Value::Null);
    loop {
        let page = ask(&mut stream, &json!({"command": "list", "limit": 7, "before": before}));
        let rows = page["ok"]["deliveries"].as_array().unwrap();
        assert!(rows.iter().all(|row| ids.insert(row["id"].to_string())), "each once");
        let Some(last) = rows.last() else { break };
        before = json!({"accepted_at": last["accepted_at"], "id": last["id"]});
    }
    assert_eq!(ids.len(), 600);
}

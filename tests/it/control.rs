//! The control port from outside: the documented client, and ten thousand lines of nonsense.

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::port::{NONCE, ask, connect, greeted, proof, runtime};
use crate::harness::{Answer, Endpoint, Sandbox, wait_for};

#[test]
fn the_python_client_of_the_docs_works_as_it_stands() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let docs = include_str!("../../docs/reference/control-port.md");
    let program = docs.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
    assert!(program.lines().count() <= 30);
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let file = sandbox.write("client.py", program);
    let run = || Command::new("python3").arg(&file).arg(sandbox.spool()).output().unwrap();
    let output = run();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("accepted"), "{said}");
    endpoint.wait_for(1);
    // Its answer may still be on the way when the client asks.
    wait_for("a delivery that is written", || {
        let said = String::from_utf8(run().stdout).unwrap();
        said.contains("healthy").then_some(())
    });
}

#[test]
fn every_documented_command_answers_and_an_unknown_one_is_told_so() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let runtime = runtime(&sandbox);
    let mut stream = greeted(&runtime);
    let mut ask = |line: Value| ask(&mut stream, &line);
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
    let docs = include_str!("../../docs/reference/control-port.md");
    for command in spec_notify::internals::Request::NAMES {
        assert!(
            docs.contains(&format!("`{command}`")),
            "docs/reference/control-port.md does not have `{command}`"
        );
    }
}

/// A frame of nonsense: random bytes, or a good conversation with some bytes changed, cut or said
/// twice.
fn frame(random: &mut fastrand::Rng, token: &str) -> Vec<u8> {
    if random.u8(..4) == 0 {
        return (0..random.usize(..2000)).map(|_| random.u8(..)).collect();
    }
    // A proof of another connection, or of the other end.
    let (side, nonce) = (["client", "server"][random.usize(..2)], [NONCE, ""][random.usize(..2)]);
    let proof = proof(token, side, NONCE, nonce);
    let hello = format!("{{\"version\":2,\"nonce\":\"{NONCE}\"}}\n{{\"proof\":\"{proof}\"}}\n");
    let commands = [
        "{\"command\":\"emit\",\"event\":{\"event\":{\"type\":\"spec-auto.stage.completed\"},\"spec\":{\"id\":\"SPEC-FUZZ\"}}}\n",
        "{\"command\":\"test\",\"spec\":\"SPEC-FUZZ\",\"subscription\":\"one\"}\n",
        "{\"command\":\"replay\",\"spec\":\"SPEC-FUZZ\",\"delivery_id\":\"0193e5a1-7f00-4abc-8def-0123456789ab\"}\n",
        "{\"command\":\"list\",\"limit\":3}\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "POST /emit HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    ];
    let mut bytes = [hello.as_bytes(), commands[random.usize(..commands.len())].as_bytes()].concat();
    // Nothing of what follows such a greeting may be obeyed, whole or not.
    let at = random.usize(12..hello.len() - 3);
    match random.u8(..5) {
        0 => bytes[at] ^= 1 << random.u8(..7),
        1 => drop(bytes.drain(at..at + 1)),
        2 => bytes.insert(at, b'\n'),
        3 => bytes.truncate(at),
        _ => {}
    }
    bytes
}

#[test]
fn ten_thousand_frames_of_nonsense_harm_nobody_and_are_not_obeyed() {
    let endpoint = Endpoint::answering([200]);
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
fn whoever_fills_the_port_with_silence_shuts_nobody_out() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let runtime = runtime(&sandbox);
    // More than may be there without a word; whoever is closed comes again at once.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut silent: VecDeque<TcpStream> = (0..50).map(|_| connect(&runtime)).collect();
                while !is_over.load(Ordering::Relaxed) {
                    let mut oldest = silent.pop_front().unwrap();
                    oldest.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                    // They have said nothing and hear nothing.
                    let mut said = [0; 64];
                    assert_eq!(oldest.read(&mut said).unwrap_or(0), 0);
                    silent.push_back(connect(&runtime));
                }
            });
        }
        for n in 0..40 {
            let outcome = sandbox.emit("SPEC-1", "Plan", &format!("k{n}"))["outcome"].clone();
            if outcome != "accepted" {
                is_over.store(true, Ordering::Relaxed);
                panic!("{n}: {outcome}");
            }
        }
        assert_eq!(sandbox.run(&["reload"]).code, 0);
        is_over.store(true, Ordering::Relaxed);
    });
    endpoint.wait_for(40);
}

#[test]
fn the_port_cuts_who_says_too_much_and_gives_64_a_place() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let runtime = runtime(&sandbox);
    // A greeting without an end, and a line above 1 MiB.
    let mut endless = connect(&runtime);
    let _ = endless.write_all(&[b'{'; 8192]);
    assert_eq!(endless.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    let mut long = greeted(&runtime);
    let _ = long.get_mut().write_all(&vec![b' '; 2 << 20]);
    assert_eq!(long.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    // One more than there are places waits for its turn.
    let mut places: Vec<_> = (0..64).map(|_| greeted(&runtime)).collect();
    let waiting = std::thread::spawn({
        let runtime = runtime.clone();
        move || ask(&mut greeted(&runtime), &json!({"command": "status"}))
    });
    assert!(ask(&mut places[63], &json!({"command": "status"}))["ok"].is_object());
    drop(places);
    assert!(waiting.join().unwrap()["ok"].is_object());
}

/// Listens where a runtime was, and answers everything as if it were one.
fn squat(address: &str) -> (Arc<Mutex<String>>, Arc<AtomicBool>) {
    let listener = TcpListener::bind(address).unwrap();
    let (heard, is_over) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
    let (hearing, ends) = (heard.clone(), is_over.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                let answer = match line.contains("nonce") {
                    // It knows no token; the words of the client are all it has.
                    true => {
                        let said: Value = serde_json::from_str(&line).unwrap();
                        json!({"ok": {"version": 2, "program": "0.1.0", "nonce": said["nonce"],
                            "proof": proof("guessed", "server", NONCE, NONCE)}})
                    }
                    false => json!({"ok": {"outcome": "accepted", "deliveries": []}}),
                };
                hearing.lock().unwrap().push_str(&line);
                line.clear();
                let _ = stream.get_mut().write_all(format!("{answer}\n").as_bytes());
            }
        }
    });
    (heard, is_over)
}

#[test]
fn who_listens_where_a_killed_runtime_was_learns_nothing_and_is_believed_nothing() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let was = runtime(&sandbox);
    serve.kill();
    let (heard, is_over) = squat(was["address"].as_str().unwrap());
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "a-key-to-steal")["outcome"], "queued");
    for (command, code) in [(&["status"][..], 1), (&["list"], 0), (&["reload"], 3)] {
        let ran = sandbox.run(command);
        assert_eq!(ran.code, code, "{ran:?}");
    }
    assert!(sandbox.run(&["status"]).stdout.contains("none is running"));
    let heard = heard.lock().unwrap().clone();
    assert!(heard.lines().count() >= 3 && !heard.contains("a-key-to-steal"), "{heard}");
    assert!(!heard.contains(was["token"].as_str().unwrap()), "the token is never said");
    assert!(heard.lines().all(|line| line.contains("nonce")), "nothing but greetings: {heard}");
    let _serve = sandbox.serve();
    endpoint.wait_for(1);
    is_over.store(true, Ordering::Relaxed);
    drop(TcpStream::connect(was["address"].as_str().unwrap()));
}

#[test]
fn another_version_of_the_protocol_is_refused_with_a_word_at_either_end() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let mut running = runtime(&sandbox);
    for version in [1, 9] {
        let mut stream = BufReader::new(connect(&running));
        let said = ask(&mut stream, &json!({"version": version, "token": running["token"]}));
        assert!(said["error"].as_str().unwrap().contains(&format!("version {version} ")), "{said}");
    }
    // A runtime of before: it says nothing of its protocol. The one that runs would write the file
    // anew, so it is frozen meanwhile.
    serve.signal("STOP");
    running.as_object_mut().unwrap().remove("protocol");
    std::fs::write(sandbox.spool().join("runtime.json"), running.to_string()).unwrap();
    let ran = sandbox.run(&["reload"]);
    assert!(ran.code == 3 && ran.stderr.contains("speaks version 1"), "{ran:?}");
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k")["outcome"], "queued");
    serve.signal("CONT");
    endpoint.wait_for(1);
}

/// Requests sent ahead, more than may be under way, and the end of the client's side right behind
/// them.
#[test]
fn what_is_sent_ahead_is_answered_in_its_order() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let runtime = runtime(&sandbox);
    let mut stream = greeted(&runtime);
    let mut lines = String::new();
    for n in 0..300 {
        let key = format!("k{}", n % 290);
        let event = json!({"event": {"type": "spec-kit.webhook.test", "idempotency_key": key}, "spec": {"id": "SPEC-1"}});
        lines += &match n % 50 {
            17 => "{\"command\":\"nothing\"}\n".to_owned(),
            33 => "{\"command\":\"status\"}\n".to_owned(),
            _ => format!("{}\n", json!({"command": "emit", "event": event})),
        };
    }
    stream.get_mut().write_all(lines.as_bytes()).unwrap();
    stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    let answers: Vec<Value> =
        stream.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(answers.len(), 300, "one each");
    for (n, answer) in answers.iter().enumerate() {
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
    let endpoint = Endpoint::answering([200]);
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
    let slow = Endpoint::answering([Answer::hang()]);
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
    let mut stream = greeted(&runtime);
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

//! Canaries in every secret: none may be found anywhere but on the wire.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::json;

use crate::harness::port::{greeted, runtime};
use crate::harness::{Answer, EVIDENCE, Endpoint, Ran, RequestExt as _, Sandbox};

/// What no file, stream or answer may have; the last two are base64 of the URL's userinfo and of
/// the proxy's credentials.
const CANARIES: [&str; 12] = [
    "canary-secret",
    "canary-previous",
    "canary-path",
    "canary-query",
    "canary-user",
    "canary-password",
    "canary-header",
    "canary-proxy-user",
    "canary-proxy-word",
    "canary-of-the-file",
    "Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3N3b3Jk",
    "Y2FuYXJ5LXByb3h5LXVzZXI6Y2FuYXJ5LXByb3h5LXdvcmQ=",
];

fn find_in(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_in(&path, found);
        } else if !path.ends_with(".spec-kit/config.toml") && !path.ends_with("secrets.env") {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.extend(leaks(&path.display().to_string(), &text));
        }
    }
}

fn leaks(place: &str, text: &str) -> Vec<String> {
    CANARIES
        .iter()
        .filter(|canary| text.contains(**canary))
        .map(|canary| format!("{canary} in {place}"))
        .collect()
}

/// Every file under a folder that others than its owner may read.
fn readable_by_others(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        if path.is_dir() {
            readable_by_others(&path, found);
        } else if mode & 0o077 != 0 && !path.ends_with(".gitignore") {
            found.push(format!("{} is {mode:o}", path.display()));
        }
    }
}

/// A proxy on loopback: asks for credentials, or answers with this status, or passes the
/// connection on. Tells what it heard.
fn proxy(status: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            told.lock().unwrap().push(head);
            let _ = write!(stream, "HTTP/1.1 {status} Whatever\r\n\r\n");
            if let (200, Ok(beyond)) = (status, TcpStream::connect(&target)) {
                for (mut from, mut to) in
                    [(stream.try_clone().unwrap(), beyond.try_clone().unwrap()), (beyond, stream)]
                {
                    thread::spawn(move || io::copy(&mut from, &mut to));
                }
            }
        }
    });
    (port, heard)
}

/// What the control port answers, byte for byte.
fn control_port(sandbox: &Sandbox, id: &str) -> String {
    let mut stream = greeted(&runtime(sandbox));
    let mut heard = String::new();
    for line in [
        json!({"command": "status"}),
        json!({"command": "list", "limit": 500}),
        json!({"command": "attempts", "limit": 200}),
        json!({"command": "test", "spec": "SPEC-1", "subscription": "echoes"}),
        json!({"command": "replay", "spec": "SPEC-1", "delivery_id": id}),
        json!({"command": "reload"}),
        json!({"command": "canary"}),
    ] {
        stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        stream.read_line(&mut heard).unwrap();
    }
    assert_eq!(heard.lines().count(), 7);
    heard
}

#[test]
fn no_secret_is_ever_written() {
    let answers = vec![
        Answer::status(500),
        Answer::close(),
        Answer::status(302).header("location", "/canary-path"),
        Answer::raw("HTTP/1.1 200 OK\r\nx\0: canary-user\r\n\r\n").then_close(),
        Answer::status(200),
    ];
    let endpoint = Endpoint::answering(answers);
    // Many an error page repeats what was asked for; this one all that was sent.
    let page = "Cannot POST /hook/canary-path?token=canary-query with canary-header-0123456789 and \
        Basic Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3N3b3Jk (canary-user:canary-password)";
    let page = format!("HTTP/1.1 404 No\r\nserver: {page}\r\ncontent-length: {}\r\n\r\n{page}", page.len());
    let echoes = Endpoint::answering([Answer::raw(page).then_close()]);
    let hangs = Endpoint::answering([Answer::hang()]);
    let good = Endpoint::answering([200]);
    let closed = Endpoint::down();
    let secret_url = |base: &str| {
        base.replace("http://", "http://canary-user:canary-password@") + "/canary-path?token=canary-query"
    };
    let (passes, heard) = proxy(200);
    let lines = "secret_env = \"CANARY\"\nprevious_secret_env = \"CANARY_PREVIOUS\"\ninitial_backoff_ms = 1\n\
        jitter_ms = 0\nmax_attempts = 2\nper_request_timeout_ms = 500\nheaders = { \"X-Key\" = \"env:CANARY_HEADER\" }";
    let through = |variable: &str| format!("{lines}\nproxy = \"env:{variable}\"");
    let of_file = lines.replace("\"CANARY\"", "\"CANARY_OF_FILE\"");
    let subscriptions = [
        ("answers", secret_url(&endpoint.url()), lines.to_owned()),
        ("echoes", secret_url(&echoes.url()), lines.to_owned()),
        ("hangs", secret_url(&hangs.url()), lines.to_owned()),
        ("refuses", secret_url(&closed.url()), lines.to_owned()),
        ("garbles", secret_url(&endpoint.url()).replace("http://", "https://"), lines.to_owned()),
        ("tunnels", secret_url(&good.url()), through("PROXY_PASSES")),
        ("proxy-asks", secret_url(&good.url()), through("PROXY_ASKS")),
        ("proxy-fails", secret_url(&good.url()), through("PROXY_FAILS")),
        ("proxy-dead", secret_url(&good.url()), through("PROXY_DEAD")),
        ("of-file", secret_url(&good.url()), of_file),
    ];
    let subscriptions: Vec<_> =
        subscriptions.iter().map(|(id, url, lines)| (*id, url.as_str(), lines.as_str())).collect();
    let with_credentials = |port: u16| format!("http://canary-proxy-user:canary-proxy-word@127.0.0.1:{port}");
    let dead = closed.url().rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
    let sandbox = Sandbox::with_settings("env_file = \"secrets.env\"", &subscriptions)
        .env("CANARY", "canary-secret-0123456789")
        .env("CANARY_PREVIOUS", "canary-previous-0123456789")
        .env("CANARY_HEADER", "canary-header-0123456789")
        .env("PROXY_PASSES", &with_credentials(passes))
        .env("PROXY_ASKS", &with_credentials(proxy(407).0))
        .env("PROXY_FAILS", &with_credentials(proxy(502).0))
        .env("PROXY_DEAD", &with_credentials(dead))
        .env("RUST_LOG", "trace,awc=trace,awc::client=trace,actix_http=trace,actix_http::h1=trace,mio=trace");
    sandbox.write("secrets.env", "CANARY_OF_FILE=canary-of-the-file-0123456789\n");
    let mut found = Vec::new();
    let mut note = |place: &str, ran: &Ran| found.extend(leaks(place, &format!("{ran:?}")));
    let serve = sandbox.serve();
    for n in 0..4 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    let finals = sandbox.wait_for_finals("SPEC-1", 4 * subscriptions.len());
    let delivered =
        |id: &str| finals.iter().any(|line| line["subscription"] == id && line["state"] == "delivered");
    assert!(delivered("tunnels") && delivered("of-file"), "{finals:#?}");
    for (subscription, ..) in &subscriptions {
        note("test", &sandbox.run(&["-vv", "test", "SPEC-1", "--subscription", subscription]));
        note("test", &sandbox.run(&["--json", "test", "SPEC-1", "--subscription", subscription]));
    }
    let letters = sandbox.dead_letters("SPEC-1");
    for letter in letters.iter().take(8) {
        note("replay", &sandbox.run(&["replay", "SPEC-1", "--delivery-id", letter["id"].as_str().unwrap()]));
    }
    for arguments in
        [&["status"][..], &["--json", "status"], &["status", "--banner"], &["list"], &["--json", "list"]]
    {
        note(&arguments.join(" "), &sandbox.run(arguments));
    }
    let said = control_port(&sandbox, letters[0]["id"].as_str().unwrap());
    let (_, log) = serve.terminate();
    assert!(log.contains("Z debug: "), "the log tells all it may: {log}");
    let event =
        sandbox.write("event.json", r#"{"event":{"type":"spec-kit.task.completed"},"spec":{"id":"SPEC-1"}}"#);
    for arguments in [
        &["check"][..],
        &["--json", "check"],
        &["explain", "--event", event.to_str().unwrap()],
        &["emit", "--type", "spec-kit.task.completed", "--spec", "SPEC-1"],
        &["-vv", "replay", "SPEC-1", "--all"],
        &["list"],
    ] {
        note(&arguments.join(" "), &sandbox.run(arguments));
    }
    found.extend(leaks("the control port", &said));
    find_in(sandbox.path(), &mut found);
    readable_by_others(&sandbox.path().join(EVIDENCE), &mut found);
    assert!(found.is_empty(), "{found:#?}");

    // They do get where they belong.
    let wire = &endpoint.requests()[0];
    let target = wire.target();
    assert!(target.contains("canary-path") && target.contains("canary-query"), "{target}");
    assert!(!target.contains("canary-user"), "{target}");
    assert!(wire.text_of("authorization").ends_with(CANARIES[10]), "{}", wire.text_of("authorization"));
    assert_eq!(wire.text_of("x-key"), "canary-header-0123456789");
    assert_eq!(wire.text_of("webhook-signature").split(' ').count(), 2, "one for each secret");
    let heard = heard.lock().unwrap()[0].clone();
    assert!(heard.contains(CANARIES[11]) && !heard.contains("canary-path"), "{heard}");
}

#[test]
fn what_is_wrong_is_said_without_repeating_it() {
    let mut found = Vec::new();
    let good = "url = \"https://a.example/x\"\nsecret_env = \"CANARY\"";
    for (what, lines, env_file) in [
        (
            "no port",
            "url = \"https://canary-user:canary-password@a.example:x/canary-path\"\nsecret_env = \"CANARY\"",
            "",
        ),
        (
            "scheme",
            "url = \"ftp://canary-user:canary-password@a.example/canary-path\"\nsecret_env = \"CANARY\"",
            "",
        ),
        (
            "plain",
            "url = \"http://canary-user@a.example/canary-path?canary-query\"\nsecret_env = \"CANARY\"",
            "",
        ),
        (
            "no end",
            "url = \"https://canary-user:canary-password@a.example/canary-path\nsecret_env = \"CANARY\"",
            "",
        ),
        ("no string", "url = [\"https://canary-user@a.example/canary-path\"]\nsecret_env = \"CANARY\"", ""),
        ("malformed secret", "url = \"https://a.example/x\"\nsecret_env = \"CANARY_MALFORMED\"", ""),
        ("env_file", good, "CANARY=canary-of-the-file\nthis is canary-of-the-file and no line\n"),
        (
            "proxy scheme",
            &format!("{good}\nproxy = \"socks5://canary-proxy-user:canary-proxy-word@h:1\""),
            "",
        ),
        ("proxy", &format!("{good}\nproxy = \"http://canary-proxy-user:canary-proxy-word@h:x\""), ""),
        ("proxy of the environment", &format!("{good}\nproxy = \"env:CANARY_PROXY\""), ""),
        ("header", &format!("{good}\nheaders = {{ \"X Y\" = \"env:CANARY_HEADER\" }}"), ""),
        (
            "secret for its variable",
            "url = \"https://a.example/x\"\nsecret_env = \"canary-secret-0123456789\"",
            "",
        ),
        ("whsec", "url = \"https://a.example/x\"\nsecret_env = \"whsec_canary-secret-0123456789\"", ""),
        ("previous", &format!("{good}\nprevious_secret_env = \"canary-secret-0123456789\""), ""),
        ("url for its variable", "url_env = \"https://a.example/canary-path\"\nsecret_env = \"CANARY\"", ""),
        ("header name", &format!("{good}\nheaders = {{ \"canary-secret-0123456789 X\" = \"x\" }}"), ""),
        (
            "header variable",
            &format!("{good}\nheaders = {{ \"X-Y\" = \"env:canary-secret-0123456789\" }}"),
            "",
        ),
        ("proxy variable", &format!("{good}\nproxy = \"env:canary-secret-0123456789\""), ""),
        ("event", &format!("{good}\ninclude_events = [\"canary-secret-0123456789\"]"), ""),
        ("stage", &format!("{good}\ninclude_stages = [\"canary-secret-0123456789\"]"), ""),
        ("status", &format!("{good}\ninclude_status = [\"canary-secret-0123456789\"]"), ""),
        ("format", &format!("{good}\nformat = \"canary-secret-0123456789\""), ""),
        ("key", &format!("{good}\ncanary-secret-0123456789 = 1"), ""),
        ("number", &format!("{good}\nmax_attempts = \"canary-secret-0123456789\""), ""),
        (
            "name",
            &format!("{good}\n[[spec_ops.webhooks.subscriptions]]\nid = \"canary-secret-0123456789!\""),
            "",
        ),
        ("key for its file", &format!("{good}\nca_file = \"-----BEGIN canary-secret-0123456789\""), ""),
        ("header value", &format!("{good}\nheaders = {{ \"X-Y\" = \"env:CANARY_LINES\" }}"), ""),
    ] {
        let sandbox = Sandbox::with_settings("env_file = \"secrets.env\"", &[])
            .env("CANARY", "canary-secret-0123456789")
            .env("CANARY_MALFORMED", "whsec_canary-secret")
            .env("CANARY_PROXY", "ftp://canary-proxy-user:canary-proxy-word@h:1")
            .env("CANARY_HEADER", "canary-header")
            .env("CANARY_LINES", "canary-header\nX-Injected: canary-header")
            .env("RUST_LOG", "trace");
        let head = "[spec_ops.webhooks]\nenabled = true\nenv_file = \"secrets.env\"\n[[spec_ops.webhooks.subscriptions]]\nid = \"one\"\n";
        sandbox.write(".spec-kit/config.toml", &format!("{head}{lines}\n"));
        sandbox.write("secrets.env", env_file);
        for arguments in [
            &["check"][..],
            &["--json", "check"],
            &["status"],
            &["-vv", "test", "SPEC-1", "--subscription", "one", "--dry-run"],
        ] {
            let ran = sandbox.run(arguments);
            // Only a value that is looked at by the attempt, and a file that the environment
            // stands over, pass.
            let may_pass = matches!(what, "header value" | "env_file") || arguments[0] == "status";
            assert!(ran.code == 2 || may_pass, "{what}: {arguments:?}: {ran:?}");
            found.extend(leaks(&format!("{what}: {arguments:?}: {ran:?}"), &format!("{ran:?}")));
        }
        find_in(sandbox.path(), &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_secret_that_is_missing_at_an_attempt_sends_nothing() {
    use spec_notify::LoadOptions;
    use spec_notify::{Environment, Event, Runtime};
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let repo = sandbox.path().to_owned();
    let complete = Environment::fixed([("TEST_SECRET", "a-secret-of-the-tests")]);
    let config = LoadOptions::in_dir(&repo).repo(&repo).load(&complete).into_config().unwrap();
    let runtime = Runtime::start_blocking(config, Environment::fixed([])).unwrap();
    let event = r#"{"event":{"type":"spec-auto.pipeline.completed"},"spec":{"id":"SPEC-1"}}"#;
    runtime
        .handle()
        .emit_blocking(Event::from_json(event).unwrap(), std::time::Duration::from_secs(10))
        .unwrap();
    let first =
        crate::harness::wait_for("the first attempt", || sandbox.evidence("SPEC-1").into_iter().next());
    assert_eq!((&first["error"]["class"], &first["outcome"]), (&"secret".into(), &"retry".into()), "{first}");
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn what_an_env_file_says_signs_as_it_stands_there_and_an_odd_line_costs_itself_alone() {
    let secret = r"pa$$word${HOME}\n`x` # y";
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::with_settings(
        "env_file = \".env\"",
        &[("one", &endpoint.url(), "secret_env = \"FROM_FILE\"")],
    );
    let file = sandbox.write(".env", &format!("# secrets\nodd canary-line\nexport FROM_FILE='{secret}'\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let check = sandbox.run(&["check"]);
    assert_eq!(check.code, 2, "{check:?}");
    let said = format!("{}{}", check.stdout, check.stderr);
    assert!(said.contains("line 2 is no NAME=value") && said.contains("chmod 600"), "{said}");
    assert!(!said.contains("canary-line") && !said.contains("is not set"), "{said}");
    let serve = sandbox.serve();
    assert!(serve.log().contains("line 2 is no NAME=value"), "{}", serve.log());
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k")["outcome"], "accepted");
    let request = &endpoint.wait_for(1)[0];
    let key = PKey::hmac(secret.as_bytes()).unwrap();
    let signature = Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(request.body());
    assert_eq!(request.text_of("x-speckit-signature"), format!("sha256={}", hex::encode(signature.unwrap())));
    // A reload takes it as a start does.
    assert_eq!(sandbox.run(&["reload"]).code, 0);
    serve.kill();
}

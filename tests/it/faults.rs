//! The fault matrix: one row a fault, each against the real program over real sockets. What class
//! of failure or which status it is, how many attempts it gets, how it ends; that its slot was
//! free again; that memory stayed flat.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use openssl::asn1::Asn1Time;
use openssl::pkey::{PKey, Private};
use openssl::ssl::SslVersion;
use openssl::x509::X509;
use rustix::net::{self, AddressFamily, SocketType};
use serde_json::{Value, json};

use crate::harness::certificate::{certificate, certificate_until, issued, made};
use crate::harness::{DeadEndpoint, EVIDENCE, Endpoint, Sandbox, read_request, wait_for};
use crate::tls::{serve_chain, serve_tls};

/// More than a deadline of half a second would ever buffer, less than a body of 100 MB.
const MEMORY_KIB: u64 = 32 * 1024;

const LINES: &str =
    "max_attempts = 2\ninitial_backoff_ms = 1\nmax_backoff_ms = 5\njitter_ms = 0\nper_request_timeout_ms = ";

/// What an attempt comes to.
#[derive(Clone, Copy, Debug)]
enum Comes {
    /// To this class of error.
    To(&'static str),
    /// To this status.
    Status(u16),
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Delivered,
    /// Given up, after so many attempts.
    Dead(usize),
    /// It does not: the endpoint asked for about so many seconds.
    Paused(i64),
}
use Comes::{Status, To};
use Ends::{Dead, Delivered, Paused};

struct Row {
    fault: String,
    peer: Peer,
    comes: Comes,
    ends: Ends,
    deadline_ms: u32,
    ca: Option<X509>,
    /// What the error says besides its class.
    says: &'static str,
    /// What the hint of its dead letter says.
    advises: &'static str,
    format: &'static str,
}

/// Who is on the other side.
enum Peer {
    Receiver(Receiver),
    /// What is there cannot be mended.
    Url(String),
}

fn row(fault: &str, peer: Peer, comes: Comes, ends: Ends) -> Row {
    Row {
        fault: fault.to_owned(),
        peer,
        comes,
        ends,
        deadline_ms: 2000,
        ca: None,
        says: "",
        advises: "",
        format: "spec-kit",
    }
}

/// A receiver with a fault, until it is mended.
struct Receiver {
    port: u16,
    is_mended: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl Receiver {
    /// `act` has the connection once a request is read, or at once; says whether the connection
    /// goes on.
    fn new(reads: bool, act: impl Fn(&mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_mended, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (mended, counted, act) = (is_mended.clone(), requests.clone(), Arc::new(act));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mended, counted, act) = (mended.clone(), counted.clone(), act.clone());
                thread::spawn(move || {
                    if !reads && !mended.load(Ordering::SeqCst) {
                        counted.fetch_add(1, Ordering::SeqCst);
                        act(&mut stream);
                        return;
                    }
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Ok(Some(_)) = read_request(&mut reader) {
                        counted.fetch_add(1, Ordering::SeqCst);
                        let goes_on = match mended.load(Ordering::SeqCst) {
                            true => {
                                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
                            }
                            false => act(&mut stream),
                        };
                        if !goes_on {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, is_mended, requests }
    }
}

/// Does this with the connection when a request has come, and closes it.
fn after_request(act: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Peer {
    Peer::Receiver(Receiver::new(true, move |stream| {
        act(stream);
        false
    }))
}

/// Answers with these bytes and keeps the connection.
fn answers(bytes: impl Into<Vec<u8>>) -> Peer {
    let bytes = bytes.into();
    Peer::Receiver(Receiver::new(true, move |stream| stream.write_all(&bytes).is_ok()))
}

/// Answers with these bytes and closes the connection.
fn answers_and_closes(bytes: impl Into<Vec<u8>>) -> Peer {
    let bytes = bytes.into();
    after_request(move |stream| drop(stream.write_all(&bytes)))
}

/// A body that is written until the other side has had enough: `times` the same part.
fn pours(head: &'static str, part: impl Into<Vec<u8>>, times: usize) -> Peer {
    let part = part.into();
    after_request(move |stream| {
        let _ = stream.write_all(head.as_bytes());
        for _ in 0..times {
            if stream.write_all(&part).is_err() {
                return;
            }
        }
    })
}

/// The connection is reset, not closed.
fn reset(stream: &TcpStream) {
    net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
}

/// Waits until the other side has given up.
fn until_abandoned(stream: &mut TcpStream) {
    while stream.read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
}

/// A gzip stream of zeros without end: each 13 bits become 258 bytes.
fn bomb(bytes: usize) -> Vec<u8> {
    // Ten bytes of head; then one block of the fixed code: a zero, and `258 bytes of the one
    // before` again and again.
    let mut bits: Vec<u8> = vec![1, 1, 0];
    let code = |bits: &mut Vec<u8>, text: &str| bits.extend(text.bytes().map(|digit| digit - b'0'));
    code(&mut bits, "00110000");
    while bits.len() < bytes * 8 {
        code(&mut bits, "1100010100000");
    }
    let packed = bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |all, bit| all << 1 | bit));
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255].into_iter().chain(packed).collect()
}

/// An address that takes no connection and refuses none: its queue is full. Lasts as long as what
/// comes with it.
fn black_hole() -> Option<(String, Vec<TcpStream>, std::os::fd::OwnedFd)> {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    net::listen(&socket, 0).unwrap();
    let address = SocketAddr::try_from(net::getsockname(&socket).unwrap()).unwrap();
    let mut queue = Vec::new();
    while queue.len() < 16 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => queue.push(stream),
            Err(_) => return Some((format!("http://{address}/"), queue, socket)),
        }
    }
    None
}

/// Whether this machine knows in time that a name does not exist.
fn resolver_answers() -> bool {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(("nonexistent.invalid", 443).to_socket_addrs().is_err()));
    told.recv_timeout(Duration::from_secs(2)) == Ok(true)
}

/// The three forms of an HTTP date (RFC 9110, section 5.6.7), so many seconds from now.
fn dates(seconds: i64) -> [(&'static str, String); 3] {
    let at = jiff::Timestamp::try_from(SystemTime::now()).unwrap() + jiff::SignedDuration::from_secs(seconds);
    let form = |format: &str| at.strftime(format).to_string();
    [
        ("date", form("%a, %d %b %Y %H:%M:%S GMT")),
        ("rfc850", form("%A, %d-%b-%y %H:%M:%S GMT")),
        ("asctime", form("%a %b %e %H:%M:%S %Y")),
    ]
}

fn connection_rows() -> Vec<Row> {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    let slow = |row: Row| Row { deadline_ms: 400, ..row };
    vec![
        row("closes-at-once", Peer::Receiver(Receiver::new(false, |_| false)), To("connection"), Dead(2)),
        row("closes-after-the-request", after_request(|_| {}), To("connection"), Dead(2)),
        row("closes-in-the-head", answers_and_closes("HTTP/1.1 200 O"), To("connection"), Dead(2)),
        // The status is known and the endpoint has decided.
        row(
            "closes-in-the-body",
            answers_and_closes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
            Status(200),
            Delivered,
        ),
        row(
            "closes-in-the-body-of-500",
            answers_and_closes("HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nhalf"),
            Status(500),
            Dead(2),
        ),
        row("resets", after_request(|stream| reset(stream)), To("connection"), Dead(2)),
        row(
            "resets-at-once",
            Peer::Receiver(Receiver::new(false, |stream| {
                reset(stream);
                false
            })),
            To("connection"),
            Dead(2),
        ),
        row(
            "resets-in-the-body",
            after_request(|stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
                // Data that is still unsent is thrown away by a reset: the other side has to have
                // it.
                let _ = stream.shutdown(Shutdown::Read);
                reset(stream);
            }),
            Status(200),
            Delivered,
        ),
        slow(row("headers-never", after_request(until_abandoned), To("timeout"), Dead(2))),
        slow(row(
            "headers-one-byte-a-second",
            after_request(|stream| {
                for byte in "HTTP/1.1 200 OK\r\n".bytes() {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    thread::park_timeout(Duration::from_secs(1));
                }
            }),
            To("timeout"),
            Dead(2),
        )),
        slow(row(
            "after-the-deadline",
            after_request(move |stream| {
                until_abandoned(stream);
                let _ = stream.write_all(ok.as_bytes());
            }),
            To("timeout"),
            Dead(2),
        )),
        slow(row(
            "body-never",
            after_request(|stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
                until_abandoned(stream);
            }),
            To("timeout"),
            Dead(2),
        )),
        row(
            "100-MB",
            pours("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n", vec![b'x'; 1 << 16], 1600),
            Status(200),
            Delivered,
        ),
        row(
            "100-MB-chunked",
            pours("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk.clone(), 1600),
            Status(200),
            Delivered,
        ),
        row(
            "endless-chunked",
            pours("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk, usize::MAX),
            Status(200),
            Delivered,
        ),
        row(
            "endless-until-close",
            pours("HTTP/1.1 503 No\r\nconnection: close\r\n\r\n", vec![b'x'; 1 << 16], usize::MAX),
            Status(503),
            Dead(2),
        ),
        row(
            "endless-headers",
            pours("HTTP/1.1 200 OK\r\n", "x-more: 0123456789\r\n".repeat(1000), usize::MAX),
            To("protocol"),
            Dead(2),
        ),
        row(
            "gzip-bomb",
            pours(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1048586\r\n\r\n",
                bomb(1 << 20),
                1,
            ),
            Status(200),
            Delivered,
        ),
        row(
            "invalid-header-bytes",
            answers("HTTP/1.1 200 OK\r\nx\u{0}y: \u{1}\r\ncontent-length: 0\r\n\r\n"),
            To("protocol"),
            Dead(2),
        ),
        row("no-http", answers("SSH-2.0-OpenSSH_9.9\r\n\r\n"), To("protocol"), Dead(2)),
        row("http-1.0", answers_and_closes("HTTP/1.0 200 OK\r\n\r\nthanks"), Status(200), Delivered),
        row(
            "100-continue-first",
            answers(format!("HTTP/1.1 100 Continue\r\n\r\n{ok}")),
            Status(200),
            Delivered,
        ),
        row(
            "hints-first-then-500",
            answers(
                "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
            ),
            Status(500),
            Dead(2),
        ),
        row(
            "204-with-a-body",
            answers(
                "HTTP/1.1 204 No Content\r\ncontent-length: 38\r\n\r\nHTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
            ),
            Status(204),
            Delivered,
        ),
        row(
            "204-with-a-length-alone",
            answers("HTTP/1.1 204 No Content\r\ncontent-length: 9\r\n\r\n"),
            Status(204),
            Delivered,
        ),
    ]
}

/// What RFC 9112 calls a complete message, however seldom it is seen; and what is none.
fn framing_rows() -> Vec<Row> {
    let long = "x-more: 0123456789\r\n".repeat(2000);
    let many = "x-h: v\r\n".repeat(300);
    let complete = [
        ("1.0-length-0", "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()),
        (
            "1.0-length-0-kept",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n".to_owned(),
        ),
        ("1.0-length-2", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned()),
        ("1.2", "HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned()),
        (
            "folded-by-a-space",
            "HTTP/1.1 200 OK\r\nx: default-src\r\n 'self'\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        ),
        (
            "folded-by-a-tab",
            "HTTP/1.1 200 OK\r\nx: Basic\r\n\trealm=x\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        ),
        ("length-twice", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok".to_owned()),
        ("length-list", "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok".to_owned()),
        ("space-before-the-colon", "HTTP/1.1 200 OK\r\nserver : x\r\ncontent-length: 2\r\n\r\nok".to_owned()),
        ("bare-line-feeds", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok".to_owned()),
        ("no-reason", "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok".to_owned()),
        ("300-headers", format!("HTTP/1.1 200 OK\r\n{many}content-length: 2\r\n\r\nok")),
        ("40-KiB-of-headers", format!("HTTP/1.1 200 OK\r\n{long}content-length: 2\r\n\r\nok")),
        (
            "chunked-with-trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nx: y\r\n\r\n"
                .to_owned(),
        ),
        ("no-length-and-kept", "HTTP/1.1 200 OK\r\n\r\n".to_owned()),
        (
            "120-of-one-header",
            format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "server: x\r\n".repeat(120)),
        ),
        (
            "interim-with-a-broken-length",
            "HTTP/1.1 103 Hints\r\ncontent-length: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
                .to_owned(),
        ),
    ];
    let mut rows: Vec<Row> = complete
        .into_iter()
        .map(|(fault, answer)| row(fault, answers(answer), Status(200), Delivered))
        .collect();
    let refused = |fault: &str, head: &str, says| Row {
        says,
        ..row(fault, answers(format!("{head}\r\n\r\nok")), To("protocol"), Dead(2))
    };
    rows.extend([
        Row {
            deadline_ms: 700,
            ..row("no-length-to-the-deadline", answers("HTTP/1.1 200 OK\r\n\r\n"), Status(200), Delivered)
        },
        row("101", answers("HTTP/1.1 101 Go\r\ncontent-length: 0\r\n\r\n"), Status(101), Dead(1)),
        row(
            "304-with-a-length",
            answers("HTTP/1.1 304 Not\r\ncontent-length: 9\r\n\r\n"),
            Status(304),
            Dead(1),
        ),
        refused(
            "two-lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3",
            "different lengths",
        ),
        refused("two-lengths-in-a-list", "HTTP/1.1 200 OK\r\ncontent-length: 2, 3", "different lengths"),
        refused("length-of-no-number", "HTTP/1.1 200 OK\r\ncontent-length: +2", "no number"),
        refused("http-2", "HTTP/2 200 OK\r\ncontent-length: 2", "not HTTP/1"),
        Row {
            says: "begin the url with https://",
            ..row(
                "tls-where-none-was-asked",
                answers_and_closes([0x15, 3, 1, 0, 2, 2, 40]),
                To("protocol"),
                Dead(2),
            )
        },
        // As far as anybody can tell, it was waiting for a request.
        row(
            "408",
            answers("HTTP/1.1 408 Late\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            Status(408),
            Dead(1),
        ),
    ]);
    rows
}

/// What chat services say in a body, whatever the status.
fn chat_rows() -> Vec<Row> {
    let gzip = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let answer = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
        answers([head.as_bytes(), body].concat())
    };
    let teams = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x";
    let exception = "System.Net.Http.HttpRequestException: Error while copying content to a stream.";
    let throttled = "Webhook message delivery failed with error: ApplicationThrottled";
    let limited = r#"{"message": "You are being rate limited.", "retry_after": 600.5, "global": false}"#;
    let page = "<!DOCTYPE html><html><title>Sign in to your account</title>";
    let row = |format: &'static str, fault: &str, peer, status, ends| Row {
        format,
        ..row(&format!("{format}-{fault}"), peer, Status(status), ends)
    };
    let ok = |headers: &str, body: &str| answer("200 OK", headers, body.as_bytes());
    let html = "content-type: text/html\r\n";
    let encoded = "content-encoding: gzip\r\n";
    vec![
        row("slack", "ok", ok(html, "ok"), 200, Delivered),
        row("slack", "ok-and-a-line-end", ok("", "ok\r\n"), 200, Delivered),
        row("slack", "rate-limited-and-a-line-end", ok("", "rate_limited\r\n"), 200, Dead(2)),
        row("slack", "latin-1", answer("200 OK", "content-encoding: identity\r\n", b"caf\xe9"), 200, Dead(1)),
        row(
            "discord",
            "read-though-compressed",
            answer("200 OK", encoded, &gzip("{\"id\":\"1\"}\r\n\x7f")),
            200,
            Delivered,
        ),
        row(
            "discord",
            "no-over-lines",
            ok("", "{\r\n\"message\":\"Unknown Webhook\",\"code\":10015}"),
            200,
            Dead(1),
        ),
        row(
            "mattermost",
            "no-over-lines",
            ok("", "{\r\n\"success\": false, \"error\": \"x\"}"),
            200,
            Dead(1),
        ),
        row("mattermost", "no-with-a-mark", ok("", "\u{feff}{\"success\": false}"), 200, Dead(1)),
        row("mattermost", "page-with-a-mark", ok(html, &format!("\u{feff}\r\n{page}")), 200, Dead(2)),
        row(
            "mattermost",
            "long-no",
            ok("", &format!(r#"{{"stack":"{}","success":false}}"#, "x".repeat(5000))),
            200,
            Dead(1),
        ),
        row(
            "mattermost",
            "too-much",
            ok("", r#"{"result":"error","code":"RATE_LIMIT_HIT","msg":"Slow down"}"#),
            200,
            Dead(2),
        ),
        row("slack", "rocket-chat", ok("", r#"{"success":true}"#), 200, Delivered),
        row("slack", "zulip", ok("", r#"{"result":"success","msg":""}"#), 200, Delivered),
        row("slack", "no-service", ok("", "no_service"), 200, Dead(1)),
        row(
            "slack",
            "no-service-until-close",
            answers_and_closes("HTTP/1.1 200 OK\r\n\r\nno_service"),
            200,
            Dead(1),
        ),
        row("slack", "rate-limited", ok("", "rate_limited"), 200, Dead(2)),
        row(
            "slack",
            "rate-limited-with-a-wait",
            ok("retry-after: 600\r\n", "rate_limited"),
            200,
            Paused(600),
        ),
        row("slack", "sign-in-page", ok(html, page), 200, Dead(2)),
        row("teams", "1", ok("", "1"), 200, Delivered),
        row("teams", "accepted", answer("202 Accepted", "", b""), 202, Delivered),
        row("teams", "429", ok("", teams), 200, Dead(2)),
        row("teams", "429-compressed", answer("200 OK", encoded, &gzip(teams)), 200, Dead(2)),
        row("teams", "1-compressed", answer("200 OK", encoded, &gzip("1")), 200, Delivered),
        row("teams", "413", ok("", &teams.replace("429", "413")), 200, Dead(1)),
        row("teams", "exception", ok("", exception), 200, Dead(2)),
        row("teams", "throttled", ok("", throttled), 200, Dead(2)),
        row("teams", "sign-in-page", ok(html, page), 200, Dead(2)),
        row(
            "teams",
            "unreadable",
            answer("200 OK", "content-encoding: br\r\n", b"\x8b\x02\x80\xff\xfe"),
            200,
            Dead(1),
        ),
        row("discord", "204", answers("HTTP/1.1 204 No Content\r\n\r\n"), 204, Delivered),
        row("discord", "waits-by-its-body", answer("429 Slow", "", limited.as_bytes()), 429, Paused(600)),
        row(
            "discord",
            "waits-by-its-header",
            answer("429 Slow", "x-ratelimit-reset-after: 600.5\r\n", b"{}"),
            429,
            Paused(600),
        ),
        row("mattermost", "ok", ok("content-type: text/plain\r\n", "ok"), 200, Delivered),
        row("mattermost", "nothing", ok("", ""), 200, Delivered),
        row(
            "mattermost",
            "no",
            ok("", r#"{"success":false,"error":"Invalid integration id"}"#),
            200,
            Dead(1),
        ),
    ]
}

/// `nobody` must not get anything.
fn redirect_rows(nobody: &Endpoint) -> Vec<Row> {
    let mut rows = Vec::new();
    for status in [301, 302, 303, 307, 308] {
        for (place, target) in
            [("here", nobody.url()), ("elsewhere", "https://elsewhere.example/x".to_owned())]
        {
            let answer =
                format!("HTTP/1.1 {status} Moved\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
            rows.push(row(&format!("{status}-to-{place}"), answers(answer), Status(status), Dead(1)));
        }
    }
    rows
}

fn retry_after_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for status in [429, 503] {
        let mut forms: Vec<(String, String, Ends)> = [
            ("seconds", "1", Dead(2)),
            ("fraction", "0.2", Dead(2)),
            ("minutes", "600", Paused(600)),
            ("absurd", "99999999999999999999", Paused(3600)),
            ("negative", "-5", Dead(2)),
            ("broken", "soon", Dead(2)),
        ]
        .map(|(form, value, ends)| (form.to_owned(), value.to_owned(), ends))
        .to_vec();
        for (when, seconds, ends) in
            [("future", 600, Paused(600)), ("past", -600, Dead(2)), ("absurd", 90_000_000, Paused(3600))]
        {
            forms.extend(dates(seconds).map(|(form, date)| (format!("{when}-{form}"), date, ends)));
        }
        for (form, value, ends) in forms {
            let answer =
                format!("HTTP/1.1 {status} Later\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
            rows.push(row(&format!("{status}-{form}"), answers(answer), Status(status), ends));
        }
    }
    rows
}

fn tls_rows() -> Vec<Row> {
    let url = |port: u16| Peer::Url(format!("https://127.0.0.1:{port}/x"));
    let peer = |(certificate, key): &(X509, PKey<Private>)| url(serve_tls(certificate, key, None));
    let (epoch, tomorrow) = (Asn1Time::from_unix(0).unwrap(), Asn1Time::days_from_now(1).unwrap());
    let next_year = Asn1Time::days_from_now(365).unwrap();
    let good = certificate("127.0.0.1");
    let expired = certificate_until("127.0.0.1", &Asn1Time::from_unix(1).unwrap());
    let early = made("127.0.0.1", "early", None, [&tomorrow, &next_year]);
    let misnamed = certificate("elsewhere.example");
    let root = made("ca.example", "root", None, [&epoch, &tomorrow]);
    let old_root = made("ca.example", "old root", None, [&epoch, &Asn1Time::from_unix(1).unwrap()]);
    let of_old = issued("127.0.0.1", &old_root);
    let inter = issued("inter", &root);
    let leaf = issued("127.0.0.1", &inter);
    let whole = || url(serve_chain(&leaf.0, std::slice::from_ref(&inter.0), &leaf.1, None, None));
    let trusted = |pair: &(X509, PKey<Private>)| Some(pair.0.clone());
    let tls = To("tls");
    let plain = Receiver::new(false, |stream| {
        let _ = stream.read(&mut [0; 1024]);
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
        false
    });
    let closes = Receiver::new(false, |_| false).port;
    let dead =
        |fault: &str, peer, ca, says, advises| Row { ca, says, advises, ..row(fault, peer, tls, Dead(2)) };
    let fine = |fault: &str, peer, ca| Row { ca, ..row(fault, peer, Status(200), Delivered) };
    vec![
        fine("tls-good", peer(&good), trusted(&good)),
        fine("tls-root-given", whole(), trusted(&root)),
        fine("tls-issuing-ca-given", whole(), trusted(&inter)),
        fine("tls-issuing-ca-given-and-none-shown", peer(&leaf), trusted(&inter)),
        fine("tls-its-own-certificate-given", whole(), trusted(&leaf)),
        dead(
            "tls-no-intermediate",
            peer(&leaf),
            trusted(&root),
            "sends no intermediate",
            "send its whole chain",
        ),
        dead(
            "tls-unknown-root",
            whole(),
            None,
            "issued by \"root\", which is not trusted here",
            "the certificate of \"root\" as",
        ),
        dead(
            "tls-unknown-root-beside-another",
            whole(),
            trusted(&good),
            "not trusted here",
            "which holds others",
        ),
        dead("tls-unknown-ca", peer(&good), None, "signed by itself", "ca_file"),
        dead("tls-expired", peer(&expired), trusted(&expired), "has expired on 1970-01-01", "renewed"),
        dead(
            "tls-expired-ca",
            peer(&of_old),
            trusted(&old_root),
            "certificate of \"old root\" has expired",
            "newer certificate of that CA",
        ),
        dead("tls-not-yet-valid", peer(&early), trusted(&early), "not valid before 20", "clock"),
        dead(
            "tls-wrong-name",
            peer(&misnamed),
            trusted(&misnamed),
            "not for 127.0.0.1 but for elsewhere.example",
            "correct the host",
        ),
        dead("tls-not-spoken", url(plain.port), None, "does not speak TLS", "correct the port"),
        dead(
            "tls-too-old",
            url(serve_tls(&good.0, &good.1, Some(SslVersion::TLS1_1))),
            trusted(&good),
            "no TLS protocol version in common",
            "TLS 1.2 or later",
        ),
        dead(
            "tls-client-wanted",
            url(crate::tls::serve(&good.0, &good.1, None, Some(root.0.clone()))),
            trusted(&good),
            "asks for a client certificate",
            "client_cert_file",
        ),
        dead("tls-closes", url(closes), None, "closed the connection", "endpoint's log"),
    ]
}

/// One `serve` with one slot, its rows one after the other: what keeps the slot keeps the next
/// from ending.
fn drive(group: usize, rows: &[Row]) -> Vec<Result<String, String>> {
    let healthy = Endpoint::replying(&[200]);
    let mut subscriptions =
        vec![("healthy".to_owned(), healthy.url(), "include_specs = [\"HEALTHY-*\"]".to_owned())];
    for Row { fault, peer, deadline_ms, ca, format, .. } in rows {
        let url = match peer {
            Peer::Receiver(receiver) => format!("http://127.0.0.1:{}/hook", receiver.port),
            Peer::Url(url) => url.clone(),
        };
        let ca = ca.as_ref().map_or(String::new(), |_| format!("ca_file = \"{fault}.pem\"\n"));
        let lines = format!("include_specs = [\"{fault}\"]\nformat = \"{format}\"\n{ca}{LINES}{deadline_ms}");
        subscriptions.push((fault.clone(), url, lines));
    }
    let subscriptions: Vec<_> =
        subscriptions.iter().map(|(id, url, lines)| (id.as_str(), url.as_str(), lines.as_str())).collect();
    let sandbox = Sandbox::with_settings("max_concurrency = 1", &subscriptions);
    for Row { fault, ca, .. } in rows {
        if let Some(ca) = ca {
            sandbox.write(&format!("{fault}.pem"), &String::from_utf8(ca.to_pem().unwrap()).unwrap());
        }
    }
    let serve = sandbox.serve();
    sandbox.emit("HEALTHY-0", "Plan", "first");
    sandbox.wait_for_finals("HEALTHY-0", 1);
    let before = serve.peak_memory();
    // A row that fails does not keep the others from being told.
    let judged = |row: &Row| catch_unwind(AssertUnwindSafe(|| judge(&sandbox, row)));
    let told = rows.iter().map(|row| judged(row).map_err(|_| row.fault.clone())).collect();
    match (before, serve.peak_memory()) {
        (Some(before), Some(after)) => {
            assert!(after - before < MEMORY_KIB, "group {group}: from {before} to {after} KiB");
            eprintln!("memory of group {group}: from {before} to {after} KiB at most");
        }
        _ => eprintln!("skipped: this system does not tell how much memory a process has"),
    }
    told
}

/// Drives one row; gives its line of the table, or panics.
fn judge(sandbox: &Sandbox, row: &Row) -> String {
    let Row { fault, peer, comes, ends, says, advises, .. } = row;
    sandbox.emit(fault, "Plan", &format!("{fault}-1"));
    let attempts = match ends {
        Paused(_) => wait_for(fault, || {
            let first = attempts_of(sandbox, fault);
            (!first.is_empty()).then_some(first)
        }),
        _ => {
            sandbox.wait_for_finals(fault, 1);
            attempts_of(sandbox, fault)
        }
    };
    let (count, state) = match ends {
        Delivered => (1, "delivered"),
        Dead(count) => (*count, "dead_letter"),
        Paused(_) => (1, "pending"),
    };
    assert_eq!(attempts.len(), count, "{fault}: {attempts:#?}");
    for attempt in &attempts {
        let seen = match comes {
            To(class) => attempt["error"]["class"] == *class,
            Status(status) => attempt["response"]["status"] == *status,
        };
        let message = attempt["error"]["message"].as_str().unwrap_or_default();
        assert!(seen && message.contains(says), "{fault}: {attempt:#}");
        assert_eq!(attempt["resent"], false, "{fault}: a new connection was not stale: {attempt:#}");
    }
    if let Paused(seconds) = ends {
        let at = |name: &str| attempts[0][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let wait = at("next_attempt_at").duration_since(at("time")).as_secs();
        // The date is of when the test began.
        assert!((seconds - 120..=seconds + 30).contains(&wait), "{fault}: {wait} s");
    }
    let listed = sandbox.run(&["--json", "list", fault]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"));
    assert_eq!(
        (&listed[0]["state"], &listed[0]["attempts"]),
        (&json!(state), &json!(count)),
        "{fault}: {listed:#}"
    );

    let hint = listed[0]["hint"].as_str().unwrap_or_default();
    assert!(
        hint.contains(advises) && (state == "dead_letter") == hint.ends_with("then replay"),
        "{listed:#}"
    );

    // The only slot is free again: for the same subscription where it can be mended, and for
    // another.
    match peer {
        Peer::Receiver(receiver) if !matches!(ends, Paused(_)) => {
            assert_eq!(receiver.requests.load(Ordering::SeqCst), count, "{fault}: what came over the wire");
            receiver.is_mended.store(true, Ordering::SeqCst);
            sandbox.emit(fault, "Tasks", &format!("{fault}-2"));
            let second = sandbox.wait_for_finals(fault, 2).remove(1);
            assert_eq!(
                (&second["state"], &second["attempts"]),
                (&json!("delivered"), &json!(1)),
                "{fault}: {second:#}"
            );
        }
        _ => {
            let spec = format!("HEALTHY-{fault}");
            sandbox.emit(&spec, "Plan", &spec);
            assert_eq!(sandbox.wait_for_finals(&spec, 1)[0]["state"], "delivered", "{fault}");
        }
    }
    let comes = match comes {
        To(class) => (*class).to_owned(),
        Status(status) => status.to_string(),
    };
    format!("{fault:26} {comes:10} {count} {state}")
}

/// The attempts that the evidence of a SPEC has, whole lines only.
fn attempts_of(sandbox: &Sandbox, spec: &str) -> Vec<Value> {
    let path = sandbox.path().join(EVIDENCE).join("commands").join(spec).join("webhooks/deliveries.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["record"] == "attempt").collect()
}

/// Answers the first request of each connection, once `first` have come; on the second it says
/// `then`, and closes.
fn tires_of_connections(first: usize, then: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let counted = counted.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", then] {
                    if let Ok(Some(_)) = read_request(&mut reader) {
                        counted.fetch_add(1, Ordering::SeqCst);
                        wait_for("the others", || (counted.load(Ordering::SeqCst) >= first).then_some(()));
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            });
        }
    });
    (url, requests)
}

#[test]
fn a_kept_alive_connection_that_is_closed_without_an_answer_is_replaced_at_once() {
    let timed_out = "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    for then in ["", timed_out] {
        // Two are kept, and both are of no more use: the second try is on a new one.
        let (url, requests) = tires_of_connections(2, then);
        let sandbox = Sandbox::new(&[("one", &url, "max_attempts = 1\nmax_in_flight = 2")]);
        let _serve = sandbox.serve();
        sandbox.emit("SPEC-1", "Plan", "k1");
        sandbox.emit("SPEC-1", "Plan", "k2");
        sandbox.wait_for_finals("SPEC-1", 2);
        sandbox.emit("SPEC-1", "Plan", "k3");
        let last = sandbox.wait_for_finals("SPEC-1", 3).remove(2);
        assert_eq!((&last["state"], &last["attempts"]), (&json!("delivered"), &json!(1)), "{last:#}");
        let resent: Vec<_> =
            attempts_of(&sandbox, "SPEC-1").iter().map(|one| one["resent"].clone()).collect();
        assert_eq!(resent, [false, false, true], "{then}");
        assert_eq!(requests.load(Ordering::SeqCst), 4, "{then}");
    }
}

/// Answers the first request of its only good connection with a surplus, then says a second answer
/// that belongs to no request; refuses all requests after that.
fn says_more_than_it_was_asked() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let refuses = "HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n";
                let surplus = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok<html>surplus</html>";
                let mut answer = if is_first { surplus } else { refuses };
                while let Ok(Some(_)) = read_request(&mut reader) {
                    let _ = stream.write_all(answer.as_bytes());
                    // Were the connection used on, this would be the next request's.
                    answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                }
            });
        }
    });
    (url, connections)
}

#[test]
fn what_comes_behind_an_answer_is_no_answer_to_the_next_request() {
    let (url, connections) = says_more_than_it_was_asked();
    let sandbox = Sandbox::new(&[("one", &url, "max_attempts = 1")]);
    let _serve = sandbox.serve();
    for (done, state) in [(1, "delivered"), (2, "dead_letter")] {
        sandbox.emit("SPEC-1", "Plan", &format!("k{done}"));
        let last = sandbox.wait_for_finals("SPEC-1", done).remove(done - 1);
        assert_eq!(last["state"], state, "{last:#}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[test]
fn every_fault_has_its_class_its_attempts_and_its_end_and_gives_its_slot_back() {
    let nobody = Endpoint::replying(&[200]);
    let dead = DeadEndpoint::new();
    let hole = black_hole();
    let mut rows = connection_rows();
    rows.extend(framing_rows());
    rows.extend(chat_rows());
    rows.extend(redirect_rows(&nobody));
    rows.extend(retry_after_rows());
    rows.extend(tls_rows());
    rows.push(row("port-refuses", Peer::Url(dead.url()), To("connection"), Dead(2)));
    match &hole {
        Some((url, ..)) => {
            let row = row("black-hole", Peer::Url(url.clone()), To("timeout"), Dead(2));
            rows.push(Row { deadline_ms: 400, ..row });
        }
        None => eprintln!("skipped: no black hole can be made here"),
    }
    match resolver_answers() {
        true => rows.push(row(
            "no-such-name",
            Peer::Url("https://nonexistent.invalid/".to_owned()),
            To("dns"),
            Dead(2),
        )),
        false => {
            eprintln!("skipped: this machine's resolver does not say in time that a name does not exist")
        }
    }
    // Three at a time: those that wait for a deadline do not need the processor.
    let size = rows.len().div_ceil(3);
    let told: Vec<Result<String, String>> = thread::scope(|scope| {
        let groups: Vec<_> =
            rows.chunks(size).enumerate().map(|(at, rows)| scope.spawn(move || drive(at, rows))).collect();
        groups.into_iter().flat_map(|group| group.join().unwrap()).collect()
    });
    for line in told.iter().flatten() {
        eprintln!("{line}");
    }
    let failed: Vec<&String> = told.iter().filter_map(|told| told.as_ref().err()).collect();
    assert!(failed.is_empty(), "see above: {failed:?}");
    assert!(nobody.requests().is_empty(), "a redirect was followed");
}

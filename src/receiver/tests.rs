//! The receiver, byte by byte.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::*;

/// Far above what any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

const POST: &str = "POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";

/// Tells of each request, and answers it so.
struct Says(Answer, mpsc::SyncSender<Request>);

impl Handler for Says {
    fn answer(&self, request: Request) -> Arc<Answer> {
        self.1.send(request).unwrap();
        Arc::new(self.0.clone())
    }
}

fn receiver(answer: impl Into<Answer>) -> (Receiver, mpsc::Receiver<Request>) {
    receiver_of(MAX_CONNECTIONS, answer)
}

/// One that has so many connections at most.
fn receiver_of(places: usize, answer: impl Into<Answer>) -> (Receiver, mpsc::Receiver<Request>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (told, heard) = mpsc::sync_channel(100);
    (Receiver::with_places(places, listener, None, Says(answer.into(), told)).unwrap(), heard)
}

fn connect(receiver: &Receiver) -> TcpStream {
    let stream = TcpStream::connect(receiver.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends these bytes and nothing more; all that is said until the connection ends.
fn exchange(receiver: &Receiver, bytes: &str) -> String {
    let mut stream = connect(receiver);
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(said).unwrap(),
    }
}

#[test]
fn a_request_is_taken_apart() {
    let (receiver, heard) = receiver(204);
    let said = exchange(
        &receiver,
        "POST /a?b HTTP/1.1\r\nX-One: 1\r\nx-two:  2 \r\ncontent-length: 4\r\n\r\n\"hi\"",
    );
    assert_eq!(said, "HTTP/1.1 204 No Content\r\n\r\n");
    let request = heard.recv().unwrap();
    assert_eq!((request.method(), request.target()), ("POST", "/a?b"));
    assert_eq!(request.headers(), [("X-One", "1"), ("x-two", "2"), ("content-length", "4")]);
    assert_eq!((request.header("x-ONE"), request.header("x")), (Some("1"), None));
    assert_eq!((request.body(), request.json()), (&b"\"hi\""[..], Value::from("hi")));
    assert_eq!((request.connection(), request.turn()), (1, 1));
    assert_eq!(request.to_string(), "POST /a?b: no event");
}

#[test]
fn requests_on_one_connection_are_answered_in_their_order() {
    let (receiver, heard) = receiver(Answer::status(200).body("ok"));
    let said = exchange(&receiver, &POST.repeat(3));
    assert_eq!(said, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".repeat(3));
    let turns: Vec<_> = heard.try_iter().map(|request| (request.connection(), request.turn())).collect();
    assert_eq!(turns, [(1, 1), (1, 2), (1, 3)]);
    assert_eq!((receiver.connections(), receiver.most_waiting()), (1, 1));
}

#[test]
fn a_chunked_body_is_put_together() {
    let (receiver, heard) = receiver(200);
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    exchange(&receiver, &format!("{head}2\r\nhi\r\nA;x=y\r\n 012345678\r\n0\r\nx: y\r\n\r\n{POST}"));
    let bodies: Vec<_> = heard.try_iter().map(|request| request.body().to_vec()).collect();
    assert_eq!(bodies, [&b"hi 012345678"[..], b"hi"]);
}

#[test]
fn who_waits_before_the_body_is_told_to_go_on() {
    let (receiver, heard) = receiver(200);
    let mut stream = connect(&receiver);
    stream.write_all(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: 2\r\n\r\n").unwrap();
    let mut said = [0; 25];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hi").unwrap();
    assert_eq!(heard.recv().unwrap().body(), b"hi");
}

#[test]
fn who_wants_the_connection_closed_has_it_closed() {
    let (receiver, _heard) = receiver(200);
    for request in ["POST / HTTP/1.1\r\nConnection: close\r\n\r\n", "POST / HTTP/1.0\r\n\r\n"] {
        let mut stream = connect(&receiver);
        stream.write_all(request.as_bytes()).unwrap();
        assert!(rest(&mut stream).starts_with("HTTP/1.1 200 "), "{request}");
    }
}

#[test]
fn what_is_no_request_or_too_large_is_refused() {
    let (receiver, heard) = receiver(200);
    let long = "x".repeat(reading::MAX_HEAD);
    for (bytes, status) in [
        // HTTP/2, whose preface looks like a request.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned(), 400),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\ncontent-length: +2x\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(), 501),
        ("POST / HTTP/1.1\r\ncontent-length: 2097153\r\n\r\n".to_owned(), 413),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n200001\r\n".to_owned(), 413),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(), 413),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nq\r\n".to_owned(), 400),
        (format!("POST / HTTP/1.1\r\nx: {long}"), 431),
        (format!("POST / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200)), 431),
    ] {
        let said = exchange(&receiver, &bytes);
        let shown: String = bytes.chars().take(80).collect();
        assert!(said.is_empty() || said.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {said}");
    }
    assert!(heard.try_recv().is_err(), "the handler hears of none");
}

#[test]
fn a_request_that_breaks_off_is_none() {
    let (receiver, heard) = receiver(200);
    for bytes in ["POST / HT", "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhi"] {
        assert_eq!(exchange(&receiver, bytes), "");
    }
    assert!(heard.try_recv().is_err());
}

#[test]
fn every_fault_is_what_it_says() {
    for (answer, said) in [
        (Answer::close(), ""),
        (Answer::reset(), ""),
        (Answer::raw("SSH-2.0\r\n").then_close(), "SSH-2.0\r\n"),
        (Answer::status(200).body("half").cut(), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhalf"),
        (Answer::status(200).then_close(), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (
            Answer::status(503).header("retry-after", "1").json(&Value::from(1)),
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: application/json\r\n\
             content-length: 1\r\n\r\n1",
        ),
        (
            Answer::status(200).header("content-length", "4").body("a").pour("b", 3).then_close(),
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabbb",
        ),
        (
            Answer::status(200).body("ab").drip(Duration::from_millis(1)),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
        ),
        (Answer::status(299), "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n"),
        (Answer::status(200).after(Duration::from_millis(1)), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let (receiver, heard) = receiver(answer.clone());
        assert_eq!(exchange(&receiver, POST), said, "{answer:?}");
        assert_eq!(heard.try_iter().count(), 1, "{answer:?}");
    }
    let (receiver, _heard) = receiver(Answer::status(200).large_headers(40_000));
    assert!(exchange(&receiver, POST).len() > 40_000);
}

#[test]
fn a_held_answer_is_said_when_it_is_released_and_what_waits_is_counted() {
    let (receiver, heard) = receiver(Answer::hang());
    let mut streams = [connect(&receiver), connect(&receiver)];
    for stream in &mut streams {
        stream.write_all(POST.as_bytes()).unwrap();
        heard.recv().unwrap();
    }
    assert_eq!(receiver.most_waiting(), 2);
    receiver.release();
    for stream in &mut streams {
        let mut said = [0; 15];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"HTTP/1.1 200 OK");
    }
    // From now on nothing is held.
    assert!(exchange(&receiver, POST).starts_with("HTTP/1.1 200 OK"));
    assert_eq!(receiver.most_waiting(), 2);
}

#[test]
fn at_the_end_what_was_received_is_answered_first() {
    let (receiver, heard) = receiver(Answer::status(200).after(Duration::from_millis(50)));
    let mut stream = connect(&receiver);
    stream.write_all(POST.as_bytes()).unwrap();
    heard.recv().unwrap();
    receiver.finish();
    assert!(rest(&mut stream).starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn a_port_that_refuses_is_free_for_nobody_else_until_it_listens() {
    let refusing = Refusing::new().unwrap();
    let refused = |address| TcpStream::connect(address).unwrap_err().kind();
    assert_eq!(refused(refusing.address()), ErrorKind::ConnectionRefused);
    assert!(TcpListener::bind(refusing.address()).is_err());
    let listener = refusing.listen().unwrap();
    assert_eq!(listener.local_addr().unwrap(), refusing.address());
    assert!(TcpStream::connect(refusing.address()).is_ok());
}

/// Sends a request and reads its answer, if there is one; the connection stays open.
fn asks(stream: &mut TcpStream) -> bool {
    let mut said = [0; "HTTP/1.1 204 No Content\r\n\r\n".len()];
    stream.write_all(POST.as_bytes()).is_ok() && stream.read_exact(&mut said).is_ok()
}

#[test]
fn the_connection_that_rests_longest_makes_room_for_a_new_one() {
    let (receiver, _heard) = receiver_of(3, 204);
    let mut resting: Vec<_> = (0..3).map(|_| connect(&receiver)).collect();
    assert!(resting.iter_mut().all(asks), "there is room for three");
    // The first is the one that was heard of last.
    assert!(asks(&mut resting[0]));
    let mut new = connect(&receiver);
    assert!(asks(&mut new), "a fourth is answered");
    assert_eq!(rest(&mut resting.remove(1)), "", "the second is closed");
    assert!(resting.iter_mut().all(asks) && asks(&mut new), "all others stay");
}

#[test]
fn a_connection_whose_answer_is_awaited_makes_no_room() {
    let (receiver, heard) = receiver_of(1, Answer::hang());
    let mut busy = connect(&receiver);
    busy.write_all(POST.as_bytes()).unwrap();
    heard.recv_timeout(PATIENCE).unwrap();
    let mut new = connect(&receiver);
    new.write_all(POST.as_bytes()).unwrap();
    new.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(new.read(&mut [0; 1]).is_err(), "it waits for a place");
    assert_eq!(heard.try_iter().count(), 0);
    drop(busy);
    heard.recv_timeout(PATIENCE).unwrap();
}

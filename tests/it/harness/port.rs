//! A client of the control port, by hand: what the program's own does not say.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{Value, json};

use super::Sandbox;

/// A nonce as good as any for a test.
pub(crate) const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// What `runtime.json` says.
pub(crate) fn runtime(sandbox: &Sandbox) -> Value {
    serde_json::from_slice(&fs::read(sandbox.spool().join("runtime.json")).unwrap()).unwrap()
}

pub(crate) fn connect(runtime: &Value) -> TcpStream {
    let stream = TcpStream::connect(runtime["address"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Says one line and hears one.
pub(crate) fn ask(stream: &mut BufReader<TcpStream>, line: &Value) -> Value {
    stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

/// What shows that the token is known.
pub(crate) fn proof(token: &str, side: &str, client: &str, server: &str) -> String {
    let key = PKey::hmac(token.as_bytes()).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.update(format!("{side}:{client}:{server}").as_bytes()).unwrap();
    hex::encode(signer.sign_to_vec().unwrap())
}

/// A connection on which both ends have proved themselves.
pub(crate) fn greeted(runtime: &Value) -> BufReader<TcpStream> {
    let mut stream = BufReader::new(connect(runtime));
    let token = runtime["token"].as_str().unwrap();
    let welcome = ask(&mut stream, &json!({"version": 2, "nonce": NONCE}));
    let server = welcome["ok"]["nonce"].as_str().unwrap();
    assert_eq!(welcome["ok"]["proof"], proof(token, "server", NONCE, server), "{welcome}");
    assert_eq!(ask(&mut stream, &json!({"proof": proof(token, "client", NONCE, server)})), json!({"ok": {}}));
    stream
}

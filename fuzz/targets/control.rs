//! Lines on the control port, on both sides.
#![allow(clippy::unwrap_used, missing_docs, reason = "a panic is the finding")]

use std::sync::OnceLock;

use super::handshake::{Heard, Token};
use crate::ask::Request;

pub fn frame(bytes: &[u8]) {
    static TOKEN: OnceLock<Token> = OnceLock::new();
    let token = TOKEN.get_or_init(|| Token::random().unwrap());
    let _ = Heard::of(bytes, token);
    if let Ok(request) = Request::read(bytes) {
        let written = serde_json::to_vec(&request).unwrap();
        let again = Request::read(&written).unwrap();
        assert_eq!(serde_json::to_vec(&again).unwrap(), written);
    }
    let _ = serde_json::from_slice::<super::RuntimeFile>(bytes);
}

//! How the two ends of a control connection prove to each other that they know the token of
//! `runtime.json`, without saying it: who listens on a port that a dead runtime had learns nothing.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::sign;

/// The protocol's version, which both ends say first.
pub(crate) const VERSION: u32 = 2;

/// Fewest and most characters of a nonce.
const NONCE: std::ops::RangeInclusive<usize> = 32..=128;

/// What both ends know. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A new one: 32 random bytes in hex.
    ///
    /// # Errors
    /// OpenSSL has no randomness.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        clock::secret_bytes(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// `hmac-sha256(token, "<side>:<client's nonce>:<server's nonce>")` in hex.
    fn proof(&self, side: &str, client: &str, server: &str) -> String {
        let said = [side, ":", client, ":", server].map(str::as_bytes);
        hex::encode(sign::hmac(self.0.as_bytes(), &said))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The client's first line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The protocol's version.
    pub version: u32,
    /// A nonce, new for each connection: 32 to 128 characters.
    #[serde(default)]
    pub nonce: String,
}

/// The server's answer: a nonce of its own, and its proof.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The protocol's version.
    pub version: u32,
    /// The program's version.
    pub program: String,
    /// As in [`Hello`].
    pub nonce: String,
    /// `hmac-sha256(token, "server:<client's nonce>:<server's nonce>")` in hex.
    pub proof: String,
}

/// The client's second line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Proof {
    /// `hmac-sha256(token, "client:<client's nonce>:<server's nonce>")` in hex.
    pub proof: String,
}

/// The client's end of a handshake.
#[derive(Debug)]
pub(super) struct Caller {
    token: Token,
    nonce: String,
}

impl Caller {
    pub(super) fn new(token: Token) -> Self {
        Self { token, nonce: nonce() }
    }

    pub(super) fn hello(&self) -> Hello {
        Hello { version: VERSION, nonce: self.nonce.clone() }
    }

    /// Our proof, if the server's proof is right.
    pub(super) fn prove(&self, welcome: &Welcome) -> Option<Proof> {
        let theirs = self.token.proof("server", &self.nonce, &welcome.nonce);
        let is_it = NONCE.contains(&welcome.nonce.len()) && sign::equal(&theirs, &welcome.proof);
        is_it.then(|| Proof { proof: self.token.proof("client", &self.nonce, &welcome.nonce) })
    }
}

/// What a server makes of a first line.
#[derive(Debug)]
pub(super) enum Heard {
    /// A client's hello: our answer, and the proof expected of it.
    Client { welcome: Welcome, proof: String },
    /// Another version of the protocol.
    Version(u32),
    /// Not our protocol: a browser, for example.
    Stranger,
}

impl Heard {
    pub(super) fn of(line: &[u8], token: &Token) -> Self {
        let Ok(Hello { version, nonce: theirs }) = serde_json::from_slice(line) else {
            return Self::Stranger;
        };
        if version != VERSION {
            return Self::Version(version);
        }
        if !NONCE.contains(&theirs.len()) {
            return Self::Stranger;
        }
        let own = nonce();
        let proof = token.proof("client", &theirs, &own);
        let welcome = Welcome {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            proof: token.proof("server", &theirs, &own),
            nonce: own,
        };
        Self::Client { welcome, proof }
    }
}

/// 244 random bits, from the system: starting OpenSSL's generator takes a process a millisecond.
fn nonce() -> String {
    format!("{}{}", clock::uuid().simple(), clock::uuid().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(hello: &Hello, token: &Token) -> Heard {
        Heard::of(&serde_json::to_vec(hello).unwrap(), token)
    }

    #[test]
    fn both_ends_know_the_token_or_neither_goes_on() {
        let token = Token::random().unwrap();
        let caller = Caller::new(token.clone());
        let Heard::Client { welcome, proof } = heard(&caller.hello(), &token) else { panic!() };
        assert_eq!(caller.prove(&welcome).unwrap().proof, proof);
        // One end's proof is not valid as the other's, nor on another connection.
        assert_ne!(welcome.proof, proof);
        let Heard::Client { welcome: again, proof: other } = heard(&caller.hello(), &token) else { panic!() };
        assert!(again.proof != welcome.proof && other != proof);
        let another = Caller::new(token.clone());
        assert!(another.prove(&welcome).is_none());
        // One that listens and knows no token.
        let Heard::Client { welcome, proof } = heard(&caller.hello(), &Token::random().unwrap()) else {
            panic!()
        };
        assert!(caller.prove(&welcome).is_none());
        let own = Token("".to_owned());
        assert_ne!(own.proof("client", &caller.nonce, &welcome.nonce), proof);
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn what_is_no_greeting_is_a_strangers() {
        let token = Token::random().unwrap();
        let of = |line: &str| Heard::of(line.as_bytes(), &token);
        for line in
            ["", "{}", "GET / HTTP/1.1", "{\"version\":2}", "{\"version\":2,\"nonce\":\"short\"}", "[2]"]
        {
            assert!(matches!(of(line), Heard::Stranger), "{line}");
        }
        let long = format!("{{\"version\":2,\"nonce\":\"{}\"}}", "x".repeat(129));
        assert!(matches!(of(&long), Heard::Stranger));
        assert!(matches!(of("{\"version\":1,\"token\":\"x\"}"), Heard::Version(1)));
    }
}

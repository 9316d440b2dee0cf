//! What comes back from endpoints and proxies.
#![allow(clippy::unwrap_used, missing_docs, reason = "a panic is the finding")]

use super::body::Body;
use super::dial;
use super::head::HeadReader;
use super::proxy::Proxy;
use crate::secret::Endpoint;

/// An answer, whole and in two pieces: where it ends is the same.
pub fn answer(bytes: &[u8]) {
    let read = |parts: [&[u8]; 2]| {
        let (mut reader, mut taken, mut body) = (HeadReader::default(), 0, None);
        for part in parts {
            let Some(open) = &mut body else {
                match reader.push(part) {
                    Ok(None) => continue,
                    Err(error) => return Err(error),
                    Ok(Some(head)) => {
                        let mut open = Body::of(head.end);
                        taken += open.take(&head.rest);
                        body = Some(open);
                        continue;
                    }
                }
            };
            taken += Body::take(open, part);
        }
        Ok((body.is_some(), taken))
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let whole = read([bytes, b""]);
    assert_eq!(read([first, second]), whole, "how it is cut makes no difference");
    let shown = super::answer::shown(bytes);
    assert!(!shown.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{shown:?}");
}

/// A proxy's answer, a proxy's URL and an endpoint's: nothing of their credentials is shown.
pub fn proxy(bytes: &[u8]) {
    let _ = dial::status(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(proxy) = Proxy::parse(text) {
        let _ = format!("{proxy} {proxy:?}");
    }
    if let Ok(endpoint) = Endpoint::parse(text, true) {
        // The host is no secret, and a path may repeat it.
        let shown = format!("{endpoint} {endpoint:?}").replace(endpoint.host(), "");
        let credentials = endpoint.credentials();
        // What is short may stand there by chance.
        for credential in credentials.iter().filter(|credential| credential.len() > 40) {
            assert!(!shown.contains(credential.as_str()), "a credential is shown");
        }
    }
}

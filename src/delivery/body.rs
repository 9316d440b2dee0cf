//! Bodies in memory, within a budget. Beyond it a delivery waits without its body, which is read
//! back from the spool.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::digest::sha256;

/// A body, with its SHA-256 for the evidence, computed once however many subscriptions get it.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Payload(Arc<Content>);

#[derive(Debug)]
struct Content {
    bytes: Bytes,
    sha256: OnceLock<[u8; 32]>,
    /// The SHA-256 of the first key that signed it (keys are wiped after use), and the signature.
    signed: OnceLock<([u8; 32], String)>,
}

impl Payload {
    /// A payload of these bytes.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(Arc::new(Content { bytes, sha256: OnceLock::new(), signed: OnceLock::new() }))
    }

    /// The body.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The SHA-256 of the body.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        *self.0.sha256.get_or_init(|| sha256(&self.0.bytes))
    }

    /// What `sign` makes of the body with this key; computed once for subscriptions that have the
    /// same.
    pub(crate) fn signature(&self, key: &[u8], sign: impl Fn(&[u8]) -> String) -> String {
        let (Content { bytes, signed, .. }, key) = (&*self.0, sha256(key));
        let (of, signature) = signed.get_or_init(|| (key, sign(bytes)));
        if *of == key { signature.clone() } else { sign(bytes) }
    }
}

/// Bytes of bodies that may still be held in memory. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget(Arc<AtomicUsize>);

/// A body in memory, shared by the deliveries of one event. Its bytes return to the budget when the
/// last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Body(Arc<Held>);

#[derive(Debug)]
struct Held {
    payload: Payload,
    budget: BodyBudget,
}

impl BodyBudget {
    /// A budget of `bytes` bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Holds a body, if there is room for it.
    pub(crate) fn hold(&self, bytes: &Bytes) -> Option<Body> {
        let take = |left: usize| left.checked_sub(bytes.len());
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Body(Arc::new(Held { payload: Payload::new(bytes.clone()), budget: self.clone() })))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.payload.bytes().len(), Ordering::Relaxed);
    }
}

impl Deref for Body {
    type Target = Payload;

    fn deref(&self) -> &Payload {
        &self.0.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_signature_computed_once_for_the_first() {
        let payload = Payload::new(Bytes::from_static(b"body"));
        let signed = std::cell::Cell::new(0);
        let by = |key: &str| {
            payload.clone().signature(key.as_bytes(), |body| {
                signed.set(signed.get() + 1);
                format!("{} by {key}", String::from_utf8_lossy(body))
            })
        };
        assert_eq!(
            [by("one"), by("other"), by("one"), by("other")],
            ["body by one", "body by other", "body by one", "body by other"]
        );
        assert_eq!(signed.get(), 3, "the first's once");
    }

    #[test]
    fn the_budget_is_never_exceeded_and_comes_back() {
        let budget = BodyBudget::new(10);
        let six = Bytes::from_static(b"123456");
        let held = budget.hold(&six).unwrap();
        assert!(budget.hold(&six).is_none());
        let shared = held.clone();
        drop(held);
        assert!(budget.hold(&six).is_none(), "a clone still holds it");
        drop(shared);
        assert_eq!(budget.hold(&six).unwrap().bytes(), &six);
    }
}

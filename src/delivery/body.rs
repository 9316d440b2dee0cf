//! Bodies in memory, within a budget: beyond it a delivery waits without its body, which the spool
//! has.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::digest::sha256;

/// What is sent, and its SHA-256 for the evidence: worked out once, however many get it. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub(crate) struct Payload(Arc<(Bytes, OnceLock<[u8; 32]>)>);

impl Payload {
    /// The payload that these bytes are.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(Arc::new((bytes, OnceLock::new())))
    }

    /// The body.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0.0
    }

    /// Of the body.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        let (bytes, hash) = &*self.0;
        *hash.get_or_init(|| sha256(bytes))
    }
}

/// How many bytes of bodies may be held in memory at a time. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget(Arc<AtomicUsize>);

/// A body in memory, shared by the deliveries of one event. Its bytes are free again when the last
/// clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Body(Arc<Held>);

#[derive(Debug)]
struct Held {
    payload: Payload,
    budget: BodyBudget,
}

impl BodyBudget {
    /// A budget of so many bytes.
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

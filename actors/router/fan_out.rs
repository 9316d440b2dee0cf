//! Fan-out: the record of an event that is to be accepted, and a delivery for each subscription
//! that wants it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::answer::EmitError;
use crate::config::{Role, SubscriptionConfig};
use crate::delivery::{BodyBudget, Delivery, DeliveryId, Pending, SubscriptionId};
use crate::event::{Event, Status};
use crate::payload::pages::Pages;
use crate::payload::{self, Format, Reader};
use crate::spool::{Accepted, AcceptedDelivery};

/// An event that is to be accepted.
#[derive(Clone, Copy)]
pub(super) struct News<'a> {
    pub(super) event: &'a Event,
    /// Its payload.
    pub(super) body: &'a Bytes,
    pub(super) at: Timestamp,
    /// Whether it goes to nobody.
    pub(super) is_told_already: bool,
    /// How it ends its run, where that is told next.
    pub(super) ends: Option<Status>,
    /// Where messages may lead.
    pub(super) pages: Option<&'a Pages>,
}

/// Fans an event out to those of the `subscriptions` that want it; what comes with a subscription
/// (`A`) goes with its delivery. `payload` is the body of the news, for the record.
///
/// # Errors
/// [`EmitError::Refused`]: the body cannot be rendered in a format that is wanted.
pub(super) fn fan_out<'a, A>(
    news: &News<'_>,
    payload: Box<RawValue>,
    subscriptions: impl Iterator<Item = (&'a SubscriptionConfig, A)>,
    budget: &BodyBudget,
    mut draw_id: impl FnMut(&SubscriptionId) -> DeliveryId,
) -> Result<(Accepted, Vec<(A, Pending)>), EmitError> {
    let News { event, body, at, is_told_already, ends, pages } = *news;
    let envelope = &event.event;
    let wants = |config: &SubscriptionConfig| {
        !is_told_already
            && config.role() != Role::Inactive
            && config.filter.admits(event).is_ok()
            && !ends.is_some_and(|end| config.filter.leaves_to_the_run(end))
    };
    // Once per format and owner, however many subscriptions share it.
    let mut rendered = BTreeMap::new();
    let is_a_call = payload::is_a_call(event);
    let (mut deliveries, mut outgoing, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for (config, attached) in subscriptions.filter(|(config, _)| wants(config)) {
        let format = config.format;
        let owner = config.owner.as_deref().filter(|_| is_a_call);
        let held = match rendered.entry((format, owner)) {
            Place::Occupied(place) => place.into_mut(),
            Place::Vacant(place) => {
                let reader = Reader { pages, owner, ..Reader::default() };
                let bytes = format.render(event, body, &reader).map_err(refused)?;
                place.insert((budget.hold(&bytes), bytes))
            }
        };
        let delivery = Delivery {
            id: draw_id(&config.id),
            subscription: config.id.clone(),
            spec: event.spec.id.clone(),
            key: envelope.idempotency_key.clone(),
            kind: envelope.kind,
            stage: envelope.stage,
            status: envelope.status,
            accepted_at: at,
            format,
        };
        own.extend(owner.map(|owner| (delivery.id, (format, Some(owner)))));
        deliveries.push(AcceptedDelivery { format, ..AcceptedDelivery::new(delivery.id, config.id.clone()) });
        outgoing.push((attached, Pending::new(Arc::new(delivery), held.0.clone())));
    }
    let key = envelope.idempotency_key.clone();
    let mut record = Accepted::new(at, key, envelope.kind, deliveries, payload);
    (record.stage, record.status) = (envelope.stage, envelope.status);
    for ((format, owner), (_, bytes)) in &rendered {
        // The payload itself is in the record anyway.
        if *format != Format::SpecKit && owner.is_none() {
            record.add_body(*format, bytes).map_err(refused)?;
        }
    }
    for (id, (_, bytes)) in own.into_iter().filter_map(|(id, of)| Some((id, rendered.get(&of)?))) {
        record.add_own_body(id, bytes).map_err(refused)?;
    }
    Ok((record, outgoing))
}

/// What cannot be rendered now never can.
pub(super) fn refused(error: impl Display) -> EmitError {
    EmitError::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::SecretNames;
    use crate::delivery::RetryPolicy;
    use crate::event::EventKind;
    use crate::filter::{EventPattern, Filter};
    use crate::http::TlsFiles;

    fn subscription(id: &str, format: Format) -> SubscriptionConfig {
        SubscriptionConfig {
            id: id.parse().unwrap(),
            endpoint: None,
            secrets: SecretNames { current: "S".to_owned(), previous: None },
            active: true,
            dry_run: false,
            filter: Filter::default(),
            owner: None,
            format,
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(5),
            max_in_flight: 8,
            retry_statuses: [].into(),
            rate_limit_per_s: None,
            headers: Vec::new(),
            proxy: None,
            tls_files: TlsFiles::default(),
        }
    }

    fn event() -> Event {
        Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), "k".parse().unwrap())
    }

    /// What `subscriptions` get of an event; with each its place among them.
    fn fanned(
        subscriptions: &[SubscriptionConfig],
        is_told_already: bool,
        budget: usize,
    ) -> (Accepted, Vec<(usize, Pending)>) {
        fanned_of(&event(), subscriptions, is_told_already, budget)
    }

    fn fanned_of(
        event: &Event,
        subscriptions: &[SubscriptionConfig],
        is_told_already: bool,
        budget: usize,
    ) -> (Accepted, Vec<(usize, Pending)>) {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let payload = payload::raw_body(event).unwrap();
        let body = payload::bytes_of(&payload);
        let news = News { event, body: &body, at, is_told_already, ends: None, pages: None };
        let numbered = subscriptions.iter().zip(0..);
        let mut drawn = 0;
        let draw = |_: &SubscriptionId| {
            drawn += 1;
            format!("00000000-0000-4000-8000-{drawn:012}").parse().unwrap()
        };
        fan_out(&news, payload, numbered, &BodyBudget::new(budget), draw).unwrap()
    }

    fn places(outgoing: &[(usize, Pending)]) -> Vec<usize> {
        outgoing.iter().map(|(place, _)| *place).collect()
    }

    fn bytes(pending: &Pending) -> &Bytes {
        pending.body().unwrap().bytes()
    }

    #[test]
    fn the_record_names_what_goes_out() {
        let (record, outgoing) =
            fanned(&[subscription("a", Format::SpecKit), subscription("b", Format::Slack)], false, 1 << 20);
        assert_eq!(places(&outgoing), [0, 1]);
        for (accepted, (_, pending)) in record.deliveries.iter().zip(&outgoing) {
            let delivery = pending.delivery();
            assert_eq!(
                (accepted.id, &accepted.subscription, accepted.format),
                (delivery.id, &delivery.subscription, delivery.format)
            );
            assert_eq!((delivery.accepted_at, &delivery.key), (record.at, &record.idempotency_key));
        }
        let ids: Vec<_> = record.deliveries.iter().map(|delivery| delivery.id.to_string()).collect();
        assert_eq!(ids, ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"]);
        assert_eq!(record.body.get().as_bytes(), bytes(&outgoing[0].1));
        assert_eq!(record.bodies[&Format::Slack].get().as_bytes(), bytes(&outgoing[1].1));
    }

    #[test]
    fn each_body_is_rendered_once_and_shared() {
        let formats = [Format::Slack, Format::SpecKit, Format::Slack, Format::CloudEvents, Format::SpecKit];
        let subscriptions = formats.map(|format| subscription("s", format));
        let (record, outgoing) = fanned(&subscriptions, false, 1 << 20);
        let kept: Vec<Format> = record.bodies.keys().copied().collect();
        assert_eq!(kept.len(), 2, "the payload is not kept twice: {kept:?}");
        let at = |place: usize| bytes(&outgoing[place].1).as_ptr();
        assert_eq!((at(0), at(1)), (at(2), at(4)));
        // There is room for one body a format and no more.
        let needed = [0, 1, 3].map(|place| bytes(&outgoing[place].1).len()).iter().sum();
        let (_, outgoing) = fanned(&subscriptions, false, needed);
        assert!(outgoing.iter().all(|(_, pending)| pending.body().is_some()));
    }

    #[test]
    fn who_has_an_owner_gets_a_body_of_its_own_where_somebody_is_called() {
        let owned = |id: &str, owner: &str| SubscriptionConfig {
            owner: Some(owner.to_owned()),
            ..subscription(id, Format::Slack)
        };
        let subscriptions = [subscription("a", Format::Slack), owned("b", "U1"), owned("c", "U2")];
        let (record, outgoing) = fanned(&subscriptions, false, 1 << 20);
        assert!(record.own_bodies.is_empty(), "a test calls nobody");
        assert_eq!(bytes(&outgoing[0].1), bytes(&outgoing[2].1));
        let failed = r#"{"event": {"type": "spec-auto.stage.completed", "status": "failure"},
            "spec": {"id": "SPEC-1"}}"#;
        let (record, outgoing) =
            fanned_of(&Event::from_json(failed).unwrap(), &subscriptions, false, 1 << 20);
        for (at, mention) in [(0, None), (1, Some("<@U1>")), (2, Some("<@U2>"))] {
            let body = std::str::from_utf8(bytes(&outgoing[at].1)).unwrap();
            assert_eq!(body.matches("<@").count(), usize::from(mention.is_some()), "{body}");
            assert!(mention.is_none_or(|mention| body.contains(mention)), "{body}");
            let id = outgoing[at].1.delivery().id;
            let kept = record.own_bodies.get(&id).unwrap_or(&record.bodies[&Format::Slack]);
            assert_eq!(kept.get(), body);
        }
        assert_eq!((record.bodies.len(), record.own_bodies.len()), (1, 2));
    }

    #[test]
    fn without_room_in_memory_it_goes_out_without_its_body() {
        let (record, outgoing) = fanned(&[subscription("a", Format::Slack)], false, 0);
        assert!(outgoing[0].1.body().is_none() && record.bodies.contains_key(&Format::Slack));
    }

    #[test]
    fn who_is_inactive_or_does_not_want_it_gets_none() {
        let inactive = SubscriptionConfig { active: false, ..subscription("a", Format::Slack) };
        let dry_run = SubscriptionConfig { dry_run: true, ..subscription("b", Format::SpecKit) };
        let events = Some(vec![EventPattern::parse("spec-auto.*").unwrap()]);
        let filter = Filter { events, ..Filter::default() };
        let other = SubscriptionConfig { filter, ..subscription("c", Format::Discord) };
        let (record, outgoing) = fanned(&[inactive, dry_run, other], false, 1 << 20);
        assert_eq!(places(&outgoing), [1]);
        assert!(record.deliveries.len() == 1 && record.bodies.is_empty());
    }

    #[test]
    fn an_event_that_was_told_already_goes_to_nobody() {
        let (record, outgoing) = fanned(&[subscription("a", Format::Slack)], true, 1 << 20);
        assert!(outgoing.is_empty() && record.deliveries.is_empty() && record.bodies.is_empty());
        assert!(record.body.get().contains("SPEC-1"), "its record is written all the same");
    }

    #[test]
    fn a_body_that_cannot_be_rendered_is_refused() {
        let budget = BodyBudget::new(1 << 20);
        let subscription = subscription("a", Format::CloudEvents);
        let to = [(&subscription, ())].into_iter();
        let body = Bytes::from_static(b"no JSON");
        let (event, at) = (event(), Timestamp::UNIX_EPOCH);
        let payload = payload::raw_body(&event).unwrap();
        let news = News { event: &event, body: &body, at, is_told_already: false, ends: None, pages: None };
        let result = fan_out(&news, payload, to, &budget, |_| DeliveryId::random());
        assert!(matches!(result, Err(EmitError::Refused(_))));
    }
}

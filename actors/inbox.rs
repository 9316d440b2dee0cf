//! Takes events from the inbox, in order within each SPEC: a SPEC that is stuck waits, the others
//! go on.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use actix::Addr;
use actix_rt::time::sleep;
use tokio::sync::watch;

use super::door::Door;
use super::ledger::{Ledger, SettleInbox};
use crate::answer::{EmitError, Receipt};
use crate::event::Event;
use crate::spool::{Aside, Cause, Content, Inbox, InboxName, Settled, Taken};

/// How often the inbox is looked at.
const POLL: Duration = Duration::from_millis(500);

/// The pause between two looks is at least this many times the duration of the last listing: a full
/// inbox is slow to list.
const REST: u32 = 20;

/// The longest pause: a listing also takes long when the process was stopped meanwhile.
const MOST_REST: Duration = Duration::from_secs(5);

/// Files read at a time, and about how many bytes.
const FILES: usize = 64;
const BYTES: usize = 1024 * 1024;

/// How long an event may wait for the disk. Long, because the event stays safe in its file
/// meanwhile.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The actors have ended.
struct Stopped;

/// Takes the inbox in until the actors end. A file is removed when all its events are accepted or
/// already known. Sets `looked` after the first complete look.
pub(crate) async fn take_inbox_in(ledger: Addr<Ledger>, door: Door, looked: watch::Sender<bool>) {
    let inbox = Inbox::new(door.spool_dir());
    let mut aside = Aside::default();
    let (mut trouble, mut seen) = (None, None);
    loop {
        let began = Instant::now();
        let known = seen.filter(|_| !aside.is_due(began));
        let listed = on_a_thread(&inbox, move |inbox| {
            let changed = inbox.changed();
            let is_new = changed.is_none() || changed != known;
            Ok((changed, is_new.then(|| inbox.names()).transpose()?))
        });
        let mut pause = POLL;
        match listed.await {
            // Nothing changed: only the files set aside are there.
            Ok((_, None)) => {}
            Ok((changed, Some(names))) => {
                trouble = None;
                aside.begin(&names, began);
                pause = (began.elapsed() * REST).clamp(POLL, MOST_REST);
                let read = async |names: Vec<InboxName>| {
                    on_a_thread(&inbox, move |inbox| Ok(inbox.read(&names, BYTES))).await.unwrap_or_default()
                };
                let emit = async |event: Event, file: Option<InboxName>| {
                    door.emit(Box::new(event), file, PATIENCE).await
                };
                let removes = door.keeps_events();
                let settle = async |name: InboxName, settled: Settled| {
                    ledger.send(SettleInbox { name, settled }).await.map_err(|_| Stopped)
                };
                let told = |aside: &Aside| door.tell_of_inbox(aside.told());
                match pass(&mut aside, names, read, emit, removes, settle, told).await {
                    Ok(is_whole) => seen = changed.filter(|_| is_whole),
                    Err(Stopped) => return,
                }
            }
            Err(error) => {
                let why = format!("the inbox cannot be listed: {error}; what is in it waits");
                if trouble.as_ref() != Some(&why) {
                    log::error!("{why}");
                }
                door.tell_of_inbox(vec![why.clone()]);
                trouble = Some(why);
            }
        }
        looked.send_replace(true);
        sleep(pause).await;
    }
}

/// Runs `work` on a thread that may block: the actors' thread must not.
async fn on_a_thread<T: Send + 'static>(
    inbox: &Inbox,
    work: impl FnOnce(&Inbox) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let inbox = inbox.clone();
    actix_rt::task::spawn_blocking(move || work(&inbox)).await.map_err(io::Error::other)?
}

/// One pass over the listed files, which `aside` already knows; true if it reached the end.
/// `removes` says that accepting an event removes its file.
async fn pass(
    aside: &mut Aside,
    names: Vec<InboxName>,
    mut read: impl AsyncFnMut(Vec<InboxName>) -> Vec<Taken>,
    mut emit: impl AsyncFnMut(Event, Option<InboxName>) -> Result<Receipt, EmitError>,
    removes: bool,
    mut settle: impl AsyncFnMut(InboxName, Settled) -> Result<Option<InboxName>, Stopped>,
    told: impl Fn(&Aside),
) -> Result<bool, Stopped> {
    told(aside);
    let mut names = names.into_iter();
    let mut next: VecDeque<InboxName> = VecDeque::new();
    loop {
        let more = names.by_ref().filter(|name| aside.may_look(name));
        let room = FILES - next.len();
        next.extend(more.take(room));
        if next.is_empty() {
            return Ok(true);
        }
        let files = read(next.iter().cloned().collect()).await;
        if files.is_empty() {
            // No thread could be had.
            return Ok(false);
        }
        next.drain(..files.len());
        for Taken { name, content } in files {
            // Its SPEC may have become stuck since this file was read.
            if !aside.may_look(&name) {
                continue;
            }
            let goes_on = match content {
                Content::Gone => true,
                Content::None(why) => {
                    let stays = settle(name, Settled::Rejected(Vec::new(), why)).await?;
                    stays.is_none_or(|name| stand_aside(aside, &name, STAYS))
                }
                Content::Unreadable(why) => stand_aside(aside, &name, &why),
                Content::Events(texts) => {
                    take_file(aside, name, texts, &mut emit, removes, &mut settle).await?
                }
            };
            if !goes_on {
                log::warn!("too much stands aside in the inbox: the rest of it waits");
                told(aside);
                return Ok(false);
            }
        }
        told(aside);
    }
}

/// The reason kept for a file that is finished but could not be removed.
const STAYS: &str = "it is done with, and cannot be removed or renamed";

/// Sets a file aside that cannot be read now; true if there was room to remember it.
fn stand_aside(aside: &mut Aside, name: &InboxName, why: &str) -> bool {
    let cause = Cause::Files(why.to_owned());
    let Some(is_new) = aside.set(cause.clone(), why, Instant::now()) else { return false };
    if is_new {
        log::error!("{name} in the inbox cannot be taken in: {why}; it stays there, and the rest goes on");
    }
    aside.remember(name, &HashMap::from([(cause, 1)]))
}

/// Emits a file's events, except those of stuck SPECs; true if there was room to remember these.
async fn take_file(
    aside: &mut Aside,
    name: InboxName,
    texts: Vec<String>,
    emit: &mut impl AsyncFnMut(Event, Option<InboxName>) -> Result<Receipt, EmitError>,
    removes: bool,
    settle: &mut impl AsyncFnMut(InboxName, Settled) -> Result<Option<InboxName>, Stopped>,
) -> Result<bool, Stopped> {
    let all = texts.len();
    let is_one = !name.is_several();
    let (mut left, mut waits) = (Vec::new(), HashMap::<Cause, u32>::new());
    let (mut bad, mut why_bad) = (Vec::new(), String::new());
    let mut is_removed = false;
    let mut has_room = true;
    for text in texts {
        let event = match Event::from_kept(&text) {
            Ok(event) => event,
            Err(error) => {
                why_bad = error.to_string();
                bad.push(text);
                continue;
            }
        };
        let spec = event.spec.id.clone();
        if !has_room || aside.holds(&spec) {
            *waits.entry(Cause::Spec(spec)).or_default() += 1;
            left.push(text);
            continue;
        }
        // The Ledger removes a file of one event itself, together with writing its record.
        let emitted = emit(event, is_one.then(|| name.clone())).await;
        match emitted {
            Ok(receipt) => {
                is_removed = is_one && removes && matches!(receipt, Receipt::Accepted(_));
                if aside.free(&spec) {
                    log::info!(spec:%; "events of {spec} in the inbox are taken in again");
                }
            }
            Err(error) if !error.is_temporary() => {
                why_bad = error.reason();
                bad.push(text);
            }
            Err(error) => {
                let why = error.reason();
                match aside.set(Cause::Spec(spec.clone()), &why, Instant::now()) {
                    Some(true) => {
                        log::warn!(spec:%; "events of {spec} wait in the inbox, the rest goes on: {why}");
                    }
                    Some(false) => {}
                    None => has_room = false,
                }
                *waits.entry(Cause::Spec(spec)).or_default() += 1;
                left.push(text);
            }
        }
    }
    if left.is_empty() {
        let settled = if bad.is_empty() { Settled::Done } else { Settled::Rejected(bad, why_bad) };
        if is_removed {
            return Ok(true);
        }
        let stays = settle(name, settled).await?;
        return Ok(stays.is_none_or(|name| stand_aside(aside, &name, STAYS)));
    }
    let rest = match left.len() + bad.len() == all {
        true => name,
        false => {
            left.append(&mut bad);
            settle(name.clone(), Settled::Left(left)).await?.unwrap_or(name)
        }
    };
    Ok(aside.remember(&rest, &waits) && has_room)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::event::{EventKind, SpecId};
    use crate::spool::put_in_inbox;

    fn event(spec: &str, key: &str) -> Event {
        Event::new(EventKind::Test, spec.parse().unwrap(), key.parse().unwrap())
    }

    /// A runtime of which some SPECs take nothing.
    #[derive(Default)]
    struct Fake {
        taken: RefCell<Vec<(String, String)>>,
        tried: RefCell<usize>,
        read: RefCell<usize>,
    }

    impl Fake {
        fn pass(&self, dir: &Path, aside: &mut Aside, stuck: impl Fn(&SpecId) -> bool) {
            self.pass_at(Instant::now(), dir, aside, stuck);
        }

        fn pass_at(&self, now: Instant, dir: &Path, aside: &mut Aside, stuck: impl Fn(&SpecId) -> bool) {
            let inbox = Inbox::new(dir);
            let read = async |names: Vec<InboxName>| {
                let files = inbox.read(&names, BYTES);
                *self.read.borrow_mut() += files.len();
                files
            };
            let emit = async |event: Event, file: Option<InboxName>| {
                *self.tried.borrow_mut() += 1;
                if stuck(&event.spec.id) {
                    return Err(EmitError::Unavailable("its folder is a link".to_owned()));
                }
                let key = event.event.idempotency_key.to_string();
                self.taken.borrow_mut().push((event.spec.id.to_string(), key));
                file.map(|file| inbox.settle(&file, Settled::Done));
                Ok(Receipt::Accepted(Vec::new()))
            };
            let settle = async |name: InboxName, settled: Settled| Ok(inbox.settle(&name, settled));
            let names = inbox.names().unwrap();
            aside.begin(&names, now);
            let passing = pass(aside, names, read, emit, true, settle, |_| {});
            let passed = actix_rt::System::new().block_on(passing);
            assert!(passed.is_ok());
        }

        fn of(&self, spec: &str) -> Vec<String> {
            let taken = self.taken.borrow();
            taken.iter().filter(|(of, _)| of == spec).map(|(_, key)| key.clone()).collect()
        }
    }

    fn keys(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| format!("k{n:03}")).collect()
    }

    #[test]
    fn a_spec_that_takes_nothing_stands_aside_in_its_order_and_is_not_read_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let put = |spec: &str, key: String| put_in_inbox(dir.path(), &[event(spec, &key)]).unwrap();
        keys(0..150).into_iter().for_each(|key| put("STUCK", key));
        std::fs::create_dir(dir.path().join("inbox/00-1.event.json")).unwrap();
        let (fake, mut aside) = (Fake::default(), Aside::default());
        let is_stuck = |spec: &SpecId| spec.as_str() == "STUCK";
        fake.pass(dir.path(), &mut aside, is_stuck);
        assert_eq!((*fake.tried.borrow(), *fake.read.borrow()), (1, 151));
        keys(0..3).into_iter().for_each(|key| put("GOES-ON", key));
        fake.pass(dir.path(), &mut aside, is_stuck);
        assert_eq!(fake.of("GOES-ON"), keys(0..3));
        assert_eq!((*fake.tried.borrow(), *fake.read.borrow()), (4, 154), "the rest was remembered");
        let told = aside.told();
        assert!(
            told[0].contains("1 file waits that cannot be read: it is not a file")
                && told[1] == "inbox: 150 events of STUCK wait: its folder is a link",
            "{told:?}"
        );
        fake.pass_at(Instant::now() + Duration::from_secs(2), dir.path(), &mut aside, |_| false);
        assert_eq!(fake.of("STUCK"), keys(0..150));
        fake.pass(dir.path(), &mut aside, |_| false);
        assert_eq!(aside.told().len(), 1, "only the folder is left: {:?}", aside.told());
    }

    #[test]
    fn of_a_file_of_several_what_was_taken_is_not_taken_again_and_the_rest_waits() {
        let dir = tempfile::tempdir().unwrap();
        let events: Vec<Event> =
            (0..9).map(|n| event(if n % 3 == 0 { "STUCK" } else { "FREE" }, &format!("k{n}"))).collect();
        put_in_inbox(dir.path(), &events).unwrap();
        let (fake, mut aside) = (Fake::default(), Aside::default());
        fake.pass(dir.path(), &mut aside, |spec| spec.as_str() == "STUCK");
        assert_eq!((fake.of("FREE").len(), *fake.tried.borrow()), (6, 7));
        assert_eq!(aside.told(), ["inbox: 3 events of STUCK wait: its folder is a link"]);
        // As after a restart: nothing is remembered.
        fake.pass(dir.path(), &mut Aside::default(), |_| false);
        assert_eq!(fake.of("STUCK"), ["k0", "k3", "k6"]);
        assert_eq!(fake.of("FREE").len(), 6);
        assert!(Inbox::new(dir.path()).names().unwrap().is_empty());
    }

    #[test]
    fn a_line_that_is_no_event_is_set_aside_and_the_others_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("inbox")).unwrap();
        let good = serde_json::to_string(&event("FREE", "k")).unwrap();
        let text = format!("{{\"v\":1,\"queued_at\":\"2026-01-01T00:00:00.000Z\"}}\n{{broken\n{good}\n");
        std::fs::write(dir.path().join("inbox/01-2.events.jsonl"), text).unwrap();
        let fake = Fake::default();
        fake.pass(dir.path(), &mut Aside::default(), |_| false);
        assert_eq!(fake.of("FREE"), ["k"]);
        let left: Vec<_> = std::fs::read_dir(dir.path().join("inbox")).unwrap().collect();
        let name = left[0].as_ref().unwrap().file_name().into_string().unwrap();
        assert!(left.len() == 1 && name == "01-1.events.jsonl.rejected", "{name}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Any files, any SPECs stuck at any of several passes, with a restart now and then.
        #[test]
        fn each_spec_keeps_its_order_and_everything_is_taken_in_once(
            files in prop::collection::vec(prop::collection::vec(0_usize..4, 1..5), 1..12),
            passes in prop::collection::vec((prop::collection::vec(any::<bool>(), 4), any::<bool>()), 0..5),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let mut count = 0;
            for specs in &files {
                let events = specs.iter().map(|n| {
                    count += 1;
                    let (spec, key) = (format!("SPEC-{n}"), format!("k{count}"));
                    expected.entry(spec.clone()).or_default().push(key.clone());
                    event(&spec, &key)
                });
                put_in_inbox(dir.path(), &events.collect::<Vec<_>>()).unwrap();
            }
            let (fake, mut aside) = (Fake::default(), Aside::default());
            for (stuck, restarts) in passes {
                if restarts {
                    aside = Aside::default();
                }
                fake.pass(dir.path(), &mut aside, |spec| {
                    stuck[spec.as_str()[5..].parse::<usize>().unwrap()]
                });
            }
            fake.pass(dir.path(), &mut Aside::default(), |_| false);
            for (spec, keys) in expected {
                prop_assert_eq!(fake.of(&spec), keys);
            }
            prop_assert!(Inbox::new(dir.path()).names().unwrap().is_empty());
        }
    }
}

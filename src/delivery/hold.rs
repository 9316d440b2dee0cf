//! A subscription's pause while changes of it are written: whether deliveries are held back.

use super::Pause;

/// Whether deliveries are held back. A pause holds before it is written, an end counts after it is
/// written: in between, and after a failure, nothing goes out that should not.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    in_force: Option<Pause>,
    /// As the change that was asked for last would have it.
    wanted: Option<Pause>,
    /// As the disk has it, and the number of the change that made it so.
    kept: (u64, Option<Pause>),
    /// Number of changes that were asked for.
    asked: u64,
    /// Number of them that the disk has not answered yet.
    unanswered: usize,
}

/// A change that the disk has to keep. To be handed to it in the order of their making.
#[derive(Debug)]
pub(crate) struct PauseChange {
    number: u64,
    /// The pause from now on.
    pub(crate) pause: Option<Pause>,
    /// Whether it changes what was wanted before.
    pub(crate) is_news: bool,
}

impl Hold {
    /// As it is known to be kept.
    pub(crate) fn new(pause: Option<Pause>) -> Self {
        let mut hold = Self::default();
        hold.is_known_to_be(pause);
        hold
    }

    /// The pause in force.
    pub(crate) fn pause(&self) -> Option<&Pause> {
        self.in_force.as_ref()
    }

    /// Whether deliveries are held back.
    pub(crate) fn holds(&self) -> bool {
        self.in_force.is_some()
    }

    /// Takes over what is kept elsewhere.
    pub(crate) fn is_known_to_be(&mut self, pause: Option<Pause>) {
        self.wanted.clone_from(&pause);
        self.in_force.clone_from(&pause);
        self.kept = (self.asked, pause);
    }

    /// Asks for a pause, or for its end; `None` if the disk has it so already.
    pub(crate) fn ask(&mut self, pause: Option<Pause>) -> Option<PauseChange> {
        // One that is paused already stays paused since then.
        let pause = pause.map(|new| self.wanted.clone().unwrap_or(new));
        let is_news = self.wanted.is_some() != pause.is_some();
        if !is_news && self.unanswered == 0 {
            return None;
        }
        self.wanted.clone_from(&pause);
        if pause.is_some() {
            self.in_force.clone_from(&pause);
        }
        self.asked += 1;
        self.unanswered += 1;
        Some(PauseChange { number: self.asked, pause, is_news })
    }

    /// The disk keeps a change, or refused it. The answers may come in any order: an actor does not
    /// poll its futures in theirs.
    pub(crate) fn answered(&mut self, change: PauseChange, is_kept: bool) {
        self.unanswered -= 1;
        if is_kept && change.number > self.kept.0 {
            self.kept = (change.number, change.pause);
        }
        // While another change is under way, what is held stays held.
        if self.unanswered == 0 {
            self.wanted.clone_from(&self.kept.1);
            self.in_force.clone_from(&self.kept.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask {
            pause: bool,
            is_kept: bool,
        },
        /// One of those under way is answered.
        Answer(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let ask = (any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(pause, is_kept)| Step::Ask { pause, is_kept });
        prop_oneof![ask, any::<usize>().prop_map(Step::Answer)]
    }

    proptest! {
        #[test]
        fn in_whatever_order_changes_are_answered_what_is_in_force_is_what_the_disk_has(
            starts_paused in any::<bool>(),
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let mut disk = starts_paused.then(|| Pause::now("ada"));
            let mut hold = Hold::new(disk.clone());
            let mut under_way: Vec<(PauseChange, bool)> = Vec::new();
            let answer_all = (0..steps.len()).map(|_| Step::Answer(0));
            for step in steps.iter().copied().chain(answer_all) {
                match step {
                    Step::Ask { pause, is_kept } => {
                        let asked = hold.ask(pause.then(|| Pause::now("bob")));
                        match asked {
                            Some(change) => {
                                if is_kept {
                                    disk.clone_from(&change.pause);
                                }
                                under_way.push((change, is_kept));
                            }
                            None => prop_assert_eq!(disk.is_some(), pause),
                        }
                        prop_assert!(hold.holds() || !pause, "it holds from the moment it is asked for");
                    }
                    Step::Answer(_) if under_way.is_empty() => {}
                    Step::Answer(which) => {
                        let (change, is_kept) = under_way.remove(which % under_way.len());
                        hold.answered(change, is_kept);
                    }
                }
                prop_assert!(hold.holds() || disk.is_none(), "what the disk has paused is held back");
                if under_way.is_empty() {
                    prop_assert_eq!(hold.pause(), disk.as_ref());
                }
            }
        }
    }

    #[test]
    fn one_that_is_paused_stays_paused_since_then() {
        let first = Pause::now("ada");
        let mut hold = Hold::new(None);
        let change = hold.ask(Some(first.clone())).unwrap();
        let second = hold.ask(Some(Pause::now("bob"))).unwrap();
        assert_eq!((second.pause.as_ref(), second.is_news), (Some(&first), false));
        hold.answered(second, true);
        hold.answered(change, true);
        assert_eq!(hold.pause(), Some(&first));
        assert!(hold.ask(Some(Pause::now("eve"))).is_none());
    }
}

//! The tasks in which attempts are made. A task that has made one waits for the next: memory for a
//! new one each time would take a twentieth of a delivery's time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use actix::WeakAddr;
use actix::prelude::*;
use tokio::sync::Notify;

use super::attempts::Job;
use super::{STOPPED, Subscription};
use crate::actors::alarm::Alarm;
use crate::actors::ledger::Ledger;
use crate::actors::tell::tell;

/// Makes attempts, as many at a time as are asked for. Its tasks end when it is dropped and their
/// attempts have ended.
#[derive(Default)]
pub(super) struct Workers(Rc<Jobs<Job>>);

impl Workers {
    /// Sets how many tasks are kept that have nothing to do.
    pub(super) fn keep(&self, most: usize) {
        self.0.keep(most);
    }

    /// Has an attempt made; the actor of `context` hears what came of it.
    pub(super) fn make(
        &self,
        job: Job,
        ledger: &Addr<Ledger>,
        context: &Context<Subscription>,
        alarm: &Alarm,
    ) {
        let Self(jobs) = self;
        if jobs.add(job) {
            let work = work(jobs.clone(), ledger.clone(), context.address().downgrade(), alarm.clone());
            actix_rt::spawn(work);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What tasks of one thread take in turn.
struct Jobs<T> {
    /// Jobs that no task has begun. Bounded by `max_in_flight`.
    waiting: RefCell<VecDeque<T>>,
    /// Tasks that wait for one, and how many may.
    free: Cell<usize>,
    most_free: Cell<usize>,
    come: Notify,
    is_over: Cell<bool>,
}

impl<T> Default for Jobs<T> {
    fn default() -> Self {
        let (free, most_free, is_over) = (Cell::default(), Cell::default(), Cell::default());
        Self { waiting: RefCell::default(), free, most_free, come: Notify::new(), is_over }
    }
}

impl<T> Jobs<T> {
    /// Adds a job; returns whether it needs one more task.
    #[must_use]
    fn add(&self, job: T) -> bool {
        self.waiting.borrow_mut().push_back(job);
        self.come.notify_one();
        self.waiting.borrow().len() > self.free.get()
    }

    /// The next job, once there is one; `None` when there will be no more, or enough tasks wait.
    async fn next(&self) -> Option<T> {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            if next.is_some() || self.is_over.get() || self.free.get() >= self.most_free.get() {
                return next;
            }
            self.free.set(self.free.get() + 1);
            self.come.notified().await;
            self.free.set(self.free.get() - 1);
        }
    }

    /// Sets how many tasks may wait for a job; those that wait beyond it end.
    fn keep(&self, most: usize) {
        self.most_free.set(most);
        self.come.notify_waiters();
    }

    /// Ends the tasks once no job waits.
    fn end(&self) {
        self.is_over.set(true);
        self.come.notify_waiters();
    }
}

async fn work(jobs: Rc<Jobs<Job>>, ledger: Addr<Ledger>, address: WeakAddr<Subscription>, _alarm: Alarm) {
    while let Some(job) = jobs.next().await {
        let ended = job.make(&ledger).await;
        let is_alive = match address.upgrade() {
            Some(address) => tell(&address, ended).await,
            None => false,
        };
        if !is_alive {
            return log::error!("{STOPPED}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::task::yield_now;

    use super::*;

    proptest! {
        /// Whenever jobs come and however long they take: each is done, none waits while fewer
        /// tasks work than there were jobs at a time, and all tasks end.
        #[test]
        fn each_job_is_done_by_no_more_tasks_than_are_needed(
            comes in prop::collection::vec((0usize..4, 0usize..6, 0usize..5), 1..60),
        ) {
            let all = comes.len();
            let (done, tasks, most) = actix::System::new().block_on(async move {
                let jobs = Rc::new(Jobs::default());
                let counter = || Rc::new(Cell::new(0));
                let (under_way, done, tasks) = (counter(), counter(), counter());
                let (mut most_tasks, mut most) = (0, 0);
                for (pause, takes, kept) in comes {
                    for _ in 0..pause {
                        yield_now().await;
                    }
                    jobs.keep(kept);
                    under_way.set(under_way.get() + 1);
                    most = most.max(under_way.get());
                    if jobs.add(takes) {
                        tasks.set(tasks.get() + 1);
                        most_tasks = most_tasks.max(tasks.get());
                        let (jobs, under_way) = (jobs.clone(), under_way.clone());
                        let (done, tasks) = (done.clone(), tasks.clone());
                        actix_rt::spawn(async move {
                            while let Some(takes) = jobs.next().await {
                                for _ in 0..takes {
                                    yield_now().await;
                                }
                                done.set(done.get() + 1);
                                under_way.set(under_way.get() - 1);
                            }
                            tasks.set(tasks.get() - 1);
                        });
                    }
                }
                jobs.end();
                while tasks.get() > 0 {
                    yield_now().await;
                }
                (done.get(), most_tasks, most)
            });
            prop_assert_eq!(done, all);
            prop_assert!(tasks <= most, "{tasks} tasks for {most} at a time");
        }
    }
}

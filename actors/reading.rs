//! Reads files for operators, on threads of its own and few at a time: neither the actors nor the
//! caller's executor may block.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use crate::answer::RequestError;
use crate::archive::Census;
use crate::inspect::Survey;
use crate::store::StoreOptions;

/// Threads that read at a time; more requests wait for their turn.
const MAX_READING: usize = 2;

/// See the module's first lines. Clones share the threads.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    permits: Arc<Semaphore>,
    files: Arc<StoreOptions>,
    /// Used by one thread at a time.
    census: Arc<Mutex<Census>>,
}

impl Reading {
    pub(super) fn new(files: StoreOptions) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_READING)),
            files: Arc::new(files),
            census: Arc::default(),
        }
    }

    pub(super) fn spool_dir(&self) -> &Path {
        &self.files.spool_dir
    }

    /// What `work` makes of the files.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreOptions) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let none = || RequestError::Files("cannot start a thread to read the files".to_owned());
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| none())?;
        let (done, result) = oneshot::channel();
        let files = self.files.clone();
        let reading = thread::Builder::new().name("spec-notify-reader".to_owned()).spawn(move || {
            if done.send(work(&files)).is_err() {
                log::debug!("nobody waits any more for what was read");
            }
            drop(permit);
        });
        reading.map_err(|_| none())?;
        result.await.map_err(|_| none())
    }

    /// What stands in the files, and what `also` finds out beside it on the same thread.
    pub(super) async fn survey<T: Send + 'static>(
        &self,
        also: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Survey, T), RequestError> {
        let census = self.census.clone();
        let look = move |files: &StoreOptions| {
            let mut census = census.lock().unwrap_or_else(PoisonError::into_inner);
            (Survey::again(&files.spool_dir, &mut census), also())
        };
        self.read(look).await
    }
}

//! What tells one consensus from another, whenever its file was written: which run of the agents it
//! was, else what it says.

use crate::digest::sha256;
use crate::event::Stage;

/// See the module's first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    run: Option<String>,
    content: String,
}

impl Identity {
    pub(super) fn of(stage: Stage, run: Option<&str>, bytes: &[u8]) -> Self {
        let digest = hex::encode(&sha256(bytes)[..8]);
        let mut identity = Self { run: None, content: format!("{}:sha-{digest}", stage.slug()) };
        run.into_iter().for_each(|run| identity.name_run(stage, run));
        identity
    }

    pub(super) fn name_run(&mut self, stage: Stage, run: &str) {
        self.run = Some(format!("{}:{run}", stage.slug()));
    }

    /// The name under which it is remembered.
    pub(crate) fn name(&self) -> &str {
        self.run.as_deref().unwrap_or(&self.content)
    }

    /// The names under which it may be known: its run may have been unknown before.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.run.as_deref().into_iter().chain([self.content.as_str()])
    }
}

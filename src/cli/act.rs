//! Changes that an operator asks for: by the runtime that owns the spool, else in the fleet's
//! cluster, else by owning the store for the moment, in which nothing is sent.

use std::thread;
use std::time::{Duration, Instant};

use super::ask::of_fleet;
use super::{Exit, Failure};
use crate::ask::Ask;
use crate::config::Config;
use crate::control::{CHANGE_OF_OWNER, Client, ClientError, LOOK_AGAIN};
use crate::spool::{self, OpenError, Recovered};
use crate::store::Store;

/// How long a runtime may take to answer: its disk may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Has `ask` carried out. Asked again while the spool changes its owner: what is asked so must be
/// safe to repeat.
pub(super) fn act<A: Ask>(
    config: &Config,
    ask: &A,
    on_disk: impl FnOnce(&mut Store, Recovered) -> Result<A::Answer, Failure>,
) -> Result<A::Answer, Failure> {
    let until = Instant::now() + CHANGE_OF_OWNER;
    loop {
        let asked =
            Client::connect(&config.spool_dir, CONNECT).and_then(|mut client| client.request(ask, PATIENCE));
        let error = match asked {
            Ok(answer) => return Ok(answer),
            Err(ClientError::Refused(why)) => return Err(Failure::failed(why)),
            Err(error) => error,
        };
        if let Some(answered) = of_fleet(config)?.and_then(|fleet| fleet.answer_now(ask.clone().into())) {
            let other = || Failure::failed("the fleet gave the answer to another question");
            return A::answer_in(answered?).ok_or_else(other);
        }
        if !spool::is_owned(&config.spool_dir) {
            match Store::open(config.store_options()) {
                Ok((mut store, recovered)) => {
                    let done = on_disk(&mut store, recovered);
                    let closed = store.close();
                    store.keep_healths(closed.is_ok());
                    closed.map_err(Failure::failed)?;
                    return done;
                }
                // Somebody was faster.
                Err(OpenError::Locked(_)) => {}
                Err(error) => return Err(Failure::failed(error)),
            }
        }
        if Instant::now() >= until {
            return Err(Failure::new(Exit::NoRuntime, error));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

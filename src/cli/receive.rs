//! A local endpoint that verifies signatures and hands out the requests it gets: the `receive`
//! command, and both endpoints of the demo.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::render::{Screen, Tone, cut};
use super::{Exit, Failure, Global, load};
use crate::env::Environment;
use crate::names::counted;
use crate::receiver::{Answer, Handler, Receiver, Request, Unverified};
use crate::secret::{Secret, shown_variable};

/// Most requests that wait to be handed out; beyond it senders wait.
const BACKLOG: usize = 1024;

/// Most lines of a body that people are shown.
const SHOWN_LINES: usize = 100;

/// Most columns of one of them.
const SHOWN_WIDTH: usize = 400;

/// The status for a request whose signatures are not valid, if there is a secret to verify them
/// with.
const REFUSED: u16 = 401;

#[derive(Debug, Args)]
#[command(after_help = "\
Example, in two terminals, after spec-notify init:
  spec-notify receive --port 9000 --secret-env SPECKIT_WEBHOOK_SECRET
  spec-notify test SPEC-KIT-065 --subscription local

Exit code 1 if a signature was wrong or missing.")]
pub(super) struct CommandOptions {
    /// Port on 127.0.0.1; 0 chooses a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Variable with the secret, in the environment or in the config's env_file. If given, a
    /// request with another signature is answered 401; else nothing is verified
    #[arg(long, value_name = "NAME")]
    secret_env: Option<String>,
    /// Statuses to answer with, in this order; the last one repeats. A request that is answered
    /// 401 uses none of them
    #[arg(long, value_name = "STATUS,…", value_delimiter = ',', default_value = "200",
          value_parser = clap::value_parser!(u16).range(200..=599))]
    answer: Vec<u16>,
    /// Body of the answers [default: ok for a 2xx, as Slack answers, else empty]
    #[arg(long, value_name = "TEXT")]
    answer_body: Option<String>,
    /// Stop after this many requests
    #[arg(long, value_name = "N")]
    count: Option<usize>,
}

/// How to answer requests.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The secret to verify with; without it nothing is verified.
    pub secret: Option<Secret>,
    /// The statuses of successive answers; the last one repeats; an empty list means 200. A refused
    /// request (401) does not use one up.
    pub answers: Vec<u16>,
    /// The body of those answers; without one `ok` for a 2xx, which a chat service's success is.
    pub body: Option<String>,
}

/// The result of verifying a request's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verified {
    /// Both are valid and recent.
    Ok,
    /// One is wrong, missing or old.
    Bad,
    /// There are none, or there is no secret.
    Unsigned,
}

/// One request that was received.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Received {
    /// When it was received.
    pub at: String,
    /// Path and query of the request.
    pub path: String,
    /// The value of `X-SpecKit-Id`.
    pub id: Option<String>,
    /// The value of `X-SpecKit-Event`.
    pub event: Option<String>,
    /// The value of `X-SpecKit-Attempt`.
    pub attempt: Option<u32>,
    /// The result of verifying its signatures.
    pub verified: Verified,
    /// Why the request was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// The body: JSON if it is JSON, else a string.
    pub body: Value,
}

impl Received {
    /// Whether both signatures are valid.
    pub(crate) fn is_verified(&self) -> bool {
        self.verified == Verified::Ok
    }
}

/// Displayed as one line for people.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.at.get(11..23).unwrap_or(&self.at);
        let word = |part: &str, field: &str| {
            self.body[part][field].as_str().map(|text| crate::names::printable(text, 120))
        };
        write!(f, "{time} answered {}", self.status)?;
        match self.verified {
            Verified::Ok => f.write_str(", signatures ok")?,
            Verified::Bad => write!(f, ", SIGNATURE BAD ({})", self.why.as_deref().unwrap_or("wrong"))?,
            Verified::Unsigned if self.why.is_some() => f.write_str(", NOT SIGNED")?,
            Verified::Unsigned => f.write_str(", not verified")?,
        }
        write!(f, ": {}", self.event.as_deref().unwrap_or("no event"))?;
        for text in
            [word("spec", "id"), word("event", "stage"), word("event", "status")].into_iter().flatten()
        {
            write!(f, " {text}")?;
        }
        match self.attempt {
            Some(attempt) if attempt > 1 => write!(f, " (attempt {attempt})"),
            _ => Ok(()),
        }
    }
}

/// Starts to answer. Requests are handed out through the returned channel, in order; while it is
/// full, senders wait for their answer.
///
/// # Errors
/// No thread could be started, or the listener cannot be used.
pub(crate) fn start(
    listener: TcpListener,
    options: Options,
) -> io::Result<(Receiver, mpsc::Receiver<Received>)> {
    let (received, events) = mpsc::sync_channel(BACKLOG);
    let verifying = Verifying { options, answered: AtomicUsize::new(0), received };
    Ok((Receiver::start(listener, None, verifying)?, events))
}

/// Verifies each request, answers and hands it out.
struct Verifying {
    options: Options,
    answered: AtomicUsize,
    received: SyncSender<Received>,
}

impl Verifying {
    /// The next of the configured answers.
    fn next_answer(&self) -> u16 {
        let at = self.answered.fetch_add(1, Ordering::Relaxed);
        let answers = &self.options.answers;
        answers.get(at).or(answers.last()).copied().unwrap_or(200)
    }

    /// The body of an answer with this status.
    fn body_of(&self, status: u16) -> String {
        match (status, &self.options.body) {
            // HTTP allows them none.
            (204 | 205 | 304, _) => String::new(),
            (_, Some(body)) => body.clone(),
            (200..=299, None) => "ok".to_owned(),
            (_, None) => String::new(),
        }
    }

    fn verify(&self, request: &Request) -> (Verified, Option<Unverified>) {
        match self.options.secret.as_ref().map(|secret| request.verify_with(secret)) {
            None => (Verified::Unsigned, None),
            Some(Ok(())) => (Verified::Ok, None),
            Some(Err(Unverified::Unsigned)) => (Verified::Unsigned, Some(Unverified::Unsigned)),
            Some(Err(why)) => (Verified::Bad, Some(why)),
        }
    }
}

impl Handler for Verifying {
    fn answer(&self, request: Request) -> Arc<Answer> {
        if request.method() != "POST" {
            return Arc::new(Answer::status(405).header("allow", "POST").body("only POST is taken\n"));
        }
        let (verified, why) = self.verify(&request);
        // As a real endpoint would do: a request that is not verified gets none of the configured
        // answers.
        let status = if why.is_some() { REFUSED } else { self.next_answer() };
        let body = serde_json::from_slice(request.body());
        let received = Received {
            at: request.time_text(),
            path: request.target().to_owned(),
            id: request.header("x-speckit-id").map(str::to_owned),
            event: request.header("x-speckit-event").map(str::to_owned),
            attempt: request.attempt(),
            verified,
            why: why.map(|why| why.to_string()),
            status,
            body: body.unwrap_or_else(|_| String::from_utf8_lossy(request.body()).into()),
        };
        if self.received.send(received).is_err() {
            log::debug!("nobody looks at requests any more");
        }
        let said = why.map_or_else(|| self.body_of(status), |why| format!("{why}\n"));
        Arc::new(Answer::status(status).body(said))
    }
}

/// The secret in a variable of the environment, else of the `env_file` that the repo's config
/// names: so a receiver in another terminal has the secret that `serve` signs with.
fn secret_in(name: &str, global: &Global) -> Result<Secret, Failure> {
    let loaded = load(global, false)?;
    let config = loaded.config.as_ref().or(loaded.salvaged.as_ref());
    let env_file = config.and_then(|config| config.env_file.as_deref());
    let environment = Environment::process().with_file(env_file);
    // A line of it that is wrong concerns another variable; one that cannot be read has none.
    let unread = environment.refresh().err();
    let name_shown = shown_variable(name);
    let text = environment.get(name).ok_or_else(|| {
        Failure::usage(match (env_file, unread) {
            (None, _) => format!(
                "the environment variable {name_shown} is not set: export it, or run spec-notify init, \
                 which keeps one for this repo"
            ),
            (Some(file), None) => format!(
                "{name_shown} is neither set in the environment nor in {}: export it, or add a line there",
                file.display()
            ),
            (Some(file), Some(error)) => format!(
                "{name_shown} is not set in the environment, and cannot be read from {}: {error}",
                file.display()
            ),
        })
    })?;
    Secret::parse(&text).map_err(|error| Failure::usage(format!("the secret in {name_shown}: {error}")))
}

pub(super) fn run(global: &Global, options: &CommandOptions, screen: &mut Screen) -> Result<Exit, Failure> {
    let secret = options.secret_env.as_deref().map(|name| secret_in(name, global)).transpose()?;
    let verifies = secret.is_some();
    let answering = Options { secret, answers: options.answer.clone(), body: options.answer_body.clone() };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port));
    let started = listener.and_then(|listener| start(listener, answering));
    let (receiver, events) = started.map_err(|error| {
        Failure::failed(format!(
            "cannot listen on 127.0.0.1:{}: {error}; choose another --port",
            options.port
        ))
    })?;
    let how = if verifies { "verifying signatures" } else { "not verifying: give --secret-env NAME" };
    screen.note(format_args!("listening on http://{}/ ({how})", receiver.address()));
    let mut exit = Exit::Done;
    for received in events.iter().take(options.count.unwrap_or(usize::MAX)) {
        if received.verified == Verified::Bad || (verifies && received.verified == Verified::Unsigned) {
            exit = Exit::Failed;
        }
        if screen.is_json() {
            screen.value(&received);
        } else {
            let is_good = received.verified != Verified::Bad && (200..300).contains(&received.status);
            screen.line(if is_good { Tone::Good } else { Tone::Bad }, &received);
            shown(&received.body).into_iter().for_each(|line| screen.line(Tone::Plain, line));
        }
    }
    // Nobody waits to hand out more. The last request was handed out before its answer was written.
    drop(events);
    receiver.finish();
    Ok(exit)
}

/// A body as people read it: JSON with a field a line, other text as it is; its start, where it is
/// long.
fn shown(body: &Value) -> Vec<String> {
    let text = match body {
        Value::String(text) => text.clone(),
        body => serde_json::to_string_pretty(body).unwrap_or_default(),
    };
    let mut lines: Vec<String> =
        text.lines().take(SHOWN_LINES).map(|line| cut(&format!("  {line}"), SHOWN_WIDTH)).collect();
    let rest = text.lines().count().saturating_sub(SHOWN_LINES);
    if rest > 0 {
        lines.push(format!("  … {}; --json prints the whole body", counted(rest, "more line", "more lines")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_shown_from_its_start_and_says_so() {
        let lines = shown(&Value::from(vec![1; SHOWN_LINES]));
        assert_eq!((lines.len(), lines[1].as_str()), (SHOWN_LINES + 1, "    1,"));
        assert_eq!(lines[SHOWN_LINES], "  … 2 more lines; --json prints the whole body");
        let wide = shown(&Value::from("x".repeat(SHOWN_WIDTH * 2)));
        assert!(wide.len() == 1 && wide[0].ends_with('…'), "{wide:?}");
        assert!(wide[0].chars().count() <= SHOWN_WIDTH);
    }
}

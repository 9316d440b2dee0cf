//! The whole program, tested from outside: real processes, real sockets, real files.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy exempts only the test functions themselves"
)]

mod baseline;
mod bounds;
mod cli;
mod clock;
mod commands_in_docs;
mod completions;
mod control;
mod crash;
mod deliver;
mod discard;
mod embed;
mod emit;
mod evidence;
mod faults;
mod figures;
mod following;
mod git_status;
mod harness;
mod held;
mod hostile;
mod hosts;
mod identity;
mod init;
mod integrations;
mod json_output;
mod kit;
mod limits;
mod local;
mod logs;
mod man;
mod metrics;
mod one_delivery;
mod operator;
mod order;
mod policy;
mod quiet;
mod receive;
mod receiving;
mod recipes;
mod removed;
mod report;
mod retry;
mod rollback;
mod runs;
mod secrecy;
mod sent_now;
mod slips;
mod storm;
mod terminal;
mod tls;
mod tutorials;
mod unread;
mod updates;
mod users;
mod watch;
mod workflow_runs;

//! The whole program, tested from outside: real processes, real sockets, real files.

mod cli;
mod crash;
mod deliver;
mod embed;
mod harness;
mod retry;
mod secrecy;
mod tls;

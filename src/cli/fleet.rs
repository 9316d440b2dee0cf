//! `spec-notify fleet`: makes the cluster ready, and says whether what it takes would survive.

use clap::{Args, Subcommand, value_parser};
use serde_json::json;

use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load, take};
use crate::config::{Config, FleetConfig};
use crate::env::Environment;
use crate::fleet::{
    Health, Link, Standing, VERSION, apply, grants, health, in_one_transaction, look, misfit, roles,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify fleet init --print > schema.sql
  spec-notify fleet init --print --from 3 > upgrade.sql
  spec-notify fleet check")]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create the tables in the cluster, or print the statements
    ///
    /// Needs a role that may create a schema. Prints what each of the three roles needs. Create
    /// them yourself, each with its own password.
    Init {
        /// Only print the statements, for the administrator of the database
        #[arg(long)]
        print: bool,
        /// With --print: those that upgrade a schema of this version
        #[arg(long, value_name = "VERSION", default_value_t = 0, requires = "print",
              value_parser = value_parser!(i32).range(0..=i64::from(VERSION)))]
        from: i32,
    },
    /// Check that the cluster keeps what it acknowledges
    ///
    /// Exit code 1 if it does not answer, if its schema does not fit this program, or if it does
    /// not keep what `durability` promises.
    Check,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    if let Command::Init { print: true, from } = options.command {
        let tables = if from == VERSION { String::new() } else { in_one_transaction(from) };
        let roles = if from == 0 { roles() } else { "" };
        screen.raw(format!("{tables}\n{roles}{}", grants()).as_bytes());
        return Ok(Exit::Done);
    }
    let config = take(load(global, false)?, screen)?;
    let link = link(&config)?;
    match options.command {
        Command::Init { .. } => init(&link, screen),
        Command::Check => check(&link, link.config(), screen),
    }
}

/// The way to the cluster of the config's fleet.
pub(super) fn link(config: &Config) -> Result<Link, Failure> {
    let Some(fleet) = config.fleet.clone() else {
        return Err(Failure::usage(
            "the config has no [spec_ops.webhooks.fleet]: there is no cluster to ask",
        ));
    };
    let environment = Environment::process().with_file(config.env_file.as_deref());
    Link::new(fleet, environment).map_err(Failure::failed)
}

fn init(link: &Link, screen: &mut Screen) -> Result<Exit, Failure> {
    let said = match look(link).map_err(Failure::failed)? {
        Standing::Missing => {
            apply(link, 0).map_err(Failure::failed)?;
            "made"
        }
        Standing::Fits { .. } => "there already",
        Standing::Older { version } => {
            apply(link, version).map_err(Failure::failed)?;
            "upgraded"
        }
        newer @ Standing::Newer { .. } => return Err(Failure::failed(misfit(newer))),
    };
    if screen.is_json() {
        screen.value(&json!({"outcome": said, "roles": roles(), "grants": grants()}));
    } else {
        screen.line(Tone::Good, format_args!("the schema spec_notify is {said}"));
        screen.note("the roles that machines connect with need this, as a superuser:\n");
        screen.raw(format!("{}{}", roles(), grants()).as_bytes());
    }
    Ok(Exit::Done)
}

fn check(link: &Link, fleet: &FleetConfig, screen: &mut Screen) -> Result<Exit, Failure> {
    match look(link).map_err(Failure::failed)? {
        Standing::Fits { .. } => {}
        standing => return Err(Failure::failed(misfit(standing))),
    }
    let Health { node, version, standbys, streaming, attached, sees_standbys, problem } =
        health(link).map_err(Failure::failed)?;
    let is_well = problem.is_none();
    if screen.is_json() {
        screen.value(&json!({
            "ok": is_well, "node": node, "server_version": version, "durability": fleet.durability,
            "synchronous_standby_names": standbys, "streaming": streaming.len(),
            "confirming": streaming, "attached": attached, "sees_standbys": sees_standbys, "error": problem,
        }));
    } else {
        screen.line(Tone::Plain, format_args!("primary     {node}, PostgreSQL {version}"));
        screen.line(Tone::Plain, format_args!("namespace   {}", fleet.namespace));
        let standbys = if standbys.is_empty() { "none" } else { &standbys };
        screen.line(
            Tone::Plain,
            match sees_standbys {
                true => format!("standbys    {standbys}; {} confirm at present", streaming.len()),
                false => format!(
                    "standbys    {standbys}; who confirms is not known: this role may not look (pg_monitor)"
                ),
            },
        );
        match &problem {
            None => screen.line(
                Tone::Good,
                format_args!("durability  {}: what is acknowledged survives", fleet.durability),
            ),
            Some(problem) => screen.error(problem),
        }
    }
    Ok(if is_well { Exit::Done } else { Exit::Failed })
}

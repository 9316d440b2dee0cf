//! `spec-notify completions`: the script that makes a shell complete.

use clap::{Args, CommandFactory as _, ValueEnum as _};
use clap_complete::Shell;

use super::complete::Asks;
use super::render::Screen;
use super::{Cli, Exit};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples, for each new shell:
  D=~/.local/share/bash-completion/completions; mkdir -p $D
  spec-notify completions bash > $D/spec-notify

  mkdir -p ~/.zfunc; spec-notify completions zsh > ~/.zfunc/_spec-notify
  # in ~/.zshrc, before compinit: fpath=(~/.zfunc $fpath)

  mkdir -p ~/.config/fish/completions
  spec-notify completions fish > ~/.config/fish/completions/spec-notify.fish

For this shell only:
  source <(spec-notify completions bash)
  source <(spec-notify completions zsh)
  spec-notify completions fish | source

In bash, zsh and fish the script asks the program for values: subscriptions, SPECs and deliveries, the \
newest first. The program reads files and asks no runtime. The script keeps working when you upgrade.")]
pub(super) struct Options {
    /// Shell: bash, zsh, fish, elvish or powershell
    #[arg(hide_possible_values = true)]
    shell: Shell,
}

pub(super) fn run(options: &Options, screen: &mut Screen) -> Exit {
    match Asks::from_str(&options.shell.to_string(), true) {
        Ok(asks) => screen.raw(asks.script().as_bytes()),
        Err(_) => screen.raw(&of_its_own(options.shell)),
    }
    Exit::Done
}

/// A script that knows the commands and options alone.
fn of_its_own(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let all = Cli::command();
    // Hidden commands are not offered either.
    let shown = all.get_subcommands().filter(|one| !one.is_hide_set()).cloned();
    let mut command = clap::Command::new("spec-notify")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(all.get_arguments().cloned())
        .subcommands(shown);
    clap_complete::generate(shell, &mut command, "spec-notify", &mut script);
    script
}

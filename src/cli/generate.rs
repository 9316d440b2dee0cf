//! `spec-notify completions` and `man`: generated from the definition of the command line.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::render::{Screen, Tone};
use super::{Cli, Exit, Failure};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify completions bash > ~/.local/share/bash-completion/completions/spec-notify
  spec-notify completions zsh > ~/.zfunc/_spec-notify
  spec-notify completions fish > ~/.config/fish/completions/spec-notify.fish")]
pub(super) struct CompletionOptions {
    /// For which shell
    shell: Shell,
}

pub(super) fn completions(options: &CompletionOptions, screen: &mut Screen) -> Exit {
    let mut script = Vec::new();
    let all = Cli::command();
    // Hidden commands are not offered either.
    let shown = all.get_subcommands().filter(|one| !one.is_hide_set()).cloned();
    let mut command = clap::Command::new("spec-notify")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(shown);
    clap_complete::generate(options.shell, &mut command, "spec-notify", &mut script);
    screen.raw(&script);
    Exit::Done
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify man | man -l -
  spec-notify man --out ~/.local/share/man/man1")]
pub(super) struct ManOptions {
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn man(options: &ManOptions, screen: &mut Screen) -> Result<Exit, Failure> {
    let Some(dir) = &options.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::failed)?;
        screen.raw(&page);
        return Ok(Exit::Done);
    };
    let written = write_pages(dir)
        .map_err(|error| Failure::failed(format!("cannot write into {}: {error}", dir.display())))?;
    screen.line(Tone::Plain, format_args!("{written} pages in {}", dir.display()));
    Ok(Exit::Done)
}

fn write_pages(dir: &Path) -> std::io::Result<usize> {
    fs::create_dir_all(dir)?;
    let mut command = Cli::command();
    command.build();
    let mut written = 0;
    let name = command.get_name().to_owned();
    let pages = command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help");
    let pages = std::iter::once((name.clone(), command.clone()))
        .chain(pages.map(|one| (format!("{name}-{}", one.get_name()), one.clone())));
    for (page, command) in pages {
        let mut file = fs::File::create(dir.join(format!("{page}.1")))?;
        let mut text = Vec::new();
        clap_mangen::Man::new(command).title(page).render(&mut text)?;
        file.write_all(&text)?;
        written += 1;
    }
    Ok(written)
}

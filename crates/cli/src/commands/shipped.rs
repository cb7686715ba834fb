//! `completions` and `man`: what distributions ship beside the command, made from its own definition.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{End, Failure};
use crate::output;

/// Prints a shell's completions.
pub(crate) fn completions(shell: Shell) -> Result<End, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "edgewright", &mut script);
    output::print_bytes(&script)?;
    Ok(End::Good)
}

/// Writes a man page of the command and of each subcommand.
pub(crate) fn man(dir: &Path) -> Result<End, Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::file("cannot make", dir, &error))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .map_err(|error| Failure::file("cannot write man pages to", dir, &error))?;
    output::note(&format!("read them with: man -l {}/edgewright.1", dir.display()));
    Ok(End::Good)
}

//! `completions` and `man`: what packages ship beside the command, generated from its own definition.

use std::io::Write as _;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_complete::env::Shells;
use clap_mangen::Man;
use edgewright_model::error::ErrorClass;

use crate::exit::{End, Failure};
use crate::{args, output};

/// The variable by which the script of a shell asks this program for completions.
const VARIABLE: &str = "COMPLETE";
/// The program that it asks, found in `PATH`.
const PROGRAM: &str = "edgewright";

/// Prints a shell's completions: a script that asks this program at every completion, so that names are
/// completed, too.
pub(crate) fn completions(shell: Shell) -> Result<End, Failure> {
    let name = shell.to_string();
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer = shells
        .completer(&name)
        .ok_or_else(|| Failure::new(ErrorClass::Bug, format!("no completions for the shell `{name}`")))?;
    completer
        .write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)
        .map_err(|error| Failure::unavailable("cannot generate completions", &error))?;
    output::print_bytes(&script)?;
    Ok(End::Good)
}

/// Writes a man page of the command and of each subcommand.
pub(crate) fn man(dir: &Path) -> Result<End, Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::file("cannot create", dir, &error))?;
    let mut root = args::command().disable_help_subcommand(true);
    root.build();
    let mut open = vec![root];
    while let Some(command) = open.pop() {
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let path = dir.join(format!("{name}.1"));
        let page =
            page(&command).map_err(|error| Failure::unavailable("cannot generate man pages", &error))?;
        std::fs::write(&path, page).map_err(|error| Failure::file("cannot write", &path, &error))?;
        open.extend(command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned());
    }
    output::note(&format!("read them with: man -l {}/edgewright.1", dir.display()));
    Ok(End::Good)
}

/// A page whose synopsis is the usage line of `--help`: the generator's own leaves the values of options out.
fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let usage = command.clone().render_usage().to_string();
    writeln!(page, ".SH SYNOPSIS\n.nf")?;
    for line in usage.trim_start_matches("Usage:").lines() {
        writeln!(page, "{}", line.trim().replace('\\', "\\\\").replace('-', "\\-"))?;
    }
    writeln!(page, ".fi")?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if command.get_after_help().is_some() || command.get_after_long_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synopsis_has_the_values_of_options() {
        let mut root = args::command();
        root.build();
        let logs = root.find_subcommand("logs").unwrap();
        let page = String::from_utf8(page(logs).unwrap()).unwrap();
        assert!(page.contains(".SH SYNOPSIS\n.nf\nedgewright logs [OPTIONS] <RUN> [NODE]\n"), "{page}");
    }
}

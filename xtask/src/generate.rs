//! `generate`: files that follow from the code and are committed all the same, so that people can read and review them.
//!
//! `docs/openapi.json` is the API's document, `docs/reference/json` has the schemas of the documents of `--json`, `docs/access.md` the table of who may call what. `docs/cli.md` is every help text of `edgewright`, in the order in which the command names them.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::command::Run;
use crate::{json_documents, workspace};

/// Writes all generated files.
pub(crate) fn write() -> anyhow::Result<()> {
    for (path, text) in generated()? {
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("generate: {}", workspace::shown(&path));
    }
    Ok(())
}

/// Checks that the committed files are what would be written.
pub(crate) fn check() -> anyhow::Result<()> {
    for (path, text) in generated()? {
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let name = workspace::shown(&path);
        ensure!(committed == text, "{name} is not up to date: run `cargo xtask generate` and commit it");
    }
    Ok(())
}

fn generated() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let docs = workspace::root().join("docs");
    let mut files = vec![
        (docs.join("cli.md"), cli()?),
        (docs.join("openapi.json"), of_api("openapi")?),
        (docs.join("access.md"), of_api("access")?),
    ];
    files.extend(json_documents::files(&docs.join("reference/json"), &of_api("documents")?)?);
    Ok(files)
}

/// What an example of the API's crate prints.
fn of_api(example: &str) -> anyhow::Result<String> {
    let arguments = ["run", "--quiet", "--locked", "--package", "edgewright-api", "--example", example];
    Run::new("cargo").args(arguments).cwd(workspace::root()).output()
}

/// The help of every command.
fn cli() -> anyhow::Result<String> {
    let program = build()?;
    let mut text =
        "# The edgewright command\n\nMade by `cargo xtask generate` from the help texts.\n".to_owned();
    // Depth first, in the order of the help.
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(words) = open.pop() {
        let help = Run::new(&program).args(&words).arg("--help").output()?;
        let title = std::iter::once("edgewright").chain(words.iter().map(String::as_str)).collect::<Vec<_>>();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        writeln!(text, "\n## {}\n\n```text\n{}\n```", title.join(" "), lines.join("\n").trim_end())?;
        for command in commands(&help).into_iter().rev() {
            open.push([words.clone(), vec![command]].concat());
        }
    }
    Ok(text)
}

/// The names below `Commands:` in a help text.
fn commands(help: &str) -> Vec<String> {
    let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = below.take_while(|line| !line.is_empty());
    let name = |line: &str| {
        let word = line.strip_prefix("  ")?.split(' ').next()?;
        (!word.is_empty() && word != "help").then(|| word.to_owned())
    };
    lines.filter_map(name).collect()
}

/// Builds the command; tests and demo use the same build.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    Run::new("cargo").args(["build", "--locked", "--package", "edgewright"]).cwd(workspace::root()).run()?;
    Ok(workspace::target().join("debug/edgewright"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_a_help_text() {
        let help = "About.\n\nUsage: x\n\nCommands:\n  init   Make\n         more of it\n  check  Say\n  help   Print\n\nOptions:\n  -h\n";
        assert_eq!(commands(help), ["init", "check"]);
        assert!(commands("Usage: x\n").is_empty());
    }
}

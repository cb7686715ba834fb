//! The help texts of `edgewright`, taken apart.

use std::path::Path;

use anyhow::Context as _;

use crate::command::Run;

/// The help of one command.
#[derive(Debug, Default)]
pub(super) struct Help {
    /// The words after `edgewright`.
    pub(super) words: Vec<String>,
    /// The text before the first list.
    pub(super) about: String,
    /// The lists in their order: commands, arguments, options, exit codes.
    pub(super) lists: Vec<List>,
}

/// A list under a heading.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) heading: String,
    pub(super) entries: Vec<Entry>,
}

/// An entry of a list: an option with its description, or one line of another list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) lines: Vec<String>,
}

impl Entry {
    /// The line that names it, such as `--data <DIR>`.
    pub(super) fn name(&self) -> &str {
        self.lines.first().map_or("", |line| line.trim())
    }

    /// Its long flag.
    pub(super) fn flag(&self) -> Option<&str> {
        self.name().split([' ', ',', '=', '[']).find(|word| word.starts_with("--"))
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| line.trim().strip_prefix("[env: ")?.split([']', '=']).next())
    }

    /// The first paragraph of its description, on one line.
    pub(super) fn about(&self) -> String {
        let lines = self.lines.iter().skip(1).map(|line| line.trim());
        lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

impl Help {
    /// The help of every command, depth first, in the order of the help.
    pub(super) fn of_all_commands(program: &Path) -> anyhow::Result<Vec<Self>> {
        let mut all = Vec::new();
        let mut open: Vec<Vec<String>> = vec![Vec::new()];
        while let Some(words) = open.pop() {
            let text = Run::new(program).args(&words).arg("--help").output()?;
            let help = Self { words: words.clone(), ..Self::parse(&text) };
            for command in help.commands().into_iter().rev() {
                open.push([words.clone(), vec![command]].concat());
            }
            all.push(help);
        }
        Ok(all)
    }

    pub(super) fn parse(text: &str) -> Self {
        let mut help = Self::default();
        for line in text.lines().map(str::trim_end) {
            let is_heading = !line.starts_with(' ') && line.ends_with(':');
            if is_heading {
                help.lists.push(List { heading: line.to_owned(), entries: Vec::new() });
                continue;
            }
            let Some(list) = help.lists.last_mut() else {
                help.about = format!("{}{line}\n", help.about);
                continue;
            };
            // Descriptions are indented by more than the names of options.
            let is_entry =
                line.starts_with("  ") && !line.starts_with("         ") && !line.trim().is_empty();
            match list.entries.last_mut() {
                Some(entry) if !is_entry => entry.lines.push(line.to_owned()),
                _ if is_entry => list.entries.push(Entry { lines: vec![line.to_owned()] }),
                _ => {}
            }
        }
        help
    }

    /// The names below `Commands:`.
    fn commands(&self) -> Vec<String> {
        let names = self.list("Commands:").into_iter().flat_map(|list| &list.entries);
        let names = names.filter_map(|entry| entry.name().split(' ').next()).map(str::to_owned);
        names.filter(|name| name != "help").collect()
    }

    pub(super) fn list(&self, heading: &str) -> Option<&List> {
        self.lists.iter().find(|list| list.heading == heading)
    }

    /// All options.
    pub(super) fn options(&self) -> impl Iterator<Item = &Entry> {
        self.lists.iter().flat_map(|list| &list.entries).filter(|entry| entry.name().starts_with('-'))
    }
}

/// The options of the program itself, which every command has, too.
pub(super) fn global_options(all: &[Help]) -> anyhow::Result<Vec<&Entry>> {
    let (root, commands) = all.split_first().context("the program has no help")?;
    let is_global = |entry: &&Entry| {
        let mut commands = commands.iter();
        commands.all(|help| help.options().any(|option| option.name() == entry.name()))
    };
    Ok(root.options().filter(is_global).collect())
}

#[cfg(test)]
pub(super) const EXAMPLE: &str = "About.\n\nUsage: x [OPTIONS] <COMMAND>\n\nCommands:\n  init   Make\n         more of it\n  check  Report\n  help   Print\n\n\
                   Options:\n  -h, --help\n          Print help\n\nGlobal options:\n      --data <DIR>\n          Data folder\n          of it\n\n          [env: X_DATA]\n\n\
                   Exit codes:\n  0   done\n  70  a defect\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_help_text_is_parsed() {
        let help = Help::parse(EXAMPLE);
        assert_eq!(help.about, "About.\n\nUsage: x [OPTIONS] <COMMAND>\n\n");
        assert_eq!(help.commands(), ["init", "check"]);
        let options: Vec<_> =
            help.options().map(|option| (option.flag(), option.variable(), option.about())).collect();
        assert_eq!(
            options,
            [
                (Some("--help"), None, "Print help".to_owned()),
                (Some("--data"), Some("X_DATA"), "Data folder of it".to_owned()),
            ]
        );
        assert!(Help::parse("Usage: x\n").commands().is_empty());
    }
}

//! `settings.md`: the settings file, and the environment variables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

use super::help::{Entry, Help};
use super::markdown;
use crate::workspace;

/// The one module that reads the environment.
const READER: &str = "crates/cli/src/settings.rs";

/// Environment variables that no flag names, each with its meaning. A variable that [`READER`] reads must be
/// here.
const VARIABLES: &[(&str, &str)] = &[
    ("CONTAINERS_CONF", "Configuration of podman and buildah for jobs, used as it is."),
    ("CREDENTIALS_DIRECTORY", "Set by systemd: where credentials of `LoadCredential=` are, for `[secrets]`."),
    ("HOME", "Parent of the default data folder (`~/.local/share/edgewright`), except for root."),
    ("HTTPS_PROXY", "Proxy for https, for jobs."),
    ("HTTP_PROXY", "Proxy for http, for jobs."),
    ("NOTIFY_SOCKET", "Set by systemd: the socket to which the server reports its state."),
    ("NO_PROXY", "Hosts that are reached without a proxy, for jobs."),
    ("SSL_CERT_FILE", "Certificates of the authorities that jobs trust, instead of the system's."),
    ("XDG_CONFIG_HOME", "Parent of the folder with the client's configuration, instead of `~/.config`."),
    ("XDG_DATA_HOME", "Parent of the default data folder, except for root."),
    ("http_proxy", "As `HTTP_PROXY`."),
    ("https_proxy", "As `HTTPS_PROXY`."),
    ("no_proxy", "As `NO_PROXY`."),
];

const INTRODUCTION: &str = "\
The settings file of `edgewright serve` is TOML: `/etc/edgewright/edgewright.toml`, or the file that `--config FILE` names. \
Flags have precedence over environment variables, these over the file, and the file over the defaults. An unknown key is an \
error. `edgewright run` uses only `[jobs]`, `[keep]`, `[disk]` and `[secrets]` of the file.

Durations are a whole number with a unit: `500ms`, `30s`, `10m`, `2h`, `7d`. Files of secrets contain one line and should \
have mode 0600.

`systemctl reload` or SIGHUP reads the file, secrets and certificates again. The log lists what changed, and which changes need \
a restart. A file with an error changes nothing. Times in logs are in UTC.
";

/// The page: the tables of the settings file as the server describes them, then environment variables.
pub(super) fn page(all: &[Help], tables: &str) -> anyhow::Result<String> {
    let serve = all.iter().find(|help| help.words == ["serve"]).context("there is no command `serve`")?;
    let flags: BTreeMap<&str, &Entry> =
        serve.options().filter_map(|entry| Some((entry.flag()?, entry))).collect();
    let mut body = INTRODUCTION.to_owned();
    for line in tables.lines() {
        match line.strip_prefix("- flag of `edgewright serve`: `").and_then(|rest| rest.strip_suffix('`')) {
            Some(flag) => {
                let entry =
                    flags.get(flag).with_context(|| format!("`edgewright serve` has no flag `{flag}`"))?;
                writeln!(body, "{line}")?;
                if let Some(variable) = entry.variable() {
                    writeln!(body, "- environment variable: `{variable}`")?;
                }
            }
            None => writeln!(body, "{line}")?,
        }
    }
    body += &environment(all)?;
    Ok(markdown::page("Settings", "`crates/server/src/settings`", &body))
}

fn environment(all: &[Help]) -> anyhow::Result<String> {
    let mut text = "\n## Environment variables\n\nAn empty variable counts as unset.\n\n".to_owned();
    let mut by_flag = BTreeMap::new();
    for option in all.iter().flat_map(Help::options) {
        if let (Some(variable), Some(flag)) = (option.variable(), option.flag()) {
            by_flag.entry(variable).or_insert_with(|| format!("as `{flag}`. {}", option.about()));
        }
    }
    for (variable, about) in &by_flag {
        writeln!(text, "- `{variable}`: {about}")?;
    }
    let reader = std::fs::read_to_string(workspace::root().join(READER))?;
    let read: BTreeSet<&str> =
        variables(&reader).into_iter().filter(|name| !by_flag.contains_key(name)).collect();
    for name in &read {
        let about = VARIABLES.iter().find(|(known, _)| known == name);
        let (_, about) = about.with_context(|| {
            format!("{READER} reads `{name}`: describe it in xtask/src/generate/settings.rs, `VARIABLES`")
        })?;
        writeln!(text, "- `{name}`: {about}")?;
    }
    ensure!(!read.is_empty(), "{READER} reads no environment variables: does another file read them?");
    Ok(text)
}

/// The names of environment variables in the string literals of a source file, without its tests.
fn variables(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let literals = code.flat_map(|line| line.split('"').skip(1).step_by(2));
    let is_name = |text: &str| {
        let is_known = VARIABLES.iter().any(|(name, _)| *name == text);
        let is_upper = text.len() > 3 && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        is_known || is_upper
    };
    literals.filter(|text| is_name(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::help::EXAMPLE;
    use super::*;

    #[test]
    fn a_flag_that_serve_does_not_have_is_an_error() {
        let mut serve = Help::parse(EXAMPLE);
        serve.words = vec!["serve".to_owned()];
        let all = [serve];
        let row = |flag: &str| format!("- flag of `edgewright serve`: `{flag}`\n");
        let page = page(&all, &row("--data")).unwrap();
        assert!(page.contains("`--data`\n- environment variable: `X_DATA`\n"), "{page}");
        assert!(page.contains("- `X_DATA`: as `--data`. Data folder of it\n"), "{page}");
        assert!(super::page(&all, &row("--nothing")).is_err());
    }

    #[test]
    fn variables_are_found_in_string_literals() {
        let source = "// \"IN_COMMENT\"\nconst A: [&str; 2] = [\"HTTP_PROXY\", \"no_proxy\"];\nf(\"EDGE_X\", \"text\");\n\
                      #[cfg(test)]\nmod t { f(\"TEST_ONLY\"); }";
        assert_eq!(variables(source), ["HTTP_PROXY", "no_proxy", "EDGE_X"]);
    }
}

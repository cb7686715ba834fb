//! `--mount` options of a Containerfile, checked before buildah reads them: whatever buildah it is, a cache's
//! id and a bind mount's source stay inside.
//!
//! The text is searched, not parsed, so that no instruction is overlooked that buildah reads in another way.

use std::fmt;
use std::path::{Path, PathBuf};

/// Maximum number of links that are followed, as in Linux.
const MAX_LINKS: usize = 40;

/// A `--mount` option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The line where its instruction begins, from 1.
    pub(super) line: usize,
    /// Its fields: name and value.
    fields: Vec<(String, String)>,
}

/// Why a mount is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MountError {
    /// `..` in an id or a source.
    #[error("`{mount}` (line {line}) has `..` in its {field}: it would lead out of the build")]
    Climbs {
        /// The option.
        mount: String,
        /// Its line.
        line: usize,
        /// Its field.
        field: String,
    },
    /// A link of the build context that leads out of it.
    #[error("`{mount}` (line {line}) leads out of the build context: `{link}` is a link to `{target}`")]
    Link {
        /// The option.
        mount: String,
        /// Its line.
        line: usize,
        /// The link, in the context.
        link: String,
        /// Its target.
        target: String,
    },
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|(name, value)| if value.is_empty() { name.clone() } else { format!("{name}={value}") })
            .collect();
        write!(f, "--mount={}", fields.join(","))
    }
}

impl Mount {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is of a type that no buildah handles wrongly. A type that only buildah knows, because it is
    /// in a variable, is not.
    pub(super) fn is_harmless(&self) -> bool {
        let types: Vec<&str> =
            self.fields.iter().filter(|(name, _)| name == "type").map(|(_, kind)| kind.as_str()).collect();
        matches!(types.as_slice(), ["secret" | "ssh"])
            && !self.fields.iter().any(|(name, _)| name.contains('$'))
    }

    /// Checks its id and its source; `context` is the folder of the build context.
    pub(super) fn check(&self, context: &Path) -> Result<(), MountError> {
        let climbs = |value: &str| value.split('/').any(|part| part == "..");
        if let Some((field, _)) = self
            .fields
            .iter()
            .find(|(name, value)| matches!(name.as_str(), "id" | "source" | "src" | "from") && climbs(value))
        {
            return Err(MountError::Climbs {
                mount: self.to_string(),
                line: self.line,
                field: field.clone(),
            });
        }
        if self.is_harmless() || self.field("from").is_some() {
            return Ok(());
        }
        let source = self.field("source").or_else(|| self.field("src")).unwrap_or_default();
        match leading_out(context, source) {
            None => Ok(()),
            Some((link, target)) => Err(MountError::Link {
                mount: self.to_string(),
                line: self.line,
                link: link.display().to_string(),
                target: target.display().to_string(),
            }),
        }
    }
}

/// All `--mount` options of a text, those in comments left out.
pub(super) fn find(text: &str) -> Vec<Mount> {
    let mut found = Vec::new();
    let mut joined = String::new();
    let mut first = 0;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with('#') {
            continue;
        }
        if joined.is_empty() {
            first = number;
        }
        // Either may be the escape character. buildah joins the lines without a space.
        let line = line.trim_end();
        if let Some(continued) = line.strip_suffix(['\\', '`']) {
            joined.push_str(continued);
            continue;
        }
        joined.push_str(line);
        found.extend(options(&joined).map(|fields| Mount { line: first, fields }));
        joined.clear();
    }
    found.extend(options(&joined).map(|fields| Mount { line: first, fields }));
    found
}

/// The fields of every `--mount` in an instruction.
fn options(line: &str) -> impl Iterator<Item = Vec<(String, String)>> {
    line.split("--mount=").skip(1).map(|rest| {
        let value = rest.split_whitespace().next().unwrap_or_default();
        let field = |field: &str| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let clean = |text: &str| text.replace(['"', '\'', '\\'], "");
            (clean(name).to_ascii_lowercase(), clean(value))
        };
        value.split(',').map(field).collect()
    })
}

/// The link below `root` on the way of `path` that leads out of it, with its target. Blocking.
fn leading_out(root: &Path, path: &str) -> Option<(PathBuf, PathBuf)> {
    let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut here = PathBuf::new();
    let mut last: Option<(PathBuf, PathBuf)> = None;
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                if !here.pop() {
                    return last;
                }
                continue;
            }
            name => here.push(name),
        }
        let Ok(target) = std::fs::read_link(root.join(&here)) else { continue };
        links += 1;
        let this = (here.clone(), target.clone());
        if target.is_absolute() || links > MAX_LINKS {
            return Some(this);
        }
        last = Some(this);
        here.pop();
        left.extend(target.to_string_lossy().split('/').rev().map(str::to_owned));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_however_they_are_written() {
        let text = "FROM x\n# RUN --mount=type=cache,id=comment\nRUN --mount=type=cache,id=a,target=/a \\\n  # also a comment\n  --mou\\\nnt=type=tm\\\npfs,dst=/b true\n\
                    ONBUILD RUN --mount=\"type=bind,source=c\" true\nRUN --mount=target=/d `\n true\nRUN --mount=$KIND,id=e x";
        let found: Vec<(usize, String, bool)> =
            find(text).iter().map(|it| (it.line, it.to_string(), it.is_harmless())).collect();
        let want = [
            (3, "--mount=type=cache,id=a,target=/a", false),
            (3, "--mount=type=tmpfs,dst=/b", false),
            (8, "--mount=type=bind,source=c", false),
            (9, "--mount=target=/d", false),
            (11, "--mount=$kind,id=e", false),
        ];
        assert_eq!(found, want.map(|(line, text, harmless)| (line, text.to_owned(), harmless)));
        assert!(find("RUN --mount=type=secret,id=x cat /run/secrets/x")[0].is_harmless());
        assert!(!find("RUN --mount=type=secret,type=cache true")[0].is_harmless());
    }

    #[test]
    fn ids_and_sources_stay_inside() {
        let context = tempfile::tempdir().unwrap();
        let link = |name: &str, target: &str| {
            std::os::unix::fs::symlink(target, context.path().join(name)).unwrap();
        };
        std::fs::create_dir_all(context.path().join("a/b")).unwrap();
        link("inside", "a/b");
        link("a/up", "../inside");
        link("absolute", "/etc");
        link("a/out", "../../etc");
        link("round", "round");
        let check = |option: &str| {
            let text = format!("RUN --mount={option} true");
            find(&text)[0].check(context.path()).map_err(|error| error.to_string())
        };
        for fine in [
            "type=cache,id=/var/cache/apt,target=/x",
            "type=cache,id=a..b,target=/x",
            "type=bind,source=a/up,target=/x",
            "source=/inside,target=../x",
            "type=bind,from=build,source=/absolute,target=/x",
            "target=/x",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for (bad, phrase) in [
            ("type=cache,id=../../etc,target=/x", "has `..` in its id"),
            ("\"type=cache\",\"id=a/../../b\"", "has `..` in its id"),
            ("type=bind,src=..,target=/x", "has `..` in its src"),
            ("type=bind,from=build,source=../../x,target=/x", "has `..` in its source"),
            ("type=bind,source=absolute,target=/x", "`absolute` is a link to `/etc`"),
            ("type=bind,source=inside/../out/x,target=/x", "has `..`"),
            ("source=a/out/shadow,target=/x", "`a/out` is a link to `../../etc`"),
            ("source=round,target=/x", "`round` is a link"),
        ] {
            let message = check(bad).unwrap_err();
            assert!(message.contains(phrase), "{bad}: {message}");
        }
    }
}

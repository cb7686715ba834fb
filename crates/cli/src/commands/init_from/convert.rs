//! A Containerfile whose final stage starts from `${BASE}`, the step before.

use std::collections::BTreeMap;

use edgewright_model::containerfile::{
    BASE, Containerfile, Fault, Inputs, Instruction, Stage, context_sources, read, resolve, root,
    stage_image, stages,
};
use edgewright_model::names::Platform;
use edgewright_model::reference::ImageReference;

/// A Containerfile that starts from `${BASE}`.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) base: Base,
    pub(super) text: String,
    /// Its instructions; their lines are those of the original.
    pub(super) instructions: Vec<Instruction>,
    /// What it takes from its build context, once it is checked, with the lines of the original.
    pub(super) sources: Vec<(usize, String)>,
    /// The line before which `ARG BASE` was inserted.
    inserted: Option<usize>,
}

/// The image that a Containerfile starts from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Base {
    /// An image of a registry.
    External(ImageReference),
    /// The image that another Containerfile of the repository builds.
    Local(String),
}

fn fault(line: usize, message: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault { line, message: message.into(), hint: hint.into() }
}

/// A platform, where any will do.
fn any_platform() -> Result<Platform, Fault> {
    "linux/amd64".parse().map_err(|_| fault(1, "there is no platform", "report this as a bug"))
}

impl Converted {
    /// Reads it as a step is read, and finds what it takes from its context. Lines are those of the original.
    pub(super) fn checked(mut self) -> Result<Self, Fault> {
        let file = read(&self.text);
        let platform = any_platform()?;
        let inputs = Inputs { platform: &platform, args: &BTreeMap::new(), target: None };
        let inserted = self.inserted;
        let original = |line: usize| if inserted.is_some_and(|at| line > at) { line - 1 } else { line };
        match resolve(&file, &inputs) {
            Ok(resolved) => {
                let sources = context_sources(&file, &resolved).into_iter();
                let is_plain = |path: &str| !path.contains(['*', '?', '[']) && !path.starts_with("git@");
                let sources = sources.filter(|(_, path)| is_plain(path));
                self.sources = sources.map(|(line, path)| (original(line), path)).collect();
                Ok(self)
            }
            Err(faults) => {
                let first = faults.into_iter().next();
                let first = first.unwrap_or_else(|| fault(1, "it cannot be read", "correct it"));
                Err(Fault { line: original(first.line), ..first })
            }
        }
    }
}

/// Converts a Containerfile. `is_local`: whether a name is that of another image of the repository.
pub(super) fn convert(text: &str, is_local: impl Fn(&str) -> bool) -> Result<Converted, Fault> {
    // Old versions of buildah take the mark for a part of the first instruction.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file = read(text);
    let instructions = &file.instructions;
    let stages = stages(instructions);
    // The built stage may start from an earlier one: the first of that chain has the external base.
    let last = stages.len().checked_sub(1).and_then(|last| based(instructions, &stages, last));
    let (Some(stage), Some(first)) = (last, stages.first()) else {
        return Err(fault(1, "the Containerfile has no FROM", "name the file of a whole image"));
    };
    let base = base(&file, stage, is_local)?;
    let is_declared = declares_base(instructions);
    let starts_from_base = matches!(stage.from.as_str(), "$BASE" | "${BASE}");
    if is_declared && !starts_from_base {
        let message = "the Containerfile has an argument BASE for something else";
        let hint = "rename it: Edgewright gives the image of the step before in BASE";
        return Err(fault(stage.line, message, hint));
    }
    let mut out = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        // An argument that a FROM uses is declared before the first one.
        if number == first.line && !is_declared {
            out.push_str("ARG BASE\n");
        }
        if starts_from_base || !(stage.line..=stage.last).contains(&number) {
            out.push_str(line);
        } else if line.contains(&stage.from) {
            out.push_str(&line.replacen(&stage.from, "${BASE}", 1));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    let inserted = (!is_declared).then_some(first.line);
    Ok(Converted { base, text: out, instructions: file.instructions, sources: Vec::new(), inserted })
}

/// The stage that has the base of another one: at the root of its chain, or for a stage from `scratch` that
/// of the first stage which it copies from and which has one.
fn based<'a>(instructions: &[Instruction], stages: &'a [Stage], place: usize) -> Option<&'a Stage> {
    let stage = root(stages, place)?;
    if stage.from != "scratch" {
        return Some(stage);
    }
    let end = stages.get(place + 1).map_or(instructions.len(), |next| next.position);
    let words = instructions[stages[place].position..end].iter().flat_map(|instruction| &instruction.words);
    // A stage can only copy from earlier ones, so this ends.
    let copied = words.filter_map(|word| {
        let name = word.strip_prefix("--from=")?;
        let earlier = stages[..place].iter().rposition(|stage| stage.is_named(name))?;
        based(instructions, stages, earlier).filter(|stage| stage.from != "scratch")
    });
    copied.into_iter().next().or(Some(stage))
}

/// Whether there is an `ARG BASE` before the first `FROM`.
fn declares_base(instructions: &[Instruction]) -> bool {
    let global = instructions.iter().take_while(|instruction| instruction.keyword != "FROM");
    let mut words = global.filter(|instruction| instruction.keyword == "ARG").flat_map(|it| &it.words);
    words.any(|word| word.split_once('=').map_or(word.as_str(), |(name, _)| name) == BASE)
}

fn base(file: &Containerfile, stage: &Stage, is_local: impl Fn(&str) -> bool) -> Result<Base, Fault> {
    let line = stage.line;
    let platform = any_platform()?;
    let from =
        stage_image(file, stage, &Inputs { platform: &platform, args: &BTreeMap::new(), target: None })?;
    if from == "scratch" || from.is_empty() {
        let message = format!("the final stage starts from `{}`, which is not an image", stage.from);
        let hint =
            "write the image that it starts from with its full host, such as quay.io/fedora/fedora-bootc:42";
        return Err(fault(line, message, hint));
    }
    let own = from.strip_prefix("localhost/").unwrap_or(&from);
    let own = own.split([':', '@']).next().unwrap_or(own);
    if is_local(own) {
        return Ok(Base::Local(own.to_owned()));
    }
    let host = from.split('/').next().unwrap_or_default();
    if !from.contains('/') || !(host.contains(['.', ':']) || host == "localhost") {
        let message = format!("`{from}` is a short name: which registry it means depends on the host");
        let hint = format!("write the full host, such as docker.io/library/{from} or quay.io/NAME/{from}");
        return Err(fault(line, message, hint));
    }
    let reference = from.parse();
    reference
        .map(Base::External)
        .map_err(|error| fault(line, error.to_string(), "write HOST/NAME:TAG or HOST/NAME@DIGEST"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_stage_starts_from_base() {
        for (text, base, want) in [
            ("FROM quay.io/a/b:1\nRUN x\n", "quay.io/a/b:1", "ARG BASE\nFROM ${BASE}\nRUN x\n"),
            (
                "# c\nARG V=1\nFROM golang:${V} AS build\nRUN go\nFROM --platform=linux/amd64 localhost:5000/x/y:2 AS final\n",
                "localhost:5000/x/y:2",
                "# c\nARG V=1\nARG BASE\nFROM golang:${V} AS build\nRUN go\nFROM --platform=linux/amd64 ${BASE} AS final\n",
            ),
            (
                "from docker.io/library/debian:trixie as one\nFROM one\n",
                "docker.io/library/debian:trixie",
                "ARG BASE\nfrom ${BASE} as one\nFROM one\n",
            ),
            (
                "ARG REG=quay.io TAG=\"42\"\nFROM ${REG}/fedora/fedora-bootc:$TAG\n",
                "quay.io/fedora/fedora-bootc:42",
                "ARG REG=quay.io TAG=\"42\"\nARG BASE\nFROM ${BASE}\n",
            ),
            (
                "ARG HOST=127.0.0.1:47200\nARG REPO=$HOST/base\nARG REF=${REPO}:${TAG:-1}\nFROM ${REF}\n",
                "127.0.0.1:47200/base:1",
                "ARG HOST=127.0.0.1:47200\nARG REPO=$HOST/base\nARG REF=${REPO}:${TAG:-1}\nARG BASE\nFROM ${BASE}\n",
            ),
            (
                "ARG A=x\nARG R=${N:-quay.io/${O:-a}/${A:+b}}${Z:+no}\nFROM ${R}:1\n",
                "quay.io/a/b:1",
                "ARG A=x\nARG R=${N:-quay.io/${O:-a}/${A:+b}}${Z:+no}\nARG BASE\nFROM ${BASE}\n",
            ),
            (
                "FROM scratch AS ctx\nFROM quay.io/a/b:1 AS full\nFROM scratch\nCOPY --from=full / /\n",
                "quay.io/a/b:1",
                "ARG BASE\nFROM scratch AS ctx\nFROM ${BASE} AS full\nFROM scratch\nCOPY --from=full / /\n",
            ),
            ("ARG V\nFROM quay.io/a/b:${V:-9}\n", "quay.io/a/b:9", "ARG V\nARG BASE\nFROM ${BASE}\n"),
            ("ARG BASE=quay.io/a/b:1\nFROM $BASE\n", "quay.io/a/b:1", "ARG BASE=quay.io/a/b:1\nFROM $BASE\n"),
            (
                "FROM \\\n  --platform=linux/amd64 \\\n  quay.io/a/b:1 \\\n  AS x\nRUN <<EOF\nFROM no\nEOF\n",
                "quay.io/a/b:1",
                "ARG BASE\nFROM \\\n  --platform=linux/amd64 \\\n  ${BASE} \\\n  AS x\nRUN <<EOF\nFROM no\nEOF\n",
            ),
        ] {
            let converted = convert(text, |_| false).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
            let Base::External(found) = &converted.base else { panic!("{text}") };
            assert_eq!((found.to_string().as_str(), converted.text.as_str()), (base, want));
        }
        for (text, want) in [
            ("FROM fedora:42\n", "short name"),
            ("FROM library/debian\n", "short name"),
            ("FROM scratch\n", "which is not an image"),
            ("FROM ${IMAGE}\n", "which is not an image"),
            ("ARG IMAGE\nFROM $IMAGE\n", "which is not an image"),
            ("RUN x\n", "no FROM"),
            ("RUN <<X\nFROM quay.io/a/b\nX\n", "no FROM"),
            ("ARG BASE=x\nFROM golang:$BASE AS a\nFROM quay.io/a/b\n", "for something else"),
        ] {
            let Err(failure) = convert(text, |_| false) else { panic!("{text}") };
            assert!(format!("{failure:?}").contains(want), "{failure:?}");
        }
    }
}

//! The text for buildah: only the stages that are built, one line for each instruction, and every stage and
//! image by a name that needs no look-up.
//!
//! Byte order marks, carriage returns, comments, directives other than `escape` and variables in names are
//! gone, so that all versions of buildah read the text in the same way.

use std::collections::BTreeMap;

use super::stage::UsePlace;
use super::{Containerfile, Instruction, Origin, Resolved, Use};

/// The longest line that is written, in bytes: some versions of buildah read no line of more than 64 KiB.
const LINE_LIMIT: usize = 32 * 1024;

/// Writes the text; `name_of` names the base and the images of registries.
pub fn rewrite(file: &Containerfile, resolved: &Resolved, name_of: impl Fn(&Origin) -> String) -> String {
    let names = stage_names(resolved);
    let aliases = aliases(file, resolved);
    let name_of = |origin: &Origin| match followed(&aliases, origin) {
        Origin::Stage(place) => names.get(place).cloned().unwrap_or_default(),
        Origin::Scratch => "scratch".to_owned(),
        origin @ (Origin::Base | Origin::Image(_)) => name_of(origin),
    };
    let mut mentions: BTreeMap<usize, Vec<&Use>> = BTreeMap::new();
    for used in &resolved.uses {
        mentions.entry(used.instruction).or_default().push(used);
    }
    let mut out = String::new();
    if file.escape != '\\' {
        out.extend(["# escape=", file.escape.encode_utf8(&mut [0; 4]), "\n"]);
    }
    for instruction in file.instructions.iter().take_while(|instruction| instruction.keyword != "FROM") {
        push_line(&mut out, &format!("{} {}", instruction.keyword, instruction.arguments), file.escape);
    }
    let mut shells = Shells::default();
    for place in resolved.needed.iter().filter(|place| !aliases.contains_key(place)) {
        for position in resolved.range(file, *place) {
            let instruction = &file.instructions[position];
            let used = mentions.get(&position).map(Vec::as_slice).unwrap_or_default();
            let line = if let Some(Use { place: UsePlace::From, origin, .. }) = used.first() {
                shells.begin(*place, followed(&aliases, origin));
                from(resolved, followed(&aliases, origin), &name_of(origin), &names[place])
            } else {
                let command = shells.command(*place, instruction);
                let rest = command.unwrap_or_else(|| arguments(instruction, used, file.escape, &name_of));
                format!("{} {rest}", instruction.keyword)
            };
            push_line(&mut out, line.trim_end(), file.escape);
            out.extend(instruction.here_documents.iter().map(|document| document.text.as_str()));
        }
    }
    out
}

/// The `FROM` of a stage. buildah finds the image of another platform only if it is asked for that one.
fn from(resolved: &Resolved, origin: &Origin, image: &str, name: &str) -> String {
    match origin {
        Origin::Image(foreign) if foreign.platform != resolved.platform => {
            format!("FROM --platform={} {image} AS {name}", foreign.platform)
        }
        _ => format!("FROM {image} AS {name}"),
    }
}

/// Stages that are only names of images: old versions of buildah try to remove those images at the end.
/// Those of another platform stay stages.
fn aliases(file: &Containerfile, resolved: &Resolved) -> BTreeMap<usize, Origin> {
    let target = resolved.stages.len().saturating_sub(1);
    let origin = |place: &usize| {
        let range = resolved.range(file, *place);
        let from = resolved.uses.iter().find(|used| used.instruction == range.start)?;
        let is_image = match &from.origin {
            Origin::Image(image) => image.platform == resolved.platform,
            Origin::Base | Origin::Stage(_) => true,
            Origin::Scratch => false,
        };
        let is_alias = range.len() == 1 && *place != target && is_image;
        is_alias.then(|| (*place, from.origin.clone()))
    };
    resolved.needed.iter().filter_map(origin).collect()
}

/// What an origin is that may be such a stage.
fn followed<'a>(aliases: &'a BTreeMap<usize, Origin>, origin: &'a Origin) -> &'a Origin {
    let mut origin = origin;
    // A stage uses earlier ones only, so this ends.
    while let Origin::Stage(place) = origin
        && let Some(alias) = aliases.get(place)
    {
        origin = alias;
    }
    origin
}

/// The `SHELL` of each stage. buildah runs every `RUN` in it, but starts commands of the image with
/// `/bin/sh`.
#[derive(Default)]
struct Shells(BTreeMap<usize, Vec<String>>);

impl Shells {
    fn begin(&mut self, place: usize, origin: &Origin) {
        if let Origin::Stage(earlier) = origin
            && let Some(shell) = self.0.get(earlier).cloned()
        {
            self.0.insert(place, shell);
        }
    }

    /// The words of a command of the image that the stage's shell starts.
    fn command(&mut self, place: usize, instruction: &Instruction) -> Option<String> {
        let list = serde_json::from_str::<Vec<String>>(&instruction.arguments);
        match (instruction.keyword.as_str(), list) {
            ("SHELL", Ok(shell)) => {
                self.0.insert(place, shell);
                None
            }
            ("CMD" | "ENTRYPOINT", Err(_)) => {
                let mut words = self.0.get(&place)?.clone();
                words.push(instruction.arguments.clone());
                serde_json::to_string(&words).ok()
            }
            _ => None,
        }
    }
}

/// A name for each stage that is built: its own, if no other one has it.
fn stage_names(resolved: &Resolved) -> BTreeMap<usize, String> {
    let own = |place: &usize| resolved.stages[*place].name.as_deref().map(str::to_ascii_lowercase);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in resolved.needed.iter().filter_map(own) {
        *counts.entry(name).or_default() += 1;
    }
    let is_plain = |name: &String| {
        name != "scratch"
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let name = |place: &usize| {
        let own = own(place).filter(|name| counts.get(name) == Some(&1) && is_plain(name));
        let name = own.unwrap_or_else(|| {
            let mut name = format!("stage-{place}");
            while counts.contains_key(&name) {
                name.push('x');
            }
            name
        });
        (*place, name)
    };
    resolved.needed.iter().map(name).collect()
}

fn arguments(
    instruction: &Instruction,
    uses: &[&Use],
    escape: char,
    name_of: &impl Fn(&Origin) -> String,
) -> String {
    let mut text = instruction.arguments.clone();
    // From the end on, so that earlier places stay right.
    let attached = instruction.here_documents.iter().filter_map(|document| document.attached);
    for at in attached.rev() {
        text.insert(at, ' ');
    }
    for used in uses.iter().rev() {
        match &used.place {
            UsePlace::From => {}
            UsePlace::Copy(range) => {
                text.replace_range(range.clone(), &format!("--from={}", name_of(&used.origin)));
            }
            UsePlace::Mount(range, others) => {
                let others = escaped(others, escape);
                text.replace_range(
                    range.clone(),
                    &format!("--mount={others},from={}", name_of(&used.origin)),
                );
            }
        }
    }
    text
}

/// A value of a flag without quotes.
fn escaped(value: &str, escape: char) -> String {
    let mut out = String::new();
    for c in value.chars() {
        if c.is_whitespace() || matches!(c, '"' | '\'') || c == escape {
            out.push(escape);
        }
        out.push(c);
    }
    out
}

fn push_line(out: &mut String, line: &str, escape: char) {
    let mut start = 0;
    for (at, c) in line.char_indices() {
        // What follows a break must not look like a comment, and what is before it like an escape.
        let can_break =
            c.is_ascii_alphanumeric() && line[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        if at - start >= LINE_LIMIT && can_break {
            out.push_str(&line[start..at]);
            out.extend([escape, '\n']);
            start = at;
        }
    }
    out.push_str(&line[start..]);
    out.push('\n');
}

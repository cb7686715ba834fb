//! What a Containerfile uses: stages, its base, and images of registries, with variables expanded.
//!
//! Only the stages that the built one needs are read: the others are not built.

use std::collections::{BTreeMap, BTreeSet};

use super::expand::ExpandError;
use super::reference::image;
use super::scope::{BASE_VALUE, Scope};
use super::stage::{UsePlace, stages_with};
use super::words::flags;
use super::{BASE, Containerfile, Fault, ForeignImage, Inputs, Instruction, Origin, Stage, Use};
use crate::names::Platform;

/// Maximum number of images of registries that one Containerfile may use besides its base.
pub const MAX_FOREIGN_IMAGES: usize = 64;

/// Maximum number of stages of a Containerfile.
const MAX_CONTAINERFILE_STAGES: usize = 1_000;

/// The longest name of a stage that is compared with similar ones, in bytes.
const MAX_STAGE_NAME: usize = 64;

const STAGE_HINT: &str = "begin with `ARG BASE` and make the final stage `FROM ${BASE}`; copy files of other images with `COPY --from`";
const NAME_HINT: &str = "write the name of an earlier stage, or of an image with its registry's host, such as quay.io/fedora/fedora:42; declare arguments in it with `ARG`, in this stage or for a FROM before the first one, and give them a value";

/// A Containerfile whose stages and images are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Every stage up to the built one.
    pub stages: Vec<Stage>,
    /// The places of the stages that are built, the last one is the result.
    pub needed: BTreeSet<usize>,
    /// Every mention of a stage or an image in those.
    pub uses: Vec<Use>,
    /// Whether the result starts from `scratch`, not from the base.
    pub is_from_scratch: bool,
    /// The platform of the image.
    pub platform: Platform,
}

impl Resolved {
    /// The images of registries that it uses.
    pub fn images(&self) -> BTreeSet<&ForeignImage> {
        let images = self.uses.iter().filter_map(|used| match &used.origin {
            Origin::Image(image) => Some(image),
            Origin::Base | Origin::Scratch | Origin::Stage(_) => None,
        });
        images.collect()
    }

    /// The instructions of the stages that are built.
    pub fn instructions<'a>(&'a self, file: &'a Containerfile) -> impl Iterator<Item = &'a Instruction> {
        let stages = self.needed.iter().map(|place| self.range(file, *place));
        stages.flat_map(|range| &file.instructions[range])
    }

    /// The instructions of a stage, from its `FROM` on.
    pub(super) fn range(&self, file: &Containerfile, place: usize) -> std::ops::Range<usize> {
        let first = self.stages[place].position;
        let behind = file.instructions[first + 1..].iter().position(|next| next.keyword == "FROM");
        first..behind.map_or(file.instructions.len(), |behind| first + 1 + behind)
    }
}

/// Finds what is used.
///
/// # Errors
/// Every fault of the text, and every name that cannot be known.
pub fn resolve(file: &Containerfile, inputs: &Inputs<'_>) -> Result<Resolved, Vec<Fault>> {
    if !file.faults.is_empty() {
        return Err(file.faults.clone());
    }
    let left = Scope::budget();
    let mut global = Scope::global(file.escape, inputs, &left);
    for instruction in file.instructions.iter().take_while(|instruction| instruction.keyword != "FROM") {
        if instruction.keyword != "ARG" {
            let message = format!("{} before the first FROM", instruction.keyword);
            return Err(vec![Fault::new(instruction.line, message, "begin the first stage with FROM")]);
        }
        global.apply(instruction);
    }
    let mut stages = stages_with(&file.instructions, file.escape);
    let target = target(&stages, inputs.target).map_err(|fault| vec![fault])?;
    stages.truncate(target + 1);
    let mut search = Resolver { file, global: &global, names: BTreeMap::new(), found: Vec::new() };
    for (place, stage) in stages.iter().enumerate() {
        if let Some(name) = &stage.name {
            search.names.entry(name.to_ascii_lowercase()).or_default().push(place);
        }
    }
    let mut resolved = Resolved {
        stages,
        needed: BTreeSet::from([target]),
        uses: Vec::new(),
        is_from_scratch: false,
        platform: inputs.platform.clone(),
    };
    let mut faults = Vec::new();
    // A stage uses earlier ones only.
    for place in (0..=target).rev() {
        if resolved.needed.contains(&place) {
            faults.append(&mut search.stage(&resolved, place));
            for used in &search.found {
                if let Origin::Stage(earlier) = used.origin {
                    resolved.needed.insert(earlier);
                }
            }
            resolved.uses.append(&mut search.found);
        }
    }
    resolved.uses.sort_by_key(|used| used.instruction);
    if faults.is_empty() {
        faults.extend(rests_on_base(&mut resolved, target).err());
        faults.extend(too_many(&resolved));
    }
    faults.sort_by_key(|fault| fault.line);
    if faults.is_empty() { Ok(resolved) } else { Err(faults) }
}

/// The name of the image that a stage starts from, in a file that is no step: arguments have their defaults.
///
/// # Errors
/// The name cannot be expanded.
pub fn stage_image(file: &Containerfile, stage: &Stage, inputs: &Inputs<'_>) -> Result<String, Fault> {
    let left = Scope::budget();
    let mut scope = Scope::of_whole_image(file.escape, inputs, &left);
    for instruction in file.instructions.iter().take_while(|instruction| instruction.keyword != "FROM") {
        scope.apply(instruction);
    }
    let fault = |error| Fault::new(stage.line, format!("the name in FROM: {error}"), "write it in full");
    scope.expand(&stage.from).map_err(fault)
}

fn target(stages: &[Stage], target: Option<&str>) -> Result<usize, Fault> {
    let Some(last) = stages.len().checked_sub(1) else {
        return Err(Fault::new(1, "the Containerfile has no FROM", STAGE_HINT));
    };
    if stages.len() > MAX_CONTAINERFILE_STAGES {
        let message = format!("it has {} stages, at most {MAX_CONTAINERFILE_STAGES}", stages.len());
        return Err(Fault::new(stages[last].line, message, "split it into several steps"));
    }
    let Some(name) = target else { return Ok(last) };
    let by_number = || name.parse().ok().filter(|number| *number <= last);
    stages.iter().rposition(|stage| stage.is_named(name)).or_else(by_number).ok_or_else(|| {
        let message = format!("the Containerfile has no stage `{}`", name.escape_debug());
        Fault::new(1, message, "check `target:` of the step against the `AS` names")
    })
}

/// The built stage is the base with something added, or takes something from it.
fn rests_on_base(resolved: &mut Resolved, target: usize) -> Result<(), Fault> {
    let from = |place: usize| {
        let position = resolved.stages[place].position;
        resolved.uses.iter().find(|used| used.instruction == position).map(|used| &used.origin)
    };
    let mut place = target;
    let mut origin = from(place);
    while let Some(Origin::Stage(earlier)) = origin {
        place = *earlier;
        origin = from(place);
    }
    let uses_base = resolved.uses.iter().any(|used| used.origin == Origin::Base);
    let stage = &resolved.stages[place];
    match origin {
        Some(Origin::Base) => Ok(()),
        Some(Origin::Scratch) if uses_base => {
            resolved.is_from_scratch = true;
            Ok(())
        }
        Some(Origin::Scratch) => {
            let message = "the stage that is built starts from `scratch` and takes nothing from `${BASE}`, the image of the step before";
            let hint = "copy from a stage that is `FROM ${BASE}`, or make the final stage `FROM ${BASE}`";
            Err(Fault::new(stage.line, message, hint))
        }
        _ => {
            let message = format!(
                "the stage that is built starts from `{}`, not from `${{BASE}}`, the image of the step before",
                stage.from.escape_debug()
            );
            Err(Fault::new(stage.line, message, STAGE_HINT))
        }
    }
}

fn too_many(resolved: &Resolved) -> Option<Fault> {
    let count = resolved.images().len();
    let line = resolved.uses.last().map_or(1, |used| used.line);
    (count > MAX_FOREIGN_IMAGES).then(|| {
        let message = format!("it uses {count} images besides its base, at most {MAX_FOREIGN_IMAGES}");
        Fault::new(line, message, "split it into several steps")
    })
}

struct Resolver<'a> {
    file: &'a Containerfile,
    global: &'a Scope<'a>,
    /// The places of stages by name.
    names: BTreeMap<String, Vec<usize>>,
    found: Vec<Use>,
}

impl Resolver<'_> {
    /// Finds what a stage uses.
    fn stage(&mut self, resolved: &Resolved, place: usize) -> Vec<Fault> {
        let mut faults = Vec::new();
        let stage = &resolved.stages[place];
        faults.extend(self.from(stage, place).err());
        let mut scope = Scope::of_stage(self.global);
        let range = resolved.range(self.file, place);
        for position in range.start + 1..range.end {
            let instruction = &self.file.instructions[position];
            let option = match instruction.keyword.as_str() {
                "COPY" | "ADD" => "from",
                "RUN" => "mount",
                _ => {
                    scope.apply(instruction);
                    continue;
                }
            };
            for flag in flags(&instruction.arguments, self.file.escape).0 {
                if flag.name != option {
                    continue;
                }
                let (written, place_of) = match (option, mount(&flag.value)) {
                    ("from", _) => (flag.value.as_str(), UsePlace::Copy(flag.range)),
                    (_, Some((from, others))) => (from, UsePlace::Mount(flag.range, others)),
                    _ => continue,
                };
                match self.content(instruction, &scope, written, place) {
                    Ok(origin) => self.found.push(Use {
                        line: instruction.line,
                        origin,
                        instruction: position,
                        place: place_of,
                    }),
                    Err(fault) => faults.push(fault),
                }
            }
        }
        faults
    }

    fn from(&mut self, stage: &Stage, place: usize) -> Result<(), Fault> {
        let instruction = &self.file.instructions[stage.position];
        let platform = match &stage.platform {
            None => None,
            Some(written) => Some(self.platform(instruction, written)?),
        };
        let (_, behind) = flags(&instruction.arguments, self.file.escape);
        let words = instruction.arguments[behind..].split_whitespace().count();
        if !(words == 1 || words == 3 && stage.name.is_some()) {
            let hint = "write `FROM IMAGE` or `FROM IMAGE AS NAME`";
            return Err(Fault::new(stage.line, "malformed FROM", hint));
        }
        let origin = self.origin(instruction, self.global, &stage.from, place, platform.as_ref())?;
        self.found.push(Use { line: stage.line, origin, instruction: stage.position, place: UsePlace::From });
        Ok(())
    }

    fn platform(&self, instruction: &Instruction, written: &str) -> Result<Platform, Fault> {
        let known = self.global.expand(written).ok().and_then(|text| text.trim_end_matches('/').parse().ok());
        known.ok_or_else(|| {
            let message = format!("cannot tell the platform `{}`", written.escape_debug());
            Fault::new(
                instruction.line,
                message,
                "write `$TARGETPLATFORM`, or a platform such as linux/amd64",
            )
        })
    }

    /// What files are taken from.
    fn content(
        &self,
        instruction: &Instruction,
        scope: &Scope<'_>,
        written: &str,
        place: usize,
    ) -> Result<Origin, Fault> {
        let fault = |message: String, hint: &str| Err(Fault::new(instruction.line, message, hint));
        let origin = self.origin(instruction, scope, written, place, None)?;
        if origin == Origin::Scratch {
            return fault("cannot take files from `scratch`: it is empty".to_owned(), NAME_HINT);
        }
        let is_word = written.len() <= MAX_STAGE_NAME && !written.contains(['/', ':', '@', '.', '$']);
        if is_word && matches!(origin, Origin::Image(_)) {
            if self.names.contains_key(&written.to_ascii_lowercase()) {
                let message = format!("the stage `{}` is not complete here", written.escape_debug());
                return fault(message, "move that stage to before this one");
            }
            let names = self.names.keys().map(String::as_str).filter(|name| name.len() <= MAX_STAGE_NAME);
            if let Some(near) = crate::format::nearest(written, names) {
                let message = format!("there is no stage `{}`", written.escape_debug());
                let hint = format!("write `{near}`; for an image, add its tag or its registry's host");
                return fault(message, &hint);
            }
        }
        Ok(origin)
    }

    fn origin(
        &self,
        instruction: &Instruction,
        scope: &Scope<'_>,
        written: &str,
        place: usize,
        platform: Option<&Platform>,
    ) -> Result<Origin, Fault> {
        let fault = |message: String, hint: &str| Fault::new(instruction.line, message, hint);
        let shown = || written.chars().take(200).collect::<String>().escape_debug().to_string();
        let text = scope.expand(written).map_err(|error: ExpandError| {
            fault(format!("cannot tell which image `{}` is: {error}", shown()), NAME_HINT)
        })?;
        let known = self.names.get(&text.to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default();
        let number = text.parse().ok().filter(|number| *number < place);
        if let Some(earlier) = known.iter().copied().rfind(|at| *at < place).or(number) {
            return Ok(Origin::Stage(earlier));
        }
        match text.as_str() {
            BASE_VALUE => return Ok(Origin::Base),
            "scratch" => return Ok(Origin::Scratch),
            "" if instruction.keyword == "FROM" && written.contains(BASE) => {
                let message = "`${BASE}` is used without `ARG BASE` before the first FROM".to_owned();
                return Err(fault(message, STAGE_HINT));
            }
            "" => {
                return Err(fault(
                    format!("cannot tell which image `{}` is: it is empty", shown()),
                    NAME_HINT,
                ));
            }
            _ => {}
        }
        let Some(reference) = image(&text) else {
            let message = format!("`{}` is neither a stage before this one nor an image", shown());
            return Err(fault(message, NAME_HINT));
        };
        let platform = platform.unwrap_or(scope.platform()).clone();
        Ok(Origin::Image(ForeignImage { reference, platform }))
    }
}

/// The `from` of a mount, and its other options.
fn mount(value: &str) -> Option<(&str, String)> {
    let is_from = |option: &&str| option.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("from="));
    let from = value.split(',').find(is_from)?;
    let others: Vec<&str> = value.split(',').filter(|option| !is_from(option)).collect();
    Some((&from[5..], others.join(",")))
}

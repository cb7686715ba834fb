//! What `run` is asked for: which source, which part of its plan, and whether it releases.

use edgewright_control::runs::selection::{NoRelease, Selection};
use edgewright_model::names::VariantName;
use edgewright_model::resolve;
use edgewright_model::spec::{Definition, Lane};

use super::check::Folder;
use super::target::{self, Place};
use crate::args::RunArgs;
use crate::exit::Failure;
use crate::output;

/// What to run of which source.
#[derive(Debug)]
pub(super) struct RunRequest {
    pub(super) target: String,
    pub(super) selection: Option<Selection>,
}

impl RunRequest {
    pub(super) fn of(args: &RunArgs) -> Result<Self, Failure> {
        let place = Place::of(args.target.as_deref(), args.dir.as_deref())?;
        let mut only = args.only.clone();
        only.extend(place.variant);
        let is_narrowed = !only.is_empty() || !args.lane.is_empty() || args.keep;
        if is_narrowed && args.update {
            return Err(Failure::user("cannot use --update for some variants only: it resolves all locks")
                .hint("run without a variant"));
        }
        if is_narrowed && args.release {
            return Err(Failure::user(
                "cannot use --release for some variants only: a release has all of them",
            )
            .hint("run without a variant"));
        }
        let selection = is_narrowed.then(|| Selection {
            why: NoRelease::Narrowed,
            variants: only.into_iter().collect(),
            lanes: args.lane.iter().copied().collect(),
            keep: args.keep,
            update: None,
        });
        Ok(Self { target: place.dir, selection })
    }

    /// Checks that the source declares the variants, and that one of them runs the lanes.
    pub(super) fn check(&self, folder: Option<&Folder>) -> Result<(), Failure> {
        let definition = folder.and_then(|folder| folder.parsed.definition.as_ref());
        if let (Some(definition), Some(selection)) = (definition, &self.selection) {
            for variant in &selection.variants {
                target::resolved(definition, variant)?;
            }
            refuse_untested(definition, selection)?;
        }
        Ok(())
    }

    /// What of the plan is run; none for a run that releases. Only committed files are released unless the
    /// user asks for more.
    pub(super) fn selection(&self, args: &RunArgs, is_dirty: bool) -> Option<Selection> {
        if self.selection.is_some() || args.release {
            return self.selection.clone();
        }
        let why = if is_dirty { NoRelease::Uncommitted } else { NoRelease::Watching };
        (is_dirty || args.watch).then(|| Selection { why, ..Selection::default() })
    }
}

/// Notes in what way this run differs from a plain one.
pub(super) fn announce(is_dirty: bool, selection: Option<&Selection>) {
    match selection.map(|selection| selection.why) {
        Some(NoRelease::Uncommitted) => output::note(
            "note: uncommitted files are built and tested, and not released; --release releases them, too",
        ),
        Some(NoRelease::Watching) => {
            output::note("note: --watch builds and tests, and does not release; --release does, too");
        }
        Some(NoRelease::Narrowed) | None if is_dirty => {
            output::note("note: the folder is built as it is, uncommitted files included");
        }
        Some(NoRelease::Narrowed) | None => {}
    }
}

/// Refuses a run that would test nothing, or keep nothing, of what was asked for.
fn refuse_untested(definition: &Definition, selection: &Selection) -> Result<(), Failure> {
    let mut asked = selection.lanes.clone();
    if selection.keep && !asked.is_empty() && !asked.iter().any(|lane| lane.can_keep()) {
        return Err(Failure::user("--keep keeps machines of the lanes container and vm, which are not run")
            .hint("add --lane container or --lane vm, or leave --lane out"));
    }
    if selection.keep && asked.is_empty() {
        asked.extend(Lane::ALL.into_iter().filter(|lane| lane.can_keep()));
    }
    let variants = if selection.variants.is_empty() {
        resolve::variants(definition)
    } else {
        selection.variants.iter().cloned().collect()
    };
    let lanes = |variant: &VariantName| definition.images.get(&variant.image).map(|image| &image.test.lanes);
    let is_run = |variant| lanes(variant).is_some_and(|lanes| asked.iter().any(|lane| lanes.contains(lane)));
    let Some(first) = variants.first().filter(|_| !asked.is_empty() && !variants.iter().any(is_run)) else {
        return Ok(());
    };
    let names = asked.iter().map(|lane| lane.name()).collect::<Vec<_>>().join(", ");
    let (others, image) = (variants.len() - 1, &first.image);
    let subject =
        if others == 0 { format!("`{first}` is") } else { format!("`{first}` and {others} more are") };
    Err(Failure::user(format!("{subject} not tested in the lane {names}")).hint(format!(
        "--lane selects from the lanes of an image: write `test: {{lanes: [{names}]}}` in images/{image}/image.yaml"
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn only_committed_files_are_released() {
        let (narrowed, dirty, watching) =
            (Some(NoRelease::Narrowed), Some(NoRelease::Uncommitted), Some(NoRelease::Watching));
        for (line, in_clean_folder, in_dirty_folder) in [
            ("edgewright run", None, dirty),
            ("edgewright run --release", None, None),
            ("edgewright run --update", None, dirty),
            ("edgewright run --watch", watching, dirty),
            ("edgewright run --watch --release", None, None),
            ("edgewright run hmi/plant-a", narrowed, narrowed),
            ("edgewright run --keep", narrowed, narrowed),
        ] {
            let Ok(Cli { command: Command::Run(args), .. }) = Cli::try_parse_from(line.split(' ')) else {
                panic!("{line}");
            };
            let what = RunRequest::of(&args).unwrap();
            let why = |is_dirty| what.selection(&args, is_dirty).map(|selection| selection.why);
            assert_eq!((why(false), why(true)), (in_clean_folder, in_dirty_folder), "{line}");
        }
        assert!(Cli::try_parse_from("edgewright run --release --keep".split(' ')).is_err());
        let Ok(Cli { command: Command::Run(args), .. }) =
            Cli::try_parse_from("edgewright run hmi/plant-a --release".split(' '))
        else {
            panic!("parses");
        };
        assert!(RunRequest::of(&args).is_err());
    }
}

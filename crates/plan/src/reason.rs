//! Reasons: why a plan does what it does, as data that prints as words.

use std::fmt;

use edgewright_model::names::{CheckId, ImageName, VarName, VariantName};
use edgewright_model::spec::Lane;
use edgewright_model::tree::TreePath;
use serde::{Deserialize, Serialize};

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The variant was not there before.
    NewVariant,
    /// The platform was not there before.
    NewPlatform,
    /// Its inputs are as before, but no build of them is known.
    NeverBuilt,
    /// Its key differs from before, and what changed is not known (no earlier graph was given).
    InputChanged,
    /// Its parent changes.
    ParentChanges {
        /// The parent variant.
        parent: VariantName,
    },
    /// Variants that need this prefix are built.
    NeededBy {
        /// One of them, the first by name.
        first: VariantName,
        /// How many there are.
        count: usize,
    },
    /// Its image starts from something else.
    BaseChanged {
        /// The new base in words.
        base: String,
    },
    /// A lock moved.
    LockMoved {
        /// The image whose lock it is.
        image: ImageName,
        /// What moved first, such as `systemd 257.1 → 257.2`.
        first: String,
        /// How many other things moved.
        more: usize,
    },
    /// A lock must be resolved first; keys are provisional.
    LockUnresolved {
        /// The image that needs it.
        image: ImageName,
    },
    /// A `bootstrap` step asks for other packages.
    PackageList {
        /// Packages that were added (`+name`) and removed (`-name`), in name order.
        changes: Vec<String>,
    },
    /// A `bootstrap` step asks for something else than before.
    BootstrapChanged {
        /// Which of its fields: `suite`, `mirror`, `components`, `sources`, `keys`.
        field: String,
    },
    /// A Containerfile changed.
    ContainerfileChanged {
        /// Its path.
        file: TreePath,
    },
    /// The build context changed.
    ContextChanged {
        /// The context folder.
        folder: TreePath,
        /// The paths in it that changed, in order.
        paths: Vec<TreePath>,
    },
    /// Arguments, target or secrets of a `containerfile` step changed.
    BuildSettings {
        /// Which: `argument CHANNEL`, `target`, `secret token`.
        what: String,
    },
    /// OCI labels of the image changed.
    LabelsChanged {
        /// Which, in order.
        names: Vec<String>,
    },
    /// Files laid over changed.
    FilesChanged {
        /// The folder.
        folder: TreePath,
        /// The paths in the image that changed, in order.
        paths: Vec<TreePath>,
    },
    /// Paths that a `files` step deletes changed.
    DeletesChanged {
        /// The folder of the step.
        folder: TreePath,
    },
    /// A variable that a template may read changed.
    VariableChanged {
        /// Which.
        name: VarName,
    },
    /// A step was added.
    StepAdded {
        /// Its title.
        title: String,
    },
    /// A step was removed.
    StepRemoved {
        /// Its title.
        title: String,
    },
    /// The steps are the same in another order.
    StepsReordered,
    /// Edgewright itself builds differently now.
    ToolChanged,
    /// Checks changed: the digest stands and is tested again.
    ChecksChanged {
        /// Which, where known.
        checks: Vec<CheckId>,
    },
    /// A lane has no verdict yet for this digest and check set.
    NoVerdict {
        /// Which lane.
        lane: Lane,
    },
    /// Nothing changed.
    Unchanged,
    /// Everything needed is known from before under this key, though the variant had another one last time.
    KnownAlready,
    /// The variant is not declared any more.
    Gone,
    /// It failed before with the same input, through the image: not tried again until something changes.
    FailedBefore {
        /// What failed: a step's title or a lane.
        what: String,
        /// The message of that time.
        message: String,
    },
    /// Something it depends on is broken.
    Broken {
        /// What, in words.
        because: String,
    },
}

/// How many paths a reason names before it counts the rest.
const NAMED: usize = 3;

fn list<T: fmt::Display>(items: &[T]) -> String {
    let named = items.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} (+{more} more)"),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewVariant => f.write_str("new variant"),
            Self::NewPlatform => f.write_str("new platform"),
            Self::NeverBuilt => f.write_str("never built"),
            Self::InputChanged => f.write_str("its input changed"),
            Self::ParentChanges { parent } => write!(f, "parent {parent} changes"),
            Self::NeededBy { first, count: 1 } => write!(f, "{first} needs it"),
            Self::NeededBy { first, count } => write!(f, "shared by {count} variants, such as {first}"),
            Self::BaseChanged { base } => write!(f, "base changed: {base}"),
            Self::LockMoved { first, more: 0, .. } => write!(f, "lock moved: {first}"),
            Self::LockMoved { first, more, .. } => write!(f, "lock moved: {first} (+{more} more)"),
            Self::LockUnresolved { image } => write!(f, "lock of {image} is not resolved yet"),
            Self::PackageList { changes } if changes.is_empty() => f.write_str("package list changed"),
            Self::PackageList { changes } => write!(f, "package list changed: {}", list(changes)),
            Self::BootstrapChanged { field } => write!(f, "bootstrap {field} changed"),
            Self::ContainerfileChanged { file } => write!(f, "Containerfile {file} changed"),
            Self::ContextChanged { folder, paths } => {
                write!(f, "build context {folder} changed: {}", list(paths))
            }
            Self::BuildSettings { what } => write!(f, "build {what} changed"),
            Self::LabelsChanged { names } => write!(f, "labels changed: {}", list(names)),
            Self::FilesChanged { folder, paths } => write!(f, "files {folder} changed: {}", list(paths)),
            Self::DeletesChanged { folder } => write!(f, "deletions of files {folder} changed"),
            Self::VariableChanged { name } => write!(f, "variable {name} changed"),
            Self::StepAdded { title } => write!(f, "step added: {title}"),
            Self::StepRemoved { title } => write!(f, "step removed: {title}"),
            Self::StepsReordered => f.write_str("steps reordered"),
            Self::ToolChanged => f.write_str("this version of Edgewright builds differently"),
            Self::ChecksChanged { checks } if checks.is_empty() => f.write_str("checks changed"),
            Self::ChecksChanged { checks } => write!(f, "checks changed: {}", list(checks)),
            Self::NoVerdict { lane } => write!(f, "no verdict of lane {lane} yet"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::KnownAlready => f.write_str("built and tested before with the same input"),
            Self::Gone => f.write_str("not declared any more"),
            Self::FailedBefore { what, message } => {
                write!(f, "{what} failed before with the same input: {message}")
            }
            Self::Broken { because } => f.write_str(because),
        }
    }
}

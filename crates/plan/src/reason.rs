//! The reasons of a plan's actions, as data that prints as text.

use std::fmt;

use edgewright_model::names::{CheckId, ImageName, VarName, VariantName};
use edgewright_model::spec::Lane;
use edgewright_model::tree::TreePath;
use serde::{Deserialize, Serialize};

/// Why a node is built, tested, reused, retired, blocked or left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The variant is new in the source.
    NewVariant,
    /// The platform is new for the variant.
    NewPlatform,
    /// Its inputs are unchanged, but no build with them is known.
    NeverBuilt,
    /// A build with its inputs is known, but it has not passed all lanes yet.
    NotPassed,
    /// Its key changed; the cause is not known, because no earlier graph was given.
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
    /// The `from` of its image changed.
    BaseChanged {
        /// The new base, as text.
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
    /// The image has no lock for its present request: the run resolves it first. The keys are provisional
    /// until then.
    LockUnresolved {
        /// The image that needs it.
        image: ImageName,
    },
    /// The package list of a `bootstrap` step changed.
    PackageList {
        /// Packages that were added (`+name`) and removed (`-name`), in name order.
        changes: Vec<String>,
    },
    /// Another field of a `bootstrap` step changed.
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
    /// Files of a `files` step changed.
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
    /// A variable of the step's templates changed.
    VariableChanged {
        /// The variable.
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
    /// This version of Edgewright builds differently.
    ToolChanged,
    /// Programs that execute a step have other versions.
    ToolsChanged {
        /// Which, such as `buildah 1.38.1 → 1.39.3`.
        changes: Vec<String>,
    },
    /// Checks changed: the digest is unchanged and is tested again.
    ChecksChanged {
        /// The checks that changed, if known.
        checks: Vec<CheckId>,
    },
    /// A lane has no verdict yet for this digest and check set.
    NoVerdict {
        /// The lane.
        lane: Lane,
    },
    /// Nothing changed.
    Unchanged,
    /// A build and verdicts are known for this key, although the variant's last build had another key.
    KnownAlready,
    /// The variant is no longer declared.
    Gone,
    /// It failed before with the same input because of the image: it is not tried again until an input
    /// changes.
    FailedBefore {
        /// What failed: a step's title or a lane.
        what: String,
        /// The recorded message.
        message: String,
    },
    /// A dependency is broken.
    Broken {
        /// The dependency and its fault, as text.
        because: String,
    },
}

/// The number of paths that a reason lists before it counts the rest.
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
            Self::NotPassed => f.write_str("built before, but not passed yet"),
            Self::InputChanged => f.write_str("inputs changed"),
            Self::ParentChanges { parent } => write!(f, "parent {parent} changes"),
            Self::NeededBy { first, count: 1 } => write!(f, "{first} needs it"),
            Self::NeededBy { first, count } => write!(f, "shared by {count} variants, such as {first}"),
            Self::BaseChanged { base } => write!(f, "base changed: {base}"),
            Self::LockMoved { first, more: 0, .. } => write!(f, "lock moved: {first}"),
            Self::LockMoved { first, more, .. } => write!(f, "lock moved: {first} (+{more} more)"),
            Self::LockUnresolved { image } => {
                write!(f, "lock of {image} not resolved yet (the run pins its versions)")
            }
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
            Self::ToolsChanged { changes } => write!(f, "tools changed: {}", list(changes)),
            Self::ChecksChanged { checks } if checks.is_empty() => f.write_str("checks changed"),
            Self::ChecksChanged { checks } => write!(f, "checks changed: {}", list(checks)),
            Self::NoVerdict { lane } => write!(f, "no verdict of lane {lane} yet"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::KnownAlready => f.write_str("built and tested before with the same input"),
            Self::Gone => f.write_str("no longer declared"),
            Self::FailedBefore { what, message } => {
                write!(f, "{what} failed before with the same input: {message}")
            }
            Self::Broken { because } => f.write_str(because),
        }
    }
}

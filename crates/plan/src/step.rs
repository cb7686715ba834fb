//! Steps of the graph: work, inputs and key.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::lock::{LockedArchive, LockedImage, LockedPackage};
use edgewright_model::names::ImageName;
use edgewright_model::spec::{BootstrapStep, ContainerfileStep};
use edgewright_model::tools::{BOOTSTRAP_TOOLS, CONTAINERFILE_TOOLS, ToolVersions};
use edgewright_model::tree::{ContentId, TreePath};

use crate::context::ContextEntry;
use crate::files::Listing;

/// A step on a node's path, with the key of the prefix that it completes.
#[derive(Debug, Clone)]
pub struct GraphStep {
    /// The key of the image up to and including this step.
    pub key: Digest,
    /// Display name, also in the image history: `bootstrap trixie`, `containerfile images/hmi/Containerfile`,
    /// `files sites/plant-a/files`.
    pub title: String,
    /// The image that the step belongs to (site and slot files belong to the variant's image).
    pub image: ImageName,
    /// Digest of the step's own inputs, independent of its base. Two steps with equal inputs have equal
    /// context tars (given the same epoch), so this is the name to keep a packed context under.
    pub inputs: Digest,
    /// The programs that decide about its bytes; part of the key. None for steps that Edgewright executes
    /// itself, and where versions are not known.
    pub tools: ToolVersions,
    /// The work.
    pub work: Arc<PlannedStep>,
}

/// The work of a step, with everything that is needed to pack its context and to write a
/// [`StepOrder`](edgewright_model::order::StepOrder).
#[derive(Debug, Clone)]
pub enum PlannedStep {
    /// Install an operating system.
    Bootstrap {
        /// As declared.
        step: BootstrapStep,
        /// The locked closure for the node's platform; empty while the lock is not resolved.
        packages: Vec<LockedPackage>,
        /// The locked archive; `None` in locks of earlier versions.
        archive: Option<LockedArchive>,
        /// The key files of `step.keys` by path; their bytes are not loaded with the tree.
        keys: BTreeMap<TreePath, ContentId>,
    },
    /// Run a Containerfile.
    Containerfile {
        /// As declared.
        step: ContainerfileStep,
        /// The Containerfile's text.
        containerfile: Arc<str>,
        /// The build context, ignore rules applied, in path order.
        context: Arc<[ContextEntry]>,
        /// The images that it uses besides its base; empty while the lock is not resolved.
        images: Vec<LockedImage>,
    },
    /// Lay files over.
    Files {
        /// The folder of the repository, or the image's definition for a step without a folder.
        folder: TreePath,
        /// The entries as they must be in the image.
        listing: Listing,
        /// Paths in the image to delete, without leading `/`.
        delete: Vec<String>,
    },
}

impl PlannedStep {
    /// Those of some versions that decide about the bytes of this kind of step.
    pub(crate) fn tools(&self, versions: &ToolVersions) -> ToolVersions {
        match self {
            Self::Bootstrap { .. } => versions.of(&BOOTSTRAP_TOOLS),
            Self::Containerfile { .. } => versions.of(&CONTAINERFILE_TOOLS),
            Self::Files { .. } => ToolVersions::default(),
        }
    }
}

//! What a source declares, as typed values. `format` makes these from YAML; nothing else does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::containerfile::ForeignImage;
use crate::duration::Span;
use crate::lock::Lock;
use crate::names::{
    ChannelName, CheckId, GroupName, ImageName, LabelKey, LabelValue, Platform, RolloutName, SiteId,
    SiteName, SlotId, SourceName, VarName, VariantName,
};
use crate::reference::ImageReference;
use crate::tree::TreePath;

mod check;
mod rollout;
mod site_names;
mod vm;

pub use rollout::{RateSpec, RolloutSpec, StageSpec};
pub use site_names::SiteNames;
pub use vm::{VmProfile, VmSpec};

pub use check::{Assertion, Check, CheckEntry, ProcessMatch, SCRIPT_LIMIT, StaticRule, static_checks};

/// A variable's value. Lists and maps replace, they never merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    String(String),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(BTreeMap<String, Value>),
}

/// Variables by name.
pub type Vars = BTreeMap<VarName, Value>;
/// Labels by key.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// Everything that a commit declares. Broken images and sites are not in `images` and `sites` but in
/// `broken_*`, so that they block only what depends on them.
#[derive(Debug, Clone)]
pub struct Definition {
    /// `edgewright.yaml`.
    pub source: SourceSpec,
    /// `images/*/image.yaml`.
    pub images: BTreeMap<ImageName, ImageSpec>,
    /// `sites/*/site.yaml`.
    pub sites: BTreeMap<SiteName, SiteSpec>,
    /// `exceptions/*.yaml`.
    pub exceptions: Vec<Exception>,
    /// Images whose own files have errors.
    pub broken_images: BTreeSet<ImageName>,
    /// Sites whose own files have errors.
    pub broken_sites: BTreeSet<SiteName>,
}

/// `edgewright.yaml`.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// First component of every repository of this source.
    pub name: SourceName,
    /// Platforms to build, at least one.
    pub platforms: Vec<Platform>,
    /// Variables for all.
    pub vars: Vars,
    /// Groups of sites, in file order.
    pub groups: Vec<Group>,
    /// Channels; if none is declared, `stable`, which follows the default branch.
    pub channels: BTreeMap<ChannelName, ChannelSpec>,
    /// Rollout policies.
    pub rollouts: BTreeMap<RolloutName, RolloutSpec>,
}

/// Sites selected by label, with variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Site labels that all must match.
    pub select: Labels,
    /// Variables for those sites.
    pub vars: Vars,
}

/// A channel: a named pointer to one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSpec {
    /// What it follows.
    pub follows: Follows,
    /// The minimum age of a release before the channel moves to it.
    pub after: Option<Span>,
    /// The policy by which devices follow the channel.
    pub rollout: Option<RolloutName>,
    /// The reason of a hold; `None` if the channel may move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

impl ChannelSpec {
    /// A channel that takes every release of what it follows at once.
    pub const fn following(follows: Follows) -> Self {
        Self { follows, after: None, rollout: None, hold: None }
    }
}

/// What a channel follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Follows {
    /// The remote's default branch.
    DefaultBranch,
    /// A branch.
    Branch(String),
    /// Another channel.
    Channel(ChannelName),
}

/// `images/NAME/image.yaml`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSpec {
    /// Its name: the folder.
    pub name: ImageName,
    /// What it starts from.
    pub from: From,
    /// How many variants it has.
    pub per: Per,
    /// Site labels that narrow the sites.
    pub select: Labels,
    /// Declared variables; a child knows its ancestors' declarations, too.
    pub declare: BTreeMap<VarName, Declaration>,
    /// The steps, in order; may be empty (then the image is only tested and hosted).
    pub steps: Vec<Step>,
    /// OCI labels of the image's config, set by each of its own steps; part of the key.
    pub labels: BTreeMap<String, String>,
    /// Own checks, in file order.
    pub checks: Vec<CheckEntry>,
    /// How it is tested.
    pub test: TestSpec,
    /// The image's own platforms; empty: the source's.
    pub platforms: Vec<Platform>,
    /// The committed `edgewright.lock` beside it.
    pub lock: Option<Lock>,
    /// Its path, for messages: `images/NAME/image.yaml`.
    pub file: TreePath,
}

/// What an image starts from.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    /// Nothing: `scratch`.
    Scratch,
    /// Another image of this source.
    Image(ImageName),
    /// An image in a registry.
    External(ImageReference),
}

/// How many variants an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One.
    Image,
    /// One per site that has a slot with this image (or with a descendant that needs it).
    Site,
    /// One per slot with this image.
    Slot,
}

/// A declared variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Declaration {
    /// The type of its values.
    pub kind: VarType,
    /// Its value if none is set; without a default it must be set.
    pub default: Option<Value>,
    /// What it is for.
    pub description: Option<String>,
}

/// The type of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VarType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list.
    List,
    /// A map.
    Map,
}

/// One ingredient of an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// An operating system from packages (mmdebstrap).
    Bootstrap(BootstrapStep),
    /// A Containerfile (buildah).
    Containerfile(ContainerfileStep),
    /// Files laid over (assembled natively).
    Files(FilesStep),
}

/// `bootstrap:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapStep {
    /// The distribution's suite, such as `trixie`.
    pub suite: String,
    /// Packages to install besides the essential ones, as written, in order.
    pub packages: Vec<String>,
    /// The package mirror; `None`: the mirror of the host's settings.
    pub mirror: Option<String>,
    /// Archive components; `main` by default.
    pub components: Vec<String>,
    /// Further `sources.list` lines (one-line format).
    pub sources: Vec<String>,
    /// Keyring files of this repository that sign `mirror` or `sources`.
    pub keys: Vec<TreePath>,
}

/// `containerfile:`. The final stage rests on `${BASE}`, the step before.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerfileStep {
    /// The Containerfile's path in the repository.
    pub file: TreePath,
    /// The context folder's path in the repository.
    pub context: TreePath,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to build; `None`: the last one.
    pub target: Option<String>,
    /// Build secrets by id: they reach `RUN --mount=type=secret`, never a layer.
    pub secrets: Vec<SecretRef>,
    /// How long a result may be reused before the step is built again.
    pub refresh: Option<Span>,
    /// The images of registries that it uses besides its base, for each platform of the image that needs any.
    pub images: BTreeMap<Platform, Vec<ForeignImage>>,
}

/// A build secret: named in git, its bytes known only to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// The id that the Containerfile uses.
    pub id: String,
    /// Part of the key in place of the value.
    pub version: String,
}

/// `files:`. A folder of the repository laid over the image.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesStep {
    /// The folder's path in the repository; `None` if the step only deletes paths or declares directories.
    pub path: Option<TreePath>,
    /// What the repository does not say about the entries.
    pub rules: FileRules,
}

/// What git does not store about the entries of a folder that is laid over an image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileRules {
    /// Owner of all entries: numeric user and group. `None`: of the entry that is replaced, else root.
    pub owner: Option<Owner>,
    /// Modes by glob over the path in the image (without leading `/`); the last match wins. A file without a
    /// match has the mode of the file that it replaces, else 0644 or 0755.
    pub modes: Vec<(String, u32)>,
    /// Paths in the image to delete, without leading `/`.
    pub delete: Vec<String>,
    /// Declared directories, because git cannot store empty ones; an existing directory gets the declared
    /// mode and owner.
    pub directories: Vec<DirectorySpec>,
    /// Extended attributes by path in the image, of entries of this step.
    pub xattrs: BTreeMap<TreePath, Xattrs>,
    /// Hard links: path in the image → the file of this step that it links to.
    pub hard_links: BTreeMap<TreePath, TreePath>,
    /// Whether files that end in `.j2` are copied as they are, and not rendered.
    pub as_is: bool,
}

impl FileRules {
    /// No rules.
    pub const NONE: Self = Self {
        owner: None,
        modes: Vec::new(),
        delete: Vec::new(),
        directories: Vec::new(),
        xattrs: BTreeMap::new(),
        hard_links: BTreeMap::new(),
        as_is: false,
    };

    /// Whether the layer has entries of its own, or deletes paths, even if the folder is empty.
    pub const fn adds(&self) -> bool {
        !self.delete.is_empty() || !self.directories.is_empty()
    }
}

/// Extended attributes: name, with its namespace → value.
pub type Xattrs = BTreeMap<String, Vec<u8>>;

/// A declared directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorySpec {
    /// Path in the image, without leading `/`.
    pub path: TreePath,
    /// Permission bits; `None`: those of an existing directory, else 0755.
    pub mode: Option<u32>,
    /// Owner; the step's by default. `None`: of an existing directory, else root.
    pub owner: Option<Owner>,
}

/// Numeric owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

/// How an image is tested.
#[derive(Debug, Clone, PartialEq)]
pub struct TestSpec {
    /// The lanes, in running order; empty with `test: none`.
    pub lanes: BTreeSet<Lane>,
    /// Lanes whose verdicts a variant may inherit from the representative.
    pub inherit: Option<Inherit>,
    /// The time limit for a verdict of the lane `external` (`timeout:`); `None`: the server's default.
    pub within: Option<Span>,
    /// The machine of lanes with a kernel.
    pub vm: VmSpec,
    /// The image that machines of the lane `switch` run before (`switch: {from: …}`).
    pub switch_from: Option<ImageName>,
}

/// `inherit:`. The first variant by name runs the lanes for all that differ from it in `files` steps only.
#[derive(Debug, Clone, PartialEq)]
pub struct Inherit {
    /// Lanes to inherit.
    pub lanes: BTreeSet<Lane>,
}

/// One way of running a check set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the vocabulary's")]
pub enum Lane {
    Static,
    Container,
    Vm,
    Upgrade,
    Rollback,
    Downgrade,
    Switch,
    Device,
    External,
}

impl Lane {
    /// Every lane, in running order.
    pub const ALL: [Self; 9] = [
        Self::Static,
        Self::Container,
        Self::Vm,
        Self::Upgrade,
        Self::Rollback,
        Self::Downgrade,
        Self::Switch,
        Self::Device,
        Self::External,
    ];

    /// Whether its machine is a device that updates itself, from one image to another.
    pub const fn is_update(self) -> bool {
        matches!(self, Self::Upgrade | Self::Rollback | Self::Downgrade | Self::Switch)
    }

    /// Whether its machine runs what is released before it gets the candidate, or after it.
    pub const fn needs_release(self) -> bool {
        matches!(self, Self::Upgrade | Self::Downgrade | Self::Switch)
    }

    /// The name in YAML, tables and URLs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Container => "container",
            Self::Vm => "vm",
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
            Self::Downgrade => "downgrade",
            Self::Switch => "switch",
            Self::Device => "device",
            Self::External => "external",
        }
    }
}

impl Lane {
    /// Whether its machines have a kernel of their own.
    pub const fn has_kernel(self) -> bool {
        matches!(self, Self::Vm) || self.is_update()
    }

    /// Whether its machines can be kept for inspection.
    pub const fn can_keep(self) -> bool {
        matches!(self, Self::Container | Self::Vm)
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// `sites/NAME/site.yaml`.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteSpec {
    /// Its name: the folder, or the name under which its id is known ([`Definition::name_sites`]).
    pub name: SiteName,
    /// Immutable id.
    pub id: SiteId,
    /// Labels.
    pub labels: Labels,
    /// Variables.
    pub vars: Vars,
    /// Modes and owners of `files/`, deletions and further entries.
    pub files: FileRules,
    /// What an image has at this site only.
    pub images: BTreeMap<ImageName, SiteImageSpec>,
    /// Places for devices.
    pub slots: Vec<SlotSpec>,
    /// Its path, for messages: `sites/NAME/site.yaml`.
    pub file: TreePath,
}

/// Site × image: variables and checks (and files in `sites/NAME/images/IMAGE/files/`), never steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SiteImageSpec {
    /// Variables.
    pub vars: Vars,
    /// Checks.
    pub checks: Vec<CheckEntry>,
    /// Rules for the files of this image at this site.
    pub files: FileRules,
}

/// A machine's place in a site.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotSpec {
    /// Immutable id, unique in the site.
    pub id: SlotId,
    /// A display name.
    pub name: Option<String>,
    /// The image that its device runs.
    pub image: ImageName,
    /// The channel that its device follows.
    pub channel: Option<ChannelName>,
    /// Labels.
    pub labels: Labels,
    /// Variables, read only by `per: slot` images.
    pub vars: Vars,
    /// Rules for the files of this slot, read only by `per: slot` images.
    pub files: FileRules,
}

/// A declared exception: a check that may fail for some variants until a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exception {
    /// The check.
    pub check: CheckId,
    /// Globs over variant names.
    pub variants: Vec<String>,
    /// Lanes; all where empty.
    pub lanes: BTreeSet<Lane>,
    /// The reason.
    pub reason: String,
    /// The person or team that is responsible for it.
    pub owner: String,
    /// The last day on which it holds, `YYYY-MM-DD`.
    pub until: jiff::civil::Date,
}

/// Something that a site adds to a variant: a folder with its rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlay<'a> {
    /// The folder; it need not exist.
    pub folder: TreePath,
    /// The folder as the first declaration of the site had it: a title that does not change when a site's
    /// folder is renamed.
    pub title: String,
    /// Modes, owners, deletions and further entries.
    pub rules: &'a FileRules,
    /// The `site.yaml` that declares the rules.
    pub file: &'a TreePath,
}

/// What a site adds to a variant, the most general first: a later folder wins.
pub fn overlays<'a>(definition: &'a Definition, variant: &VariantName) -> Vec<Overlay<'a>> {
    static NO_RULES: FileRules = FileRules::NONE;
    let Some(site) = variant.site.as_ref().and_then(|name| definition.sites.get(name)) else {
        return Vec::new();
    };
    let image = site.images.get(&variant.image).map_or(&NO_RULES, |image| &image.files);
    let mut found =
        vec![("files".to_owned(), &site.files), (format!("images/{}/files", variant.image), image)];
    if let Some(id) = &variant.slot {
        let slot = site.slots.iter().find(|slot| slot.id == *id);
        found.push((format!("slots/{id}/files"), slot.map_or(&NO_RULES, |slot| &slot.files)));
    }
    let overlay = |(path, rules): (String, &'a FileRules)| {
        // The grammar of names allows only path components, so the path is always valid.
        let folder = site.file.parent()?.join(&path.parse().ok()?);
        let title = format!("sites/{}/{path}", site.name);
        Some(Overlay { folder, title, rules, file: &site.file })
    };
    found.into_iter().filter_map(overlay).collect()
}

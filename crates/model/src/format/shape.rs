//! The shape of every record of the format: the decoder rejects unknown keys by it, and the JSON Schemas are
//! made of it.

use super::report::nearest;
use super::rollout::{MAX_APPROVALS, MAX_DEVICES};
use super::yaml::{Key, Node};

/// A record: a map with known keys.
#[derive(Debug)]
pub(super) struct Shape {
    /// What it is, for messages: `a slot`.
    pub(super) what: &'static str,
    /// Its keys.
    pub(super) keys: &'static [Field],
    /// Keys of which exactly one is required.
    pub(super) one_of: &'static [&'static str],
}

impl Shape {
    /// Whether the presence or absence of a key in a map is intended. A map with an unknown key that may be a
    /// misspelling of this one is not clear about it, so errors that would follow from the absence are not
    /// reported.
    pub(super) fn is_clear(&self, node: &Node, name: &str) -> bool {
        let names = || self.keys.iter().map(|key| key.name);
        let unknown = |key: &&Key| self.field(&key.text).is_none();
        let mut strays = node.entries().iter().map(|(key, _)| key).filter(unknown);
        strays.all(|key| nearest(&key.text, names()).is_some_and(|near| near != name))
    }

    /// The field that a key means, by its present or its old spelling.
    pub(super) fn field(&self, key: &str) -> Option<&Field> {
        self.keys.iter().find(|field| field.name == key || field.old_name == Some(key))
    }
}

/// A key of a record.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// The spelling of earlier versions: still accepted, with a warning.
    pub(super) old_name: Option<&'static str>,
    pub(super) needed: bool,
    pub(super) kind: Kind,
    /// Its description in the JSON Schemas.
    pub(super) doc: &'static str,
}

impl Field {
    /// The same field, which earlier versions called `old_name`.
    const fn formerly(mut self, old_name: &'static str) -> Self {
        self.old_name = Some(old_name);
        self
    }
}

/// The kind of a value.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    /// A whole number between two bounds.
    Integer(i64, i64),
    Boolean,
    /// A variable's value: anything but null and numbers that are not 64-bit integers.
    Value,
    /// A duration such as `60s`.
    Span,
    /// A size such as `2GiB`.
    Size,
    /// One of these words.
    Word(&'static [&'static str]),
    List(&'static Kind),
    /// A map with free keys.
    Map(&'static Kind),
    Record(&'static Shape),
    /// Either of these.
    Either(&'static [Kind]),
}

mod checks;

pub(super) use checks::*;

const fn need(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, old_name: None, needed: true, kind, doc }
}

const fn may(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, old_name: None, needed: false, kind, doc }
}

const fn record(what: &'static str, keys: &'static [Field]) -> Shape {
    Shape { what, keys, one_of: &[] }
}

const TEXTS: Kind = Kind::List(&Kind::Text);
const LABELS: Kind = Kind::Map(&Kind::Text);
const VARS: Kind = Kind::Map(&Kind::Value);
const LANES: Kind = Kind::List(&Kind::Word(&[
    "static",
    "container",
    "vm",
    "upgrade",
    "rollback",
    "downgrade",
    "switch",
    "device",
    "external",
]));
const CHECKS: Kind = Kind::List(&Kind::Record(&CHECK));

pub(super) const SOURCE: Shape = record(
    "edgewright.yaml",
    &[
        need("edgewright", Kind::Integer(1, 1), "Version of this format."),
        need("name", Kind::Text, "First component of every repository of this source."),
        may("platforms", TEXTS, "Platforms to build, such as linux/amd64 (the default)."),
        may(
            "submodules",
            Kind::Boolean,
            "Whether the files of git submodules are read, at the recorded commits. Default: false.",
        ),
        may("vars", VARS, "Variables for all images; each must be declared by an image."),
        may("groups", Kind::List(&Kind::Record(&GROUP)), "Sites selected by label, with variables."),
        may(
            "channels",
            Kind::Map(&Kind::Record(&CHANNEL)),
            "Named pointers to a release. Default: `stable`, which follows the default branch.",
        ),
        may("rollouts", Kind::Map(&Kind::Record(&ROLLOUT)), "Policies for how devices follow a channel."),
    ],
);
pub(super) const GROUP: Shape = record(
    "a group",
    &[
        need("name", Kind::Text, "Its name."),
        need("where", LABELS, "Site labels that all must match."),
        may("vars", VARS, "Variables for those sites."),
    ],
);
pub(super) const CHANNEL: Shape = record(
    "a channel",
    &[
        need(
            "follows",
            Kind::Either(&[Kind::Word(&["default-branch"]), Kind::Record(&FOLLOWS)]),
            "The branch or channel that it follows.",
        ),
        may("after", Kind::Span, "Minimum age of a release before the channel moves to it."),
        may("rollout", Kind::Text, "Name of the rollout policy."),
        may("hold", Kind::Text, "Reason why the channel must not move; remove the key to let it move again."),
    ],
);
pub(super) const FOLLOWS: Shape = Shape {
    what: "follows",
    keys: &[may("branch", Kind::Text, "A branch."), may("channel", Kind::Text, "Another channel.")],
    one_of: &["branch", "channel"],
};
pub(super) const ROLLOUT: Shape = record(
    "a rollout",
    &[
        need("stages", Kind::List(&Kind::Record(&STAGE)), "The stages, in order."),
        may(
            "windows",
            Kind::List(&Kind::Record(&WINDOW)),
            "When devices may be offered a release for the first time. Default: at any time.",
        ),
        may("time_zone", Kind::Text, "Time zone of the windows, such as Europe/Berlin. Default: UTC."),
        may(
            "in_flight",
            Kind::Integer(1, MAX_DEVICES),
            "How many devices may have the release without having confirmed or left it. Default: 50.",
        ),
        may("rate", Kind::Record(&RATE), "How many devices may be offered the release in a period."),
        may("group", Kind::Text, "The label whose value names a device's redundancy group at its site."),
        may(
            "unavailable",
            Kind::Integer(1, MAX_DEVICES),
            "How many devices of a redundancy group may be unavailable. Default: 1.",
        ),
        may("offline_after", Kind::Span, "After how much silence a device is offline. Default: 24h."),
    ],
);
pub(super) const RATE: Shape = record(
    "a rate",
    &[
        need("devices", Kind::Integer(1, MAX_DEVICES), "How many devices."),
        need("every", Kind::Span, "In how much time."),
    ],
);
pub(super) const WINDOW: Shape = record(
    "a window",
    &[
        need(
            "days",
            Kind::List(&Kind::Word(&[
                "monday",
                "tuesday",
                "wednesday",
                "thursday",
                "friday",
                "saturday",
                "sunday",
            ])),
            "The days on which it begins.",
        ),
        need("from", Kind::Text, "Its first moment, such as \"02:00\"."),
        need("to", Kind::Text, "The moment after its last; on the next day if it is not after `from`."),
    ],
);
pub(super) const STAGE: Shape = record(
    "a stage",
    &[
        need("name", Kind::Text, "Its name."),
        may("select", LABELS, "Slot and site labels that all must match."),
        may("percent", Kind::Integer(1, 100), "Share of the devices whose digest would change."),
        may("count", Kind::Integer(1, MAX_DEVICES), "This many devices."),
        may("per_site", Kind::Integer(1, MAX_DEVICES), "This many devices of each site."),
        may(
            "ended",
            Kind::Integer(1, 100),
            "Share of its reachable devices that must have confirmed or left the release before the soak. Default: 95.",
        ),
        may("soak", Kind::Span, "Time to wait before the next stage."),
        may("approval", Kind::Boolean, "Whether a person must approve it before it begins. Default: false."),
        may(
            "approvals",
            Kind::Integer(1, MAX_APPROVALS),
            "How many people must approve it before it begins. Two or more must be users, and none of them may have \
             ordered the release.",
        ),
    ],
);

pub(super) const IMAGE: Shape = record(
    "image.yaml",
    &[
        need("from", Kind::Text, "`scratch`, an image of this source, or a registry reference."),
        may(
            "per",
            Kind::Word(&["image", "site", "slot"]),
            "One variant in total (the default), one per site, or one per slot.",
        ),
        may("where", LABELS, "Site labels that select the sites for which the image is built."),
        may("declare", Kind::Map(&Kind::Record(&DECLARATION)), "The variables that this image reads."),
        may(
            "steps",
            Kind::List(&Kind::Record(&STEP)),
            "The steps, in order. An image without steps is only tested and hosted.",
        ),
        may(
            "labels",
            LABELS,
            "OCI labels of the image, such as org.opencontainers.image.vendor; part of its key.",
        ),
        may("checks", CHECKS, "Assertions about the running image."),
        may("test", Kind::Either(&[Kind::Word(&["none"]), Kind::Record(&TEST)]), "How the image is tested."),
        may("platforms", TEXTS, "Platforms of this image. Default: the source's."),
    ],
);
pub(super) const DECLARATION: Shape = record(
    "a declaration",
    &[
        need("type", Kind::Word(&["string", "integer", "boolean", "list", "map"]), "Type of its values."),
        may("default", Kind::Value, "Value if none is set. A variable without a default must be set."),
        may("description", Kind::Text, "Description for readers."),
    ],
);
const STEP_KINDS: &[&str] = &["bootstrap", "containerfile", "files"];
pub(super) const STEP: Shape = Shape {
    what: "a step",
    keys: &[
        may("bootstrap", Kind::Record(&BOOTSTRAP), "An operating system from packages."),
        may("containerfile", Kind::Either(&[Kind::Text, Kind::Record(&CONTAINERFILE)]), "A Containerfile."),
        may("files", Kind::Either(&[Kind::Text, Kind::Record(&FILES)]), "A folder laid over the image."),
    ],
    one_of: STEP_KINDS,
};
pub(super) const BOOTSTRAP: Shape = record(
    "a bootstrap step",
    &[
        need("suite", Kind::Text, "The distribution's suite, such as trixie."),
        may("packages", TEXTS, "Packages besides the essential ones."),
        may("mirror", Kind::Text, "Address of the package mirror."),
        may("components", TEXTS, "Archive components. Default: `main`."),
        may("sources", TEXTS, "Further sources.list lines."),
        may("keys", TEXTS, "Keyring files, relative to the image's folder."),
    ],
);
pub(super) const CONTAINERFILE: Shape = record(
    "a containerfile step",
    &[
        may("file", Kind::Text, "Path relative to the image's folder. Default: `Containerfile`."),
        may(
            "context",
            Kind::Text,
            "Context folder relative to the image's folder. Default: the Containerfile's folder.",
        ),
        may("args", LABELS, "Build arguments."),
        may("target", Kind::Text, "The stage to build. Default: the last one."),
        may("secrets", Kind::List(&Kind::Record(&SECRET)), "Build secrets; they are never part of a layer."),
        may(
            "refresh",
            Kind::Span,
            "Time after which the step is built again even if its inputs did not change.",
        ),
    ],
);
pub(super) const SECRET: Shape = record(
    "a secret",
    &[
        need("id", Kind::Text, "The id that the Containerfile uses."),
        need(
            "version",
            Kind::Text,
            "Part of the step's key in place of the value; change it to rebuild with a new value.",
        ),
    ],
);
const OWNER: Field = may(
    "owner",
    Kind::Text,
    "Numeric owner of all entries, USER:GROUP. Default: the owner of what is replaced, or 0:0.",
);
const MODES: Field = may("modes", LABELS, "Modes by glob over the path in the image; the last match wins.");
const DELETE: Field = may("delete", TEXTS, "Paths in the image to delete.");
const DIRECTORIES: Field = may(
    "directories",
    Kind::List(&Kind::Either(&[Kind::Text, Kind::Record(&DIRECTORY)])),
    "Directories of the image, by path or with mode and owner, because git does not store empty ones.",
);
const XATTRS: Field = may(
    "xattrs",
    Kind::Map(&Kind::Map(&Kind::Text)),
    "Extended attributes by path in the image: name to text, or to 0x and hexadecimal digits.",
);
const HARD_LINKS: Field =
    may("hard_links", LABELS, "Hard links: path in the image to the file of this step that it links to.");
const TEMPLATES: Field = may(
    "templates",
    Kind::Boolean,
    "Whether files that end in .j2 are rendered. If not, they are copied as they are. Default: true.",
);
pub(super) const FILES: Shape = record(
    "a files step",
    &[
        may(
            "path",
            Kind::Text,
            "The folder, relative to the image's folder. Not needed if the step only deletes or declares directories.",
        ),
        OWNER,
        MODES,
        DELETE,
        DIRECTORIES,
        XATTRS,
        HARD_LINKS,
        TEMPLATES,
    ],
);
/// Rules for a folder whose path follows from its place: the folders of sites.
pub(super) const FILE_RULES: Shape =
    record("files", &[OWNER, MODES, DELETE, DIRECTORIES, XATTRS, HARD_LINKS, TEMPLATES]);
pub(super) const DIRECTORY: Shape = record(
    "a directory",
    &[
        need("path", Kind::Text, "Path in the image."),
        may("mode", Kind::Text, "Permission bits. Default: those of an existing directory, or \"0755\"."),
        may("owner", Kind::Text, "Numeric owner, USER:GROUP. Default: the step's owner."),
    ],
);
pub(super) const TEST: Shape = record(
    "test",
    &[
        may("lanes", LANES, "The lanes to run. Default: `container`."),
        may(
            "inherit",
            Kind::Record(&INHERIT),
            "Lanes whose verdicts a variant may inherit from the representative.",
        ),
        may("timeout", Kind::Span, "Time limit for a verdict of the lane `external`. Default: 24h.")
            .formerly("within"),
        may(
            "vm",
            Kind::Record(&VM),
            "The virtual machine of the lane `vm` and of those that update a device.",
        ),
        may("switch", Kind::Record(&SWITCH), "The lane `switch`."),
    ],
);
pub(super) const SWITCH: Shape =
    record("switch", &[need("from", Kind::Text, "The image that the device runs before.")]);
pub(super) const VM: Shape = record(
    "vm",
    &[
        may(
            "profile",
            Kind::Word(&["direct", "uefi"]),
            "`direct`: the kernel on a read-only root with an overlay in memory. `uefi`: firmware, a disk, and the \
             image's own initramfs. Default: `direct`.",
        ),
        may("memory", Kind::Size, "Its memory. Default: 1GiB."),
    ],
);
pub(super) const INHERIT: Shape = record(
    "inherit",
    &[
        need("lanes", LANES, "The lanes to inherit."),
        may("when", Kind::Word(&["files-only"]), "Only if the variants differ in files steps only."),
        may("from", Kind::Word(&["representative"]), "The first variant by name runs them for all."),
    ],
);

pub(super) const SITE: Shape = record(
    "site.yaml",
    &[
        need("id", Kind::Text, "Immutable id; the folder's name may change."),
        may("labels", LABELS, "Labels, read by groups and `where`."),
        may("vars", VARS, "Variables for all images of this site."),
        may("files", Kind::Record(&FILE_RULES), "Modes and owners of files/, deletions and directories."),
        may("images", Kind::Map(&Kind::Record(&SITE_IMAGE)), "Additions to one image at this site only."),
        may("slots", Kind::List(&Kind::Record(&SLOT)), "Places for devices."),
    ],
);
pub(super) const SITE_IMAGE: Shape = record(
    "an image of a site",
    &[
        may("vars", VARS, "Variables for this image at this site."),
        may("checks", CHECKS, "Checks for this image at this site."),
        may("files", Kind::Record(&FILE_RULES), "Modes and owners of images/IMAGE/files/."),
    ],
);
pub(super) const SLOT: Shape = record(
    "a slot",
    &[
        need("id", Kind::Text, "Immutable id, unique in the site."),
        may("name", Kind::Text, "Display name."),
        need("image", Kind::Text, "The image that its device runs."),
        may("channel", Kind::Text, "The channel that its device follows."),
        may("labels", LABELS, "Labels, read by rollouts."),
        may("vars", VARS, "Variables, read only by `per: slot` images."),
        may("files", Kind::Record(&FILE_RULES), "Modes and owners of slots/SLOT/files/ (`per: slot` only)."),
    ],
);
pub(super) const EXCEPTION: Shape = record(
    "an exception",
    &[
        need("check", Kind::Text, "The check that may fail."),
        need("variants", TEXTS, "Globs over variant names."),
        may("lanes", LANES, "Lanes. Default: all."),
        need("reason", Kind::Text, "Reason."),
        need("owner", Kind::Text, "Person or team that is responsible."),
        need("until", Kind::Text, "Last day on which it applies, YYYY-MM-DD."),
    ],
);

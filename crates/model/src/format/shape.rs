//! One description of every record of the format: the decoder refuses keys by it, the JSON Schemas are made of it.

use super::report::nearest;
use super::yaml::{Key, Node};

/// A record: a map with known keys.
#[derive(Debug)]
pub(super) struct Shape {
    /// What it is, for messages: `a slot`.
    pub(super) what: &'static str,
    /// Its keys.
    pub(super) keys: &'static [Field],
    /// Keys of which exactly one must be there.
    pub(super) one_of: &'static [&'static str],
}

impl Shape {
    /// Whether a map says what a key is for, by having it or by leaving it out. A map with an unknown key that may have been
    /// meant to be this one says nothing about it, and what would follow from its absence is no error of its own.
    pub(super) fn says(&self, node: &Node, name: &str) -> bool {
        let names = || self.keys.iter().map(|key| key.name);
        let unknown = |key: &&Key| names().all(|name| name != key.text);
        let mut strays = node.entries().iter().map(|(key, _)| key).filter(unknown);
        strays.all(|key| nearest(&key.text, names()).is_some_and(|near| near != name))
    }
}

/// A key of a record.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) needed: bool,
    pub(super) kind: Kind,
    /// What it means, for editors.
    pub(super) doc: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    /// A whole number between two bounds.
    Integer(i64, i64),
    Boolean,
    /// A variable's value: anything but nothing and broken numbers.
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
    Field { name, needed: true, kind, doc }
}

const fn may(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, needed: false, kind, doc }
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
        may("vars", VARS, "Variables for all; each must be declared by an image."),
        may("groups", Kind::List(&Kind::Record(&GROUP)), "Sites selected by label, with variables."),
        may(
            "channels",
            Kind::Map(&Kind::Record(&CHANNEL)),
            "Named pointers to a release; `stable` where none is declared.",
        ),
        may("rollouts", Kind::Map(&Kind::Record(&ROLLOUT)), "Policies by which devices follow a channel."),
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
            "What it follows.",
        ),
        may("after", Kind::Span, "How old a release must be before the channel takes it."),
        may("rollout", Kind::Text, "The rollout policy."),
        may(
            "hold",
            Kind::Text,
            "Why the channel does not move at the moment; remove it, and it moves again.",
        ),
    ],
);
pub(super) const FOLLOWS: Shape = Shape {
    what: "follows",
    keys: &[may("branch", Kind::Text, "A branch."), may("channel", Kind::Text, "Another channel.")],
    one_of: &["branch", "channel"],
};
pub(super) const ROLLOUT: Shape =
    record("a rollout", &[need("stages", Kind::List(&Kind::Record(&STAGE)), "Its stages, in order.")]);
pub(super) const STAGE: Shape = record(
    "a stage",
    &[
        need("name", Kind::Text, "Its name."),
        may("select", LABELS, "Slot and site labels that all must match."),
        may("percent", Kind::Integer(1, 100), "Share of the devices whose digest would change."),
        may("soak", Kind::Span, "How long to watch before the next stage."),
    ],
);

pub(super) const IMAGE: Shape = record(
    "image.yaml",
    &[
        need("from", Kind::Text, "`scratch`, an image of this source, or a registry reference."),
        may(
            "per",
            Kind::Word(&["image", "site", "slot"]),
            "One variant in all (the default), per site, or per slot.",
        ),
        may("where", LABELS, "Site labels that narrow the sites."),
        may("declare", Kind::Map(&Kind::Record(&DECLARATION)), "The variables that this image reads."),
        may("steps", Kind::List(&Kind::Record(&STEP)), "The steps, in order; none: only test and host."),
        may(
            "labels",
            LABELS,
            "OCI labels of the image, such as org.opencontainers.image.vendor; part of its key.",
        ),
        may("checks", CHECKS, "What must hold on the running image."),
        may("test", Kind::Either(&[Kind::Word(&["none"]), Kind::Record(&TEST)]), "How it is tested."),
        may("platforms", TEXTS, "Other platforms than the source's."),
    ],
);
pub(super) const DECLARATION: Shape = record(
    "a declaration",
    &[
        need("type", Kind::Word(&["string", "integer", "boolean", "list", "map"]), "What values it takes."),
        may("default", Kind::Value, "Its value where none is set; without one it must be set."),
        may("description", Kind::Text, "What it is for."),
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
        may("mirror", Kind::Text, "Where packages come from."),
        may("components", TEXTS, "Archive components; `main` where absent."),
        may("sources", TEXTS, "Further sources.list lines."),
        may("keys", TEXTS, "Keyring files, relative to the image's folder."),
    ],
);
pub(super) const CONTAINERFILE: Shape = record(
    "a containerfile step",
    &[
        may("file", Kind::Text, "Path relative to the image's folder; `Containerfile` where absent."),
        may(
            "context",
            Kind::Text,
            "Context folder relative to the image's folder; the Containerfile's folder where absent.",
        ),
        may("args", LABELS, "Build arguments."),
        may("target", Kind::Text, "The stage to build; the last where absent."),
        may("secrets", Kind::List(&Kind::Record(&SECRET)), "Build secrets; they never reach a layer."),
        may("refresh", Kind::Span, "How long a result may be reused before the step is built again."),
    ],
);
pub(super) const SECRET: Shape = record(
    "a secret",
    &[
        need("id", Kind::Text, "The id that the Containerfile uses."),
        need("version", Kind::Text, "Enters the key in place of the value."),
    ],
);
pub(super) const FILES: Shape = record(
    "a files step",
    &[
        may(
            "path",
            Kind::Text,
            "The folder, relative to the image's folder; none where the step only declares or deletes.",
        ),
        may("owner", Kind::Text, "Numeric owner of all entries, USER:GROUP; 0:0 where absent."),
        may("modes", LABELS, "Modes by glob over the path in the image; the last match wins."),
        may("delete", TEXTS, "Paths in the image to delete."),
        may(
            "directories",
            Kind::List(&Kind::Either(&[Kind::Text, Kind::Record(&DIRECTORY)])),
            "Directories of the image, by path or with mode and owner; git keeps no empty ones.",
        ),
        may(
            "xattrs",
            Kind::Map(&Kind::Map(&Kind::Text)),
            "Extended attributes by path in the image: name to text, or to 0x and hexadecimal digits.",
        ),
        may(
            "hard_links",
            LABELS,
            "Hard links: path in the image to the file of this step that it names again.",
        ),
    ],
);
pub(super) const DIRECTORY: Shape = record(
    "a directory",
    &[
        need("path", Kind::Text, "Path in the image."),
        may("mode", Kind::Text, "Its permission bits; \"0755\" where absent."),
        may("owner", Kind::Text, "Its numeric owner, USER:GROUP; the step's where absent."),
    ],
);
pub(super) const TEST: Shape = record(
    "test",
    &[
        may("lanes", LANES, "The lanes to run; `container` where absent."),
        may("inherit", Kind::Record(&INHERIT), "Lanes that a variant may take over from the representative."),
        may("within", Kind::Span, "How long to wait for a verdict of the lane `external`; 24h where absent."),
    ],
);
pub(super) const INHERIT: Shape = record(
    "inherit",
    &[
        need("lanes", LANES, "The lanes to take over."),
        may("when", Kind::Word(&["files-only"]), "Where the variants differ in files steps only."),
        may("from", Kind::Word(&["representative"]), "The first variant by name runs them for all."),
    ],
);

pub(super) const SITE: Shape = record(
    "site.yaml",
    &[
        need("id", Kind::Text, "Immutable id; the folder's name may change."),
        may("labels", LABELS, "Labels, read by groups and `where`."),
        may("vars", VARS, "Variables for all images of this site."),
        may("images", Kind::Map(&Kind::Record(&SITE_IMAGE)), "What one image has at this site only."),
        may("slots", Kind::List(&Kind::Record(&SLOT)), "Places for devices."),
    ],
);
pub(super) const SITE_IMAGE: Shape = record(
    "an image of a site",
    &[
        may("vars", VARS, "Variables for this image at this site."),
        may("checks", CHECKS, "Checks for this image at this site."),
    ],
);
pub(super) const SLOT: Shape = record(
    "a slot",
    &[
        need("id", Kind::Text, "Immutable id, unique in the site."),
        may("name", Kind::Text, "For people."),
        need("image", Kind::Text, "The image that its device runs."),
        may("channel", Kind::Text, "The channel that its device follows."),
        may("labels", LABELS, "Labels, read by rollouts."),
        may("vars", VARS, "Variables, read only by `per: slot` images."),
    ],
);
pub(super) const EXCEPTION: Shape = record(
    "an exception",
    &[
        need("check", Kind::Text, "The check that may fail."),
        need("variants", TEXTS, "Globs over variant names."),
        may("lanes", LANES, "Lanes; all where absent."),
        need("reason", Kind::Text, "Why."),
        need("owner", Kind::Text, "Who answers for it."),
        need("until", Kind::Text, "The last day on which it holds, YYYY-MM-DD."),
    ],
);

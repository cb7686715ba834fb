//! A source of two images at two sites, and how tests change it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use edgewright_model::containerfile::ForeignImage;
use edgewright_model::format::parse;
use edgewright_model::lock::{Lock, LockRequest, LockedImage, LockedPackage};
use edgewright_model::spec::Definition;
use edgewright_model::tools::ToolVersions;
use edgewright_model::tree::{EntryKind, Tree};
use edgewright_plan::{Graph, History, Locks, NodeId, Plan, graph, lock_request, plan};

/// Files by path.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) files: BTreeMap<String, String>,
    /// Version of the package systemd in the lock of `base`; `None` leaves it unresolved.
    pub(crate) systemd: Option<String>,
    /// Versions of the programs that execute steps.
    pub(crate) tools: ToolVersions,
}

pub(crate) const SAMPLE: &[(&str, &str)] = &[
    (
        "edgewright.yaml",
        "edgewright: 1\nname: plant-os\nplatforms: [linux/amd64]\nvars: {ntp: pool.example.org}\n",
    ),
    (
        "images/base/image.yaml",
        "from: scratch\n\
         steps:\n\
         - bootstrap: {suite: trixie, packages: [systemd, linux-image-cloud-amd64]}\n\
         - files: files/\n\
         checks:\n\
         - {id: system-up, systemd: running, timeout: 60s}\n\
         test: {lanes: [container]}\n",
    ),
    ("images/base/files/etc/motd", "base\n"),
    (
        "images/hmi/image.yaml",
        "from: base\n\
         per: site\n\
         declare: {ntp: {type: string}, plc: {type: string}, brand: {type: string, default: plain}}\n\
         steps:\n\
         - containerfile: {file: Containerfile, args: {CHANNEL: edge}}\n\
         - files: {path: files/, owner: \"0:0\", modes: {\"usr/bin/*\": \"0755\"}}\n\
         checks:\n\
         - {id: hmi-answers, http: {url: \"http://127.0.0.1:8080/healthz\", status: 200}, timeout: 60s}\n\
         test: {lanes: [container]}\n",
    ),
    (
        "images/hmi/Containerfile",
        "# The operator's panel.\nARG BASE\nFROM ${BASE}\nCOPY src/hmi /usr/bin/hmi\n",
    ),
    ("images/hmi/.containerignore", "files\n*.md\n"),
    ("images/hmi/src/hmi", "#!/bin/sh\n"),
    ("images/hmi/files/etc/hmi.conf", "port=8080\n"),
    (
        "images/gateway/image.yaml",
        "from: base\n\
         per: site\n\
         declare: {ntp: {type: string}}\n\
         steps:\n\
         - files: files/\n\
         test: {lanes: [container]}\n",
    ),
    ("images/gateway/files/etc/chrony.conf.j2", "server {{ vars.ntp }}\n"),
    (
        "sites/plant-a/site.yaml",
        "id: s-a\n\
         labels: {region: emea}\n\
         vars: {plc: 10.1.0.5}\n\
         slots:\n\
         - {id: press-1, image: hmi, labels: {ring: lab}}\n\
         - {id: gw-1, image: gateway}\n",
    ),
    ("sites/plant-a/files/etc/plant/site.conf", "plant=a\n"),
    (
        "sites/plant-b/site.yaml",
        "id: s-b\n\
         vars: {plc: 10.2.0.5}\n\
         slots:\n\
         - {id: press-1, image: hmi}\n\
         - {id: gw-1, image: gateway}\n",
    ),
    ("sites/plant-b/files/etc/plant/site.conf", "plant=b\n"),
    ("sites/plant-b/images/hmi/files/etc/plc.conf.j2", "plc={{ vars.plc }}\n"),
    ("README.md", "A sample.\n"),
];

impl Source {
    /// Two roles on one base at two sites.
    pub(crate) fn sample() -> Self {
        let files = SAMPLE.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { files, systemd: Some("257.1".to_owned()), tools: ToolVersions::default() }
    }

    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn without(mut self, path: &str) -> Self {
        self.files.remove(path).unwrap_or_else(|| panic!("{path} does not exist"));
        self
    }

    pub(crate) fn replace(mut self, path: &str, from: &str, to: &str) -> Self {
        let text = self.files.get_mut(path).unwrap_or_else(|| panic!("{path} does not exist"));
        assert!(text.contains(from), "{path} has no {from:?}");
        *text = text.replace(from, to);
        self
    }

    pub(crate) fn with_tool(mut self, name: &str, version: &str) -> Self {
        self.tools.0.insert(name.to_owned(), version.to_owned());
        self
    }

    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in &self.files {
            tree.insert(path.parse().unwrap(), EntryKind::File, text.as_bytes());
        }
        tree
    }

    /// The graph; the definition may have errors.
    pub(crate) fn graph(&self) -> Graph {
        let tree = self.tree();
        let definition = parse(&tree).definition.unwrap();
        graph(&definition, &tree, &self.locks(&definition))
    }

    /// The graph of a definition without errors.
    pub(crate) fn sound(&self) -> Graph {
        let parsed = parse(&self.tree());
        assert_eq!(parsed.diagnostics, Vec::new());
        let graph = self.graph();
        assert_eq!(graph.diagnostics, Vec::new());
        assert_eq!(graph.blocked, BTreeMap::new());
        graph
    }

    pub(crate) fn locks(&self, definition: &Definition) -> Locks {
        let overlay = |request: &LockRequest| Some((1, lock(request, self.systemd.as_ref()?)));
        let overlays = definition
            .images
            .iter()
            .map(|(name, image)| {
                let request = lock_request(image, &definition.source);
                (name.clone(), overlay(&request).into_iter().collect())
            })
            .collect();
        Locks::choose(definition, &overlays, "zstd-1").with_tools(self.tools.clone())
    }
}

fn locked(image: &ForeignImage, version: &str) -> LockedImage {
    LockedImage {
        reference: image.reference.clone(),
        platform: image.platform.clone(),
        digest: edgewright_model::Digest::of(format!("{} {version}", image.reference)),
    }
}

/// A lock that answers a request with systemd in some version and one more package.
pub(crate) fn lock(request: &LockRequest, version: &str) -> Lock {
    let package = |name: &str, version: &str| LockedPackage::new(name, version, "amd64");
    let packages = vec![vec![package("libc6", "2.41"), package("systemd", version)]; request.bootstrap.len()];
    Lock {
        version: 1,
        request: request.digest(),
        epoch: "2026-11-01T00:00:00Z".parse().unwrap(),
        epochs: BTreeMap::new(),
        base: request.base.as_ref().map(|_| edgewright_model::Digest::of(version)),
        bases: BTreeMap::new(),
        archives: Vec::new(),
        images: request.images.iter().map(|image| locked(image, version)).collect(),
        packages: request.platforms.iter().map(|platform| (platform.clone(), packages.clone())).collect(),
    }
}

/// The plan for `new` when all of `old` was built and passed.
pub(crate) fn after(old: &Source, new: &Source) -> Plan {
    let old = old.sound();
    plan(&new.graph(), &History::as_if_built(&old), Some(&old))
}

/// A plan as text, without unchanged nodes, hex of keys masked.
pub(crate) fn show(plan: &Plan) -> String {
    let mut text = format!("{plan}\n");
    for node in plan.nodes.values().filter(|node| node.action.name() != "reuse") {
        let name = |id: &NodeId| {
            let name = id.name.to_string();
            name.split_once('~').map_or(name.clone(), |(image, _)| format!("{image}~"))
        };
        let after: Vec<String> = node.after.iter().map(name).collect();
        let after = if after.is_empty() { String::new() } else { format!(" after {}", after.join(", ")) };
        writeln!(text, "{} {}{after}: {}", node.action.name(), name(&node.id), node.reason()).unwrap();
    }
    text
}

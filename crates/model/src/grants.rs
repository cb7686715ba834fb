//! Grants: what a job may do in the registry, derived from its order alone.
//!
//! | the order names | the job may |
//! |---|---|
//! | its own repository | read it, push blobs and untagged manifests into it |
//! | a base manifest | pull that manifest and the blobs that it refers to, and mount those blobs |
//! | a released manifest that a lane starts from | the same |
//! | a context | pull that blob |
//! | kept packages | pull those blobs |
//! | a bootstrap step | push the packages that it installed into the source's package repository |
//!
//! No job tags, deletes, lists repositories, or writes what only Edgewright writes.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::order::{Base, BlobRef, Context, ImageTask, ManifestRef, StepAction, Task};
use crate::reference::{Reference, RepoName};

/// The last part of the repository that holds a source's packages: `plants/packages`.
const PACKAGES: &str = "packages";

/// What a job may do in the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    own: Option<RepoName>,
    /// Pushed to, not read: the packages that a bootstrap step installed.
    packages: Option<RepoName>,
    manifests: BTreeSet<(RepoName, Digest)>,
    blobs: BTreeSet<(RepoName, Digest)>,
}

/// Whether a job may pull a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobGrant {
    /// It may.
    Yes,
    /// It may, if one of these manifests of the blob's repository refers to the blob.
    IfReferredToBy(Vec<Digest>),
    /// It may not.
    No,
}

impl Grants {
    /// The grants that a task needs.
    pub fn of(task: &Task) -> Self {
        match task {
            // Locks are resolved from other registries and package mirrors.
            Task::Lock(_) => Self::default(),
            Task::Image(task) => Self::of_image(task),
        }
    }

    fn of_image(task: &ImageTask) -> Self {
        let mut grants = Self { own: Some(task.repository.clone()), ..Self::default() };
        match &task.base {
            Base::Manifest(ManifestRef { repository, digest }) => {
                grants.manifests.insert((repository.clone(), digest.clone()));
            }
            Base::Scratch | Base::External { .. } => {}
        }
        let released = task.lanes.iter().filter_map(|lane| lane.from.clone());
        grants.manifests.extend(released.map(|from| (from.repository, from.digest)));
        for step in &task.steps {
            match &step.action {
                StepAction::Containerfile { context, .. } | StepAction::Files { entries: context, .. } => {
                    grants.add_context(context);
                }
                StepAction::Bootstrap { kept, .. } => {
                    grants.packages = packages(&task.repository);
                    for package in kept.iter().flat_map(|kept| &kept.packages) {
                        let repository = kept.as_ref().map(|kept| kept.repository.clone());
                        grants.blobs.extend(repository.map(|name| (name, package.digest.clone())));
                    }
                }
            }
        }
        grants
    }

    fn add_context(&mut self, context: &Context) {
        if let Context::Blob(BlobRef { repository, digest, .. }) = context {
            self.blobs.insert((repository.clone(), digest.clone()));
        }
    }

    /// Whether the job may pull a manifest. Tags move, so outside of its own repository only a digest names
    /// one.
    pub fn may_pull_manifest(&self, repository: &RepoName, reference: &Reference) -> bool {
        let is_named = |digest: &Digest| self.manifests.contains(&(repository.clone(), digest.clone()));
        self.is_own(repository) || matches!(reference, Reference::Digest(digest) if is_named(digest))
    }

    /// Whether the job may pull a blob.
    pub fn may_pull_blob(&self, repository: &RepoName, digest: &Digest) -> BlobGrant {
        if self.is_own(repository) || self.blobs.contains(&(repository.clone(), digest.clone())) {
            return BlobGrant::Yes;
        }
        let of_repository = self.manifests.iter().filter(|(name, _)| name == repository);
        let manifests: Vec<Digest> = of_repository.map(|(_, digest)| digest.clone()).collect();
        if manifests.is_empty() { BlobGrant::No } else { BlobGrant::IfReferredToBy(manifests) }
    }

    /// Whether the job may ask if a blob exists, as clients do before a push.
    pub fn may_look_for_blob(&self, repository: &RepoName) -> bool {
        self.may_push_blob(repository)
    }

    /// Whether the job may list what refers to a manifest of the repository, and its tags.
    pub fn may_list(&self, repository: &RepoName) -> bool {
        self.is_own(repository)
    }

    /// Whether the job may push blobs.
    pub fn may_push_blob(&self, repository: &RepoName) -> bool {
        self.is_own(repository) || self.packages.as_ref() == Some(repository)
    }

    /// Whether the job may push a manifest without a tag.
    pub fn may_push_manifest(&self, repository: &RepoName) -> bool {
        self.is_own(repository)
    }

    fn is_own(&self, repository: &RepoName) -> bool {
        self.own.as_ref() == Some(repository)
    }
}

/// The repository that keeps a source's packages: the first part of a repository's name names the source.
pub fn packages(repository: &RepoName) -> Option<RepoName> {
    let source = repository.as_str().split('/').next()?;
    format!("{source}/{PACKAGES}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(base: &serde_json::Value, steps: &serde_json::Value) -> Task {
        serde_json::from_value(serde_json::json!({
            "kind": "image", "node": "hmi/plant-a", "variant": "hmi/plant-a", "platform": "linux/amd64",
            "repository": "plants/hmi/plant-a", "base": base, "steps": steps,
            "epoch": "2026-01-01T00:00:00Z", "labels": {}, "lanes": [],
        }))
        .unwrap()
    }

    fn files(context: &serde_json::Value) -> serde_json::Value {
        let action = serde_json::json!({"kind": "files", "entries": context, "delete": []});
        serde_json::json!({"key": Digest::of("key"), "title": "files", "action": action})
    }

    fn repo(name: &str) -> RepoName {
        name.parse().unwrap()
    }

    #[test]
    fn a_job_may_do_what_its_order_names() {
        let (base, context) = (Digest::of("base"), Digest::of("context"));
        let blob = serde_json::json!({"kind": "blob", "repository": "plants/contexts", "digest": context, "size": 7});
        let from = serde_json::json!({"kind": "manifest", "repository": "plants/base", "digest": base});
        let grants = Grants::of(&task(&from, &serde_json::json!([files(&blob)])));

        let by_digest = |digest: &Digest| Reference::Digest(digest.clone());
        let manifests = [
            ("plants/hmi/plant-a", by_digest(&Digest::of("any")), true),
            ("plants/hmi/plant-a", "stable".parse().unwrap(), true),
            ("plants/base", by_digest(&base), true),
            ("plants/base", by_digest(&Digest::of("other")), false),
            ("plants/base", "stable".parse().unwrap(), false),
            ("plants/hmi/plant-b", by_digest(&base), false),
            ("plants/contexts", by_digest(&context), false),
        ];
        for (name, reference, expected) in manifests {
            assert_eq!(grants.may_pull_manifest(&repo(name), &reference), expected, "{name} {reference}");
        }
        let blobs = [
            ("plants/hmi/plant-a", &context, BlobGrant::Yes),
            ("plants/contexts", &context, BlobGrant::Yes),
            ("plants/contexts", &base, BlobGrant::No),
            ("plants/base", &context, BlobGrant::IfReferredToBy(vec![base.clone()])),
            ("plants/hmi/plant-b", &context, BlobGrant::No),
        ];
        for (name, digest, expected) in blobs {
            assert_eq!(grants.may_pull_blob(&repo(name), digest), expected, "{name}");
        }
        for (name, expected) in [
            ("plants/hmi/plant-a", true),
            ("plants/base", false),
            ("plants/contexts", false),
            ("plants/packages", false),
        ] {
            assert_eq!(grants.may_push_blob(&repo(name)), expected, "{name}");
            assert_eq!(grants.may_push_manifest(&repo(name)), expected, "{name}");
            assert_eq!(grants.may_look_for_blob(&repo(name)), expected, "{name}");
            assert_eq!(grants.may_list(&repo(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_bootstrap_pushes_its_packages_and_pulls_the_kept_ones() {
        let archive = Digest::of("archive");
        let package = serde_json::json!({"name": "base-files", "version": "1", "architecture": "amd64"});
        let step = |kept: &serde_json::Value| {
            let action = serde_json::json!({
                "kind": "bootstrap", "packages": [], "keys": {}, "kept": kept,
                "step": {
                    "suite": "trixie", "packages": [], "mirror": null, "components": [], "sources": [], "keys": [],
                },
            });
            serde_json::json!([{"key": Digest::of("key"), "title": "bootstrap trixie", "action": action}])
        };
        let scratch = serde_json::json!({"kind": "scratch"});
        let grants = Grants::of(&task(&scratch, &step(&serde_json::Value::Null)));
        assert!(grants.may_push_blob(&repo("plants/packages")));
        assert!(!grants.may_push_manifest(&repo("plants/packages")), "blobs only");
        assert_eq!(grants.may_pull_blob(&repo("plants/packages"), &archive), BlobGrant::No);
        assert!(!grants.may_push_blob(&repo("other/packages")));

        let kept = serde_json::json!({
            "repository": "plants/packages", "sources": "deb …",
            "packages": [{"package": package, "digest": archive, "size": 7}],
        });
        let grants = Grants::of(&task(&scratch, &step(&kept)));
        assert_eq!(grants.may_pull_blob(&repo("plants/packages"), &archive), BlobGrant::Yes);
    }

    #[test]
    fn inline_contexts_external_bases_and_locks_need_nothing() {
        let inline = serde_json::json!({"kind": "inline", "tar": ""});
        let external = serde_json::json!({
            "kind": "external", "registry": "quay.io", "repository": "fedora/fedora-bootc", "digest": Digest::of("x"),
        });
        let grants = Grants::of(&task(&external, &serde_json::json!([files(&inline)])));
        let only_own = Grants { own: Some(repo("plants/hmi/plant-a")), ..Grants::default() };
        assert_eq!(grants, only_own);
    }
}

//! Referrers: the published copies of what control knows about a digest. Only control's identity may push
//! them.

use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use edgewright_model::run::RunNumber;
use edgewright_model::verdict::Evidence;
use edgewright_oci::image::{Artifact, EMPTY_CONFIG};
use edgewright_oci::media::{self, Descriptor};
use edgewright_store::Store;
use serde::Serialize;

use crate::ControlError;
use crate::hosting::Hosting;

pub use edgewright_oci::media::CHECK_SET;

/// A lane's verdict about a platform manifest.
pub const VERDICT: &str = "application/vnd.edgewright.verdict.v1+json";
/// Where an index comes from: source, commit, run, keys.
pub const PROVENANCE: &str = "application/vnd.edgewright.provenance.v1+json";

/// Annotation that names a piece of evidence.
const TITLE: &str = "org.opencontainers.image.title";

/// Publishes a document about a subject; equal documents give the same referrer.
pub(crate) async fn push(
    hosting: &Hosting,
    repository: &RepoName,
    kind: &str,
    subject: &Descriptor,
    document: &(impl Serialize + Sync),
    evidence: &[Descriptor],
) -> Result<Digest, ControlError> {
    let document = serde_json::to_vec(document)?;
    let mut layers = vec![Descriptor::of(kind, &document)];
    layers.extend(evidence.iter().cloned());
    tokio::try_join!(
        hosting.push_bytes(repository, document),
        hosting.push_bytes(repository, EMPTY_CONFIG.to_vec()),
    )?;
    let artifact = Artifact {
        artifact_type: kind.to_owned(),
        subject: Some(subject.clone()),
        layers,
        annotations: std::collections::BTreeMap::new(),
    };
    Ok(hosting.push_manifest(repository, edgewright_oci::media::MANIFEST, artifact.manifest()).await?)
}

/// A piece of evidence, which the job has pushed, as a layer of the verdict's referrer.
pub(crate) fn evidence(evidence: &Evidence) -> Descriptor {
    let mut descriptor =
        Descriptor::new(&evidence.media_type, evidence.blob.digest.clone(), evidence.blob.size);
    descriptor.annotations.insert(TITLE.to_owned(), evidence.name.clone());
    descriptor
}

/// Publishes the verdicts of a run that are not published yet, each with its check set.
pub(crate) async fn publish_verdicts(
    store: &Store,
    hosting: &Hosting,
    run: RunNumber,
) -> Result<(), ControlError> {
    for row in store.unpublished(run).await? {
        let verdict = &row.verdict;
        let size = hosting.manifest_size(&verdict.manifest).await?;
        let subject = Descriptor::new(media::MANIFEST, verdict.manifest.digest.clone(), size);
        let repository = &verdict.manifest.repository;
        if let Some(checks) = store.check_set(&verdict.check_set).await? {
            push(hosting, repository, CHECK_SET, &subject, &checks, &[]).await?;
        }
        let pieces: Vec<Descriptor> = verdict.evidence.iter().map(evidence).collect();
        let referrer = push(hosting, repository, VERDICT, &subject, verdict, &pieces).await?;
        store.note_published(row.id, &referrer).await?;
    }
    Ok(())
}

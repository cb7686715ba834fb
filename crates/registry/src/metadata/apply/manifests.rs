//! Changes of manifests and tags.

use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName, Tag};
use serde_json::json;
use sqlx::SqliteConnection;

use super::{Done, refuse_pinned, repository_id};
use crate::error::RegistryError;
use crate::metadata::change::{Descriptor, NewManifest};
use crate::metadata::{signed, unix_millis};
use crate::settings::MAX_INDEX_DEPTH;

pub(super) struct StoredManifest {
    pub(super) repository: i64,
    pub(super) manifest: i64,
}

pub(super) async fn has_manifest(
    db: &mut SqliteConnection,
    repository: &RepoName,
    digest: &Digest,
) -> Result<bool, RegistryError> {
    let row = sqlx::query(
        "SELECT 1 FROM manifests m JOIN repositories r ON r.id = m.repository_id
         WHERE m.digest = ? AND r.name = ?",
    )
    .bind(digest.to_string())
    .bind(repository.as_str());
    Ok(row.fetch_optional(db).await?.is_some())
}

pub(super) async fn store_manifest(
    db: &mut SqliteConnection,
    repository: &RepoName,
    new: &NewManifest,
) -> Result<StoredManifest, RegistryError> {
    check_blobs(db, repository, &new.blobs).await?;
    let depth = check_manifests(db, repository, &new.manifests).await?;
    let repository = repository_id(db, repository).await?;
    check_media_type(db, repository, new).await?;
    // A new push resets the age, so that collection does not delete the manifest before it is referenced.
    let (manifest,): (i64,) = sqlx::query_as(
        "INSERT INTO manifests (repository_id, digest, media_type, artifact_type, subject, config, annotations,
                                size, bytes, created_at, depth)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT DO UPDATE SET artifact_type = ?4, subject = ?5, config = ?6,
                                   annotations = ?7, size = ?8, bytes = ?9, created_at = ?10, depth = ?11
         RETURNING id",
    )
    .bind(repository)
    .bind(new.digest.to_string())
    .bind(&new.media_type)
    .bind(&new.artifact_type)
    .bind(new.subject.as_ref().map(Digest::to_string))
    .bind(new.config.as_ref().map(Digest::to_string))
    .bind(&new.annotations)
    .bind(signed(new.bytes.len() as u64))
    .bind(&new.bytes[..])
    .bind(unix_millis())
    .bind(depth)
    .fetch_one(&mut *db)
    .await?;
    for (kind, needed) in [("blob", &new.blobs), ("manifest", &new.manifests)] {
        sqlx::query(
            "INSERT INTO manifest_edges (manifest_id, kind, digest) SELECT ?1, ?2, value ->> 0 FROM json_each(?3)
             WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(manifest)
        .bind(kind)
        .bind(listed(needed))
        .execute(&mut *db)
        .await?;
    }
    Ok(StoredManifest { repository, manifest })
}

/// Descriptors as JSON: pairs of digest and size.
fn listed(descriptors: &[Descriptor]) -> String {
    let pairs: Vec<_> = descriptors.iter().map(|it| (it.digest.to_string(), signed(it.size))).collect();
    json!(pairs).to_string()
}

/// Checks that a repository has some blobs, with their sizes: one query, however many there are.
async fn check_blobs(db: &mut SqliteConnection, repository: &RepoName, needed: &[Descriptor]) -> Done {
    let wrong: Option<(i64, Option<i64>)> = sqlx::query_as(
        "SELECT position, size FROM (
             SELECT n.key AS position, n.value ->> 1 AS declared, (
                 SELECT b.size FROM blobs b JOIN repository_blobs rb ON rb.blob_id = b.id
                 JOIN repositories r ON r.id = rb.repository_id
                 WHERE b.digest = n.value ->> 0 AND r.name = ?2 AND b.state = 'present') AS size
             FROM json_each(?1) n)
         WHERE size IS NULL OR size <> declared ORDER BY position LIMIT 1",
    )
    .bind(listed(needed))
    .bind(repository.as_str())
    .fetch_optional(db)
    .await?;
    let Some((position, size)) = wrong else { return Ok(()) };
    let needed = usize::try_from(position).ok().and_then(|position| needed.get(position));
    let Descriptor { digest, size: declared } = needed.ok_or(RegistryError::Corrupt("position"))?;
    Err(match size {
        None => RegistryError::ReferenceUnknown { repository: repository.clone(), digest: digest.clone() },
        Some(size) => RegistryError::ManifestInvalid(format!(
            "it declares {declared} bytes for `{digest}`, which has {size}"
        )),
    })
}

/// Checks that a repository has some manifests, and gives how deep an index of them is nested: 0 without any.
async fn check_manifests(
    db: &mut SqliteConnection,
    repository: &RepoName,
    needed: &[Descriptor],
) -> Result<i64, RegistryError> {
    if needed.is_empty() {
        return Ok(0);
    }
    let found: Vec<(i64, Option<i64>)> = sqlx::query_as(
        "SELECT n.key, (SELECT m.depth FROM manifests m JOIN repositories r ON r.id = m.repository_id
                        WHERE m.digest = n.value ->> 0 AND r.name = ?2) FROM json_each(?1) n ORDER BY n.key",
    )
    .bind(listed(needed))
    .bind(repository.as_str())
    .fetch_all(db)
    .await?;
    let mut depth = 0;
    for (needed, (_, below)) in needed.iter().zip(found) {
        let digest = &needed.digest;
        let below = below.ok_or_else(|| RegistryError::ReferenceUnknown {
            repository: repository.clone(),
            digest: digest.clone(),
        })?;
        depth = depth.max(below + 1);
    }
    if depth > i64::from(MAX_INDEX_DEPTH) {
        let text = format!("indexes are nested {depth} deep; the limit is {MAX_INDEX_DEPTH}");
        return Err(RegistryError::ManifestInvalid(text));
    }
    Ok(depth)
}

/// Rejects another media type for bytes that are stored: devices pull by digest, and what they get must not
/// change.
async fn check_media_type(db: &mut SqliteConnection, repository: i64, new: &NewManifest) -> Done {
    let stored: Option<(String,)> =
        sqlx::query_as("SELECT media_type FROM manifests WHERE repository_id = ? AND digest = ?")
            .bind(repository)
            .bind(new.digest.to_string())
            .fetch_optional(db)
            .await?;
    match stored {
        Some((stored,)) if stored != new.media_type => {
            let text = format!(
                "Content-Type is `{}`, but it is stored here as `{stored}`; push it as that",
                new.media_type
            );
            Err(RegistryError::ManifestInvalid(text))
        }
        _ => Ok(()),
    }
}

/// Sets a tag to a manifest.
pub(super) async fn move_tag(db: &mut SqliteConnection, row: &StoredManifest, tag: &Tag) -> Done {
    sqlx::query(
        "INSERT INTO tags (repository_id, name, manifest_id, updated_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET manifest_id = ?3, updated_at = ?4",
    )
    .bind(row.repository)
    .bind(tag.as_str())
    .bind(row.manifest)
    .bind(unix_millis())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn delete_manifest(
    db: &mut SqliteConnection,
    repository: &RepoName,
    digest: &Digest,
) -> Done {
    refuse_pinned(db, repository, digest).await?;
    let gone = sqlx::query(
        "DELETE FROM manifests WHERE digest = ?
         AND repository_id = (SELECT id FROM repositories WHERE name = ?)",
    )
    .bind(digest.to_string())
    .bind(repository.as_str())
    .execute(db)
    .await?;
    known(gone.rows_affected(), repository, Reference::Digest(digest.clone()))
}

pub(super) async fn delete_tag(db: &mut SqliteConnection, repository: &RepoName, tag: &Tag) -> Done {
    let gone = sqlx::query(
        "DELETE FROM tags WHERE name = ?
         AND repository_id = (SELECT id FROM repositories WHERE name = ?)",
    )
    .bind(tag.as_str())
    .bind(repository.as_str())
    .execute(db)
    .await?;
    known(gone.rows_affected(), repository, Reference::Tag(tag.clone()))
}

/// Fails if nothing was changed.
fn known(rows: u64, repository: &RepoName, reference: Reference) -> Done {
    match rows {
        0 => Err(RegistryError::ManifestUnknown { repository: repository.clone(), reference }),
        _ => Ok(()),
    }
}

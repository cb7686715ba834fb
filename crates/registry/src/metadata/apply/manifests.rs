//! Changes of manifests and tags.

use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName, Tag};
use sqlx::SqliteConnection;

use super::blobs::visible_blob;
use super::{Done, refuse_pinned, repository_id};
use crate::error::RegistryError;
use crate::metadata::change::{Descriptor, NewManifest};
use crate::metadata::{signed, unix_millis};

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
    let unknown = |needed: &Descriptor| RegistryError::ReferenceUnknown {
        repository: repository.clone(),
        digest: needed.digest.clone(),
    };
    for needed in &new.blobs {
        let (_, size) = visible_blob(db, repository, &needed.digest).await?.ok_or_else(|| unknown(needed))?;
        if size != signed(needed.size) {
            let text =
                format!("it declares {1} bytes for `{0}`, which has {size}", needed.digest, needed.size);
            return Err(RegistryError::ManifestInvalid(text));
        }
    }
    for needed in &new.manifests {
        if !has_manifest(db, repository, &needed.digest).await? {
            return Err(unknown(needed));
        }
    }
    let repository = repository_id(db, repository).await?;
    check_media_type(db, repository, new).await?;
    // A new push resets the age, so that collection does not delete the manifest before it is referenced.
    let (manifest,): (i64,) = sqlx::query_as(
        "INSERT INTO manifests (repository_id, digest, media_type, artifact_type, subject, config, annotations,
                                size, bytes, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT DO UPDATE SET artifact_type = ?4, subject = ?5, config = ?6,
                                   annotations = ?7, size = ?8, bytes = ?9, created_at = ?10
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
    .fetch_one(&mut *db)
    .await?;
    for (kind, needed) in [("blob", &new.blobs), ("manifest", &new.manifests)] {
        for needed in needed {
            sqlx::query(
                "INSERT INTO manifest_edges (manifest_id, kind, digest) VALUES (?, ?, ?)
                 ON CONFLICT DO NOTHING",
            )
            .bind(manifest)
            .bind(kind)
            .bind(needed.digest.to_string())
            .execute(&mut *db)
            .await?;
        }
    }
    Ok(StoredManifest { repository, manifest })
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

//! Changes as SQL. Each runs inside the writer's transaction; an error undoes it.

use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName};
use sqlx::SqliteConnection;

use super::change::{Change, Descriptor, NewManifest};
use super::rows::Intent;
use super::{signed, unix_millis};
use crate::error::RegistryError;

type Done = Result<(), RegistryError>;

pub(super) async fn apply(db: &mut SqliteConnection, change: &Change) -> Done {
    match change {
        Change::BeginUpload { upload, repository, max } => {
            let (open,): (i64,) = sqlx::query_as("SELECT count(*) FROM uploads").fetch_one(&mut *db).await?;
            if usize::try_from(open).is_ok_and(|open| open >= *max) {
                return Err(RegistryError::Busy("open uploads"));
            }
            sqlx::query(
                "INSERT INTO uploads (id, repository, created_at, touched_at) VALUES (?1, ?2, ?3, ?3)",
            )
            .bind(upload.as_str())
            .bind(repository.as_str())
            .bind(unix_millis())
            .execute(db)
            .await?;
        }
        Change::TouchUpload(upload) => {
            sqlx::query("UPDATE uploads SET touched_at = ? WHERE id = ?")
                .bind(unix_millis())
                .bind(upload.as_str())
                .execute(db)
                .await?;
        }
        Change::DropUpload(upload) => {
            drop_intent(db, upload.as_str()).await?;
            sqlx::query("DELETE FROM uploads WHERE id = ?").bind(upload.as_str()).execute(db).await?;
        }
        Change::Intend(intent) => intend(db, intent).await?,
        Change::DropIntent(upload) => drop_intent(db, upload.as_str()).await?,
        Change::StoreBlob(intent) => store_blob(db, intent).await?,
        Change::Mount { from, to, digest } => mount(db, from, to, digest).await?,
        Change::Damage(digest) => {
            sqlx::query("UPDATE blobs SET state = 'damaged' WHERE digest = ? AND state = 'present'")
                .bind(digest.to_string())
                .execute(db)
                .await?;
        }
        Change::UnlinkBlob { repository, digest } => unlink_blob(db, repository, digest).await?,
        Change::StoreManifest { repository, manifest, tags } => {
            let row = store_manifest(db, repository, manifest).await?;
            for tag in tags {
                sqlx::query(
                    "INSERT INTO tags (repository_id, name, manifest_id, updated_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET manifest_id = ?3, updated_at = ?4",
                )
                .bind(row.repository)
                .bind(tag.as_str())
                .bind(row.manifest)
                .bind(unix_millis())
                .execute(&mut *db)
                .await?;
            }
        }
        Change::DeleteManifest { repository, digest } => {
            refuse_pinned(db, repository, digest).await?;
            let gone = sqlx::query(
                "DELETE FROM manifests WHERE digest = ?
                 AND repository_id = (SELECT id FROM repositories WHERE name = ?)",
            )
            .bind(digest.to_string())
            .bind(repository.as_str())
            .execute(db)
            .await?;
            if gone.rows_affected() == 0 {
                let reference = Reference::Digest(digest.clone());
                return Err(RegistryError::ManifestUnknown { repository: repository.clone(), reference });
            }
        }
        Change::DeleteTag { repository, tag } => {
            let gone = sqlx::query(
                "DELETE FROM tags WHERE name = ?
                 AND repository_id = (SELECT id FROM repositories WHERE name = ?)",
            )
            .bind(tag.as_str())
            .bind(repository.as_str())
            .execute(db)
            .await?;
            if gone.rows_affected() == 0 {
                let reference = Reference::Tag(tag.clone());
                return Err(RegistryError::ManifestUnknown { repository: repository.clone(), reference });
            }
        }
        Change::Pin { name, held } => {
            for (repository, digest) in held {
                pin(db, name, repository, digest).await?;
            }
        }
        Change::Unpin(name) => {
            sqlx::query("DELETE FROM pins WHERE name = ?").bind(name).execute(db).await?;
        }
    }
    Ok(())
}

async fn intend(db: &mut SqliteConnection, intent: &Intent) -> Done {
    sqlx::query(
        "INSERT INTO intents (upload_id, repository, digest, size, checksums, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET digest = ?3, size = ?4, checksums = ?5, created_at = ?6",
    )
    .bind(intent.upload.as_str())
    .bind(intent.repository.as_str())
    .bind(intent.digest.to_string())
    .bind(signed(intent.size))
    .bind(intent.checksums.to_bytes())
    .bind(unix_millis())
    .execute(db)
    .await?;
    Ok(())
}

async fn drop_intent(db: &mut SqliteConnection, upload: &str) -> Done {
    sqlx::query("DELETE FROM intents WHERE upload_id = ?").bind(upload).execute(db).await?;
    Ok(())
}

/// The id of a repository, which is made where it is not there.
async fn repository_id(db: &mut SqliteConnection, name: &RepoName) -> Result<i64, RegistryError> {
    sqlx::query("INSERT INTO repositories (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(name.as_str())
        .bind(unix_millis())
        .execute(&mut *db)
        .await?;
    let (id,): (i64,) = sqlx::query_as("SELECT id FROM repositories WHERE name = ?")
        .bind(name.as_str())
        .fetch_one(db)
        .await?;
    Ok(id)
}

async fn store_blob(db: &mut SqliteConnection, intent: &Intent) -> Done {
    let repository = repository_id(db, &intent.repository).await?;
    // A re-push repairs a damaged blob and takes a condemned one back.
    let (blob,): (i64,) = sqlx::query_as(
        "INSERT INTO blobs (digest, size, state, checksums, created_at) VALUES (?1, ?2, 'present', ?3, ?4)
         ON CONFLICT DO UPDATE SET state = 'present', size = ?2, checksums = ?3, unreferenced_since = NULL
         RETURNING id",
    )
    .bind(intent.digest.to_string())
    .bind(signed(intent.size))
    .bind(intent.checksums.to_bytes())
    .bind(unix_millis())
    .fetch_one(&mut *db)
    .await?;
    link_blob(db, repository, blob).await?;
    drop_intent(db, intent.upload.as_str()).await?;
    sqlx::query("DELETE FROM uploads WHERE id = ?").bind(intent.upload.as_str()).execute(db).await?;
    Ok(())
}

async fn link_blob(db: &mut SqliteConnection, repository: i64, blob: i64) -> Done {
    sqlx::query(
        "INSERT INTO repository_blobs (repository_id, blob_id, created_at) VALUES (?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(repository)
    .bind(blob)
    .bind(unix_millis())
    .execute(db)
    .await?;
    Ok(())
}

/// Id and size of a blob that is visible in a repository.
async fn visible_blob(
    db: &mut SqliteConnection,
    repository: &RepoName,
    digest: &Digest,
) -> Result<Option<(i64, i64)>, RegistryError> {
    let row = sqlx::query_as(
        "SELECT b.id, b.size FROM blobs b
         JOIN repository_blobs rb ON rb.blob_id = b.id
         JOIN repositories r ON r.id = rb.repository_id
         WHERE b.digest = ? AND r.name = ? AND b.state = 'present'",
    )
    .bind(digest.to_string())
    .bind(repository.as_str());
    Ok(row.fetch_optional(db).await?)
}

async fn has_manifest(
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

async fn mount(db: &mut SqliteConnection, from: &RepoName, to: &RepoName, digest: &Digest) -> Done {
    let Some((blob, _)) = visible_blob(db, from, digest).await? else {
        return Err(RegistryError::BlobUnknown { repository: from.clone(), digest: digest.clone() });
    };
    let repository = repository_id(db, to).await?;
    link_blob(db, repository, blob).await
}

async fn unlink_blob(db: &mut SqliteConnection, repository: &RepoName, digest: &Digest) -> Done {
    refuse_pinned(db, repository, digest).await?;
    let holder: Option<(String,)> = sqlx::query_as(
        "SELECT m.digest FROM manifest_edges e
         JOIN manifests m ON m.id = e.manifest_id
         JOIN repositories r ON r.id = m.repository_id
         WHERE e.digest = ? AND e.kind = 'blob' AND r.name = ? LIMIT 1",
    )
    .bind(digest.to_string())
    .bind(repository.as_str())
    .fetch_optional(&mut *db)
    .await?;
    if let Some((manifest,)) = holder {
        return Err(RegistryError::Referenced { digest: digest.clone(), manifest });
    }
    let gone = sqlx::query(
        "DELETE FROM repository_blobs
         WHERE repository_id = (SELECT id FROM repositories WHERE name = ?)
         AND blob_id = (SELECT id FROM blobs WHERE digest = ?)",
    )
    .bind(repository.as_str())
    .bind(digest.to_string())
    .execute(db)
    .await?;
    if gone.rows_affected() == 0 {
        return Err(RegistryError::BlobUnknown { repository: repository.clone(), digest: digest.clone() });
    }
    Ok(())
}

struct StoredManifest {
    repository: i64,
    manifest: i64,
}

async fn store_manifest(
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
            let text = format!("it says that `{}` has {} bytes, not {size}", needed.digest, needed.size);
            return Err(RegistryError::ManifestInvalid(text));
        }
    }
    for needed in &new.manifests {
        if !has_manifest(db, repository, &needed.digest).await? {
            return Err(unknown(needed));
        }
    }
    let repository = repository_id(db, repository).await?;
    let (manifest,): (i64,) = sqlx::query_as(
        "INSERT INTO manifests (repository_id, digest, media_type, artifact_type, subject, config, annotations,
                                size, bytes, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT DO UPDATE SET media_type = ?3, artifact_type = ?4, subject = ?5, config = ?6,
                                   annotations = ?7, size = ?8, bytes = ?9
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

/// Refuses when a pin holds the object or a manifest that needs it.
async fn refuse_pinned(db: &mut SqliteConnection, repository: &RepoName, digest: &Digest) -> Done {
    let pin: Option<(String,)> = sqlx::query_as(
        "WITH RECURSIVE holders (digest) AS (
             VALUES (?1)
             UNION
             SELECT m.digest FROM holders h
             JOIN manifest_edges e ON e.digest = h.digest
             JOIN manifests m ON m.id = e.manifest_id
             JOIN repositories r ON r.id = m.repository_id AND r.name = ?2
         )
         SELECT p.name FROM pins p JOIN holders h ON h.digest = p.digest WHERE p.repository = ?2 LIMIT 1",
    )
    .bind(digest.to_string())
    .bind(repository.as_str())
    .fetch_optional(db)
    .await?;
    pin.map_or(Ok(()), |(pin,)| Err(RegistryError::Pinned { digest: digest.clone(), pin }))
}

async fn pin(db: &mut SqliteConnection, name: &str, repository: &RepoName, digest: &Digest) -> Done {
    if !has_manifest(db, repository, digest).await? && visible_blob(db, repository, digest).await?.is_none() {
        return Err(RegistryError::ReferenceUnknown {
            repository: repository.clone(),
            digest: digest.clone(),
        });
    }
    sqlx::query(
        "INSERT INTO pins (name, repository, digest, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(name)
    .bind(repository.as_str())
    .bind(digest.to_string())
    .bind(unix_millis())
    .execute(db)
    .await?;
    Ok(())
}

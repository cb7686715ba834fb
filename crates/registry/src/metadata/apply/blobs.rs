//! Changes of blobs and uploads.

use edgewright_blobs::UploadId;
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use sqlx::SqliteConnection;

use super::{Done, refuse_pinned, repository_id};
use crate::error::{OWN_UPLOADS, RegistryError};
use crate::metadata::change::UploadQuota;
use crate::metadata::rows::Intent;
use crate::metadata::{signed, unix_millis};

pub(super) async fn begin_upload(
    db: &mut SqliteConnection,
    upload: &UploadId,
    repository: &RepoName,
    quota: &UploadQuota,
) -> Done {
    let (open, own): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE owner = ?) FROM uploads")
            .bind(&quota.owner)
            .fetch_one(&mut *db)
            .await?;
    let is_full = |open: i64, limit: usize| usize::try_from(open).is_ok_and(|open| open >= limit);
    if is_full(own, quota.share) {
        return Err(RegistryError::Busy(OWN_UPLOADS));
    }
    if is_full(open, quota.total) {
        return Err(RegistryError::Busy("open uploads"));
    }
    sqlx::query(
        "INSERT INTO uploads (id, repository, created_at, touched_at, owner) VALUES (?1, ?2, ?3, ?3, ?4)",
    )
    .bind(upload.as_str())
    .bind(repository.as_str())
    .bind(unix_millis())
    .bind(&quota.owner)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn touch_upload(db: &mut SqliteConnection, upload: &UploadId) -> Done {
    sqlx::query("UPDATE uploads SET touched_at = ? WHERE id = ?")
        .bind(unix_millis())
        .bind(upload.as_str())
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn drop_upload(db: &mut SqliteConnection, upload: &UploadId) -> Done {
    drop_intent(db, upload.as_str()).await?;
    sqlx::query("DELETE FROM uploads WHERE id = ?").bind(upload.as_str()).execute(db).await?;
    Ok(())
}

pub(super) async fn damage_blob(db: &mut SqliteConnection, digest: &Digest) -> Done {
    sqlx::query("UPDATE blobs SET state = 'damaged' WHERE digest = ? AND state = 'present'")
        .bind(digest.to_string())
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn intend(db: &mut SqliteConnection, intent: &Intent) -> Done {
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

pub(super) async fn drop_intent(db: &mut SqliteConnection, upload: &str) -> Done {
    sqlx::query("DELETE FROM intents WHERE upload_id = ?").bind(upload).execute(db).await?;
    Ok(())
}

pub(super) async fn store_blob(db: &mut SqliteConnection, intent: &Intent) -> Done {
    let repository = repository_id(db, &intent.repository).await?;
    // A new push repairs a damaged blob and restores a condemned one.
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
         ON CONFLICT DO UPDATE SET created_at = excluded.created_at",
    )
    .bind(repository)
    .bind(blob)
    .bind(unix_millis())
    .execute(db)
    .await?;
    Ok(())
}

/// Id and size of a blob that is visible in a repository.
pub(super) async fn visible_blob(
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

pub(super) async fn mount(
    db: &mut SqliteConnection,
    from: &RepoName,
    to: &RepoName,
    digest: &Digest,
) -> Done {
    let Some((blob, _)) = visible_blob(db, from, digest).await? else {
        return Err(RegistryError::BlobUnknown { repository: from.clone(), digest: digest.clone() });
    };
    let repository = repository_id(db, to).await?;
    link_blob(db, repository, blob).await
}

/// Resets the age of a blob in a repository for garbage collection.
pub(super) async fn renew_blob(db: &mut SqliteConnection, repository: &RepoName, digest: &Digest) -> Done {
    let Some((blob, _)) = visible_blob(db, repository, digest).await? else {
        return Err(RegistryError::BlobUnknown { repository: repository.clone(), digest: digest.clone() });
    };
    let repository = repository_id(db, repository).await?;
    link_blob(db, repository, blob).await
}

pub(super) async fn unlink_blob(db: &mut SqliteConnection, repository: &RepoName, digest: &Digest) -> Done {
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

//! Changes as SQL. Each runs inside the writer's transaction; an error undoes it.

mod blobs;
mod collect;
mod manifests;

use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use sqlx::SqliteConnection;

use super::change::Change;
use super::unix_millis;
use crate::error::RegistryError;
use blobs::{
    begin_upload, damage_blob, drop_intent, drop_upload, intend, mount, renew_blob, store_blob, touch_upload,
    unlink_blob, visible_blob,
};
use collect::{collect, drop_blob};
use manifests::{delete_manifest, delete_tag, has_manifest, move_tag, store_manifest};

type Done = Result<(), RegistryError>;

pub(super) async fn apply(db: &mut SqliteConnection, change: &Change) -> Done {
    match change {
        Change::BeginUpload { upload, repository, quota } => {
            begin_upload(db, upload, repository, quota).await
        }
        Change::BeginIntended { intent, quota } => {
            begin_upload(db, &intent.upload, &intent.repository, quota).await?;
            intend(db, intent).await
        }
        Change::TouchUpload(upload) => touch_upload(db, upload).await,
        Change::DropUpload(upload) => drop_upload(db, upload).await,
        Change::Intend(intent) => intend(db, intent).await,
        Change::DropIntent(upload) => drop_intent(db, upload.as_str()).await,
        Change::StoreBlob(intent) => store_blob(db, intent).await,
        Change::Mount { from, to, digest } => mount(db, from, to, digest).await,
        Change::Damage(digest) => damage_blob(db, digest).await,
        Change::UnlinkBlob { repository, digest } => unlink_blob(db, repository, digest).await,
        Change::StoreManifest { repository, manifest, tags } => {
            let row = store_manifest(db, repository, manifest).await?;
            for tag in tags {
                move_tag(db, &row, tag).await?;
            }
            Ok(())
        }
        Change::DeleteManifest { repository, digest } => delete_manifest(db, repository, digest).await,
        Change::DeleteTag { repository, tag } => delete_tag(db, repository, tag).await,
        Change::Pin { name, held } => {
            for (repository, digest) in held {
                pin(db, name, repository, digest).await?;
            }
            Ok(())
        }
        Change::Unpin(name) => {
            sqlx::query("DELETE FROM pins WHERE name = ?").bind(name).execute(db).await?;
            Ok(())
        }
        Change::Release { name, held } => release(db, name, held).await,
        Change::RenewBlob { repository, digest } => renew_blob(db, repository, digest).await,
        Change::Collect { now, before, held } => collect(db, *now, *before, held).await,
        Change::DropBlob(digest) => drop_blob(db, digest).await,
    }
}

/// The id of a repository, which is created if it does not exist.
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

/// Fails if a pin holds the object or a manifest that needs it.
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

/// Removes these objects from a pin.
async fn release(db: &mut SqliteConnection, name: &str, held: &[(RepoName, Digest)]) -> Done {
    for (repository, digest) in held {
        sqlx::query("DELETE FROM pins WHERE name = ? AND repository = ? AND digest = ?")
            .bind(name)
            .bind(repository.as_str())
            .bind(digest.to_string())
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

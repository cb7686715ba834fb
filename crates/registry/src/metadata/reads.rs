//! Reads; frequent ones go through the cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use edgewright_blobs::UploadId;
use edgewright_blobs::checksum::Checksums;
use edgewright_model::Digest;
use edgewright_model::digest::Hasher;
use edgewright_model::reference::{RepoName, Tag};

use super::rows::{BlobRow, Intent, ManifestRow, OpenUpload, UploadRow};
use super::{Metadata, parsed, signed, unsigned};
use crate::error::RegistryError;
use crate::types::{Pin, Referrer, RepositoryUsage};

type Read<T> = Result<T, RegistryError>;

/// A page of an ordered list: at most `limit` entries after `after`.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Exclusive; empty for the first page.
    pub(crate) after: String,
    /// The largest number of entries.
    pub(crate) limit: usize,
}

impl Page {
    /// The whole list, for callers in the process.
    pub(crate) const fn all() -> Self {
        Self { after: String::new(), limit: usize::MAX }
    }
}

impl Metadata {
    /// The manifest of an ordinary tag.
    pub(crate) async fn tag(&self, repository: &RepoName, tag: &Tag) -> Read<Option<Digest>> {
        let key = (repository.clone(), tag.clone());
        let epoch = match self.cache.get(|content| content.tags.get(&key)) {
            Ok(digest) => return Ok(Some(digest)),
            Err(epoch) => epoch,
        };
        let row: Option<(String,)> = sqlx::query_as(
            "SELECT m.digest FROM tags t
             JOIN manifests m ON m.id = t.manifest_id
             JOIN repositories r ON r.id = t.repository_id
             WHERE r.name = ? AND t.name = ?",
        )
        .bind(repository.as_str())
        .bind(tag.as_str())
        .fetch_optional(&self.readers)
        .await?;
        let Some((digest,)) = row else { return Ok(None) };
        let digest: Digest = parsed(&digest, "digest")?;
        self.cache.fill(epoch, |content| content.tags.insert(key, digest.clone()));
        Ok(Some(digest))
    }

    /// A manifest; none if its bytes are damaged, so that a new push repairs it.
    pub(crate) async fn manifest(&self, repository: &RepoName, digest: &Digest) -> Read<Option<ManifestRow>> {
        let key = (repository.clone(), digest.clone());
        let epoch = match self.cache.get(|content| content.manifests.get(&key)) {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(epoch) => epoch,
        };
        let row: Option<(String, Option<String>, Vec<u8>)> = sqlx::query_as(
            "SELECT m.media_type, m.artifact_type, m.bytes FROM manifests m
             JOIN repositories r ON r.id = m.repository_id
             WHERE r.name = ? AND m.digest = ?",
        )
        .bind(repository.as_str())
        .bind(digest.to_string())
        .fetch_optional(&self.readers)
        .await?;
        let Some((media_type, artifact_type, bytes)) = row else { return Ok(None) };
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            tracing::error!(%repository, %digest, "manifest in registry.db is damaged; push it again to repair it");
            return Ok(None);
        }
        let manifest = ManifestRow {
            media_type: media_type.into(),
            artifact_type: artifact_type.map(Arc::from),
            bytes: Bytes::from(bytes),
        };
        self.cache.fill(epoch, |content| content.manifests.insert(key, manifest.clone()));
        Ok(Some(manifest))
    }

    /// A blob that is visible in a repository.
    pub(crate) async fn blob(&self, repository: &RepoName, digest: &Digest) -> Read<Option<BlobRow>> {
        let key = (repository.clone(), digest.clone());
        let epoch = match self.cache.get(|content| content.blobs.get(&key)) {
            Ok(blob) => return Ok(Some(blob)),
            Err(epoch) => epoch,
        };
        let row: Option<(i64, Vec<u8>, i64)> = sqlx::query_as(
            "SELECT b.size, b.checksums, rb.created_at FROM blobs b
             JOIN repository_blobs rb ON rb.blob_id = b.id
             JOIN repositories r ON r.id = rb.repository_id
             WHERE r.name = ? AND b.digest = ? AND b.state = 'present'",
        )
        .bind(repository.as_str())
        .bind(digest.to_string())
        .fetch_optional(&self.readers)
        .await?;
        let Some((size, checksums, linked_at)) = row else { return Ok(None) };
        let (size, checksums) = sized(size, &checksums)?;
        let blob = BlobRow { size, checksums: Arc::new(checksums), linked_at };
        self.cache.fill(epoch, |content| content.blobs.insert(key, blob.clone()));
        Ok(Some(blob))
    }

    /// A blob of a repository whose file may be lost, from the database.
    pub(crate) async fn lost_blob(&self, repository: &RepoName, digest: &Digest) -> Read<Option<BlobRow>> {
        let row: Option<(i64, Vec<u8>, i64)> = sqlx::query_as(
            "SELECT b.size, b.checksums, rb.created_at FROM blobs b
             JOIN repository_blobs rb ON rb.blob_id = b.id
             JOIN repositories r ON r.id = rb.repository_id
             WHERE r.name = ? AND b.digest = ? AND b.state <> 'condemned'",
        )
        .bind(repository.as_str())
        .bind(digest.to_string())
        .fetch_optional(&self.readers)
        .await?;
        let Some((size, checksums, linked_at)) = row else { return Ok(None) };
        let (size, checksums) = sized(size, &checksums)?;
        Ok(Some(BlobRow { size, checksums: Arc::new(checksums), linked_at }))
    }

    /// The manifests of a repository that refer to a blob, and the indexes there that refer to these.
    pub(crate) async fn images_with(&self, repository: &RepoName, blob: &Digest) -> Read<Vec<Digest>> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "WITH image AS (
                 SELECT m.repository_id AS repository, m.digest FROM manifest_edges e
                 JOIN manifests m ON m.id = e.manifest_id JOIN repositories r ON r.id = m.repository_id
                 WHERE e.digest = ?2 AND e.kind = 'blob' AND r.name = ?1
             ) SELECT digest FROM image
             UNION SELECT m.digest FROM image JOIN manifest_edges e ON e.digest = image.digest AND e.kind = 'manifest'
                   JOIN manifests m ON m.id = e.manifest_id AND m.repository_id = image.repository",
        )
        .bind(repository.as_str())
        .bind(blob.to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|(digest,)| parsed(digest, "digest")).collect()
    }

    /// Whether a blob has a row, in any state.
    pub(crate) async fn has_blob_row(&self, digest: &Digest) -> Read<bool> {
        let row = sqlx::query("SELECT 1 FROM blobs WHERE digest = ?").bind(digest.to_string());
        Ok(row.fetch_optional(&self.readers).await?.is_some())
    }

    /// Whether a manifest of a repository refers to a blob.
    pub(crate) async fn refers(&self, repository: &RepoName, manifest: &Digest, blob: &Digest) -> Read<bool> {
        let row = sqlx::query(
            "SELECT 1 FROM manifest_edges e
             JOIN manifests m ON m.id = e.manifest_id
             JOIN repositories r ON r.id = m.repository_id
             WHERE r.name = ? AND m.digest = ? AND e.kind = 'blob' AND e.digest = ?",
        )
        .bind(repository.as_str())
        .bind(manifest.to_string())
        .bind(blob.to_string());
        Ok(row.fetch_optional(&self.readers).await?.is_some())
    }

    pub(crate) async fn has_repository(&self, repository: &RepoName) -> Read<bool> {
        let row = sqlx::query("SELECT 1 FROM repositories WHERE name = ?").bind(repository.as_str());
        Ok(row.fetch_optional(&self.readers).await?.is_some())
    }

    pub(crate) async fn repositories(&self, page: &Page) -> Read<Vec<RepoName>> {
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT name FROM repositories WHERE name > ? ORDER BY name LIMIT ?")
                .bind(&page.after)
                .bind(signed(page.limit as u64))
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(|(name,)| parsed(name, "repository name")).collect()
    }

    /// Ordinary tags.
    pub(crate) async fn tags(&self, repository: &RepoName, page: &Page) -> Read<Vec<Tag>> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT t.name FROM tags t JOIN repositories r ON r.id = t.repository_id
             WHERE r.name = ? AND t.name > ? ORDER BY t.name LIMIT ?",
        )
        .bind(repository.as_str())
        .bind(&page.after)
        .bind(signed(page.limit as u64))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|(name,)| parsed(name, "tag")).collect()
    }

    /// Ordered by digest.
    pub(crate) async fn referrers(
        &self,
        repository: &RepoName,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &Page,
    ) -> Read<Vec<Referrer>> {
        let rows: Vec<(String, String, i64, Option<String>, String)> = sqlx::query_as(
            "SELECT m.media_type, m.digest, m.size, m.artifact_type, m.annotations FROM manifests m
             JOIN repositories r ON r.id = m.repository_id
             WHERE r.name = ?1 AND m.subject = ?2 AND (?3 IS NULL OR m.artifact_type = ?3) AND m.digest > ?4
             ORDER BY m.digest LIMIT ?5",
        )
        .bind(repository.as_str())
        .bind(subject.to_string())
        .bind(artifact_type)
        .bind(&page.after)
        .bind(signed(page.limit as u64))
        .fetch_all(&self.readers)
        .await?;
        let referrer = |(media_type, digest, size, artifact_type, annotations): (_, String, _, _, String)| {
            let annotations: BTreeMap<String, String> =
                serde_json::from_str(&annotations).map_err(|_| RegistryError::Corrupt("annotations"))?;
            let (digest, size) = (parsed(&digest, "digest")?, unsigned(size, "size")?);
            Ok(Referrer { media_type, digest, size, artifact_type, annotations })
        };
        rows.into_iter().map(referrer).collect()
    }

    pub(crate) async fn usage(&self, repository: &RepoName) -> Read<RepositoryUsage> {
        let (manifests, manifest_bytes, blobs, blob_bytes): (i64, i64, i64, i64) = sqlx::query_as(
            "WITH r AS (SELECT id FROM repositories WHERE name = ?),
                  m AS (SELECT count(*) AS n, coalesce(sum(size), 0) AS s FROM manifests
                        WHERE repository_id IN (SELECT id FROM r)),
                  b AS (SELECT count(*) AS n, coalesce(sum(b.size), 0) AS s FROM repository_blobs rb
                        JOIN blobs b ON b.id = rb.blob_id WHERE rb.repository_id IN (SELECT id FROM r))
             SELECT m.n, m.s, b.n, b.s FROM m, b",
        )
        .bind(repository.as_str())
        .fetch_one(&self.readers)
        .await?;
        Ok(RepositoryUsage {
            manifests: unsigned(manifests, "count")?,
            blobs: unsigned(blobs, "count")?,
            bytes: unsigned(manifest_bytes, "size")? + unsigned(blob_bytes, "size")?,
        })
    }

    /// The bytes of all blobs, each counted once.
    pub(crate) async fn stored_bytes(&self) -> Read<u64> {
        let bytes: i64 =
            sqlx::query_scalar("SELECT coalesce(sum(size), 0) FROM blobs WHERE state = 'present'")
                .fetch_one(&self.readers)
                .await?;
        unsigned(bytes, "size")
    }

    pub(crate) async fn pins(&self) -> Read<Vec<Pin>> {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("SELECT name, repository, digest FROM pins ORDER BY name, repository, digest")
                .fetch_all(&self.readers)
                .await?;
        let mut pins: Vec<Pin> = Vec::new();
        for (name, repository, digest) in rows {
            let held = (parsed(&repository, "repository name")?, parsed(&digest, "digest")?);
            match pins.last_mut() {
                Some(pin) if pin.name == name => pin.held.push(held),
                _ => pins.push(Pin { name, held: vec![held] }),
            }
        }
        Ok(pins)
    }

    pub(crate) async fn upload(&self, upload: &UploadId) -> Read<Option<UploadRow>> {
        let row: Option<(String, i64)> =
            sqlx::query_as("SELECT repository, touched_at FROM uploads WHERE id = ?")
                .bind(upload.as_str())
                .fetch_optional(&self.readers)
                .await?;
        row.map(|(repository, touched_at)| {
            Ok(UploadRow { repository: parsed(&repository, "repository name")?, touched_at })
        })
        .transpose()
    }

    /// Blobs that are about to be removed.
    pub(crate) async fn condemned(&self) -> Read<Vec<Digest>> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT digest FROM blobs WHERE state = 'condemned'")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|(digest,)| parsed(digest, "digest")).collect()
    }

    /// Whether a blob is about to be removed.
    pub(crate) async fn is_condemned(&self, digest: &Digest) -> Read<bool> {
        let row = sqlx::query("SELECT 1 FROM blobs WHERE digest = ? AND state = 'condemned'");
        Ok(row.bind(digest.to_string()).fetch_optional(&self.readers).await?.is_some())
    }

    /// The number of manifests and blobs.
    pub(crate) async fn counts(&self) -> Read<(u64, u64)> {
        let (manifests, blobs): (i64, i64) =
            sqlx::query_as("SELECT (SELECT count(*) FROM manifests), (SELECT count(*) FROM blobs)")
                .fetch_one(&self.readers)
                .await?;
        Ok((unsigned(manifests, "count")?, unsigned(blobs, "count")?))
    }

    /// All uploads.
    pub(crate) async fn open_uploads(&self) -> Read<Vec<OpenUpload>> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT id, owner, touched_at FROM uploads").fetch_all(&self.readers).await?;
        let upload = |(id, owner, touched_at): (String, String, i64)| {
            Ok(OpenUpload { id: parsed(&id, "upload id")?, owner, touched_at })
        };
        rows.into_iter().map(upload).collect()
    }

    /// Uploads without requests since a time in Unix milliseconds.
    pub(crate) async fn uploads_untouched_since(&self, time: i64) -> Read<Vec<UploadId>> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT id FROM uploads WHERE touched_at < ?")
            .bind(time)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|(id,)| parsed(id, "upload id")).collect()
    }

    /// Blobs that were about to be published.
    pub(crate) async fn intents(&self) -> Read<Vec<Intent>> {
        let rows: Vec<(String, String, String, i64, Vec<u8>)> =
            sqlx::query_as("SELECT upload_id, repository, digest, size, checksums FROM intents")
                .fetch_all(&self.readers)
                .await?;
        let intent =
            |(upload, repository, digest, size, checksums): &(String, String, String, i64, Vec<u8>)| {
                let (size, checksums) = sized(*size, checksums)?;
                Ok(Intent {
                    upload: parsed(upload, "upload id")?,
                    repository: parsed(repository, "repository name")?,
                    digest: parsed(digest, "digest")?,
                    size,
                    checksums,
                })
            };
        rows.iter().map(intent).collect()
    }
}

fn sized(size: i64, checksums: &[u8]) -> Read<(u64, Checksums)> {
    let size = unsigned(size, "size")?;
    let checksums = Checksums::from_bytes(checksums, size).ok_or(RegistryError::Corrupt("checksum table"))?;
    Ok((size, checksums))
}

//! Garbage collection in the database, in one transaction of the writer, so that nothing is pushed, pinned or
//! tagged between search and deletion.

use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use serde_json::json;
use sqlx::SqliteConnection;

use super::Done;

/// Manifests that are not tagged, pinned, the target of a reserved tag or young, nor child or referrer of
/// such a manifest in its repository.
const MANIFESTS: &str = "WITH RECURSIVE live (id) AS (
    SELECT manifest_id FROM tags
    UNION SELECT m.id FROM pins p JOIN repositories r ON r.name = p.repository
          JOIN manifests m ON m.repository_id = r.id AND m.digest = p.digest
    UNION SELECT m.id FROM json_each(?2) h JOIN repositories r ON r.name = h.value ->> 0
          JOIN manifests m ON m.repository_id = r.id AND m.digest = h.value ->> 1
    UNION SELECT id FROM manifests WHERE created_at >= ?1
    UNION SELECT child.id FROM live JOIN manifests m ON m.id = live.id
          JOIN manifest_edges e ON e.manifest_id = m.id AND e.kind = 'manifest'
          JOIN manifests child ON child.repository_id = m.repository_id AND child.digest = e.digest
    UNION SELECT referrer.id FROM live JOIN manifests m ON m.id = live.id
          JOIN manifests referrer ON referrer.repository_id = m.repository_id AND referrer.subject = m.digest
) DELETE FROM manifests WHERE id NOT IN (SELECT id FROM live)";

/// Links of blobs to repositories that are old and that neither a manifest there nor a pin needs.
const UNLINK: &str = "DELETE FROM repository_blobs WHERE created_at < ?1
    AND NOT EXISTS (SELECT 1 FROM blobs b JOIN manifest_edges e ON e.digest = b.digest AND e.kind = 'blob'
                    JOIN manifests m ON m.id = e.manifest_id
                    WHERE b.id = repository_blobs.blob_id AND m.repository_id = repository_blobs.repository_id)
    AND NOT EXISTS (SELECT 1 FROM blobs b JOIN pins p ON p.digest = b.digest JOIN repositories r ON r.name = p.repository
                    WHERE b.id = repository_blobs.blob_id AND r.id = repository_blobs.repository_id)";

/// Condemns blobs that were in no repository at an earlier collection, and are in none now.
const CONDEMN: &str =
    "UPDATE blobs SET state = 'condemned' WHERE unreferenced_since < ?1 AND state <> 'condemned'";

/// Notes blobs that are in no repository from now on.
const NOTE: &str = "UPDATE blobs SET unreferenced_since = ?1 WHERE unreferenced_since IS NULL
    AND NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.blob_id = blobs.id)";

/// Un-notes blobs that are in a repository again.
const RENEW: &str = "UPDATE blobs SET unreferenced_since = NULL WHERE unreferenced_since IS NOT NULL
    AND EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.blob_id = blobs.id)";

/// Empty repositories.
const EMPTY: &str = "DELETE FROM repositories WHERE created_at < ?1
    AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = repositories.id)
    AND NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.repository_id = repositories.id)";

pub(super) async fn collect(
    db: &mut SqliteConnection,
    now: i64,
    before: i64,
    held: &[(RepoName, Digest)],
) -> Done {
    let held: Vec<_> =
        held.iter().map(|(repository, digest)| (repository.as_str(), digest.to_string())).collect();
    sqlx::query(MANIFESTS).bind(before).bind(json!(held).to_string()).execute(&mut *db).await?;
    sqlx::query(UNLINK).bind(before).execute(&mut *db).await?;
    sqlx::query(RENEW).execute(&mut *db).await?;
    sqlx::query(CONDEMN).bind(now).execute(&mut *db).await?;
    sqlx::query(NOTE).bind(now).execute(&mut *db).await?;
    sqlx::query(EMPTY).bind(before).execute(&mut *db).await?;
    Ok(())
}

/// Deletes the row of a condemned blob whose file was removed, unless it was pushed again meanwhile.
pub(super) async fn drop_blob(db: &mut SqliteConnection, digest: &Digest) -> Done {
    sqlx::query("DELETE FROM blobs WHERE digest = ? AND state = 'condemned'")
        .bind(digest.to_string())
        .execute(db)
        .await?;
    Ok(())
}

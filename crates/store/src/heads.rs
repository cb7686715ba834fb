//! The head of each variant of a branch: its newest good build. A run that builds nothing new writes nothing
//! here.

use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::TrustDomain;
use edgewright_model::run::RunNumber;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::write::Statement;
use crate::{Store, StoreError, row};

/// The newest good build of a variant of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub variant: VariantName,
    pub platform: Platform,
    /// Its input key.
    pub key: Digest,
    /// The platform manifest.
    pub digest: Digest,
    /// Since when no commit of the branch names it.
    pub retired_at: Option<Timestamp>,
}

fn head(row: &SqliteRow) -> Result<Head, StoreError> {
    Ok(Head {
        variant: row::text(row, "variant")?,
        platform: row::text(row, "platform")?,
        key: row::text(row, "key")?,
        digest: row::text(row, "digest")?,
        retired_at: row::maybe(row, "retired_at")?,
    })
}

impl Store {
    /// The heads of a branch that runs of this domain made, by variant and platform; also those that are
    /// retired.
    pub async fn heads(&self, domain: TrustDomain, branch: &str) -> Result<Vec<Head>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM heads WHERE source_id = ? AND branch = ? AND trusted = ? ORDER BY variant, platform",
        )
        .bind(row::signed(domain.source))
        .bind(branch)
        .bind(domain.trusted)
        .fetch_all(&self.readers)
        .await
        .doing("list heads")?;
        rows.iter().map(head).collect()
    }

    /// The platform manifests that are a variant's heads, in any branch of a domain's source.
    pub async fn head_digests(
        &self,
        domain: TrustDomain,
        variant: &VariantName,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let rows = sqlx::query(
            "SELECT digest FROM heads WHERE source_id = ? AND (trusted OR NOT ?) AND variant = ?",
        )
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .bind(variant.to_string())
        .fetch_all(&self.readers)
        .await
        .doing("read a variant's heads")?;
        rows.iter().map(|row| row::text(row, "digest")).collect()
    }
}

/// Notes since when no commit of the branch names a variant; `None` when one names it again.
pub(crate) fn retire(
    run: RunNumber,
    (variant, platform): (&VariantName, &Platform),
    at: Option<Timestamp>,
) -> Statement {
    sqlx::query(
        "UPDATE heads SET retired_at = ?1 WHERE variant = ?2 AND platform = ?3
         AND (source_id, branch, trusted) = (SELECT source_id, branch, trusted FROM runs WHERE number = ?4)",
    )
    .bind(at.map(|at| at.to_string()))
    .bind(variant.to_string())
    .bind(platform.to_string())
    .bind(run.0)
}

/// Makes a variant's node, which became good, the head of its branch. A run that tests an update is of an
/// earlier commit: it makes none.
pub(crate) fn advance(run: RunNumber, node: &str, platform: &Platform) -> Statement {
    sqlx::query(
        "INSERT INTO heads (source_id, branch, trusted, variant, platform, key, digest)
         SELECT r.source_id, r.branch, r.trusted, n.variant, n.platform, n.key, n.digest FROM run_nodes n JOIN runs r ON r.number = n.run
         WHERE n.run = ? AND n.node = ? AND n.platform = ? AND n.variant IS NOT NULL AND n.key IS NOT NULL AND n.digest IS NOT NULL
         AND r.trigger <> 'update'
         ON CONFLICT DO UPDATE SET key = excluded.key, digest = excluded.digest, retired_at = NULL",
    )
    .bind(run.0)
    .bind(node)
    .bind(platform.to_string())
}

//! Packages that are kept for rebuilding a key, and the results of rebuilds.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::order::TrustDomain;
use edgewright_model::outcome::KeptPackages;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Operation as _;
use crate::{Store, StoreError, row};

/// The result of rebuilding a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofResult {
    /// The same bytes.
    Proved,
    /// Other bytes: a step has an input that is not part of its key.
    Refuted,
}

/// The last rebuild of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRow {
    /// Its result.
    pub result: ProofResult,
    /// The rebuilt digest.
    pub digest: Digest,
    pub at: Timestamp,
}

impl ProofResult {
    /// The name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Refuted => "refuted",
        }
    }
}

impl Store {
    /// Notes the packages that a key was built from in a domain.
    pub async fn keep_packages(
        &self,
        (key, domain): (&Digest, TrustDomain),
        kept: &KeptPackages,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO kept_packages (key, source_id, trusted, document, created_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(key.to_string())
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .bind(row::to_json(kept)?)
        .bind(now.to_string());
        self.execute("note kept packages", statement).await?;
        Ok(())
    }

    /// The packages that a key was built from, if they are kept and a domain may use them.
    pub async fn kept_packages(
        &self,
        key: &Digest,
        domain: TrustDomain,
    ) -> Result<Option<KeptPackages>, StoreError> {
        let found = sqlx::query(
            "SELECT document FROM kept_packages WHERE key = ? AND source_id = ? AND (trusted OR NOT ?)
             ORDER BY trusted DESC LIMIT 1",
        )
        .bind(key.to_string())
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .fetch_optional(&self.readers)
        .await;
        found.doing("read kept packages")?.as_ref().map(|row| row::json(row, "document")).transpose()
    }

    /// Keys whose packages were kept before a time, except the needed ones.
    pub async fn unneeded_packages(
        &self,
        before: Timestamp,
        needed: &BTreeSet<Digest>,
    ) -> Result<Vec<Digest>, StoreError> {
        let rows = sqlx::query("SELECT key FROM kept_packages GROUP BY key HAVING max(created_at) < ?")
            .bind(before.to_string())
            .fetch_all(&self.readers)
            .await
            .doing("list kept packages")?;
        let mut keys: Vec<Digest> = rows.iter().map(|row| row::text(row, "key")).collect::<Result<_, _>>()?;
        keys.retain(|key| !needed.contains(key));
        Ok(keys)
    }

    /// Forgets the packages of a key.
    pub async fn forget_packages(&self, key: &Digest) -> Result<(), StoreError> {
        let statement = sqlx::query("DELETE FROM kept_packages WHERE key = ?").bind(key.to_string());
        self.execute("forget kept packages", statement).await?;
        Ok(())
    }

    /// Notes the result of rebuilding a domain's build of a key; replaces the result of an earlier rebuild.
    pub async fn note_proof(
        &self,
        (key, domain): (&Digest, TrustDomain),
        result: ProofResult,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO proofs (key, source_id, trusted, result, digest, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
             SET result = excluded.result, digest = excluded.digest, at = excluded.at",
        )
        .bind(key.to_string())
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .bind(result.name())
        .bind(digest.to_string())
        .bind(now.to_string());
        self.execute("note a proof", statement).await?;
        Ok(())
    }

    /// The last rebuild of each key's build that a domain uses; keys that were never rebuilt are absent.
    pub async fn proofs(
        &self,
        keys: &[Digest],
        domain: TrustDomain,
    ) -> Result<BTreeMap<Digest, ProofRow>, StoreError> {
        let mut found = BTreeMap::new();
        for key in keys {
            let row = sqlx::query(
                "SELECT p.* FROM builds b LEFT JOIN proofs p USING (key, source_id, trusted)
                 WHERE b.key = ? AND b.source_id = ? AND (b.trusted OR NOT ?) ORDER BY b.trusted DESC LIMIT 1",
            )
            .bind(key.to_string())
            .bind(row::signed(domain.source))
            .bind(domain.trusted)
            .fetch_optional(&self.readers)
            .await
            .doing("read a proof")?;
            // A build that was never rebuilt has no row of its own.
            let row = row.filter(|row| matches!(row::maybe::<String>(row, "result"), Ok(Some(_))));
            if let Some(row) = row {
                let result: String = row::text(&row, "result")?;
                let result = if result == "proved" { ProofResult::Proved } else { ProofResult::Refuted };
                let proof =
                    ProofRow { result, digest: row::text(&row, "digest")?, at: row::text(&row, "at")? };
                found.insert(key.clone(), proof);
            }
        }
        Ok(found)
    }
}

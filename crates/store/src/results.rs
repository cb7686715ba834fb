//! The results of jobs: builds by key, verdicts by digest.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::Platform;
use edgewright_model::order::{JobId, ManifestRef, TrustDomain};
use edgewright_model::outcome::StepBuild;
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_model::spec::Check;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::{LaneResult, Verdict, VerdictKey};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::nodes::{NodeChange, move_node};
use crate::sources::SourceId;
use crate::write::{Statement, run_all};
use crate::{Store, StoreError, row};

/// A recorded build of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRow {
    pub key: Digest,
    /// The domain of the run that built it.
    pub domain: TrustDomain,
    pub manifest: ManifestRef,
    /// Length of the manifest in bytes.
    pub manifest_size: u64,
    /// Compressed length of all layers in bytes.
    pub image_size: u64,
    /// How long its last step took.
    pub duration_ms: u64,
    /// The programs that decided about its bytes; empty for builds of earlier versions.
    pub tools: ToolVersions,
    /// The run that built it.
    pub run: RunNumber,
    pub created_at: Timestamp,
}

/// A recorded verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct VerdictRow {
    /// The row id: later verdicts have greater ids.
    pub id: i64,
    pub verdict: Verdict,
    /// `ran`, `inherited` or `external`.
    pub origin: String,
    pub run: RunNumber,
    /// The referrer that publishes it.
    pub published: Option<Digest>,
    pub created_at: Timestamp,
}

/// The results of one finished job.
#[derive(Debug, Clone, Copy)]
pub struct NodeResult<'a> {
    pub run: RunNumber,
    pub node: &'a str,
    pub platform: &'a Platform,
    pub job: JobId,
    pub builds: &'a [StepBuild],
    pub verdicts: &'a [Verdict],
    /// The check sets that the verdicts name.
    pub check_sets: &'a [(Digest, Vec<Check>)],
    /// The node's next state.
    pub state: NodeState,
    /// Further changes of the node.
    pub change: NodeChange<'a>,
}

fn manifest(row: &SqliteRow) -> Result<ManifestRef, StoreError> {
    Ok(ManifestRef { repository: row::text(row, "repository")?, digest: row::text(row, "digest")? })
}

fn build(row: &SqliteRow) -> Result<BuildRow, StoreError> {
    Ok(BuildRow {
        key: row::text(row, "key")?,
        domain: TrustDomain {
            source: row::number(row, "source_id")?,
            trusted: row::number::<u8>(row, "trusted")? != 0,
        },
        manifest: manifest(row)?,
        manifest_size: row::number(row, "manifest_size")?,
        image_size: row::number(row, "image_size")?,
        duration_ms: row::number(row, "duration_ms")?,
        tools: row::json(row, "tools")?,
        run: RunNumber(row::number(row, "run")?),
        created_at: row::text(row, "created_at")?,
    })
}

fn verdict(row: &SqliteRow) -> Result<VerdictRow, StoreError> {
    Ok(VerdictRow {
        id: row::number(row, "id")?,
        verdict: row::json(row, "document")?,
        origin: row::text(row, "origin")?,
        run: RunNumber(row::number(row, "run")?),
        published: row::maybe(row, "published")?,
        created_at: row::text(row, "created_at")?,
    })
}

impl Store {
    /// The manifests of the keys that were built, as far as a domain may use them: a trusted build is used
    /// before an untrusted one.
    pub async fn built(
        &self,
        keys: &BTreeSet<&Digest>,
        domain: TrustDomain,
    ) -> Result<BTreeMap<Digest, ManifestRef>, StoreError> {
        // The last row of a key counts.
        let rows = sqlx::query(
            "SELECT b.key, b.repository, b.digest FROM json_each(?1) wanted CROSS JOIN builds b
             ON b.key = wanted.value AND b.source_id = ?2 AND (b.trusted OR NOT ?3) ORDER BY b.trusted",
        )
        .bind(row::to_json(keys)?)
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .fetch_all(&self.readers)
        .await
        .doing("look up builds")?;
        rows.iter().map(|row| Ok((row::text(row, "key")?, manifest(row)?))).collect()
    }

    /// The sum of the compressed sizes of all builds, in bytes.
    pub async fn built_bytes(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT coalesce(sum(image_size), 0) AS bytes FROM builds")
            .fetch_one(&self.readers)
            .await
            .doing("measure builds")?;
        row::number(&row, "bytes")
    }

    /// The build of one key that a domain uses.
    pub async fn build(&self, key: &Digest, domain: TrustDomain) -> Result<Option<BuildRow>, StoreError> {
        let found = sqlx::query(
            "SELECT * FROM builds WHERE key = ? AND source_id = ? AND (trusted OR NOT ?) ORDER BY trusted DESC LIMIT 1",
        )
        .bind(key.to_string())
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .fetch_optional(&self.readers)
        .await;
        found.doing("read a build")?.as_ref().map(build).transpose()
    }

    /// A build of a digest that a domain may use, a trusted one first.
    pub async fn build_of(
        &self,
        digest: &Digest,
        domain: TrustDomain,
    ) -> Result<Option<BuildRow>, StoreError> {
        let found = sqlx::query(
            "SELECT * FROM builds WHERE digest = ? AND source_id = ? AND (trusted OR NOT ?)
             ORDER BY trusted DESC, created_at LIMIT 1",
        )
        .bind(digest.to_string())
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .fetch_optional(&self.readers)
        .await;
        found.doing("read a build of a digest")?.as_ref().map(build).transpose()
    }

    /// The builds of a digest, trusted ones first: usually one, several if different keys or domains gave the
    /// same bytes.
    pub async fn builds_of(&self, digest: &Digest) -> Result<Vec<BuildRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM builds WHERE digest = ? ORDER BY trusted DESC, created_at")
            .bind(digest.to_string())
            .fetch_all(&self.readers)
            .await
            .doing("list builds of a digest")?;
        rows.iter().map(build).collect()
    }

    /// The compressed size of some platform manifests that a source built, in bytes.
    pub async fn image_sizes(
        &self,
        digests: &BTreeSet<&Digest>,
        source: SourceId,
    ) -> Result<BTreeMap<Digest, u64>, StoreError> {
        let rows = sqlx::query(
            "SELECT b.digest, b.image_size FROM json_each(?) wanted CROSS JOIN builds b ON b.digest = wanted.value
             WHERE b.source_id = ? ORDER BY b.trusted, b.created_at DESC",
        )
        .bind(row::to_json(digests)?)
        .bind(source.0)
        .fetch_all(&self.readers)
        .await
        .doing("list sizes of builds")?;
        // The oldest trusted build of a digest is the last one.
        rows.iter().map(|row| Ok((row::text(row, "digest")?, row::number(row, "image_size")?))).collect()
    }

    /// The newest verdict of each key on some platform manifests, with any lane inputs, of those that a
    /// domain may use.
    pub async fn newest_verdicts(
        &self,
        digests: &BTreeSet<&Digest>,
        domain: TrustDomain,
    ) -> Result<Vec<VerdictRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM verdicts WHERE id IN (SELECT max(v.id) FROM json_each(?1) wanted CROSS JOIN verdicts v
             ON v.digest = wanted.value CROSS JOIN runs r ON r.number = v.run
             WHERE r.source_id = ?2 AND (r.trusted OR NOT ?3)
             GROUP BY v.digest, v.lane, v.check_set, v.inputs) ORDER BY id",
        )
        .bind(row::to_json(digests)?)
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .fetch_all(&self.readers)
        .await
        .doing("list verdicts")?;
        rows.iter().map(verdict).collect()
    }

    /// All verdicts of a digest, newest first, of all domains.
    pub async fn verdicts_of(&self, digest: &Digest) -> Result<Vec<VerdictRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM verdicts WHERE digest = ? ORDER BY id DESC")
            .bind(digest.to_string())
            .fetch_all(&self.readers)
            .await
            .doing("list verdicts of a digest")?;
        rows.iter().map(verdict).collect()
    }

    /// The verdicts of a digest that a domain may use, newest first.
    pub async fn verdicts_in(
        &self,
        digest: &Digest,
        domain: TrustDomain,
    ) -> Result<Vec<VerdictRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT v.* FROM verdicts v JOIN runs r ON r.number = v.run
             WHERE v.digest = ? AND r.source_id = ? AND (r.trusted OR NOT ?) ORDER BY v.id DESC",
        )
        .bind(digest.to_string())
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .fetch_all(&self.readers)
        .await
        .doing("list verdicts of a digest")?;
        rows.iter().map(verdict).collect()
    }

    /// The newest verdict with a key.
    pub async fn verdict(&self, key: &VerdictKey) -> Result<Option<VerdictRow>, StoreError> {
        let found = sqlx::query(
            "SELECT * FROM verdicts WHERE digest = ? AND lane = ? AND check_set = ? AND inputs = ?
             ORDER BY id DESC LIMIT 1",
        )
        .bind(key.manifest.to_string())
        .bind(key.lane.name())
        .bind(key.check_set.to_string())
        .bind(key.inputs.to_string())
        .fetch_optional(&self.readers)
        .await;
        found.doing("read a verdict")?.as_ref().map(verdict).transpose()
    }

    /// Verdicts of a run that are not published yet.
    pub async fn unpublished(&self, run: RunNumber) -> Result<Vec<VerdictRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM verdicts WHERE run = ? AND published IS NULL ORDER BY id")
            .bind(run.0)
            .fetch_all(&self.readers)
            .await
            .doing("list unpublished verdicts")?;
        rows.iter().map(verdict).collect()
    }

    /// Notes the referrer that publishes a verdict.
    pub async fn note_published(&self, verdict: i64, referrer: &Digest) -> Result<(), StoreError> {
        let statement = sqlx::query("UPDATE verdicts SET published = ? WHERE id = ?")
            .bind(referrer.to_string())
            .bind(verdict);
        self.execute("note a published verdict", statement).await?;
        Ok(())
    }

    /// A check set by its digest.
    pub async fn check_set(&self, digest: &Digest) -> Result<Option<Vec<Check>>, StoreError> {
        let found = sqlx::query("SELECT document FROM check_sets WHERE digest = ?")
            .bind(digest.to_string())
            .fetch_optional(&self.readers)
            .await;
        found.doing("read a check set")?.as_ref().map(|row| row::json(row, "document")).transpose()
    }

    /// Records a job's results and the node's next state: all or nothing. The first digest of a key stays in
    /// the run's domain.
    pub async fn record(&self, result: NodeResult<'_>, now: Timestamp) -> Result<(), StoreError> {
        let mut found: Vec<Statement> = result
            .builds
            .iter()
            .map(|build| insert_build(result.run, result.job, build, now))
            .collect::<Result<_, _>>()?;
        found.extend(insert_verdicts(result.run, result.verdicts, result.check_sets, now)?);
        let place = (result.node, result.platform);
        let moved = move_node(result.run, place, (NodeState::Running, result.state), result.change, now)?;
        self.write(move |db| {
            Box::pin(async move {
                run_all(db, "record a job's results", found).await?;
                moved.run(db).await
            })
        })
        .await
    }

    /// Records verdicts that do not come from the node's own job: on the last good digest, inherited, or
    /// external.
    pub async fn add_verdicts(
        &self,
        run: RunNumber,
        verdicts: &[Verdict],
        check_sets: &[(Digest, Vec<Check>)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_all("record verdicts", insert_verdicts(run, verdicts, check_sets, now)?).await
    }

    /// Records a verdict that a principal posted, for each of some runs, with its row of the audit trail.
    pub async fn post_verdict(
        &self,
        runs: &[(RunNumber, Verdict)],
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<(), StoreError> {
        let mut statements = Vec::new();
        for (run, verdict) in runs {
            statements.extend(insert_verdicts(*run, std::slice::from_ref(verdict), &[], now)?);
        }
        let record = audit::insert(entry, now);
        self.write(move |db| {
            Box::pin(async move {
                run_all(db, "post a verdict", statements).await?;
                record.execute(db).await.doing("write an audit row")
            })
        })
        .await
    }
}

fn insert_build(
    run: RunNumber,
    job: JobId,
    build: &StepBuild,
    now: Timestamp,
) -> Result<Statement, StoreError> {
    let query = sqlx::query(
        "INSERT INTO builds (key, source_id, trusted, repository, digest, manifest_size, image_size, duration_ms, run, job,
         created_at, tools) SELECT ?, source_id, trusted, ?, ?, ?, ?, ?, number, ?, ?, ? FROM runs WHERE number = ?
         ON CONFLICT DO NOTHING",
    )
    .bind(build.key.to_string())
    .bind(build.manifest.repository.as_str())
    .bind(build.manifest.digest.to_string())
    .bind(row::signed(build.manifest_size))
    .bind(row::signed(build.image_size))
    .bind(row::signed(build.duration_ms))
    .bind(job.to_string())
    .bind(now.to_string())
    .bind(row::to_json(&build.tools)?)
    .bind(run.0);
    Ok(query)
}

fn insert_verdicts(
    run: RunNumber,
    verdicts: &[Verdict],
    check_sets: &[(Digest, Vec<Check>)],
    now: Timestamp,
) -> Result<Vec<Statement>, StoreError> {
    let mut statements = Vec::with_capacity(check_sets.len() + verdicts.len());
    for (digest, checks) in check_sets {
        let insert =
            sqlx::query("INSERT INTO check_sets (digest, document) VALUES (?, ?) ON CONFLICT DO NOTHING");
        statements.push(insert.bind(digest.to_string()).bind(row::to_json(checks)?));
    }
    for verdict in verdicts {
        let kind = match &verdict.result {
            LaneResult::Passed => None,
            LaneResult::Failed { kind, .. } => Some(kind.to_string()),
        };
        let insert = sqlx::query(
            "INSERT INTO verdicts (digest, repository, lane, check_set, inputs, origin, result, kind, document, run, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(verdict.manifest.digest.to_string())
        .bind(verdict.manifest.repository.as_str())
        .bind(verdict.lane.name())
        .bind(verdict.check_set.to_string())
        .bind(verdict.inputs.digest().to_string())
        .bind(verdict.origin.name())
        .bind(if kind.is_some() { "failed" } else { "passed" })
        .bind(kind)
        .bind(row::to_json(verdict)?)
        .bind(run.0)
        .bind(now.to_string());
        statements.push(insert);
    }
    Ok(statements)
}

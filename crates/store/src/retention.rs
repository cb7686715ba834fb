//! Which builds are still needed (by releases, by what the next commits reuse, by recent runs), and the
//! removal of the rest.
//!
//! Rows are deleted before the registry's pins: a crash in between leaves only surplus pins, never a build
//! that the registry does not have.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::Platform;
use edgewright_model::reference::RepoName;
use edgewright_model::run::RunNumber;
use jiff::Timestamp;
use sqlx::SqliteConnection;

use crate::error::Operation as _;
use crate::nodes::{NodeRow, PathStep};
use crate::write::run_all;
use crate::{Store, StoreError, row};

/// From which time on builds are kept that are not needed for another reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Releases made since then keep all their entries.
    pub releases: Timestamp,
    /// Variants retired since then are kept like declared ones.
    pub retired: Timestamp,
    /// The builds of runs that ended since then are kept for the next commit, whatever their result.
    pub builds: Timestamp,
}

/// What is needed, as of one point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Indexes and platform manifests.
    pub digests: BTreeSet<Digest>,
    /// Keys of builds, shared steps included.
    pub keys: BTreeSet<Digest>,
    /// Those of them whose untrusted builds are needed, too: by recent untrusted runs.
    pub untrusted: BTreeSet<Digest>,
    /// The plans that it was computed from.
    plans: String,
}

/// The number of deleted rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Builds: their keys are built again when a plan needs them.
    pub builds: usize,
    /// Retired variants.
    pub variants: usize,
}

/// A verdict that a newer one replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupersededVerdict {
    /// Its row.
    pub id: i64,
    /// The repository of its referrer.
    pub repository: RepoName,
    /// Its referrer, which holds its evidence.
    pub referrer: Digest,
}

/// Releases that are kept; `answered` ones with all their entries, even of variants that are retired. And
/// what the devices of the newest rollout of each channel have, and get.
const INDEXES: &str = "WITH kept AS (
    SELECT source_id, number, branch, 1 AS answered FROM releases r
    WHERE EXISTS (SELECT 1 FROM channels c WHERE c.source_id = r.source_id AND r.number IN (c.target, c.completed, c.pin))
       OR EXISTS (SELECT 1 FROM fleet_devices d WHERE d.source_id = r.source_id AND d.pin = r.number)
       OR number = (SELECT max(number) FROM releases n WHERE n.source_id = r.source_id AND n.branch = r.branch)
    UNION ALL SELECT source_id, number, branch, 0 FROM releases WHERE created_at >= ?1)
SELECT DISTINCT e.digest, coalesce(i.manifests, '{}') AS manifests FROM kept k
JOIN release_entries e ON e.source_id = k.source_id AND e.release = k.number LEFT JOIN indexes i ON i.digest = e.digest
WHERE k.answered OR EXISTS (SELECT 1 FROM heads h WHERE h.source_id = k.source_id AND h.branch = k.branch
                            AND h.trusted AND h.variant = e.variant AND (h.retired_at IS NULL OR h.retired_at >= ?2))
UNION SELECT m.after_digest, coalesce(i.manifests, '{}') FROM rollout_members m LEFT JOIN indexes i ON i.digest = m.after_digest
WHERE m.rollout IN (SELECT max(number) FROM rollouts GROUP BY source_id, channel)
UNION SELECT m.before_digest, coalesce(i.manifests, '{}') FROM rollout_members m
LEFT JOIN indexes i ON i.digest = m.before_digest
WHERE m.before_digest IS NOT NULL AND m.rollout IN (SELECT max(number) FROM rollouts GROUP BY source_id, channel)";

/// What devices have, or return to.
const DEVICES: &str = "WITH held AS (
    SELECT delivered AS digest FROM fleet_devices WHERE state <> 'retired' AND delivered IS NOT NULL
    UNION SELECT confirmed FROM fleet_devices WHERE state <> 'retired' AND confirmed IS NOT NULL)
SELECT held.digest AS digest, coalesce(i.manifests, '{}') AS manifests FROM held
LEFT JOIN indexes i ON i.digest = held.digest";

/// The heads of branches. Those of pull requests and other untrusted refs are kept by the age of their runs
/// alone.
const HEADS: &str =
    "SELECT key, digest FROM heads WHERE (retired_at IS NULL OR retired_at >= ?1) AND trusted";

const YOUNG: &str = "SELECT n.digest, n.steps, r.trusted FROM run_nodes n JOIN runs r ON r.number = n.run
    WHERE r.finished_at IS NULL OR r.finished_at >= ?1";

/// Notes what is no longer kept (?1: what is), and un-notes what is kept again.
const COLLECTED: [&str; 2] = [
    "INSERT INTO collected (digest, at) SELECT DISTINCT digest, ?2 FROM release_entries
     WHERE digest NOT IN (SELECT value FROM json_each(?1)) ON CONFLICT DO NOTHING",
    "DELETE FROM collected WHERE digest IN (SELECT value FROM json_each(?1)) AND at <= ?2",
];

impl Store {
    /// What is needed now. None while a run is being planned: it may be about to reuse anything.
    pub async fn needed(&self, horizon: &Horizon) -> Result<Option<Needed>, StoreError> {
        let mut read = self.readers.acquire().await.doing("read what is needed")?;
        let Some(plans) = plans(&mut read).await? else { return Ok(None) };
        let (mut digests, mut keys, mut untrusted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let entries = sqlx::query(INDEXES)
            .bind(horizon.releases.to_string())
            .bind(horizon.retired.to_string())
            .fetch_all(&mut *read)
            .await
            .doing("list what releases hold")?;
        let devices = sqlx::query(DEVICES).fetch_all(&mut *read).await.doing("list the images of devices")?;
        for row in entries.iter().chain(&devices) {
            digests.insert(row::text(row, "digest")?);
            let manifests: BTreeMap<Platform, Digest> = row::json(row, "manifests")?;
            digests.extend(manifests.into_values());
        }
        let heads = sqlx::query(HEADS).bind(horizon.retired.to_string()).fetch_all(&mut *read).await;
        for row in &heads.doing("list heads")? {
            keys.insert(row::text(row, "key")?);
            digests.insert(row::text(row, "digest")?);
        }
        let young = sqlx::query(YOUNG).bind(horizon.builds.to_string()).fetch_all(&mut *read).await;
        for row in &young.doing("list builds of recent runs")? {
            digests.extend(row::maybe::<Digest>(row, "digest")?);
            keys.extend(steps(row)?);
            if row::number::<u8>(row, "trusted")? == 0 {
                untrusted.extend(steps(row)?);
            }
        }
        let (rebuilt, unchanged) = self.in_progress(&mut read).await?;
        digests.extend(rebuilt);
        for node in unchanged {
            digests.extend(node.digest);
            keys.extend(node.steps.into_iter().map(|step| step.key));
        }
        let mut needed = Needed { digests, keys, untrusted, plans };
        complete(&mut read, &mut needed).await?;
        Ok(Some(needed))
    }

    /// What is in progress: the digests of open rebuilds, and the nodes that open runs found unchanged. Both
    /// may be older than everything else that is kept.
    async fn in_progress(
        &self,
        read: &mut SqliteConnection,
    ) -> Result<(BTreeSet<Digest>, Vec<NodeRow>), StoreError> {
        let rows = sqlx::query(
            "SELECT r.digest, coalesce(i.manifests, '{}') AS manifests FROM rebuilds r
             LEFT JOIN indexes i ON i.digest = r.digest WHERE r.state IN ('queued', 'running')",
        )
        .fetch_all(&mut *read)
        .await
        .doing("list open rebuilds")?;
        let mut digests = BTreeSet::new();
        for row in &rows {
            digests.insert(row::text(row, "digest")?);
            let manifests: BTreeMap<Platform, Digest> = row::json(row, "manifests")?;
            digests.extend(manifests.into_values());
        }
        let runs: Vec<u32> = sqlx::query_scalar(
            "SELECT min(number) FROM runs WHERE finished_at IS NULL AND standing IS NOT NULL GROUP BY standing",
        )
        .fetch_all(read)
        .await
        .doing("list open runs")?;
        let mut nodes = Vec::new();
        for run in runs {
            nodes.extend(self.unchanged_nodes(RunNumber(run)).await?);
        }
        Ok((digests, nodes))
    }

    /// The time up to which retention may remove what is old: `now`, unless the clock is ahead of the time
    /// that was confirmed last.
    pub async fn confirmed_time(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let found = sqlx::query("SELECT at FROM confirmed_time").fetch_optional(&self.readers).await;
        let confirmed: Option<Timestamp> =
            found.doing("read the confirmed time")?.map(|row| row::text(&row, "at")).transpose()?;
        Ok(confirmed.map_or(now, |confirmed| confirmed.min(now)))
    }

    /// Confirms a time.
    pub async fn confirm_time(&self, at: Timestamp) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO confirmed_time (id, at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = ?1",
        );
        self.execute("confirm a time", statement.bind(at.to_string())).await?;
        Ok(())
    }

    /// Deletes builds that are not needed, with their verdicts, and retired variants. None if a run was
    /// planned since: then compute what is needed again.
    pub async fn forget(
        &self,
        needed: &Needed,
        horizon: &Horizon,
        now: Timestamp,
    ) -> Result<Option<Forgotten>, StoreError> {
        let (needed, horizon) = (needed.clone(), *horizon);
        self.write(move |db| {
            Box::pin(async move {
                if plans(db).await?.as_ref() != Some(&needed.plans) {
                    return Ok(None);
                }
                let builds = forget_builds(db, &needed, horizon.builds).await?;
                let retired = sqlx::query("DELETE FROM heads WHERE retired_at < ?")
                    .bind(horizon.retired.to_string())
                    .execute(&mut *db)
                    .await
                    .doing("forget retired variants")?;
                let variants = usize::try_from(retired.rows_affected()).unwrap_or(usize::MAX);
                let digests = row::to_json(&needed.digests)?;
                let collected = COLLECTED.map(|sql| sqlx::query(sql).bind(&digests).bind(now.to_string()));
                run_all(db, "note collected images", collected.into()).await?;
                Ok(Some(Forgotten { builds, variants }))
            })
        })
        .await
    }

    /// Published verdicts from before a time that a newer one of the same lane and checks replaces.
    pub async fn superseded_verdicts(&self, before: Timestamp) -> Result<Vec<SupersededVerdict>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, repository, published FROM verdicts v WHERE published IS NOT NULL AND created_at < ? AND EXISTS
             (SELECT 1 FROM verdicts n WHERE n.digest = v.digest AND n.lane = v.lane AND n.check_set = v.check_set
              AND n.inputs = v.inputs AND n.repository = v.repository AND n.id > v.id AND n.published IS NOT v.published)",
        )
        .bind(before.to_string())
        .fetch_all(&self.readers)
        .await
        .doing("list superseded verdicts")?;
        rows.iter()
            .map(|row| {
                Ok(SupersededVerdict {
                    id: row::number(row, "id")?,
                    repository: row::text(row, "repository")?,
                    referrer: row::text(row, "published")?,
                })
            })
            .collect()
    }

    /// Notes that a verdict's referrer is gone.
    pub async fn note_withdrawn(&self, verdict: i64) -> Result<(), StoreError> {
        let statement = sqlx::query("UPDATE verdicts SET published = NULL WHERE id = ?").bind(verdict);
        self.execute("note a withdrawn verdict", statement).await?;
        Ok(())
    }

    /// Runs whose pins stay: open ones, and those that ended since a time.
    pub async fn young_runs(&self, since: Timestamp) -> Result<BTreeSet<RunNumber>, StoreError> {
        let rows = sqlx::query("SELECT number FROM runs WHERE finished_at IS NULL OR finished_at >= ?")
            .bind(since.to_string())
            .fetch_all(&self.readers)
            .await
            .doing("list young runs")?;
        rows.iter().map(|row| Ok(RunNumber(row::number(row, "number")?))).collect()
    }
}

/// Deletes the builds from before a time that are not needed, with their verdicts. Gives their number.
async fn forget_builds(
    db: &mut SqliteConnection,
    needed: &Needed,
    before: Timestamp,
) -> Result<usize, StoreError> {
    let old = sqlx::query("SELECT key, source_id, trusted, digest FROM builds WHERE created_at < ?")
        .bind(before.to_string())
        .fetch_all(&mut *db)
        .await
        .doing("list old builds")?;
    let mut forgotten = 0;
    for row in &old {
        let (key, digest): (Digest, Digest) = (row::text(row, "key")?, row::text(row, "digest")?);
        let (source, trusted): (i64, u8) = (row::number(row, "source_id")?, row::number(row, "trusted")?);
        let keys = if trusted == 0 { &needed.untrusted } else { &needed.keys };
        if keys.contains(&key) || needed.digests.contains(&digest) {
            continue;
        }
        forgotten += 1;
        let of_build = |sql| sqlx::query(sql).bind(key.to_string()).bind(source).bind(trusted);
        let statements = [
            of_build("DELETE FROM proofs WHERE key = ? AND source_id = ? AND trusted = ?"),
            of_build("DELETE FROM builds WHERE key = ? AND source_id = ? AND trusted = ?"),
            sqlx::query("DELETE FROM verdicts WHERE digest = ?").bind(digest.to_string()),
        ];
        run_all(db, "forget a build", statements.into()).await?;
    }
    Ok(forgotten)
}

fn steps(row: &sqlx::sqlite::SqliteRow) -> Result<impl Iterator<Item = Digest>, StoreError> {
    let steps: Vec<PathStep> = row::json(row, "steps")?;
    Ok(steps.into_iter().map(|step| step.key))
}

/// The states of the runs that may reuse builds. None while one of them is being planned.
async fn plans(read: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT number, state FROM runs WHERE state IN ('preparing', 'running', 'releasing')
         UNION ALL SELECT coalesce(max(number), 0), 'newest' FROM runs WHERE state <> 'queued'
         UNION ALL SELECT number, 'rebuild' FROM rebuilds WHERE state IN ('queued', 'running')",
    )
    .fetch_all(read)
    .await
    .doing("read which runs are open")?;
    let is_planning = rows.iter().any(|(_, state)| state == "preparing");
    if is_planning {
        return Ok(None);
    }
    let words: Vec<String> = rows.iter().map(|(number, state)| format!("{number} {state}")).collect();
    Ok(Some(words.join(";")))
}

/// Adds the keys of the images, and what was built for the keys.
async fn complete(db: &mut SqliteConnection, needed: &mut Needed) -> Result<(), StoreError> {
    let of =
        sqlx::query("SELECT DISTINCT steps FROM run_nodes WHERE digest IN (SELECT value FROM json_each(?))")
            .bind(row::to_json(&needed.digests)?)
            .fetch_all(&mut *db)
            .await
            .doing("list what images are made of")?;
    for row in &of {
        needed.keys.extend(steps(row)?);
    }
    let built = sqlx::query(
        "SELECT digest FROM builds WHERE key IN (SELECT value FROM json_each(?1))
         AND (trusted OR key IN (SELECT value FROM json_each(?2)))",
    )
    .bind(row::to_json(&needed.keys)?)
    .bind(row::to_json(&needed.untrusted)?)
    .fetch_all(&mut *db)
    .await
    .doing("list builds")?;
    for row in &built {
        needed.digests.insert(row::text(row, "digest")?);
    }
    Ok(())
}

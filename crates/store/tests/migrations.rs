//! Databases of earlier versions: migration loses nothing, and gives the schema of a new database.
//!
//! `fixtures/control-DATE.sql` was written by the version of that day; `fixtures/make-control-DATE.sh` made
//! it. A fixture is never changed. A version that changes the schema adds one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use edgewright_model::Digest;
use edgewright_model::run::{ReleaseNumber, RunState};
use edgewright_store::Store;
use edgewright_store::audit::AuditSelection;
use edgewright_store::sources::SourceRow;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

const SAVED: &str = include_str!("fixtures/control-2026-11-27.sql");

/// A table's rows, each as its values in SQL.
type Tables = BTreeMap<String, Vec<String>>;

/// Makes a database from a fixture.
async fn load(path: &Path) {
    let mut db = edgewright_sqlite::connect(path).await.unwrap();
    sqlx::raw_sql(SAVED).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

async fn column(db: &mut SqliteConnection, sql: String) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(db).await.unwrap()
}

/// All rows of a database except those of the migrations.
async fn tables(path: &Path) -> Tables {
    let mut db = edgewright_sqlite::connect(path).await.unwrap();
    let names =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'";
    let mut tables = Tables::new();
    for table in column(&mut db, names.to_owned()).await {
        let columns = column(&mut db, format!("SELECT name FROM pragma_table_info('{table}')")).await;
        let quoted: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
        let sql = format!("SELECT {} AS line FROM \"{table}\" ORDER BY line", quoted.join(" || ', ' || "));
        tables.insert(table, column(&mut db, sql).await);
    }
    db.close().await.unwrap();
    tables
}

/// The schema of a database, without comments and white space.
async fn schema(path: &Path) -> BTreeSet<String> {
    let mut db = edgewright_sqlite::connect(path).await.unwrap();
    let sql = "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_schema".to_owned();
    let parts = column(&mut db, sql).await;
    db.close().await.unwrap();
    let normal = |part: &String| {
        let lines = part.lines().map(|line| line.split("--").next().unwrap_or_default());
        lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    };
    parts.iter().map(normal).collect()
}

#[tokio::test]
async fn a_new_database_and_a_migrated_one_have_the_same_schema() {
    let folder = tempfile::tempdir().unwrap();
    let (new, saved) = (folder.path().join("new.db"), folder.path().join("saved.db"));
    load(&saved).await;
    for path in [&new, &saved] {
        Store::open(path).await.unwrap().close().await;
    }
    assert_eq!(schema(&saved).await, schema(&new).await);
}

#[tokio::test]
async fn migrating_loses_no_row_and_opening_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    load(&path).await;
    let saved = tables(&path).await;
    Store::open(&path).await.unwrap().close().await;
    let migrated = tables(&path).await;
    for (table, rows) in &saved {
        assert!(!rows.is_empty(), "{table} is empty in the fixture");
        let now = migrated.get(table).map_or(0, Vec::len);
        assert!(now >= rows.len(), "{table} had {} rows and has {now}", rows.len());
    }
    Store::open(&path).await.unwrap().close().await;
    assert_eq!(tables(&path).await, migrated);
}

/// The digests in a column of the fixture.
async fn digests(path: &Path, sql: &str) -> Vec<Digest> {
    let mut db = edgewright_sqlite::connect(path).await.unwrap();
    let found = column(&mut db, sql.to_owned()).await;
    db.close().await.unwrap();
    found.iter().map(|digest| digest.parse().unwrap()).collect()
}

/// A migrated database, and the rows that it had before.
struct Migrated {
    _folder: tempfile::TempDir,
    store: Store,
    saved: Tables,
    sources: Vec<SourceRow>,
    keys: Vec<Digest>,
    manifests: Vec<Digest>,
    check_sets: Vec<Digest>,
}

impl Migrated {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.db");
        load(&path).await;
        let saved = tables(&path).await;
        let keys = digests(&path, "SELECT key FROM builds").await;
        let manifests = digests(&path, "SELECT DISTINCT digest FROM verdicts").await;
        let check_sets = digests(&path, "SELECT digest FROM check_sets").await;
        let store = Store::open(&path).await.unwrap();
        let sources = store.sources().await.unwrap();
        Self { _folder: folder, store, saved, sources, keys, manifests, check_sets }
    }

    fn count(&self, table: &str) -> usize {
        self.saved[table].len()
    }
}

#[tokio::test]
async fn runs_of_an_earlier_version_are_read() {
    let migrated = Migrated::new().await;
    let store = &migrated.store;
    assert_eq!(migrated.sources.len(), migrated.count("sources"));
    let runs = store.runs(None, 1000).await.unwrap();
    assert_eq!(runs.len(), migrated.count("runs"));
    for state in [RunState::Passed, RunState::Failed, RunState::Running] {
        assert!(runs.iter().any(|run| run.state == state), "no run is {state}");
    }
    assert!(runs.iter().any(|run| !run.diagnostics.is_empty()));
    assert!(runs.iter().any(|run| !run.locks.is_empty()));
    let (mut own, mut unchanged, mut images, mut updates) = (0, 0, 0, 0);
    for run in &runs {
        own += store.own_nodes(run.number).await.unwrap().len();
        unchanged += usize::from(!store.unchanged_nodes(run.number).await.unwrap().is_empty());
        images += store.run_images(run.number).await.unwrap().len();
        updates += store.update_checks(run.number).await.unwrap().len();
    }
    assert_eq!((own, images), (migrated.count("run_nodes"), migrated.count("run_images")));
    assert_eq!(updates, migrated.count("lock_looks"));
    assert!(unchanged >= migrated.count("standing"));
    let open: Vec<_> = store.open_runs().await.unwrap().into_iter().map(|run| run.state).collect();
    assert_eq!(open, [RunState::Running]);
    let (mut heads, mut decided, mut locks) = (0, 0, 0);
    for source in &migrated.sources {
        let branches: BTreeSet<_> = runs.iter().map(|run| &run.branch).collect();
        for branch in branches {
            for trusted in [true, false] {
                heads += store.heads(source.id.domain(trusted), branch).await.unwrap().len();
            }
        }
        decided += store.decided(source.id).await.unwrap().len();
        locks += store.locks(source.id.domain(false)).await.unwrap().len();
    }
    let expected = (migrated.count("heads"), migrated.count("branches"), migrated.count("locks"));
    assert_eq!((heads, decided, locks), expected);
}

#[tokio::test]
async fn results_of_an_earlier_version_are_read() {
    let migrated = Migrated::new().await;
    let store = &migrated.store;
    let (mut built, mut proofs, mut kept) = (0, 0, 0);
    for domain in migrated.sources.iter().map(|source| source.id.domain(false)) {
        proofs += store.proofs(&migrated.keys, domain).await.unwrap().len();
        for key in &migrated.keys {
            built += usize::from(store.build(key, domain).await.unwrap().is_some());
            kept += usize::from(store.kept_packages(key, domain).await.unwrap().is_some());
        }
    }
    assert_eq!(built, migrated.count("builds"));
    assert_eq!(proofs, migrated.count("proofs"));
    assert_eq!(kept, migrated.count("kept_packages"));
    let mut verdicts = 0;
    for manifest in &migrated.manifests {
        verdicts += store.verdicts_of(manifest).await.unwrap().len();
    }
    assert_eq!(verdicts, migrated.count("verdicts"));
    for digest in &migrated.check_sets {
        assert!(store.check_set(digest).await.unwrap().is_some(), "{digest}");
    }
    let rebuild = store.rebuild(edgewright_model::run::RebuildNumber(1)).await.unwrap().unwrap();
    assert!(rebuild.builds.iter().all(edgewright_store::rebuilds::Rebuilt::is_proved));
}

#[tokio::test]
async fn releases_of_an_earlier_version_are_read() {
    let migrated = Migrated::new().await;
    let store = &migrated.store;
    let (mut releases, mut entries, mut indexes, mut pull_requests) = (0, 0, 0, 0);
    let mut channels = Vec::new();
    for source in &migrated.sources {
        for release in store.releases(source.id, 1000).await.unwrap() {
            releases += 1;
            entries += store.entries(source.id, release.number).await.unwrap().len();
            indexes += store.indexes_of(source.id, release.number).await.unwrap().len();
        }
        pull_requests += store.pull_requests(source.id).await.unwrap().len();
        channels.extend(store.channels(source.id).await.unwrap());
    }
    assert_eq!((releases, entries), (migrated.count("releases"), migrated.count("release_entries")));
    assert_eq!(pull_requests, migrated.count("pull_requests"));
    // The index of the pull request belongs to no release.
    assert_eq!(indexes + pull_requests, migrated.count("indexes"));
    assert_eq!(channels.len(), migrated.count("channels"));
    let held: Vec<_> = channels.iter().filter_map(|channel| channel.hold.as_deref()).collect();
    assert_eq!(held, ["line 4 is being rebuilt"]);
    // The release that a tag answered is the channel's target, and the first of its moves.
    let stable: Vec<_> = channels.iter().filter(|channel| channel.name.as_str() == "stable").collect();
    let first = Some(ReleaseNumber(1));
    assert!(stable.iter().all(|channel| (channel.target, channel.completed) == (first, first)));
    let mut moves = 0;
    for source in &migrated.sources {
        moves += store.channel_moves(source.id, ReleaseNumber(0)).await.unwrap().len();
    }
    assert_eq!((stable.len(), moves), (2, 2));
    let all = AuditSelection { limit: 1000, ..AuditSelection::default() };
    let audit = store.audit_trail(&all).await.unwrap();
    assert_eq!(audit.len(), migrated.count("audit"));
    assert_eq!(audit[0].entry.object, "tools/channels/stable");
    let copies = store.copies().await.unwrap();
    assert_eq!(copies.len(), migrated.count("target_copies"));
    let mut images = 0;
    let places: BTreeSet<_> = copies.iter().map(|copy| (&copy.key.target, &copy.place)).collect();
    for (target, place) in places {
        images += store.copied_images(target, place).await.unwrap().len();
    }
    assert_eq!(images, migrated.count("target_images"));
    assert!(store.events_after(0, 10_000).await.unwrap().len() >= migrated.count("events"));
    assert_eq!(store.sinks().await.unwrap().len(), migrated.count("sinks"));
}

/// What `edgewright restore` does with a backup of that day.
#[tokio::test]
async fn a_restored_database_of_an_earlier_version_forgets_its_positions() {
    let migrated = Migrated::new().await;
    let store = &migrated.store;
    store.forget_positions().await.unwrap();
    assert_eq!(store.open_runs().await.unwrap(), []);
    for source in &migrated.sources {
        assert_eq!(store.decided(source.id).await.unwrap(), BTreeMap::new());
        for channel in store.channels(source.id).await.unwrap() {
            assert_eq!((channel.target, channel.completed, channel.pin), (None, None, None));
        }
    }
}

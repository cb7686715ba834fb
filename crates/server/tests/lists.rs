//! Lists in pages: the number of queries does not depend on the number of rows.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use std::sync::atomic::Ordering;

use common::statements::{STATEMENTS, Statements};
use common::world::{World, source, world};
use edgewright_api::ImageState;
use edgewright_model::run::ReleaseNumber;
use sqlx::{AssertSqlSafe, Connection as _};

/// The number of variants in the release of [`fill`].
const VARIANTS: usize = 5_000;

/// Releases of 5,000 variants, each with a build and a verdict, and as many sites and runs.
async fn fill(world: &World) {
    let verdict = include_str!("../../model/tests/golden/verdict-0001.json").replace('\n', "");
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {VARIANTS})");
    let at = "'2026-11-01T00:00:00Z'";
    let commit = "'0123456789abcdef0123456789abcdef01234567'";
    let manifest = "printf('sha256:%064x', i + 100000)";
    let statements = [
        format!("INSERT INTO releases (source_id, number, run, branch, commit_id, created_at) SELECT 1, value, value, 'main', {commit}, {at} FROM json_each('[1, 2, 3]')"),
        format!(
            "{numbers} INSERT INTO runs (number, source_id, branch, commit_id, subject, author, trigger, state, created_at)
             SELECT i + 1, 1, 'main', {commit}, 's', 'a', 'commit', 'passed', {at} FROM n"
        ),
        format!(
            "{numbers} INSERT INTO release_entries SELECT 1, r.value, printf('hmi/plant-%05d', i), 'plants/hmi',
             printf('sha256:%064x', i), 'new', 'r' FROM n, json_each('[1, 2, 3]') r"
        ),
        format!(
            "{numbers} INSERT INTO indexes SELECT printf('sha256:%064x', i), 'plants/hmi',
             json_object('linux/amd64', {manifest}) FROM n"
        ),
        format!(
            "{numbers} INSERT INTO builds (key, source_id, trusted, repository, digest, manifest_size, image_size, duration_ms, run, job, created_at)
             SELECT printf('sha256:%064x', i + 200000), 1, 1, 'plants/hmi', {manifest}, 1, i, 1, 1,
             '01890000-0000-7000-8000-000000000000', {at} FROM n"
        ),
        "INSERT INTO check_sets VALUES ('sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9', '[]')"
            .to_owned(),
        format!(
            "{numbers} INSERT INTO verdicts (digest, repository, lane, check_set, inputs, origin, result, document, run, created_at)
             SELECT {manifest}, 'plants/hmi', 'container',
             'sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9', 'sha256:x', 'ran', 'failed',
             json_set('{verdict}', '$.manifest.digest', {manifest}, '$.inputs', json('{{\"profile\": \"podman\", \"semantics\": 1}}')),
             1, {at} FROM n"
        ),
        format!(
            "{numbers} INSERT INTO sites (source_id, id, name, labels, changed_at)
             SELECT 1, printf('id-%05d', i), printf('plant-%05d', i), '{{}}', {at} FROM n"
        ),
    ];
    let mut db = edgewright_sqlite::connect(&world.data.database()).await.unwrap();
    sqlx::query("PRAGMA foreign_keys = off").execute(&mut db).await.unwrap();
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut db).await.unwrap();
    }
    db.close().await.unwrap();
}

/// The rows of a page, the number of statements that it took, and the link to the next one.
async fn page(world: &World, path: &str) -> (usize, usize, Option<String>) {
    let before = STATEMENTS.load(Ordering::Relaxed);
    let response = reqwest::get(format!("{}{path}", world.url)).await.unwrap();
    assert_eq!(response.status().as_u16(), 200, "{path}");
    let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
    let next =
        link.map(|link| link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0.to_owned());
    let rows: Vec<serde_json::Value> = response.json().await.unwrap();
    (rows.len(), STATEMENTS.load(Ordering::Relaxed) - before, next)
}

/// The rows of a page and the number of statements that it takes: the fewest of several requests, because the
/// server's own periodic work may add some to any of them.
async fn cost(world: &World, path: &str) -> (usize, usize, Option<String>) {
    let mut least = page(world, path).await;
    for _ in 0..4 {
        let again = page(world, path).await;
        if again.1 < least.1 {
            least = again;
        }
    }
    least
}

#[tokio::test]
async fn five_thousand_variants_are_listed_in_pages_without_a_query_per_row() {
    tracing::subscriber::set_global_default(Statements).unwrap();
    let world = world().await;
    let run = world.running().await;
    fill(&world).await;

    let images = world.client.images(None).await.unwrap();
    // The newest plan has one more.
    assert_eq!(images.len(), VARIANTS + 1);
    let last = images.iter().find(|image| image.variant.to_string() == "hmi/plant-05000").unwrap();
    assert_eq!(
        (last.state, last.size_bytes, last.release),
        (ImageState::Current, 5000, Some(ReleaseNumber(3)))
    );
    assert!(images.is_sorted_by(|one, other| one.variant < other.variant));

    for path in ["/api/v1/images", "/api/v1/runs", "/api/v1/sites", "/api/v1/releases", "/api/v1/channels"] {
        let (few, small, _) = cost(&world, &format!("{path}?limit=1")).await;
        let (many, large, next) = cost(&world, &format!("{path}?limit=1000")).await;
        assert!(small > 0 && few <= 1 && many <= 1000, "{path}: {few} and {many} rows in {small} queries");
        assert_eq!(small, large, "{path}: {few} rows take {small} queries, {many} take {large}");
        let (default, _, _) = page(&world, path).await;
        assert!(default <= 1000, "{path}: {default}");
        if let Some(next) = next {
            assert!(next.starts_with(&format!("{path}?limit=1000&cursor=")), "{next}");
            assert!(page(&world, &next).await.0 > 0, "{next}");
        }
    }
    assert_eq!(world.client.sites(Some(&source().name)).await.unwrap().len(), VARIANTS);
    let runs = world.client.runs(None, 2_500).await.unwrap();
    assert_eq!((runs.len(), runs[0].number.0, runs[2_499].number.0), (2_500, 5_001, 2_502));
    // A page of releases has a bounded number of entries.
    let (rows, _, next) = page(&world, "/api/v1/releases").await;
    assert_eq!((rows, next), (3, None));
    let found = world.client.release(ReleaseNumber(2), None).await.unwrap();
    assert_eq!(found.iter().map(|release| release.entries.len()).collect::<Vec<_>>(), [VARIANTS]);
    for path in ["/api/v1/images?cursor=x", "/api/v1/runs?cursor=-1", "/api/v1/images?limit=-1"] {
        let response = reqwest::get(format!("{}{path}", world.url)).await.unwrap();
        assert_eq!(response.status().as_u16(), 400, "{path}");
    }
    let jobs = world.client.jobs(run, None, 0).await.unwrap();
    assert_eq!((jobs.count, jobs.jobs[0].node.as_str()), (1, "hmi/plant-a"));
    assert!(world.client.jobs(run, None, jobs.count).await.unwrap().jobs.is_empty());
}

//! A changed inventory is read once, however many requests see the change at the same time.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use std::sync::atomic::Ordering;

use common::statements::{READINGS, Statements};
use common::world::world;
use sqlx::Connection as _;

#[tokio::test]
async fn requests_that_see_a_changed_inventory_wait_for_one_that_reads_it() {
    tracing::subscriber::set_global_default(Statements).unwrap();
    let world = world().await;
    world.running().await;
    let mut db = edgewright_sqlite::connect(&world.data.database()).await.unwrap();
    sqlx::query("UPDATE sources SET inventory_commit = 'another'").execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let before = READINGS.load(Ordering::Relaxed);
    let order = serde_json::from_value(serde_json::json!({ "site": "plant-00001" })).unwrap();
    let requests = (0..16).map(|_| world.client.make_enrolment(&order));
    let answers = futures::future::join_all(requests).await;
    // The site has no slot.
    assert!(
        answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.to_string().contains("slot")))
    );
    let readings = READINGS.load(Ordering::Relaxed) - before;
    // Other parts of the server may read it, too; without waiting, each request does.
    assert!((1..=8).contains(&readings), "{readings} readings of all slots");
}

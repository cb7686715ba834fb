//! The writer's contract: few commits for many writes, isolated failures, no acknowledged write lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Database, Failure, add, execute, fail};
use edgewright_sqlite::{WriterError, WriterStats, is_disk_full};
use futures::FutureExt as _;
use futures::future::join_all;
use tokio::sync::oneshot;

#[tokio::test]
async fn concurrent_writes_share_commits() {
    let database = Database::new().await;
    let results = join_all((0..200).map(|number| database.writer.write(add(number)))).await;
    assert!(results.iter().all(Result::is_ok));
    let WriterStats { groups, writes } = database.writer.stats();
    assert_eq!(writes, 200);
    assert!(groups <= 10, "{groups} commits of at most 64 writes each");
    assert_eq!(database.reopened().await, (0..200).collect());
}

#[tokio::test]
async fn a_lone_write_is_a_commit_of_its_own() {
    let database = Database::new().await;
    for number in 0..3 {
        database.writer.write(add(number)).await.unwrap();
    }
    assert_eq!(database.writer.stats(), WriterStats { groups: 3, writes: 3 });
}

#[tokio::test]
async fn a_failed_write_is_undone_alone() {
    let database = Database::new().await;
    let (before, failed, after) = tokio::join!(
        database.writer.write(add(1)),
        database.writer.write(fail(2)),
        database.writer.write(add(3))
    );
    assert!(before.is_ok() && after.is_ok());
    assert!(matches!(failed, Err(Failure::Own)), "{failed:?}");
    assert_eq!(database.writer.stats(), WriterStats { groups: 1, writes: 2 });
    assert_eq!(database.reopened().await, [1, 3].into());
}

#[tokio::test]
async fn a_panic_is_resumed_in_its_caller_only() {
    let database = Database::new().await;
    let panicking = database.writer.write::<_, (), Failure>(|db| {
        Box::pin(async move {
            add(2)(db).await?;
            panic!("on purpose")
        })
    });
    let (before, panicked, after) = tokio::join!(
        database.writer.write(add(1)),
        AssertUnwindSafe(panicking).catch_unwind(),
        database.writer.write(add(3))
    );
    assert!(before.is_ok() && after.is_ok());
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"on purpose"));
    database.writer.write(add(4)).await.unwrap();
    assert_eq!(database.reopened().await, [1, 3, 4].into());
}

#[tokio::test]
async fn a_write_whose_caller_is_gone_does_not_affect_its_group() {
    let database = Database::new().await;
    let mut dropped = Box::pin(database.writer.write(add(1)));
    assert!(futures::poll!(&mut dropped).is_pending());
    drop(dropped);
    database.writer.write(add(2)).await.unwrap();
    assert_eq!(database.reopened().await, [1, 2].into());
}

#[tokio::test]
async fn a_commit_callback_runs_before_the_reply_and_never_after_a_failure() {
    let database = Database::new().await;
    for (work_fails, expected) in [(false, true), (true, false)] {
        let noted = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&noted);
        let work = if work_fails { fail(1) } else { add(1) };
        let result = database.writer.write_then(work, move || note.store(true, Ordering::SeqCst)).await;
        assert_eq!((result.is_ok(), noted.load(Ordering::SeqCst)), (expected, expected));
    }
}

/// SQLite ends a transaction by itself when the disk is full: here when the file may not grow.
#[tokio::test]
async fn a_full_disk_fails_the_group_and_the_writer_continues() {
    let database = Database::new().await;
    database.run("PRAGMA max_page_count = 4").await;
    let large =
        database.writer.write(execute("INSERT INTO numbers (n, filler) VALUES (2, randomblob(100000))"));
    let (before, full, after) =
        tokio::join!(database.writer.write(add(1)), large, database.writer.write(add(3)));
    assert!(matches!(&full, Err(Failure::Statement(error)) if is_disk_full(error)), "{full:?}");
    let Err(Failure::Writer(WriterError::RolledBack { cause })) = before else { panic!("{before:?}") };
    assert!(cause.contains("full"), "{cause}");
    assert!(after.is_ok(), "the next transaction takes the remaining writes: {after:?}");
    database.run("PRAGMA max_page_count = 1000000").await;
    database.writer.write(add(4)).await.unwrap();
    assert_eq!(database.reopened().await, [3, 4].into());
}

/// If a write hides SQLite's error, its neighbours are still not acknowledged.
#[tokio::test]
async fn a_lost_transaction_is_detected_even_if_the_write_returns_ok() {
    let database = Database::new().await;
    let lost = database.writer.write(execute("ROLLBACK"));
    let (before, lost, after) =
        tokio::join!(database.writer.write(add(1)), lost, database.writer.write(add(3)));
    for result in [before, lost] {
        assert!(matches!(result, Err(Failure::Writer(WriterError::Commit(_)))), "{result:?}");
    }
    assert!(after.is_ok());
    assert_eq!(database.reopened().await, [3].into());
}

#[tokio::test]
async fn a_failed_commit_is_never_acknowledged() {
    let database = Database::new().await;
    // A deferred foreign key is checked by COMMIT alone.
    let orphan = database.writer.write(execute("INSERT INTO children (parent) VALUES (9)"));
    let (before, orphan, failed) =
        tokio::join!(database.writer.write(add(1)), orphan, database.writer.write(fail(2)));
    // A write may have seen others that are undone, so not even its failure is reliable.
    for result in [before, orphan, failed] {
        assert!(matches!(result, Err(Failure::Writer(WriterError::Commit(_)))), "{result:?}");
    }
    database.writer.write(add(3)).await.unwrap();
    assert_eq!(database.reopened().await, [3].into());
}

#[tokio::test]
async fn a_lock_held_by_another_process_is_an_error_and_the_writer_continues() {
    let database = Database::new().await;
    database.run("PRAGMA busy_timeout = 0").await;
    let mut other = edgewright_sqlite::connect(&database.path()).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let busy = join_all((0..3).map(|number| database.writer.write(add(number)))).await;
    for result in busy {
        assert!(matches!(result, Err(Failure::Writer(WriterError::Begin(_)))), "{result:?}");
    }
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    database.writer.write(add(3)).await.unwrap();
    assert_eq!(database.reopened().await, [3].into());
}

#[tokio::test]
async fn closing_commits_queued_writes_and_rejects_further_ones() {
    let database = Database::new().await;
    let (enter, entered) = oneshot::channel();
    let (leave, left) = oneshot::channel::<()>();
    let slow = database.writer.write(move |db| {
        Box::pin(async move {
            enter.send(()).unwrap();
            left.await.unwrap();
            add(1)(db).await
        })
    });
    let scenario = async {
        entered.await.unwrap();
        let mut queued = Box::pin(database.writer.write(add(2)));
        assert!(futures::poll!(&mut queued).is_pending());
        let mut close = Box::pin(database.writer.close());
        assert!(futures::poll!(&mut close).is_pending());
        leave.send(()).unwrap();
        let (queued, ()) = tokio::join!(queued, close);
        queued
    };
    let (slow, queued) = tokio::join!(slow, scenario);
    assert!(slow.is_ok() && queued.is_ok());
    let late = database.writer.write(add(3)).await;
    assert!(matches!(late, Err(Failure::Writer(WriterError::Closed))), "{late:?}");
    // A second close does nothing.
    database.writer.close().await;
    assert_eq!(database.reopened().await, [1, 2].into());
}

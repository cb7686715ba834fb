//! One group of writes as one transaction.

use std::collections::VecDeque;
use std::sync::Arc;

use sqlx::SqliteConnection;

use crate::WriterError;
use crate::job::{Job, Ran};
use crate::writer::Counts;

/// Takes the write lock at once, so that no statement fails half-way because of another writer. The savepoint
/// marks the start of the first write.
const BEGIN: &str = "BEGIN IMMEDIATE; SAVEPOINT write";
/// Keeps the effect of a write and marks the start of the next one.
const KEEP: &str = "RELEASE write; SAVEPOINT write";
/// Undoes a write. The mark stays.
const UNDO: &str = "ROLLBACK TO write";
/// Also ends the savepoint.
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// Takes writes from the front of the queue, commits them together and replies to each.
///
/// If SQLite ends the transaction by itself (a full disk, an I/O error), this returns early and leaves the
/// remaining writes in the queue.
pub(crate) async fn commit(db: &mut SqliteConnection, queue: &mut VecDeque<Box<dyn Job>>, counts: &Counts) {
    if let Err(error) = execute(db, BEGIN).await {
        end(db).await;
        let error = WriterError::Begin(Arc::new(error));
        queue.drain(..).for_each(|job| job.refuse(error.clone()));
        return;
    }
    let mut ran = Vec::with_capacity(queue.len());
    while let Some(job) = queue.pop_front() {
        let write = job.run(db).await;
        let marked = execute(db, if write.failure.is_some() { UNDO } else { KEEP }).await;
        if let Err(error) = marked {
            end(db).await;
            return answer_undone(ran, write, error);
        }
        ran.push(write);
    }
    match execute(db, COMMIT).await {
        Ok(()) => answer_committed(ran, counts),
        Err(error) => {
            end(db).await;
            let error = WriterError::Commit(Arc::new(error));
            answer_all(ran, &error);
        }
    }
}

fn answer_committed(ran: Vec<Ran>, counts: &Counts) {
    let (mut answers, mut writes) = (Vec::with_capacity(ran.len()), 0);
    for write in ran {
        if write.failure.is_none() {
            (write.committed)();
            writes += 1;
        }
        answers.push(write.answer);
    }
    counts.add(writes);
    for answer in answers {
        answer(Ok(()));
    }
}

/// The transaction ended at a write: that one receives its own error, the earlier ones why they are undone.
fn answer_undone(before: Vec<Ran>, last: Ran, error: sqlx::Error) {
    if let Some(cause) = last.failure {
        answer_all(before, &WriterError::RolledBack { cause });
        (last.answer)(Ok(()));
    } else {
        let error = WriterError::Commit(Arc::new(error));
        answer_all(before, &error);
        (last.answer)(Err(error));
    }
}

fn answer_all(ran: Vec<Ran>, error: &WriterError) {
    for write in ran {
        (write.answer)(Err(error.clone()));
    }
}

/// Rolls an open transaction back. SQLite may have ended it already; then this fails and nothing is left to
/// undo.
async fn end(db: &mut SqliteConnection) {
    let _ = execute(db, ROLLBACK).await;
}

async fn execute(db: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(db).await.map(drop)
}

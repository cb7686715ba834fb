//! In any order of writes, failures, panics, dropped callers and the close: acknowledged writes are there
//! after reopening, and failed ones are not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use common::{Database, Failure, add, fail};
use edgewright_sqlite::WriterError;
use futures::FutureExt as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use proptest::prelude::*;

/// The behaviour of one caller.
#[derive(Debug, Clone, Copy)]
enum Step {
    Write,
    Fail,
    Panic,
    /// Waits for its write only so many times.
    Leave {
        polls: u8,
    },
    Close,
}

/// The result of writing a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Failed,
    Unknown,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Write),
        3 => Just(Step::Fail),
        1 => Just(Step::Panic),
        3 => (0_u8..4).prop_map(|polls| Step::Leave { polls }),
        1 => Just(Step::Close),
    ]
}

/// A caller begins after some polls of the runtime, so that groups form differently in each case.
fn callers() -> impl Strategy<Value = Vec<(u8, Step)>> {
    prop::collection::vec((0_u8..12, step()), 1..120)
}

async fn perform(database: &Database, number: i64, (turns, step): (u8, Step)) -> (i64, Fate) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
    let result = match step {
        Step::Write => database.writer.write(add(number)).await,
        Step::Fail => database.writer.write(fail(number)).await,
        Step::Panic => {
            let work = database.writer.write::<_, (), Failure>(move |db| {
                Box::pin(async move {
                    add(number)(db).await?;
                    std::panic::resume_unwind(Box::new("on purpose"))
                })
            });
            AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(Failure::Own))
        }
        Step::Leave { polls } => {
            let mut write = Box::pin(database.writer.write(add(number)));
            for _ in 0..polls {
                if let std::task::Poll::Ready(result) = futures::poll!(&mut write) {
                    return (number, fate(&result));
                }
                tokio::task::yield_now().await;
            }
            return (number, Fate::Unknown);
        }
        Step::Close => {
            database.writer.close().await;
            return (number, Fate::Failed);
        }
    };
    (number, fate(&result))
}

fn fate(result: &Result<(), Failure>) -> Fate {
    match result {
        Ok(()) => Fate::Acknowledged,
        Err(Failure::Own | Failure::Writer(WriterError::Closed)) => Fate::Failed,
        Err(error) => panic!("neither the write nor the close explains it: {error}"),
    }
}

async fn check(callers: Vec<(u8, Step)>) -> Result<(), TestCaseError> {
    let database = Database::new().await;
    let performed = callers.iter().zip(0..).map(|(caller, number)| perform(&database, number, *caller));
    let fates: Vec<(i64, Fate)> = performed.collect::<FuturesUnordered<_>>().collect().await;
    let numbers = |wanted| -> BTreeSet<i64> {
        fates.iter().filter(|(_, fate)| *fate == wanted).map(|(number, _)| *number).collect()
    };
    let stored = database.reopened().await;
    let missing: Vec<_> = numbers(Fate::Acknowledged).difference(&stored).copied().collect();
    prop_assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    let surplus: Vec<_> = numbers(Fate::Failed).intersection(&stored).copied().collect();
    prop_assert!(surplus.is_empty(), "failed and stored: {surplus:?}");
    let stats = database.writer.stats();
    prop_assert_eq!(usize::try_from(stats.writes).unwrap(), stored.len());
    prop_assert!(stats.groups <= stats.writes);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_is_stored_and_failed_is_not(callers in callers()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(callers))?;
    }
}

//! A write in the queue: first its work, then, once it ran, the reply to its caller.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::thread;

use edgewright_model::error::Chain;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use crate::WriterError;

/// What a caller receives: the result of its work, or its panic.
pub(crate) type Answer<T, E> = thread::Result<Result<T, E>>;

/// A queued write.
pub(crate) trait Job: Send {
    /// Does the work inside the open transaction. A panic of the work is caught here.
    fn run(self: Box<Self>, db: &mut SqliteConnection) -> BoxFuture<'_, Ran>;

    /// Replies to the caller without doing the work.
    fn refuse(self: Box<Self>, error: WriterError);
}

/// A write whose work is done, but not committed.
pub(crate) struct Ran {
    /// Why its work must be undone.
    pub(crate) failure: Option<String>,
    /// Runs after its commit.
    pub(crate) committed: Box<dyn FnOnce() + Send>,
    /// Replies to its caller with the result of the transaction.
    pub(crate) answer: Box<dyn FnOnce(Result<(), WriterError>) + Send>,
}

/// The only job: a closure, what runs after its commit, and its waiting caller.
pub(crate) struct Write<W, C, T, E> {
    pub(crate) work: W,
    pub(crate) committed: C,
    pub(crate) caller: oneshot::Sender<Answer<T, E>>,
}

impl<W, C, T, E> Job for Write<W, C, T, E>
where
    W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    C: FnOnce() + Send + 'static,
    T: Send + 'static,
    E: Error + From<WriterError> + Send + 'static,
{
    fn run(self: Box<Self>, db: &mut SqliteConnection) -> BoxFuture<'_, Ran> {
        let Self { work, committed, caller } = *self;
        // A panic leaves its traces in the database only, where they are rolled back.
        let guarded = AssertUnwindSafe(async move { work(db).await }).catch_unwind();
        Box::pin(guarded.map(move |result| {
            let failure = match &result {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(Chain(error).to_string()),
                Err(_) => Some("it panicked".to_owned()),
            };
            let answer = move |end: Result<(), WriterError>| {
                let answer = match (result, end) {
                    (Ok(_), Err(error)) => Ok(Err(error.into())),
                    (result, _) => result,
                };
                // The caller may be gone; the commit stays.
                let _ = caller.send(answer);
            };
            Ran { failure, committed: Box::new(committed), answer: Box::new(answer) }
        }))
    }

    fn refuse(self: Box<Self>, error: WriterError) {
        let _ = self.caller.send(Ok(Err(error.into())));
    }
}

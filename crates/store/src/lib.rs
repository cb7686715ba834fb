//! Control's database: typed rows over `control.db` (SQLite), and its migrations. All SQL of control is here.
//!
//! Invariants: WAL with `synchronous = FULL`, so a committed row survives power loss; every change of state
//! is a compare-and-set on the state before; a newer schema is refused; rows never leave `control` and
//! `server`.
//!
//! | module | tables |
//! |---|---|
//! | [`sources`] | `sources`, `branches`, and the run that a moved branch queues |
//! | [`runs`], [`nodes`] | `runs`, `run_nodes` |
//! | [`heads`], [`unchanged`] | `heads`, `standing` |
//! | [`results`] | `builds`, `check_sets`, `verdicts` |
//! | [`locks`] | `locks`, `lock_looks`, `run_images` |
//! | [`proofs`], [`rebuilds`] | `kept_packages`, `proofs`, `rebuilds` |
//! | [`releases`] | `indexes`, `releases`, `release_entries` |
//! | [`channels`] | `channels`, `channel_moves` |
//! | [`inventory`] | `sites`, `slots`, `rollout_policies`; declared columns of `sources`, `channels` |
//! | [`rollouts`], [`quarantine`] | `rollouts`, `rollout_members`, `rollout_events`, `quarantine` |
//! | [`fleet`] | `fleet_devices` |
//! | [`fleet_enrol`] | `enrolment_tokens`, `enrolments`, `device_credentials` |
//! | [`fleet_evidence`] | `device_evidence` |
//! | [`audit`] | `audit` |
//! | [`users`] | `users`, `user_tokens` |
//! | [`targets`] | `target_copies`, `target_images` |
//! | [`pull_requests`] | `pull_requests` |
//! | [`retention`] | `collected`, `confirmed_time`; which rows are needed, and the removal of the rest |
//! | [`outbox`] | `events`, `sinks` |
//!
//! # Adding a function
//!
//! A **read** uses `self.readers`, whose connections refuse to write. They belong to the side that reads:
//! control's, or after [`Store::for_api`] the API's.
//!
//! ```text
//! pub async fn run_counts(&self) -> Result<Vec<(RunState, u64)>, StoreError> {
//!     let rows = sqlx::query("SELECT state, count(*) AS runs FROM runs GROUP BY state")
//!         .fetch_all(&self.readers)
//!         .await
//!         .doing("count runs")?;
//!     rows.iter().map(|row| Ok((row::text(row, "state")?, row::number(row, "runs")?))).collect()
//! }
//! ```
//!
//! A **write** goes to the one writer, which commits many of them together. It is prepared first: values are
//! bound and documents are packed by the caller, so that the writer only runs statements. One statement is
//! `self.execute`, several that are all or nothing are `self.execute_all`, and what depends on a result is
//! `self.write`:
//!
//! ```text
//! pub async fn cancel_run(
//!     &self,
//!     number: RunNumber,
//!     entry: &NewAuditEntry,
//!     now: Timestamp,
//! ) -> Result<(), StoreError> {
//!     let cancel = sqlx::query("UPDATE runs SET state = 'cancelled' WHERE number = ? AND state = 'queued'");
//!     let cancel = cancel.bind(number.0);
//!     let audit = audit::insert(entry, now);
//!     self.write(move |db| {
//!         Box::pin(async move {
//!             let done = cancel.execute(&mut *db).await.doing("cancel a run")?;
//!             changed_one(&done, || format!("run {number}"))?;
//!             audit.execute(db).await.doing("write an audit row")
//!         })
//!     })
//!     .await
//! }
//! ```
//!
//! The closure sees the effect of earlier writes, is undone alone if it gives an error, and waits for nothing
//! but `db`: a second write or a request inside of it would stop every other write.

mod adoption;
pub mod audit;
mod backup;
mod cancel;
pub mod channels;
pub mod devices;
mod error;
pub mod fleet;
pub mod fleet_enrol;
pub mod fleet_evidence;
pub mod heads;
pub mod inventory;
pub mod locks;
pub mod nodes;
mod open;
pub mod outbox;
pub mod proofs;
pub mod pull_requests;
pub mod quarantine;
pub mod rebuilds;
pub mod releases;
pub mod results;
pub mod retention;
pub mod rollouts;
mod row;
pub mod runs;
pub mod sources;
pub mod targets;
pub mod unchanged;
pub mod users;
mod write;

pub use edgewright_sqlite::WriterStats;
pub use error::StoreError;
pub use open::Store;

//! How control works: as values, resolved by the caller.

mod keep;
mod schedule;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use edgewright_model::duration::Span;
use edgewright_model::names::SourceName;
use edgewright_process::Backoff;
use edgewright_source::{Remote, SshIdentity};

pub use self::keep::Keep;
pub use self::schedule::{DEFAULT_EVERY, Schedule, Watching};

/// How control works.
#[derive(Debug, Clone)]
pub struct ControlSettings {
    /// The data folder.
    pub data: PathBuf,
    /// The time limit of one job.
    pub job_within: Span,
    /// The time limit of one lane.
    pub lane_within: Span,
    /// How long to wait for a verdict of the lane `external`, unless the image sets a limit.
    pub external_within: Span,
    /// How often a job is tried that fails through the infrastructure.
    pub attempts: u32,
    /// How long to wait before the second try; doubled for each further one.
    pub retry_after: Duration,
    /// When base images and distributions are checked for updates.
    pub watching: Watching,
    /// What is kept of logs and caches.
    pub keep: Keep,
}

/// A source to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// Its name.
    pub name: SourceName,
    /// Its address.
    pub remote: Remote,
    /// The branch to follow; none: the remote's default branch.
    pub branch: Option<String>,
    /// How often to poll.
    pub poll: Duration,
    /// Which pull requests are run, too; absent: none.
    pub pull_requests: Option<PullRequestPolicy>,
    /// Whether what passes is released; else it is built and tested only.
    pub publish: bool,
    /// Where locks that moved go.
    pub locks: LockPolicy,
    /// Who we are to its remote, where that is not the account that runs the server.
    pub ssh: Option<SshIdentity>,
    /// The build secrets that its trusted refs may use.
    pub secrets: SecretGrant,
}

/// Which build secrets the trusted refs of a source may use. Untrusted ones get none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretGrant {
    /// All: it is the only source, or a person runs a folder.
    All,
    /// These ids.
    Only(BTreeSet<String>),
}

impl SecretGrant {
    /// Whether a secret is granted.
    pub fn has(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(id),
        }
    }
}

/// Which pull requests are run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullRequestPolicy {
    /// Only those whose head is also that of a branch of the repository itself: its author may push there.
    /// Those of forks never are.
    pub from_branches: bool,
    /// Only those for these branches; empty: all. A pull request is for the branch that misses the fewest of
    /// its commits.
    pub into: Vec<String>,
}

/// Where locks go that an update check moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LockPolicy {
    /// The server keeps them as numbered overlays, and builds from them at once.
    #[default]
    Overlay,
    /// They are pushed as a commit, which is built when the branch is.
    Commit(CommitLocks),
}

/// How locks are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitLocks {
    /// The branch; none: the followed branch.
    pub branch: Option<String>,
    /// By whom, `NAME <ADDRESS>`.
    pub author: String,
    /// The message's first line; what moved follows.
    pub message: String,
    /// The user's name for https.
    pub user: String,
    /// File with the password or token for https, read at every push.
    pub token_file: Option<PathBuf>,
}

impl SourceSettings {
    /// The default branch of a repository, its branches only, locks as overlays, all build secrets.
    pub const fn new(name: SourceName, remote: Remote, poll: Duration) -> Self {
        let (locks, secrets) = (LockPolicy::Overlay, SecretGrant::All);
        Self {
            name,
            remote,
            branch: None,
            poll,
            pull_requests: None,
            publish: true,
            locks,
            ssh: None,
            secrets,
        }
    }
}

/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

impl ControlSettings {
    /// The pauses between attempts of what fails through the infrastructure.
    pub(crate) const fn retry(&self) -> Backoff {
        Backoff::new(self.retry_after, LONGEST_PAUSE)
    }

    /// Defaults: two hours a job, ten minutes a lane, a day for verdicts of other systems, three tries with 5
    /// s and 10 s between.
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            job_within: Span::from_secs(2 * 3600),
            lane_within: Span::from_secs(600),
            external_within: Span::from_secs(24 * 3600),
            attempts: 3,
            retry_after: Duration::from_secs(5),
            watching: Watching::default(),
            keep: Keep::default(),
        }
    }
}

//! The schedule is tested by a table of every stage and event, and by properties of whole runs.

mod properties;
mod table;

use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::spec::Lane;
use edgewright_plan::history::VerdictKey;
use edgewright_plan::{NodeId, NodeName};
use edgewright_process::Backoff;
use jiff::Timestamp;

use super::Limits;

const LIMITS: Limits = Limits {
    attempts: 2,
    retry: Backoff::new(Duration::from_secs(10), Duration::from_mins(1)),
    check_every: Duration::from_secs(5),
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id(name: &str) -> NodeId {
    NodeId { name: NodeName::Variant(name.parse().unwrap()), platform: "linux/amd64".parse().unwrap() }
}

fn verdict(name: &str) -> VerdictKey {
    VerdictKey {
        manifest: Digest::of(name),
        lane: Lane::Container,
        check_set: Digest::of("checks"),
        inputs: Digest::of("inputs"),
    }
}

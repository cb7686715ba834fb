//! The simulated executor conforms, and follows its scripts.

use std::sync::Arc;

use edgewright_job::conformance::{self, image_order};
use edgewright_job::{Behaviour, SimulatedExecutor};
use edgewright_model::outcome::FailureKind;
use edgewright_process::CancellationToken;

#[tokio::test]
async fn conforms() {
    conformance::suite(|behaviour| {
        let executor = SimulatedExecutor::new();
        executor.set_default(behaviour);
        Arc::new(executor)
    })
    .await;
}

#[tokio::test]
async fn scripts_are_followed_and_the_last_behaviour_stays() {
    let executor = SimulatedExecutor::new();
    let kind = FailureKind::Infrastructure;
    executor.script("a", [Behaviour::FailBuild { kind }, Behaviour::Succeed]);
    let mut failures = Vec::new();
    for (number, node) in ["a", "b", "a", "a"].into_iter().enumerate() {
        let order = image_order(number as u128, node).unwrap();
        let (outcome, _) = conformance::run(&executor, order, CancellationToken::new()).await;
        failures.push(outcome.unwrap().failure.is_some());
    }
    assert_eq!(failures, [true, false, false, false]);
    assert_eq!(executor.ran().len(), 4);
}

//! The simulated executor conforms, and follows its scripts.

use std::sync::Arc;

use edgewright_job::conformance::{self, image_request};
use edgewright_job::{
    Admission, Behaviour, Demand, Executor as _, ExecutorError, Rejection, SimulatedExecutor, StepKind,
};
use edgewright_model::outcome::FailureKind;
use edgewright_process::CancellationToken;

#[tokio::test]
async fn conforms() {
    conformance::suite(|behaviour| {
        let executor = SimulatedExecutor::new().with_slots(conformance::SLOTS);
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
        let request = image_request(number as u128, node).unwrap();
        let (outcome, _) = conformance::run(&executor, request, CancellationToken::new()).await;
        failures.push(outcome.unwrap().failure.is_some());
    }
    assert_eq!(failures, [true, false, false, false]);
    assert_eq!(executor.ran().len(), 4);
}

#[tokio::test]
async fn rejections_are_used_once_and_demands_are_recorded() {
    let executor = SimulatedExecutor::new();
    let mut failure = ExecutorError::Cancelled.failure();
    failure.message = "full".to_owned();
    executor.reject([Rejection::Later, Rejection::Never(failure.clone())]);
    let demand = Demand { steps: vec![StepKind::Bootstrap], ..Demand::default() };
    assert!(matches!(executor.admit(demand.clone()).await, Admission::Later { .. }));
    let Admission::Never(found) = executor.admit(Demand::default()).await else {
        panic!("the demand is rejected")
    };
    assert_eq!(found, failure);
    assert!(matches!(executor.admit(demand.clone()).await, Admission::Now(_)));
    assert_eq!(executor.demands(), [demand.clone(), Demand::default(), demand]);
    assert_eq!(executor.capacity().in_use, 0);
}

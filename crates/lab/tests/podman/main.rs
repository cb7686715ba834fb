//! The lab with a real podman, a real systemd and the real static runner.

mod assertions;
mod cases;
mod shared;
mod statics;
mod world;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use edgewright_model::outcome::FailureKind;
use edgewright_model::verdict::{LaneResult, Verdict};
use libtest_mimic::{Arguments, Failed, Trial};

use world::World;

type Case = fn(Arc<World>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lists the cases of a module.
macro_rules! list {
    ($($case:ident)+) => {
        pub(crate) const ALL: &[(&str, crate::Case)] = &[$((stringify!($case), |world| Box::pin($case(world)))),+];
    };
}
pub(crate) use list;

/// Why a verdict failed.
fn failure(verdict: &Verdict) -> (FailureKind, &str) {
    match &verdict.result {
        LaneResult::Failed { kind, message } => (*kind, message),
        LaneResult::Passed => panic!("it passed: {verdict:?}"),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(tokio::runtime::Runtime::new().expect("a runtime"));
    let is_selected =
        |name: &str| arguments.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    if arguments.list || !all().iter().any(|(name, _)| is_selected(name)) {
        return libtest_mimic::run(&arguments, trials(&runtime, None)).exit_code();
    }
    if !edgewright_testkit::has_as_root(&["podman", "mmdebstrap"]) {
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("target/tmp is writable");
    let world = Arc::new(runtime.block_on(World::make(folder.path())));
    let conclusion = libtest_mimic::run(&arguments, trials(&runtime, Some(&world)));
    runtime.block_on(world.end());
    conclusion.exit_code()
}

fn all() -> Vec<(&'static str, Case)> {
    [cases::ALL, assertions::ALL, statics::ALL].concat()
}

fn trials(runtime: &Arc<tokio::runtime::Runtime>, world: Option<&Arc<World>>) -> Vec<Trial> {
    let trial = |name: &str, case: Case| {
        let (runtime, world) = (Arc::clone(runtime), world.map(Arc::clone));
        Trial::test(name, move || {
            let world = world.ok_or("the world is not made for a list")?;
            #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
            let case = runtime.spawn(async move { case(world).await });
            runtime.block_on(case).map_err(|error| Failed::from(error.to_string()))
        })
    };
    all().into_iter().map(|(name, case)| trial(name, case)).collect()
}

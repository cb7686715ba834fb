//! The objects by which the platform builds a step: a PipelineRun of Tekton, or a Build with a BuildRun of
//! Shipwright. Each has a Secret of the same name with the order, and owns it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;

use crate::build_run::{Build, BuildRun, build, build_run};
use crate::cluster::{Found, Kind};
use crate::fault::Fault;
use crate::names::{OrderId, Part, number_of, owner};
use crate::pipeline_run::{PipelineRun, pipeline_run};
use crate::settings::{Builder, ClusterSettings, PlatformBuild};
use crate::task_run::TaskRunCondition;

/// What the platform builds with, in the namespace of jobs.
#[derive(Clone)]
pub(crate) enum Platform {
    /// A Pipeline of Tekton.
    Pipeline(Box<Kind<PipelineRun>>),
    /// A ClusterBuildStrategy of Shipwright.
    Strategy {
        /// The owners.
        builds: Box<Kind<Build>>,
        /// One for each Build.
        runs: Box<Kind<BuildRun>>,
    },
}

/// A step to build.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// That of the attempt.
    pub(crate) metadata: ObjectMeta,
    /// What the Pipeline or the strategy is given.
    pub(crate) parameters: Vec<(&'static str, String)>,
    /// The job's limit.
    pub(crate) within: Duration,
}

/// How far it is.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    /// Whether it succeeded, once that is known.
    pub(crate) condition: TaskRunCondition,
    /// The digest that it gives.
    pub(crate) digest: Option<String>,
}

impl Builder {
    /// The kind of the object whose status has the result.
    pub(crate) const fn run_kind(self) -> &'static str {
        match self {
            Self::Pipeline => "PipelineRun",
            Self::Strategy => "BuildRun",
        }
    }

    /// The kind of what the settings name.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Pipeline => "Pipeline",
            Self::Strategy => "ClusterBuildStrategy",
        }
    }
}

impl Platform {
    /// Waits for the first list of objects.
    pub(crate) async fn ready(&self) -> Result<(), Fault> {
        match self {
            Self::Pipeline(kind) => kind.ready().await,
            Self::Strategy { builds, runs } => {
                builds.ready().await?;
                runs.ready().await
            }
        }
    }

    /// The names of the owners that are there.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Pipeline(kind) => kind.all().iter().map(|run| run.name_any()).collect(),
            Self::Strategy { builds, .. } => builds.all().iter().map(|build| build.name_any()).collect(),
        }
    }

    /// The numbers of an order's attempts that are there.
    pub(crate) fn numbers(&self, order: &OrderId) -> Vec<u32> {
        let part = Part::Pipeline;
        match self {
            Self::Pipeline(kind) => {
                kind.all().iter().filter_map(|run| number_of(&**run, order, part)).collect()
            }
            Self::Strategy { builds, .. } => {
                builds.all().iter().filter_map(|build| number_of(&**build, order, part)).collect()
            }
        }
    }

    /// Removes an owner, and what it owns.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Fault> {
        match self {
            Self::Pipeline(kind) => kind.delete(name, None).await,
            Self::Strategy { builds, .. } => builds.delete(name, None).await,
        }
    }

    /// Makes the owner, or finds the one of an earlier process.
    pub(crate) async fn create(
        &self,
        wanted: &Wanted,
        (by, settings): (&PlatformBuild, &ClusterSettings),
    ) -> Result<(ObjectMeta, OwnerReference, Found), Fault> {
        let metadata = wanted.metadata.clone();
        match self {
            Self::Pipeline(kind) => {
                let run = pipeline_run(metadata, &wanted.parameters, wanted.within, (by, settings));
                let (run, found) = kind.create(&run).await?;
                let owner = owner(&run);
                Ok((run.metadata, owner, found))
            }
            Self::Strategy { builds, .. } => {
                let (build, found) = builds.create(&build(wanted, metadata, (by, settings))).await?;
                let owner = owner(&build);
                Ok((build.metadata, owner, found))
            }
        }
    }

    /// Makes what starts once the order is there, if it is not there: a PipelineRun waits for its Secret.
    pub(crate) async fn begin(
        &self,
        wanted: &Wanted,
        owner: OwnerReference,
        (by, settings): (&PlatformBuild, &ClusterSettings),
    ) -> Result<(), Fault> {
        match self {
            Self::Pipeline(_) => Ok(()),
            Self::Strategy { runs, .. } => {
                let run = build_run(by, (wanted.metadata.clone(), owner), settings);
                runs.create(&run).await.map(drop)
            }
        }
    }

    /// How far it is, as last seen; none: it is not there.
    pub(crate) fn progress(&self, name: &str) -> Option<Progress> {
        match self {
            Self::Pipeline(kind) => {
                let run = kind.get(name)?;
                let condition = run.succeeded().cloned().unwrap_or_default();
                Some(Progress { condition, digest: run.digest().map(str::to_owned) })
            }
            Self::Strategy { runs, .. } => {
                let run = runs.get(name)?;
                Some(Progress { condition: run.succeeded(), digest: run.digest() })
            }
        }
    }
}

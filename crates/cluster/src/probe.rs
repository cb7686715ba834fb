//! The versions of the programs in our image, printed by a Pod of their own: the server may run elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_job::ExecutorError;
use edgewright_model::Digest;
use edgewright_model::outcome::JobEvent;
use edgewright_model::tools::ToolVersions;
use edgewright_process::{CancellationToken, Ended};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::mpsc;

use crate::executor::Inner;
use crate::follow::{Followed, Sink, Target, follow};
use crate::job::{REMOVED, later, pod_stage};
use crate::lane::pod::{pull_secrets, small, unprivileged};
use crate::names::SERVER;
use crate::settings::ClusterSettings;
use crate::stage::{End, Wait};

/// The container that prints them.
const CONTAINER: &str = "tools";
/// What a failed request would have done.
const CREATE: &str = "create the Pod that prints the versions of tools";
/// How long it may take.
const PROBE_TIMEOUT: Duration = Duration::from_mins(2);
/// The most that is read of what it prints, in bytes.
const OUTPUT_LIMIT: usize = 16 * 1024;
/// How many digits of the image's hash are in the name.
const DIGITS: usize = 20;

/// The versions, as a Pod with our image prints them. What it waits for is an event.
pub(crate) async fn versions(
    inner: &Inner,
    command: &[String],
    events: &mpsc::Sender<JobEvent>,
    cancel: &CancellationToken,
) -> Result<ToolVersions, ExecutorError> {
    let pod = pod(command, &inner.settings);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mut output = Output { text: String::new(), wait: None, events };
    let printed = async {
        let pods = &inner.cluster.pods;
        inner.patiently(CREATE, events, || Box::pin(pods.create(&pod))).await?;
        let stage = || pod_stage(inner, &name, CONTAINER);
        let target = Target { container: CONTAINER, stage: &stage, within: PROBE_TIMEOUT, to_its_end: true };
        Ok(follow(&inner.cluster, &target, &mut output).await)
    };
    let followed = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ExecutorError::Cancelled),
        followed = printed => followed,
    };
    // What is left is removed later.
    let _ = inner.cluster.pods.delete(&name, Some(Duration::ZERO)).await;
    match followed? {
        Followed::Ended(End::Process(Ended::Code(0))) => {
            serde_json::from_str(&output.text).map_err(|error| unknown(&error.to_string(), &output))
        }
        Followed::NeverStarted(Some(Wait::Image(why))) => {
            Err(unknown(&format!("the image cannot be pulled: {why}"), &output))
        }
        Followed::NeverStarted(wait) => {
            Err(later("the Pod that prints the versions of tools", wait.as_ref(), output.lines()))
        }
        other => Err(unknown(&ending(other), &output)),
    }
}

/// How a Pod ended that did not print them.
fn ending(followed: Followed) -> String {
    match followed {
        Followed::Ended(End::Process(ended)) => format!("its Pod ended with {ended}"),
        Followed::Ended(End::Infrastructure(why) | End::Refused(why)) => why,
        Followed::Ended(End::OutOfMemory) => "its Pod reached its memory limit".to_owned(),
        Followed::Ended(End::TimeLimit) | Followed::TooLong => {
            format!("its Pod did not end within {} s", PROBE_TIMEOUT.as_secs())
        }
        Followed::Gone => REMOVED.to_owned(),
        Followed::NeverStarted(_) | Followed::Done => "its Pod printed nothing".to_owned(),
    }
}

fn unknown(why: &str, output: &Output<'_>) -> ExecutorError {
    ExecutorError::Platform {
        message: format!("cannot learn the versions of the tools in our image: {why}"),
        hint: Some("check `[cluster] image`: it must be this release's".to_owned()),
        output: output.lines(),
    }
}

fn pod(command: &[String], settings: &ClusterSettings) -> Pod {
    let hash = Digest::of(format!("{}\n{}\n{command:?}", settings.server, settings.image));
    let metadata = ObjectMeta {
        name: Some(format!("ew-tools-{}", &hash.hex()[..DIGITS])),
        namespace: Some(settings.namespace.clone()),
        labels: Some(BTreeMap::from([(SERVER.to_owned(), settings.server.clone())])),
        ..ObjectMeta::default()
    };
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        command: Some(command.to_vec()),
        resources: Some(small()),
        security_context: Some(unprivileged()),
        ..Container::default()
    };
    let spec = PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        service_account_name: settings.service_account.clone(),
        image_pull_secrets: Some(pull_secrets(settings)),
        containers: vec![container],
        ..PodSpec::default()
    };
    Pod { metadata, spec: Some(spec), status: None }
}

/// What the Pod printed.
#[derive(Debug)]
struct Output<'a> {
    text: String,
    wait: Option<Wait>,
    events: &'a mpsc::Sender<JobEvent>,
}

impl Output<'_> {
    fn lines(&self) -> Vec<String> {
        self.text.lines().map(str::to_owned).collect()
    }
}

impl Sink for Output<'_> {
    fn begin(&mut self) {
        self.text.clear();
    }

    fn line(&mut self, line: &str) {
        if self.text.len() + line.len() < OUTPUT_LIMIT {
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    fn is_done(&self) -> bool {
        false
    }

    fn waits(&mut self, wait: Option<&Wait>) {
        if self.wait.as_ref() == wait {
            return;
        }
        self.wait = wait.cloned();
        if let Some(wait) = wait {
            // A slow reader misses lines.
            let _ = self.events.try_send(JobEvent::Log { line: format!("[{wait}]") });
        }
    }
}

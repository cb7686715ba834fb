//! What the API server answered where it did not do what it was asked.

use std::time::Duration;

use edgewright_job::ExecutorError;
use kube::core::Status;

/// A request that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The cluster does not answer, or not now: ask again.
    Away(String),
    /// It does not accept the credentials: ask again, because a file with a token is read again.
    Credentials(String),
    /// The namespace's quota is used up: ask again later.
    Quota(String),
    /// An object of that name is there.
    Exists,
    /// There is no object of that name.
    Missing,
    /// It will not be done another time either.
    Refused {
        /// Why.
        message: String,
        /// The next action.
        hint: &'static str,
    },
}

impl Fault {
    /// The fault of a request's error. `creates`: it made an object.
    pub(crate) fn of(error: &kube::Error, creates: bool) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Away(sentence(&root(error)));
        };
        let Status { code, reason, message, .. } = &**status;
        match (*code, reason.as_str()) {
            (409, "AlreadyExists") => Self::Exists,
            // The namespace has this object, or there is no such kind of object.
            (404, _) if !creates => Self::Missing,
            (404, _) => Self::Refused {
                message: sentence(message),
                hint: "install Tekton Pipelines (tekton.dev/v1), KubeVirt for virtual machines, Shipwright for its strategies, and create the namespace",
            },
            (403, _) if message.contains("exceeded quota") => Self::Quota(sentence(message)),
            (401, _) => Self::Credentials(sentence(message)),
            (403, _) => Self::Refused {
                message: sentence(message),
                hint: "grant the server's service account the Role of docs/how-to/run-jobs-on-kubernetes.md",
            },
            (408 | 409 | 410 | 429 | 500..=599, _) => Self::Away(sentence(message)),
            _ => Self::Refused {
                message: sentence(message),
                hint: "compare the versions of Kubernetes and Tekton with the supported ones",
            },
        }
    }

    /// A request that took longer than `limit`.
    pub(crate) fn late(limit: Duration) -> Self {
        Self::Away(format!("no answer within {} s", limit.as_secs()))
    }

    /// The error of a job that ends because of it.
    pub(crate) fn error(&self, doing: &str) -> ExecutorError {
        let credentials;
        let (why, hint) = match self {
            Self::Credentials(why) => {
                credentials = format!("the cluster does not accept the credentials: {why}");
                (
                    credentials.as_str(),
                    "write a new token to `tokenFile` of the kubeconfig, which is read each minute",
                )
            }
            Self::Away(why) => (why.as_str(), "check whether the cluster's API server runs and is reachable"),
            Self::Quota(why) => (why.as_str(), "raise the ResourceQuota of the namespace, or run fewer jobs"),
            Self::Exists => ("an object of that name exists", "remove it"),
            Self::Missing => ("there is no such object", "another client removed it: run the job again"),
            Self::Refused { message, hint } => (message.as_str(), *hint),
        };
        ExecutorError::Platform {
            message: format!("cannot {doing}: {why}"),
            hint: Some(hint.to_owned()),
            output: Vec::new(),
        }
    }
}

/// The innermost error: the outer ones repeat it.
fn root(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn sentence(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: u16, reason: &str, message: &str, creates: bool) -> Fault {
        let status = Status { code, ..Status::failure(message, reason) };
        Fault::of(&kube::Error::Api(status.boxed()), creates)
    }

    #[test]
    fn answers_become_faults() {
        assert_eq!(fault(409, "AlreadyExists", "taskruns \"a\" already exists", true), Fault::Exists);
        assert_eq!(fault(404, "NotFound", "pods \"a\" not found", false), Fault::Missing);
        let refused = fault(401, "Unauthorized", "Unauthorized", true);
        assert_eq!(refused, Fault::Credentials("Unauthorized".to_owned()));
        let failure = refused.error("create the Pod").failure();
        let message = "cannot create the Pod: the cluster does not accept the credentials: Unauthorized";
        assert_eq!(failure.message, message);
        assert!(failure.hint.unwrap().contains("tokenFile"));
        let quota = "secrets \"a\" is forbidden: exceeded quota: jobs, requested: count/secrets=1";
        assert_eq!(fault(403, "Forbidden", quota, true), Fault::Quota(quota.to_owned()));
        for (code, reason) in [(503, "ServiceUnavailable"), (429, "TooManyRequests"), (409, "Conflict")] {
            assert!(matches!(fault(code, reason, "busy", true), Fault::Away(_)), "{code}");
        }
        for (code, reason, hint) in
            [(404, "NotFound", "Tekton"), (403, "Forbidden", "Role"), (422, "Invalid", "versions")]
        {
            let refused = fault(code, reason, "no", true);
            let failure = refused.error("create the TaskRun").failure();
            assert_eq!(failure.message, "cannot create the TaskRun: no");
            assert!(failure.hint.unwrap().contains(hint), "{refused:?}");
        }
    }
}

//! The client of a cluster.

use std::path::{Path, PathBuf};

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// This process has no service account.
    #[error("this server does not run in a Pod with a service account")]
    Account(#[source] InClusterError),
    /// The file cannot be used.
    #[error("cannot use the kubeconfig {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why; it has the text of its own cause, so that is no source.
        reason: String,
    },
    /// Certificates or credentials cannot be used.
    #[error("cannot use the credentials of the cluster")]
    Credentials(#[source] Box<kube::Error>),
}

impl ConnectError {
    /// The next action, in the imperative.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Account(_) => "set `kubeconfig` of `[cluster]`, or let the server's Pod mount its token",
            Self::File { .. } => "check the file with `kubectl --kubeconfig FILE get pods`",
            Self::Credentials(_) => "check certificates and tokens of the kubeconfig",
        }
    }
}

/// The client of the cluster that a file describes; without one, of the cluster that this process runs in.
/// Nothing is sent yet.
///
/// # Errors
/// There is no such file or account, or its credentials cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        None => Config::incluster().map_err(ConnectError::Account)?,
        Some(path) => {
            let fault = |error: KubeconfigError| ConnectError::File {
                path: path.to_owned(),
                reason: error.to_string(),
            };
            let file = Kubeconfig::read_from(path).map_err(fault)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(fault)?
        }
    };
    Client::try_from(config).map_err(|error| ConnectError::Credentials(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_missing_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        for text in [None, Some("not: [yaml"), Some("{}")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let Err(error) = connect(Some(&path)).await else { panic!("{text:?} is no kubeconfig") };
            assert!(error.to_string().contains("kubeconfig") && error.hint().contains("kubectl"), "{error}");
        }
    }
}

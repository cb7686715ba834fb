//! The way from the command to the running agent: a socket that only root can open. One line of JSON each
//! way.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_process::Tasks;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use crate::engine::{Question, Questions, StatusDocument};
use crate::machine::Command;

/// Maximum length of a request or a response, in bytes.
const MAX_MESSAGE: u64 = 4 * 1024 * 1024;
/// Time limit of one exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of open connections.
const MAX_CONNECTIONS: usize = 8;

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// The status.
    Status,
    /// A command.
    Do {
        /// Which.
        command: Command,
    },
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Response {
    /// The status, after the command.
    Status {
        /// It.
        status: Box<StatusDocument>,
    },
    /// The state does not permit the command.
    Rejected {
        /// Why.
        message: String,
    },
}

/// Binds the socket, and answers on it until the tasks are shut down.
pub fn serve(path: &Path, questions: Questions, tasks: &Tasks) -> io::Result<()> {
    let listener = bind(path)?;
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    let (token, own) = (tasks.token().clone(), tasks.clone());
    tasks.spawn("control", async move {
        loop {
            let accepted = tokio::select! {
                () = token.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else { return };
            let (questions, token) = (questions.clone(), token.clone());
            own.spawn("control connection", async move {
                let _place = place;
                tokio::select! {
                    () = token.cancelled() => {}
                    done = tokio::time::timeout(EXCHANGE_TIMEOUT, answer(stream, &questions)) => {
                        if let Ok(Err(error)) = done {
                            tracing::debug!(%error, "control connection failed");
                        }
                    }
                }
            });
        }
    });
    Ok(())
}

/// The folder of the socket is private, so there is no moment in which others could connect.
fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(stream: UnixStream, questions: &Questions) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    BufReader::new(read.take(MAX_MESSAGE)).read_until(b'\n', &mut line).await?;
    let gone = || io::Error::other("the agent stops");
    let response = match serde_json::from_slice(&line)? {
        Request::Status => {
            let (sender, receiver) = oneshot::channel();
            questions.send(Question::Status(sender)).await.map_err(|_| gone())?;
            Response::Status { status: Box::new(receiver.await.map_err(|_| gone())?) }
        }
        Request::Do { command } => {
            let (sender, receiver) = oneshot::channel();
            questions.send(Question::Command(command, sender)).await.map_err(|_| gone())?;
            match receiver.await.map_err(|_| gone())? {
                Ok(status) => Response::Status { status: Box::new(status) },
                Err(rejected) => Response::Rejected { message: rejected.to_string() },
            }
        }
    };
    let mut text = serde_json::to_vec(&response)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// The command's side.
#[derive(Debug, Clone)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// The agent behind a socket.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Asks; none if no agent runs.
    pub async fn ask(&self, request: &Request) -> io::Result<Option<Response>> {
        let stream = match UnixStream::connect(&self.path).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let exchange = async {
            let (read, mut write) = stream.into_split();
            let mut text = serde_json::to_vec(request)?;
            text.push(b'\n');
            write.write_all(&text).await?;
            let mut line = Vec::new();
            BufReader::new(read.take(MAX_MESSAGE)).read_until(b'\n', &mut line).await?;
            Ok(Some(serde_json::from_slice(&line)?))
        };
        tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await?
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn only_root_connects_and_a_missing_agent_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        assert!(Control::new(path.clone()).ask(&Request::Status).await.unwrap().is_none());
        let (sender, mut questions) = tokio::sync::mpsc::channel(1);
        let tasks = Tasks::new();
        serve(&path, sender, &tasks).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let control = Control::new(path);
        let request = Request::Do { command: Command::RollBack };
        let asked = control.ask(&request);
        let answered = async {
            let Some(Question::Command(Command::RollBack, reply)) = questions.recv().await else {
                panic!("another question");
            };
            let rejected = crate::machine::Rejected { command: "roll back", state: "idle" };
            reply.send(Err(rejected)).unwrap();
        };
        let (response, ()) = tokio::join!(asked, answered);
        assert!(
            matches!(response.unwrap(), Some(Response::Rejected { message }) if message.contains("roll back"))
        );
        tasks.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}

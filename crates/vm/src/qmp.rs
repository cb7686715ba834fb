//! QEMU's monitor: why a machine ended, and its end on request.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::channel::connect;

/// Maximum length of a message, in bytes.
const MAX_MESSAGE_BYTES: u64 = 4 * 1024 * 1024;
/// How long QEMU may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long QEMU may take to open its monitor.
const OPENING_TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until the machine ends; gives QEMU's reason, such as `guest-shutdown`.
pub(crate) async fn end_of(socket: &Path) -> Option<String> {
    let stream = connect(socket, OPENING_TIMEOUT).await.ok()?;
    let mut monitor = Monitor::new(stream);
    monitor.send(r#"{"execute":"qmp_capabilities"}"#).await.ok()?;
    let mut reason = None;
    while let Some(message) = monitor.next().await {
        if message["event"] == "SHUTDOWN" {
            reason = message["data"]["reason"].as_str().map(str::to_owned);
        }
    }
    reason
}

/// What a machine without a reader printed, as far as QEMU kept it.
pub(crate) async fn ring(socket: &Path) -> Option<String> {
    let read = r#"{"execute":"ringbuf-read","arguments":{"device":"console","size":1048576}}"#;
    ask(socket, read).await?.as_str().map(str::to_owned)
}

/// Whether a machine that was kept still runs.
pub(crate) async fn is_running(socket: &Path) -> bool {
    ask(socket, r#"{"execute":"query-status"}"#).await.is_some()
}

/// Ends a machine.
pub(crate) async fn quit(socket: &Path) {
    let _ = ask(socket, r#"{"execute":"quit"}"#).await;
}

async fn ask(socket: &Path, question: &str) -> Option<Value> {
    let answer = async {
        let mut monitor = Monitor::new(connect(socket, Duration::ZERO).await.ok()?);
        monitor.send(r#"{"execute":"qmp_capabilities"}"#).await.ok()?;
        monitor.answer().await?;
        monitor.send(question).await.ok()?;
        monitor.answer().await
    };
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok()?
}

struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    async fn send(&mut self, message: &str) -> std::io::Result<()> {
        self.stream.get_mut().write_all(format!("{message}\n").as_bytes()).await
    }

    async fn next(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        let count = (&mut self.stream).take(MAX_MESSAGE_BYTES).read_until(b'\n', &mut line).await.ok()?;
        (count > 0).then(|| serde_json::from_slice(&line).unwrap_or_default())
    }

    /// The next answer, past greetings and events.
    async fn answer(&mut self) -> Option<Value> {
        loop {
            let mut message = self.next().await?;
            if let Some(value) = message.get_mut("return") {
                return Some(value.take());
            }
            if message.get("error").is_some() {
                return None;
            }
        }
    }
}

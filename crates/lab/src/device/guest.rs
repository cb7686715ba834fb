//! What is asked and done in the device: its agent, and what must be kept.

use std::time::Duration;

use edgewright_checks::device::{LEAVE, MISSING, Status};
use edgewright_guest::frame::Program;
use edgewright_process::Stream;
use edgewright_vm::{Channel, ChannelError};

/// The most that is kept of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// What a program printed, and how it ended.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) output: String,
    pub(super) errors: String,
}

impl Answer {
    /// The last line on standard error, for messages.
    pub(super) fn last_error(&self) -> &str {
        self.errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim()
    }
}

/// Runs a program; none if the device does not answer in time, or ended.
pub(super) async fn ask(channel: &Channel, words: &[&str], within: Duration) -> Option<Answer> {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let mut append = |stream: Stream, piece: &[u8]| {
        let buffer = if stream == Stream::Stdout { &mut output } else { &mut errors };
        let room = MAX_ANSWER_BYTES.saturating_sub(buffer.len());
        buffer.extend_from_slice(&piece[..piece.len().min(room)]);
    };
    let run = channel.run(Program::new(words.iter().copied()), b"", &mut append);
    let code = match tokio::time::timeout(within, run).await {
        Ok(Ok(code)) => code,
        Ok(Err(ChannelError::NotStarted { reason, .. })) => {
            return Some(Answer { code: 127, output: String::new(), errors: reason });
        }
        Ok(Err(_)) | Err(_) => return None,
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some(Answer { code, output: text(output), errors: text(errors) })
}

/// The agent's status; none if it prints nothing that is one.
pub(super) async fn status(channel: &Channel, within: Duration) -> Option<Status> {
    let answer = ask(channel, &["edgewright-agent", "--json", "status"], within).await?;
    Status::parse(&answer.output)
}

/// Leaves what must be kept. None if the device does not answer.
pub(super) async fn leave_marks(channel: &Channel, mark: &str, within: Duration) -> Option<Answer> {
    ask(channel, &["sh", "-c", LEAVE, "leave", mark], within).await
}

/// The files that were not kept. None if the device does not answer.
pub(super) async fn lost_marks(channel: &Channel, mark: &str, within: Duration) -> Option<Vec<String>> {
    let answer = ask(channel, &["sh", "-c", MISSING, "missing", mark], within).await?;
    Some(answer.output.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use edgewright_process::Command;

    use super::*;

    /// The scripts in a folder in place of the root.
    async fn run(script: &str, root: &std::path::Path) -> String {
        let root = root.display().to_string();
        let script =
            script.replace("/var/", &format!("{root}/var/")).replace(" /etc/", &format!(" {root}/etc/"));
        // What other programs of this host wrote is not waited for.
        let script = script.replace("sync\n", "");
        let ended = Command::new("sh").args(["-c", &script, "test", "mark-1"]).run().await.unwrap();
        ended.text()
    }

    #[tokio::test]
    async fn what_is_not_kept_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/issue"), "Debian\n").unwrap();
        run(LEAVE, root.path()).await;
        assert_eq!(run(MISSING, root.path()).await, "");
        std::fs::write(root.path().join("etc/issue"), "another\n").unwrap();
        std::fs::remove_file(root.path().join("var/lib/edgewright-lane/mark")).unwrap();
        let missing = run(MISSING, root.path()).await;
        let names: Vec<&str> = missing.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["mark", "issue"]);
    }
}

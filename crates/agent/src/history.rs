//! What happened, for `edgewright-agent logs`: also on devices whose journal does not survive a reboot.
//! Blocking.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::{Record, State};

/// Maximum length of the file, in bytes; the one before it is kept, too.
const MAX_HISTORY: u64 = 256 * 1024;
/// Maximum length of a line, in bytes.
const MAX_LINE: u64 = 16 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// When.
    pub at: Timestamp,
    /// The state that began.
    pub state: String,
    /// The digest that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A problem, or why an image was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct History {
    path: PathBuf,
}

impl History {
    /// The history in a file.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Adds the state of a record. A failure is logged: no update depends on it.
    pub fn add(&self, record: &Record, now: Timestamp) {
        let message = match (&record.problem, &record.state) {
            (_, State::RollingBack { reason, .. }) => Some(reason.to_string()),
            (Some(problem), _) => Some(problem.message.clone()),
            (None, State::HeldBack { update: Some(update), .. }) => {
                record.failure(update).map(|failed| failed.reason.to_string())
            }
            _ => None,
        };
        let line = HistoryLine {
            at: now,
            state: record.state.name().to_owned(),
            digest: record.state.update().map(|update| update.digest.to_string()),
            message,
        };
        if let Err(error) = self.write(&line) {
            tracing::warn!(file.path = %self.path.display(), %error, "cannot write the history");
        }
    }

    fn write(&self, line: &HistoryLine) -> std::io::Result<()> {
        if std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > MAX_HISTORY) {
            std::fs::rename(&self.path, self.path.with_extension("old"))?;
        }
        let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        file.write_all(text.as_bytes())
    }

    /// The last lines, oldest first.
    pub fn last(&self, count: usize) -> std::io::Result<Vec<HistoryLine>> {
        let mut lines = Vec::new();
        for path in [self.path.with_extension("old"), self.path.clone()] {
            let file = match std::fs::File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let reader = BufReader::new(std::io::Read::take(file, MAX_HISTORY + MAX_LINE));
            for line in reader.split(b'\n') {
                // A line that a power cut left incomplete is skipped.
                lines.extend(serde_json::from_slice::<HistoryLine>(&line?).ok());
            }
        }
        let surplus = lines.len().saturating_sub(count);
        lines.drain(..surplus);
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_survive_rotation_and_damage() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(folder.path().join("history.jsonl"));
        assert!(history.last(5).unwrap().is_empty());
        let at: Timestamp = "2026-11-28T00:00:00Z".parse().unwrap();
        history.add(&Record::new(at), at);
        std::fs::OpenOptions::new()
            .append(true)
            .open(&history.path)
            .unwrap()
            .write_all(b"{\"at\":\n")
            .unwrap();
        let filler = vec![b'\n'; usize::try_from(MAX_HISTORY).unwrap()];
        std::fs::OpenOptions::new().append(true).open(&history.path).unwrap().write_all(&filler).unwrap();
        history.add(&Record::new(at), at);
        assert_eq!(history.last(5).unwrap().len(), 2);
        assert_eq!(history.last(1).unwrap().len(), 1);
        assert!(std::fs::metadata(&history.path).unwrap().len() < 1000);
    }
}

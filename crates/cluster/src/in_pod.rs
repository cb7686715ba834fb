//! The process of a job in its Pod: reads the order from a file, writes events as frames to the log, and the
//! digests of its report and of its image where Tekton reads them.

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use edgewright_job::{ProcessError, Worker};
use edgewright_model::Digest;
use edgewright_model::frame::Framer;
use edgewright_model::outcome::JobEvent;

use crate::order::unpack;

/// The files that a job's process writes when it ends, which Tekton takes as results.
#[derive(Debug, Clone, Copy)]
pub struct Results<'a> {
    /// The digest of the report.
    pub report: &'a Path,
    /// The digest of the manifest that was built; empty if there is none.
    pub digest: Option<&'a Path>,
}

/// Runs the order of a file; it ends with SIGTERM. Returns `Ok` if the outcome was delivered, even if the job
/// failed.
///
/// # Errors
/// The order cannot be read, or the outcome cannot be written.
pub async fn serve(order: &Path, results: Results<'_>, worker: &dyn Worker) -> Result<(), ProcessError> {
    serve_to(order, results, worker, io::stdout()).await
}

/// [`serve`] with another log than standard output.
///
/// # Errors
/// As [`serve`].
pub async fn serve_to(
    order: &Path,
    results: Results<'_>,
    worker: &dyn Worker,
    log: impl Write + Send + 'static,
) -> Result<(), ProcessError> {
    let packed = tokio::fs::read(order).await.map_err(ProcessError::Read)?;
    let mut line = unpack(&packed).map_err(ProcessError::Read)?;
    line.push(b'\n');
    // The input must not end: its end would cancel the job.
    let (held, open) = io::pipe().map_err(ProcessError::Read)?;
    let last = Arc::new(Mutex::new(None));
    let output = Frames { log, framer: Framer::default(), line: Vec::new(), last: Arc::clone(&last) };
    let served = edgewright_job::serve(io::Cursor::new(line).chain(held), output, worker, false).await;
    drop(open);
    served?;
    let last: Option<String> = last.lock().unwrap_or_else(PoisonError::into_inner).take();
    let last = last.ok_or_else(|| ProcessError::Write(io::ErrorKind::WriteZero.into()))?;
    if let Some(file) = results.digest {
        tokio::fs::write(file, built(&last)).await.map_err(ProcessError::Write)?;
    }
    tokio::fs::write(results.report, Digest::of(&last).to_string()).await.map_err(ProcessError::Write)
}

/// The digest of what the job of an outcome built.
fn built(record: &str) -> String {
    let Ok(JobEvent::Outcome(outcome)) = serde_json::from_str(record) else { return String::new() };
    outcome.builds.last().map(|build| build.manifest.digest.to_string()).unwrap_or_default()
}

/// Writes lines as frames.
struct Frames<W> {
    log: W,
    framer: Framer,
    line: Vec<u8>,
    /// The last line.
    last: Arc<Mutex<Option<String>>>,
}

impl<W: Write> Write for Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                self.line.pop();
                let line = std::mem::take(&mut self.line);
                let record = String::from_utf8(line).map_err(io::Error::other)?;
                for frame in self.framer.lines(&record) {
                    self.log.write_all(format!("{frame}\n").as_bytes())?;
                }
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.log.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use edgewright_job::SimulatedExecutor;
    use edgewright_job::conformance::image_order;
    use edgewright_model::frame::{Deframer, LogLine};

    use super::*;

    #[tokio::test]
    async fn the_outcome_is_the_last_record_and_its_digest_is_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let [file, report, digest] = ["order", "report", "digest"].map(|name| folder.path().join(name));
        let order = serde_json::to_vec(&image_order(1, "hmi").unwrap()).unwrap();
        fs::write(&file, zstd::encode_all(&order[..], 1).unwrap()).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        serve_to(
            &file,
            Results { report: &report, digest: Some(&digest) },
            &SimulatedExecutor::new(),
            writer,
        )
        .await
        .unwrap();
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        let mut frames = Deframer::default();
        let record = |line| match frames.line(line) {
            LogLine::Record(record) => Some(record),
            _ => None,
        };
        let records: Vec<String> = log.lines().filter_map(record).collect();
        let last = records.last().unwrap();
        let JobEvent::Outcome(outcome) = serde_json::from_str(last).unwrap() else { panic!("{last}") };
        let built = outcome.builds.last().unwrap().manifest.digest.to_string();
        assert_eq!(fs::read_to_string(digest).unwrap(), built);
        assert!(records.len() > 2, "{records:?}");
        assert_eq!(fs::read_to_string(report).unwrap(), Digest::of(last).to_string());
    }

    #[tokio::test]
    async fn a_file_that_is_no_order_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("order");
        fs::write(&file, "not compressed").unwrap();
        let results = Results { report: &folder.path().join("r"), digest: None };
        let served = serve_to(&file, results, &SimulatedExecutor::new(), io::sink()).await;
        assert!(matches!(served, Err(ProcessError::Read(_))), "{served:?}");
    }
}

//! The process of a job in its Pod: reads the order from a file, writes events as frames to the log, and the
//! digest of its report where Tekton reads it.

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use edgewright_job::{ProcessError, Worker};
use edgewright_model::Digest;
use edgewright_model::frame::Framer;

use crate::order::unpack;

/// Runs the order of a file; it ends with SIGTERM. Returns `Ok` if the outcome was delivered, even if the job
/// failed.
///
/// # Errors
/// The order cannot be read, or the outcome cannot be written.
pub async fn serve(order: &Path, report: &Path, worker: &dyn Worker) -> Result<(), ProcessError> {
    serve_to(order, report, worker, io::stdout()).await
}

/// [`serve`] with another log than standard output.
///
/// # Errors
/// As [`serve`].
pub async fn serve_to(
    order: &Path,
    report: &Path,
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
    let digest = last.lock().unwrap_or_else(PoisonError::into_inner).take();
    let digest: Digest = digest.ok_or_else(|| ProcessError::Write(io::ErrorKind::WriteZero.into()))?;
    tokio::fs::write(report, digest.to_string()).await.map_err(ProcessError::Write)
}

/// Writes lines as frames.
struct Frames<W> {
    log: W,
    framer: Framer,
    line: Vec<u8>,
    /// The digest of the last line.
    last: Arc<Mutex<Option<Digest>>>,
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
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Digest::of(&record));
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
    use edgewright_model::outcome::JobEvent;

    use super::*;

    #[tokio::test]
    async fn the_outcome_is_the_last_record_and_its_digest_is_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let (file, report) = (folder.path().join("order"), folder.path().join("report"));
        let order = serde_json::to_vec(&image_order(1, "hmi").unwrap()).unwrap();
        fs::write(&file, zstd::encode_all(&order[..], 1).unwrap()).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        serve_to(&file, &report, &SimulatedExecutor::new(), writer).await.unwrap();
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        let mut frames = Deframer::default();
        let record = |line| match frames.line(line) {
            LogLine::Record(record) => Some(record),
            _ => None,
        };
        let records: Vec<String> = log.lines().filter_map(record).collect();
        let last = records.last().unwrap();
        assert!(matches!(serde_json::from_str(last).unwrap(), JobEvent::Outcome(_)));
        assert!(records.len() > 2, "{records:?}");
        assert_eq!(fs::read_to_string(report).unwrap(), Digest::of(last).to_string());
    }

    #[tokio::test]
    async fn a_file_that_is_no_order_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("order");
        fs::write(&file, "not compressed").unwrap();
        let served = serve_to(&file, &folder.path().join("r"), &SimulatedExecutor::new(), io::sink()).await;
        assert!(matches!(served, Err(ProcessError::Read(_))), "{served:?}");
    }
}

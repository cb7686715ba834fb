//! The process of a job in its Pod: reads the order from a file, writes events as frames to the log, and the
//! digests of its report and of its image where Tekton reads them.

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use edgewright_job::{ProcessError, Worker};
use edgewright_model::Digest;
use edgewright_model::frame::Framer;
use edgewright_model::order::JobOrder;
use edgewright_model::outcome::JobEvent;

use crate::order::unpack;

/// The beginning of the record after the outcome: the log is whole, and the results are written.
pub(crate) const SEAL: &str = "sealed ";

/// The record after an outcome. Only the job's process and its server know the token: what else writes to the
/// log cannot confirm an outcome of its own.
#[must_use]
pub fn seal(token: &str, outcome: &Digest) -> String {
    format!("{SEAL}{}", Digest::of(format!("{token}\n{outcome}\n{token}")))
}

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
    let token = serde_json::from_slice(&line).ok().and_then(|order: JobOrder| order.registry.token);
    line.push(b'\n');
    // The input must not end: its end would cancel the job.
    let (held, open) = io::pipe().map_err(ProcessError::Read)?;
    let frames = Frames { log, framer: Framer::default(), line: Vec::new(), last: None };
    let frames = Arc::new(Mutex::new(frames));
    let output = Shared(Arc::clone(&frames));
    let served = edgewright_job::serve(io::Cursor::new(line).chain(held), output, worker, false).await;
    drop(open);
    served?;
    let last = frames.lock().unwrap_or_else(PoisonError::into_inner).last.take();
    let last = last.ok_or_else(|| ProcessError::Write(io::ErrorKind::WriteZero.into()))?;
    let report = Digest::of(&last);
    if let Some(file) = results.digest {
        tokio::fs::write(file, built(&last)).await.map_err(ProcessError::Write)?;
    }
    tokio::fs::write(results.report, report.to_string()).await.map_err(ProcessError::Write)?;
    let Some(token) = token else { return Ok(()) };
    // Who follows the log need not wait until the cluster has seen the end of this process.
    let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
    frames.record(&seal(&token, &report)).and_then(|()| frames.flush()).map_err(ProcessError::Write)
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
    last: Option<String>,
}

impl<W: Write> Frames<W> {
    fn record(&mut self, record: &str) -> io::Result<()> {
        self.framer
            .lines(record)
            .iter()
            .try_for_each(|frame| self.log.write_all(format!("{frame}\n").as_bytes()))
    }
}

/// Frames that are written to after the job, too.
struct Shared<W>(Arc<Mutex<Frames<W>>>);

impl<W: Write> Write for Shared<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

impl<W: Write> Write for Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                self.line.pop();
                let line = std::mem::take(&mut self.line);
                let record = String::from_utf8(line).map_err(io::Error::other)?;
                self.record(&record)?;
                self.last = Some(record);
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
        let mut order = image_order(1, "hmi").unwrap();
        order.registry.token = Some("ewjob_x".to_owned());
        let order = serde_json::to_vec(&order).unwrap();
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
        let [.., last, sealed] = &records[..] else { panic!("{records:?}") };
        assert_eq!(*sealed, seal("ewjob_x", &Digest::of(last)));
        assert_ne!(*sealed, seal("ewjob_y", &Digest::of(last)));
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

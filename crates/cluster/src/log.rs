//! The log of a job's container: frames are events, other lines are the job's log.

use std::collections::VecDeque;

use edgewright_job::Heard;
use edgewright_job::local::LogSink;
use edgewright_model::Digest;
use edgewright_model::frame::{Deframer, LogLine};
use edgewright_model::order::JobId;
use edgewright_model::outcome::JobEvent;
use tokio::sync::mpsc;

use crate::follow::Sink;
use crate::in_pod::{SEAL, seal};
use crate::stage::Wait;

/// How many of the last lines explain a job that ended without an outcome.
const TAIL: usize = 20;
/// The length at which lines of the log are cut, in bytes.
const SHOWN: usize = 4096;

/// What the log of one attempt gave so far.
pub(crate) struct JobLog<'a> {
    job: JobId,
    sink: &'a LogSink,
    events: &'a mpsc::Sender<JobEvent>,
    frames: Deframer,
    pub(crate) heard: Heard,
    /// The digest of the last record, which is the report once the job is done.
    pub(crate) report: Option<Digest>,
    /// The token that confirms a report; none: the end of the process does.
    token: Option<String>,
    /// Whether the process has confirmed its report, as the last thing that it did.
    is_sealed: bool,
    pub(crate) tail: VecDeque<String>,
    /// How many lines of text were passed on, and how many of this reading.
    texts: (usize, usize),
    /// Why it waited last.
    wait: Option<Wait>,
    on_wait: &'a (dyn Fn(Option<&Wait>) + Send + Sync),
}

impl<'a> JobLog<'a> {
    pub(crate) fn new(
        job: JobId,
        sink: &'a LogSink,
        events: &'a mpsc::Sender<JobEvent>,
        on_wait: &'a (dyn Fn(Option<&Wait>) + Send + Sync),
    ) -> Self {
        Self {
            job,
            sink,
            events,
            frames: Deframer::default(),
            heard: Heard::default(),
            report: None,
            token: None,
            is_sealed: false,
            tail: VecDeque::new(),
            texts: (0, 0),
            wait: None,
            on_wait,
        }
    }

    /// A report that this token confirms is enough to know how the job ended.
    pub(crate) fn confirmed_by(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    fn text(&mut self, line: &str) {
        self.texts.1 += 1;
        if self.texts.1 <= self.texts.0 || line.is_empty() {
            return;
        }
        self.texts.0 = self.texts.1;
        let line = &line[..line.floor_char_boundary(SHOWN)];
        (self.sink)(self.job, line);
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }
}

impl Sink for JobLog<'_> {
    fn begin(&mut self) {
        self.texts.1 = 0;
    }

    fn line(&mut self, line: &str) {
        match self.frames.line(line) {
            LogLine::Record(record) if record.starts_with(SEAL) => {
                let sealed = self.token.as_deref().zip(self.report.as_ref());
                self.is_sealed = sealed.is_some_and(|(token, report)| seal(token, report) == record);
            }
            LogLine::Record(record) => {
                self.heard.line(&record, self.events);
                self.report = self.heard.is_done().then(|| Digest::of(&record));
            }
            LogLine::Frame => {}
            LogLine::Text(text) => self.text(text),
        }
    }

    fn is_done(&self) -> bool {
        self.heard.is_done()
    }

    fn is_read(&self) -> bool {
        self.heard.is_done() && (self.is_sealed || self.token.is_none() || self.heard.has_failed())
    }

    /// A failure may be the cluster's: how its process ended shows that.
    fn is_confirmed(&self) -> bool {
        self.is_sealed && !self.heard.has_failed()
    }

    fn waits(&mut self, wait: Option<&Wait>) {
        if self.wait.as_ref() == wait {
            return;
        }
        self.wait = wait.cloned();
        (self.on_wait)(wait);
        if let Some(wait) = wait {
            // A slow reader misses lines.
            let _ = self.events.try_send(JobEvent::Log { line: format!("[{wait}]") });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use edgewright_model::frame::Framer;
    use edgewright_model::outcome::{FailureKind, JobFailure, JobOutcome, Phase};

    use super::*;

    #[test]
    fn a_log_that_is_read_twice_is_passed_on_once() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&lines);
        let sink: LogSink = Arc::new(move |_, line| taken.lock().unwrap().push(line.to_owned()));
        let (sender, mut events) = mpsc::channel(8);
        let mut log = JobLog::new(JobId(uuid::Uuid::nil()), &sink, &sender, &|_| {});
        let mut framer = Framer::default();
        let mut written = vec!["a warning".to_owned(), String::new()];
        written.extend(framer.lines("{\"event\":\"log\",\"line\":\"x\"}"));
        written.push("a warning".to_owned());
        for reading in [&written[..3], &written[..]] {
            log.begin();
            for line in reading {
                log.line(line);
            }
        }
        assert_eq!(*lines.lock().unwrap(), ["a warning", "a warning"]);
        assert_eq!(log.tail, ["a warning", "a warning"]);
        assert_eq!(events.try_recv().unwrap(), JobEvent::Log { line: "x".to_owned() });
        assert!(events.try_recv().is_err() && !log.is_done());
    }

    #[test]
    fn a_success_is_confirmed_by_the_token_of_the_job() {
        let (sender, _events) = mpsc::channel(8);
        let sink: LogSink = Arc::new(|_, _| {});
        let outcome = |failure| {
            let outcome = JobOutcome { failure, ..JobOutcome::empty() };
            serde_json::to_string(&JobEvent::Outcome(outcome)).unwrap()
        };
        let read = |records: &[&str]| {
            let log = JobLog::new(JobId(uuid::Uuid::nil()), &sink, &sender, &|_| {});
            let mut log = log.confirmed_by(Some("token".to_owned()));
            let mut framer = Framer::default();
            for frame in records.iter().flat_map(|record| framer.lines(record)) {
                log.line(&frame);
            }
            (log.is_done(), log.is_read(), log.is_confirmed())
        };
        let good = outcome(None);
        let sealed = |record: &str| seal("token", &Digest::of(record));
        assert_eq!(read(&[&good]), (true, false, false));
        assert_eq!(read(&[&good, &sealed(&good)]), (true, true, true));
        for forged in [sealed("another"), seal("guess", &Digest::of(&good))] {
            assert_eq!(read(&[&good, &forged]), (true, false, false));
        }
        // The cluster may have ended it: its end is waited for.
        let bad = outcome(Some(JobFailure {
            kind: FailureKind::Infrastructure,
            phase: Phase::Build,
            message: "it was cancelled".to_owned(),
            hint: None,
            output: Vec::new(),
        }));
        assert_eq!(read(&[&bad, &sealed(&bad)]), (true, true, false));
    }

    #[test]
    fn a_reason_to_wait_is_reported_once() {
        let (sender, mut events) = mpsc::channel(8);
        let sink: LogSink = Arc::new(|_, _| {});
        let mut log = JobLog::new(JobId(uuid::Uuid::nil()), &sink, &sender, &|_| {});
        let quota = Wait::Quota("pods=10".to_owned());
        for wait in [None, Some(&quota), Some(&quota), None] {
            log.waits(wait);
        }
        assert_eq!(
            events.try_recv().unwrap(),
            JobEvent::Log { line: "[waits for quota: pods=10]".to_owned() }
        );
        assert!(events.try_recv().is_err());
    }
}

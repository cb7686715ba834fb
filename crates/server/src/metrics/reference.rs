//! The reference of metrics, made of the text that `/metrics` serves: what is registered is documented, in
//! one place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edgewright_control::reconcile::ReconcilerStatus;
use edgewright_model::run::RunState;
use edgewright_registry::ExternalTraffic;
use edgewright_store::WriterStats;

use super::labels::{
    Cause, JobLabels, JobResult, PhaseLabels, PhaseName, RequestKind, RequestLabels, RequestMethod,
};
use super::{Metrics, Snapshot};

/// The label value of a sample that can have any value.
const ANY: &str = "…";

/// One metric as it is served.
#[derive(Debug, Default)]
struct Metric {
    name: String,
    kind: String,
    help: String,
    unit: String,
    labels: BTreeMap<String, BTreeSet<String>>,
    has_samples: bool,
}

/// The page of all metrics, in Markdown without line breaks inside of paragraphs.
///
/// # Errors
/// A metric has no sample, so its labels are unknown, or no description.
pub(crate) fn reference() -> Result<String, String> {
    let text = complete().text(&snapshot()).map_err(|error| error.to_string())?;
    let mut page = String::new();
    for metric in parse(&text) {
        let Metric { name, kind, help, unit, labels, has_samples } = metric;
        if !has_samples || help.trim_end_matches('.').is_empty() {
            return Err(format!("metric `{name}` has no sample or no description"));
        }
        let mut section = vec![format!("\n## `{name}`\n\n{help}\n\n- type: {kind}\n")];
        if !unit.is_empty() {
            section.push(format!("- unit: {unit}\n"));
        }
        for (label, values) in labels {
            let values = values.iter().filter(|value| *value != ANY).map(|value| format!("`{value}`"));
            let values = values.collect::<Vec<_>>().join(", ");
            let separator = if values.is_empty() { "" } else { ": " };
            section.push(format!("- label `{label}`{separator}{values}\n"));
        }
        page += &section.concat();
    }
    Ok(page)
}

/// Every counter and histogram with every value of its labels.
fn complete() -> Metrics {
    let metrics = Metrics::default();
    for result in JobResult::ALL {
        for kind in Cause::ALL {
            metrics.jobs.get_or_create(&JobLabels { result: *result, kind: *kind }).inc();
        }
    }
    for phase in PhaseName::ALL {
        metrics.phases.get_or_create(&PhaseLabels { phase: *phase }).observe(0.0);
    }
    for kind in RequestKind::ALL {
        for method in RequestMethod::ALL {
            let labels = RequestLabels { kind: *kind, method: *method, status: 0 };
            metrics.requests.get_or_create(&labels).inc();
        }
    }
    metrics
}

/// A snapshot in which everything has a value.
pub(super) fn snapshot() -> Snapshot {
    Snapshot {
        runs: RunState::ALL.iter().map(|state| (state.to_string(), 3)).collect(),
        queued: 1,
        jobs: 2,
        reconcilers: vec![ReconcilerStatus {
            name: ANY.to_owned(),
            started: jiff::Timestamp::UNIX_EPOCH,
            cause: "start",
            is_running: false,
            result: None,
            succeeded: Some(jiff::Timestamp::UNIX_EPOCH),
            took: Duration::ZERO,
            failures: 2,
            next: None,
        }],
        sources: vec![(ANY.to_owned(), 12.5, 0)],
        sinks: vec![(ANY.to_owned(), 4, 1)],
        targets: vec![(ANY.to_owned(), 1, 2)],
        database: WriterStats { groups: 7, writes: 30 },
        storage_bytes: 5,
        external: ExternalTraffic { proxied_bytes: 8, redirects: 9, failures: 1 },
        free_bytes: 6,
    }
}

/// The metrics of an OpenMetrics text, in its order.
fn parse(text: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            metrics.push(Metric { name: name.to_owned(), help: help.to_owned(), ..Metric::default() });
            continue;
        }
        let Some(metric) = metrics.last_mut() else { continue };
        if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut metric.kind);
            metric.name += match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
        } else if let Some((_, unit)) = line.strip_prefix("# UNIT ").and_then(|rest| rest.split_once(' ')) {
            unit.clone_into(&mut metric.unit);
        } else if !line.starts_with('#') {
            metric.has_samples = true;
            for (label, value) in labels(line) {
                metric.labels.entry(label).or_default().insert(value);
            }
        }
    }
    metrics
}

/// The labels of a sample, but for the buckets of histograms. Numbers count as any value.
fn labels(line: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = line.split_once('{') else { return Vec::new() };
    let Some((labels, _)) = rest.rsplit_once('}') else { return Vec::new() };
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(label, _)| *label != "le")
        .map(|(label, value)| {
            let value = value.trim_matches('"');
            let is_open = value.starts_with(|c: char| c.is_ascii_digit());
            (label.to_owned(), if is_open { ANY } else { value }.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_described_with_type_unit_and_labels() {
        let page = reference().unwrap();
        for part in [
            "## `edgewright_build_info`\n\nThe server's version.\n\n- type: info\n- label `version`\n",
            "- type: counter\n- label `kind`: `check`, `image`, `infrastructure`, `none`\n- label `result`",
            "## `edgewright_job_phase_duration_seconds`\n\nDuration of the phases of jobs.\n\n- type: histogram\n\
             - unit: seconds\n- label `phase`: `build`, `fetch`, `lock`, `push`, `test`\n",
            "- label `source`\n",
            "- label `status`\n",
        ] {
            assert!(page.contains(part), "{part}\n---\n{page}");
        }
    }

    #[test]
    fn a_metric_without_samples_is_found() {
        let text =
            "# HELP a Help.\n# TYPE a gauge\n# HELP b Help.\n# TYPE b counter\nb_total{c=\"d\"} 1\n# EOF\n";
        let found: Vec<_> = parse(text).into_iter().map(|metric| (metric.name, metric.has_samples)).collect();
        assert_eq!(found, [("a".to_owned(), false), ("b_total".to_owned(), true)]);
    }
}

//! Variants.

use std::fmt::Write as _;

use edgewright_api::{ImageState, ImageSummary, ImageView, Proof, VerdictView};
use edgewright_model::names::ChannelName;
use edgewright_model::verdict::{CheckOutcome, LaneResult};
use jiff::Timestamp;

use super::run::{commit, lanes};
use super::style::{BOLD, DIM, GREEN, RED, YELLOW, paint, plain};
use super::table::Table;
use super::units::{age, bytes, duration, moment};

fn state(state: ImageState) -> String {
    match state {
        ImageState::Current => paint(GREEN, state.name()),
        ImageState::Pending | ImageState::Carried => paint(YELLOW, state.name()),
        ImageState::Absent => paint(RED, state.name()),
        ImageState::Retired | ImageState::Other => paint(DIM, state.name()),
    }
}

fn channels(image: &ImageSummary) -> String {
    let names: Vec<&str> = image.channels.iter().map(ChannelName::as_str).collect();
    names.join(", ")
}

/// The list of variants.
pub(crate) fn images(images: &[ImageSummary]) -> String {
    let mut table =
        Table::new(["source", "variant", "state", "digest", "release", "channels", "size", "lanes", "note"]);
    for image in images {
        table.row([
            image.source.to_string(),
            image.variant.to_string(),
            state(image.state),
            image.digest.as_ref().map(|digest| digest.short().to_owned()).unwrap_or_default(),
            image.release.map(|number| number.to_string()).unwrap_or_default(),
            channels(image),
            if image.size_bytes > 0 { bytes(image.size_bytes) } else { String::new() },
            lanes(&image.verdicts),
            image.reason.as_deref().map(plain).unwrap_or_default(),
        ]);
    }
    table.text("no images yet")
}

/// Whether building again gave the same bytes.
fn proof(proof: Proof) -> String {
    match proof {
        Proof::Proved => paint(GREEN, proof.name()),
        Proof::Refuted => paint(RED, proof.name()),
        Proof::Unproved => proof.name().to_owned(),
    }
}

/// One variant.
pub(crate) fn image(view: &ImageView, now: Timestamp) -> String {
    let image = &view.image;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} {value}", paint(DIM, format!("{name:<10}")));
        }
    };
    line("variant", format!("{} of {}", paint(BOLD, &image.variant), image.source));
    let reason = image.reason.as_deref().map(|reason| format!(": {}", plain(reason)));
    line("state", state(image.state) + &reason.unwrap_or_default());
    line("repository", image.repository.as_ref().map(ToString::to_string).unwrap_or_default());
    line("digest", image.digest.as_ref().map(ToString::to_string).unwrap_or_default());
    line("release", image.release.map(|number| number.to_string()).unwrap_or_default());
    line("channels", channels(image));
    line("why", plain(&view.why));
    if let Some(origin) = &view.provenance {
        line("commit", format!("{} {}", commit(&origin.commit), plain(&origin.subject)));
        line("from", origin.url.clone());
        line("built", format!("by run {}, {}", origin.run, moment(origin.built, now)));
    }
    for build in &view.builds {
        let _ = writeln!(
            text,
            "\n{} {} key {}, {}",
            paint(BOLD, &build.platform),
            bytes(build.size_bytes),
            build.key.short(),
            proof(build.proof)
        );
        let mut table = Table::new(["key", "step", "adds", "took", "run", "built again"]);
        for step in &build.steps {
            table.row([
                step.key.short().to_owned(),
                plain(&step.title),
                step.added_bytes.map(bytes).unwrap_or_default(),
                step.duration_ms.map(duration).unwrap_or_default(),
                step.run.map(|run| run.to_string()).unwrap_or_default(),
                if step.proof == Proof::Unproved { String::new() } else { proof(step.proof) },
            ]);
        }
        text.push_str(&table.text("no steps of its own"));
    }
    for lock in &view.locks {
        let origin =
            lock.overlay.map_or_else(|| "committed".to_owned(), |number| format!("overlay {number}"));
        let packages = lock.packages.map(|count| format!(", {count} packages")).unwrap_or_default();
        let base = lock.base.as_ref().map(|base| format!(", base {}", base.short())).unwrap_or_default();
        let _ = writeln!(text, "\n{} {}: {origin}{packages}{base}", paint(BOLD, "lock"), lock.image);
    }
    for note in &view.notes {
        let _ = writeln!(text, "\n{} {}", paint(BOLD, "note"), plain(&note.to_string()));
    }
    for verdict in &view.verdicts {
        text.push('\n');
        text.push_str(&verdict_text(verdict, now));
    }
    if let Some(pull) = &view.pull {
        let _ = writeln!(text, "\n{}", paint(BOLD, "pull"));
        for command in [&pull.skopeo, &pull.podman, &pull.bootc] {
            let _ = writeln!(text, "  {command}");
        }
    } else if let (Some(digest), Some(repository)) = (&view.image.digest, &view.image.repository) {
        let _ = writeln!(text, "\n{}", paint(BOLD, "pull"));
        let _ = writeln!(
            text,
            "  nobody serves this data folder now: start `edgewright serve` with the same --data, then"
        );
        let _ = writeln!(
            text,
            "  skopeo copy --src-tls-verify=false docker://127.0.0.1:5080/{repository}@{digest} oci:image"
        );
    }
    text
}

fn verdict_text(verdict: &VerdictView, now: Timestamp) -> String {
    let result = match &verdict.result {
        LaneResult::Passed => paint(GREEN, "passed"),
        LaneResult::Failed { kind, message } => {
            format!("{}: {}", paint(RED, format!("failed ({kind})")), plain(message))
        }
    };
    let mut text = format!(
        "{} {} {result}, {}, {} by run {} ({}, {})\n",
        paint(BOLD, verdict.lane),
        verdict.platform,
        duration(verdict.duration_ms),
        age(verdict.recorded, now),
        verdict.run,
        verdict.profile,
        verdict.origin,
    );
    let mut table = Table::new(["check", "result", "after", "tries", "found"]);
    for check in &verdict.checks {
        let (result, found) = match &check.outcome {
            CheckOutcome::Passed => (paint(GREEN, "passed"), String::new()),
            CheckOutcome::Failed { message, .. } => (paint(RED, "failed"), plain(message)),
            CheckOutcome::Skipped { reason } => (paint(DIM, "skipped"), plain(reason)),
        };
        table.row([
            check.id.to_string(),
            result,
            duration(check.duration_ms),
            check.tries.to_string(),
            found,
        ]);
    }
    text.push_str(&table.text("no checks"));
    for check in &verdict.checks {
        // What a check that passed has to say, such as a wanted greenboot check that failed.
        let lines = match &check.outcome {
            CheckOutcome::Failed { output, .. } => output,
            CheckOutcome::Passed | CheckOutcome::Skipped { .. } => &check.notes,
        };
        if !lines.is_empty() {
            let _ = writeln!(text, "{}", paint(BOLD, &check.id));
            for line in lines {
                let _ = writeln!(text, "  {} {}", paint(DIM, "│"), plain(line));
            }
        }
    }
    for evidence in &verdict.evidence {
        let _ = writeln!(
            text,
            "{} {}: {}@{} ({})",
            paint(DIM, "evidence"),
            evidence.name,
            evidence.blob.repository,
            evidence.blob.digest,
            bytes(evidence.blob.size)
        );
    }
    text
}

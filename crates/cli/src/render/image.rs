//! Variants.

use std::fmt::Write as _;

use edgewright_api::{BuildView, ImageState, ImageSummary, ImageView, LockView, Proof, VerdictView};
use edgewright_model::names::ChannelName;
use edgewright_model::verdict::{CheckOutcome, LaneResult};
use jiff::Timestamp;

use super::facts::Facts;
use super::run::{commit, exceptions, lanes};
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
            lanes(&image.verdicts, &image.notes),
            image.reason.as_deref().map(plain).unwrap_or_default(),
        ]);
    }
    table.text("no images yet")
}

/// Whether a rebuild gave the same bytes.
fn proof(proof: Proof) -> String {
    match proof {
        Proof::Proved => paint(GREEN, proof.name()),
        Proof::Refuted => paint(RED, proof.name()),
        Proof::Unproved => proof.name().to_owned(),
    }
}

/// One variant.
pub(crate) fn image(view: &ImageView, now: Timestamp) -> String {
    let mut text = facts(view, now);
    for build in &view.builds {
        text.push_str(&build_text(build));
    }
    for lock in &view.locks {
        text.push_str(&lock_text(lock));
    }
    for note in &view.image.notes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{} {}", paint(BOLD, "note"), plain(&note.to_string()));
    }
    for verdict in &view.lanes {
        text.push('\n');
        text.push_str(&verdict_text(verdict, view, now));
    }
    text.push_str(&pull_text(view));
    text
}

fn facts(view: &ImageView, now: Timestamp) -> String {
    let image = &view.image;
    let mut facts = Facts::new("repository".len());
    facts.add("variant", format!("{} of {}", paint(BOLD, &image.variant), image.source));
    let reason = image.reason.as_deref().map(|reason| format!(": {}", plain(reason)));
    facts.add("state", state(image.state) + &reason.unwrap_or_default());
    facts.add("repository", image.repository.as_ref().map(ToString::to_string).unwrap_or_default());
    facts.add("digest", image.digest.as_ref().map(ToString::to_string).unwrap_or_default());
    facts.add("release", image.release.map(|number| number.to_string()).unwrap_or_default());
    facts.add("channels", channels(image));
    facts.add("why", plain(&view.build_reason));
    if let Some(origin) = &view.provenance {
        facts.add("commit", format!("{} {}", commit(&origin.commit), plain(&origin.subject)));
        facts.add("from", &origin.url);
        facts.add("built", format!("by run {}, {}", origin.run, moment(origin.built, now)));
    }
    facts.into_text()
}

fn build_text(build: &BuildView) -> String {
    let mut table = Table::new(["key", "step", "adds", "took", "run", "rebuilt"]);
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
    format!(
        "\n{} {} key {}, {}\n{}",
        paint(BOLD, &build.platform),
        bytes(build.size_bytes),
        build.key.short(),
        proof(build.proof),
        table.text("no steps of its own")
    )
}

fn lock_text(lock: &LockView) -> String {
    let origin = lock.overlay.map_or_else(|| "committed".to_owned(), |number| format!("overlay {number}"));
    let packages = lock.packages.map(|count| format!(", {count} packages")).unwrap_or_default();
    let base = lock.base.as_ref().map(|base| format!(", base {}", base.short())).unwrap_or_default();
    format!("\n{} {}: {origin}{packages}{base}\n", paint(BOLD, "lock"), lock.image)
}

/// How to pull it; if no server runs, from one that is to be started.
fn pull_text(view: &ImageView) -> String {
    let commands = match (&view.pull, &view.image.digest, &view.image.repository) {
        (Some(pull), ..) => format!("  {}\n  {}\n  {}\n", pull.skopeo, pull.podman, pull.bootc),
        (None, Some(digest), Some(repository)) => format!(
            "  no server runs on this data folder: start `edgewright serve` with the same --data, then\n  \
             skopeo copy --src-tls-verify=false docker://127.0.0.1:5080/{repository}@{digest} oci:image\n"
        ),
        (None, ..) => return String::new(),
    };
    format!("\n{}\n{commands}", paint(BOLD, "pull"))
}

fn verdict_text(verdict: &VerdictView, view: &ImageView, now: Timestamp) -> String {
    let exceptions = exceptions(verdict.lane, &view.image.notes);
    let result = match &verdict.result {
        LaneResult::Passed => paint(GREEN, "passed"),
        LaneResult::Failed { message, .. } if !exceptions.is_empty() => {
            let covered = format!("passed (exception {})", exceptions.join(", "));
            format!("{}: {}", paint(YELLOW, covered), plain(message))
        }
        LaneResult::Failed { kind, message } => {
            format!("{}: {}", paint(RED, format!("failed ({kind})")), plain(message))
        }
    };
    let accelerator = verdict.accelerator.as_ref().map(|name| format!(" on {}", plain(name)));
    let other = verdict.from.as_ref().map(|from| format!(", with {}", from.short()));
    let mut text = format!(
        "{} {} {result}, {}, {} by run {} ({}{}{}, {}{})\n",
        paint(BOLD, verdict.lane),
        verdict.platform,
        duration(verdict.duration_ms),
        age(verdict.recorded, now),
        verdict.run,
        verdict.profile,
        accelerator.unwrap_or_default(),
        other.unwrap_or_default(),
        verdict.origin,
        if verdict.is_current { "" } else { ", outdated: the lane has changed since" },
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
        // Notes of a check that passed, such as a wanted greenboot check that failed.
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
        let name = plain(&evidence.name);
        let _ = writeln!(text, "{} {name} ({})", paint(DIM, "evidence"), bytes(evidence.blob.size));
        let _ = writeln!(text, "  edgewright evidence {} {} {name}", verdict.run, view.image.variant);
    }
    text
}

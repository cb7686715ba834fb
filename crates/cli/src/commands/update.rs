//! `update`: resolves locks again and shows what moved.
//!
//! For a folder or URL the locks are resolved in this process and kept as overlays in the data folder, from
//! which the next `run` builds; nothing is built here. For `--source` a server does all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use edgewright_api::RunView;
use edgewright_api::documents::UpdateReport;
use edgewright_control::context::OperationContext;
use edgewright_model::error::ErrorClass;
use edgewright_model::lock::{LOCK_FILE, Lock};
use edgewright_model::names::ImageName;
use edgewright_model::run::{RunNumber, RunState};
use edgewright_process::Clock;
use edgewright_server::{Composition, ProcessTokens, StartError};

use super::job::{executor, local_jobs};
use super::serve::{Stop, start_logging};
use super::target::{self, Target};
use crate::args::{Global, UpdateArgs};
use crate::exit::{End, Failure};
use crate::progress::Progress;
use crate::settings::Environment;
use crate::{output, render};

/// Resolves locks again.
pub(crate) async fn update(args: &UpdateArgs, global: &Global) -> Result<End, Failure> {
    if let Some(source) = &args.source {
        let client = crate::connection::client(global)?;
        let run = client.update(source, &args.image).await?.run;
        output::note(&format!(
            "run {run} checks for updates; what moved is built, tested and released\nnext: edgewright run watch {run}"
        ));
        if args.format.json {
            output::json(&report(&client.run(run).await?, &[]))?;
        }
        return Ok(End::Good);
    }
    start_logging(global, "warn")?;
    let metadata = tokio::fs::metadata(&args.dir).await;
    if args.write && !metadata.is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Failure::user("--write needs the source's folder: a URL cannot be written to")
            .hint("clone the source, then `edgewright update --dir CLONE --write`"));
    }
    let Some(target) = target::read(&args.dir, None).await? else { return Ok(End::Fault) };
    let Target { settings: source, folder, .. } = &target;
    if let Some(definition) = folder.as_ref().and_then(|folder| folder.parsed.definition.as_ref())
        && let Some(unknown) = args.image.iter().find(|image| !definition.images.contains_key(*image))
    {
        let known: Vec<&str> = definition.images.keys().map(ImageName::as_str).collect();
        return Err(Failure::new(ErrorClass::NotFound, format!("the source has no image `{unknown}`"))
            .hint(format!("its images are {}", known.join(", "))));
    }
    let mut settings = Environment::read().run(&args.work.serve(None), global.data.clone())?;
    settings.sources = vec![source.clone()];
    let lock = target::lock(&settings.data)?;
    let executor = executor(local_jobs(&settings, &lock).await?);
    let tokens = ProcessTokens::generate().map_err(StartError::Random)?;
    let composition = Composition::open(&settings, lock, executor, tokens, Clock::system()).await?;
    let mut stop = Stop::listen()?;
    let images: BTreeSet<ImageName> = args.image.iter().cloned().collect();
    let found = async {
        let number =
            composition.queue_update(&OperationContext::operator_here(), &source.name, &images).await?;
        let state = check_updates(&composition, number, &mut stop).await?;
        let view = composition.views.run(number).await?;
        let locks = composition.control.overlays(number).await?;
        Ok::<_, Failure>((state, view, locks))
    }
    .await;
    composition.shutdown().await;
    let (state, view, locks) = found?;
    let written = if args.write && state == RunState::Passed {
        write(Path::new(&args.dir), &locks, &images)?
    } else {
        Vec::new()
    };
    show(args, &view, &written)?;
    Ok(End::of(state))
}

/// Drives the update check to its end, showing what happens; the first signal cancels it.
async fn check_updates(
    composition: &Composition,
    number: RunNumber,
    stop: &mut Stop,
) -> Result<RunState, Failure> {
    let mut events = composition.control.events().subscribe();
    let mut progress = Progress::new();
    let checking = composition.control.check_updates(number);
    tokio::pin!(checking);
    let ended = loop {
        tokio::select! {
            ended = &mut checking => break ended,
            () = progress.heartbeat() => {}
            event = events.recv() => {
                if let Ok(event) = event {
                    progress.event(&event);
                }
            }
            () = stop.next() => {
                // It may have ended already.
                drop(composition.control.cancel(&OperationContext::operator_here(), number).await);
            }
        }
    };
    progress.end();
    Ok(ended?)
}

/// Writes the locks that the folder does not have yet; returns the files.
fn write(
    dir: &Path,
    locks: &BTreeMap<ImageName, Lock>,
    images: &BTreeSet<ImageName>,
) -> Result<Vec<PathBuf>, Failure> {
    let mut written = Vec::new();
    for (image, lock) in locks.iter().filter(|(image, _)| images.is_empty() || images.contains(*image)) {
        let path = dir.join("images").join(image.as_str()).join(LOCK_FILE);
        // Complete or not at all: a truncated lock would be an error of the source.
        let partial = path.with_extension("lock.new");
        std::fs::write(&partial, lock.to_file())
            .and_then(|()| std::fs::rename(&partial, &path))
            .map_err(|error| Failure::file("cannot write", &path, &error))?;
        written.push(path);
    }
    Ok(written)
}

fn report(view: &RunView, written: &[PathBuf]) -> UpdateReport {
    UpdateReport {
        run: view.run.number,
        state: view.run.state,
        updates: view.updates.clone(),
        written: written.iter().map(|path| path.display().to_string()).collect(),
        error: view.error.clone(),
    }
}

fn show(args: &UpdateArgs, view: &RunView, written: &[PathBuf]) -> Result<(), Failure> {
    if args.format.json {
        return output::json(&report(view, written));
    }
    if view.updates.is_empty() && view.error.is_none() {
        output::note("nothing to update: no image has an external base or a `bootstrap` step");
    }
    output::print(render::locks(&view.updates).trim_start())?;
    if let Some(error) = &view.error {
        output::note(&format!("update check failed: {error}"));
    }
    for path in written {
        output::note(&format!("wrote {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_lock_is_the_one_that_the_format_reads() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("images/base")).unwrap();
        let lock = Lock {
            version: 1,
            request: edgewright_model::Digest::of("request"),
            epoch: jiff::Timestamp::UNIX_EPOCH,
            epochs: BTreeMap::new(),
            base: None,
            bases: BTreeMap::new(),
            archives: Vec::new(),
            images: Vec::new(),
            packages: BTreeMap::new(),
        };
        let image: ImageName = "base".parse().unwrap();
        let locks = BTreeMap::from([(image.clone(), lock.clone())]);
        let other = BTreeSet::from(["hmi".parse().unwrap()]);
        assert_eq!(write(folder.path(), &locks, &other).unwrap(), Vec::<PathBuf>::new());
        let written = write(folder.path(), &locks, &BTreeSet::new()).unwrap();
        assert_eq!(written, [folder.path().join("images/base/edgewright.lock")]);
        let read: Lock = serde_json::from_slice(&std::fs::read(&written[0]).unwrap()).unwrap();
        assert_eq!(read, lock);
    }
}

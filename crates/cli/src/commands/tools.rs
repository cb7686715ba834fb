//! `tools`: the tool image, with whose programs sandboxed jobs work.

use std::fmt::Write as _;
use std::path::Path;

use edgewright_process::ProcessContext;
use edgewright_sandbox::ToolImage;
use edgewright_sandbox::tools::PACKAGES;

use super::serve::Stop;
use crate::args::ToolsCommand;
use crate::exit::{End, Failure};
use crate::output;

/// Makes or shows the tool image.
pub(crate) async fn tools(command: &ToolsCommand) -> Result<End, Failure> {
    match command {
        ToolsCommand::Update { dir, if_needed } => update(dir, *if_needed).await,
        ToolsCommand::Show { dir } => show(dir),
    }
}

async fn update(dir: &Path, if_needed: bool) -> Result<End, Failure> {
    let mut stop = Stop::listen()?;
    if !if_needed {
        output::note(&format!("making the tool image in {}: a minute or two", dir.display()));
    }
    let bar = indicatif::ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let processes = ProcessContext::default();
    let progress = |line: &str| bar.set_message(line.to_owned());
    let work = async {
        if if_needed {
            ToolImage::open_or_make(dir, &processes, progress).await
        } else {
            ToolImage::make(dir, &processes, progress).await
        }
    };
    let made = tokio::select! {
        made = work => made,
        () = stop.next() => return Err(Failure::stopped("stopped before the tool image was complete")),
    };
    bar.finish_and_clear();
    let made = made?;
    output::note(&format!("tool image in {}: {}", dir.display(), made.versions()));
    Ok(End::Good)
}

fn show(dir: &Path) -> Result<End, Failure> {
    let tools = ToolImage::open(dir)?;
    let description = tools.description();
    let mut text = format!("suite {}\n", description.suite);
    for package in PACKAGES {
        let version = description.packages.get(package).map_or("missing", String::as_str);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{package} {version}");
    }
    output::print(&text)?;
    Ok(End::Good)
}

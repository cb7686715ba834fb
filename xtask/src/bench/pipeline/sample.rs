//! The baseline's sample as a source of ours: its own roles and sites, laid into `bench/pipeline/source`.

use std::path::Path;

use crate::command::Run;
use crate::workspace;

/// Writes and commits the source.
pub(super) fn write(source: &Path) -> anyhow::Result<()> {
    let bench = workspace::root().join("bench/pipeline");
    std::fs::create_dir_all(source.parent().unwrap_or(source))?;
    Run::new("cp").arg("-r").arg(bench.join("source")).arg(source).run()?;
    for role in ["hmi", "gateway"] {
        copy(&bench.join("roles").join(role), &source.join("images").join(role))?;
    }
    for site in ["plant-a", "plant-b"] {
        copy(&bench.join("sites").join(site), &source.join("sites").join(site))?;
    }
    Run::new("git").args(["init", "--quiet", "--initial-branch=main"]).arg(source).run()?;
    commit(source, "first")
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    Run::new("cp").arg("-rT").arg(from).arg(to).run()
}

/// Switches the tests off, as `TESTS=0` does for the baseline. No key changes.
pub(super) fn without_tests(source: &Path) -> anyhow::Result<()> {
    for role in ["hmi", "gateway"] {
        let file = source.join("images").join(role).join("image.yaml");
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, format!("{text}test: none\n"))?;
    }
    commit(source, "no tests")
}

/// Changes a file of one site.
pub(super) fn change_site(source: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(source.join("sites/plant-a/files/etc/plant/extra.conf"), text)?;
    commit(source, "a site's change")
}

/// Commits all there is.
pub(super) fn commit(source: &Path, message: &str) -> anyhow::Result<()> {
    Run::new("git").arg("-C").arg(source).args(["add", "--all"]).run()?;
    let identity = ["-c", "user.name=Bench", "-c", "user.email=bench@localhost"];
    Run::new("git").arg("-C").arg(source).args(identity).args(["commit", "--quiet", "-m", message]).run()
}

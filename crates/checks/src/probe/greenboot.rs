//! The image's own greenboot scripts, as greenboot itself runs them: every one in `check/required.d` must
//! pass, those in `check/wanted.d` are only reported; `green.d` and `red.d` follow the decision.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Budget, Finding};
use crate::exec;

/// The folders of greenboot's scripts, in greenboot's order.
const FOLDERS: [&str; 2] = ["usr/lib/greenboot", "etc/greenboot"];
/// Maximum number of scripts of one kind that are run.
const MOST: usize = 256;
/// Greenboot's configuration.
const CONFIG: &str = "etc/greenboot/greenboot.conf";
/// Maximum length of that file, in bytes.
const MAX_CONFIG: u64 = 64 * 1024;

pub(crate) fn look(root: &Path, budget: Budget) -> Finding {
    let (mut required, mut wanted) = (scripts(root, "check/required.d"), scripts(root, "check/wanted.d"));
    if required.is_empty() && wanted.is_empty() {
        let folders = FOLDERS.map(|folder| format!("/{folder}/check"));
        return Finding::image(format!("no greenboot check in {}", folders.join(" and ")), Vec::new());
    }
    let mut disabled = disabled(root);
    let mut skipped = Vec::new();
    for scripts in [&mut required, &mut wanted] {
        scripts.retain(|script| {
            let is_disabled = disabled.contains(&name(script));
            skipped.extend(is_disabled.then(|| name(script)));
            !is_disabled
        });
    }
    let end = Instant::now() + budget.whole();
    let left = || end.saturating_duration_since(Instant::now());
    for script in &required {
        if let Err((what, output)) = run(script, left()) {
            return Finding::image(format!("required greenboot check {what}"), output);
        }
    }
    let mut notes = vec![format!("{} required greenboot checks passed", required.len())];
    for script in &skipped {
        notes.push(format!("greenboot check {script} is disabled in /{CONFIG}"));
        disabled.remove(script);
    }
    notes.extend(disabled.iter().map(|script| format!("/{CONFIG} disables {script}, which does not exist")));
    for script in &wanted {
        // Reported only: it must not use up the time of the required scripts.
        if let Err((what, output)) = run(script, left().min(budget.one_look())) {
            notes.push(format!("wanted greenboot check {what}"));
            notes.extend(output.into_iter().map(|line| format!("  {line}")));
        }
    }
    Finding::HoldsWith(notes)
}

/// Runs the scripts that follow a decision: those in `green.d` after a boot that is healthy, else those in
/// `red.d`. Each is run, whatever the others do; returns what did not work. Blocking.
pub fn run_hooks(root: &Path, is_healthy: bool, limit: Duration) -> Vec<String> {
    let kind = if is_healthy { "green.d" } else { "red.d" };
    let end = Instant::now() + limit;
    let mut notes = Vec::new();
    for script in scripts(root, kind) {
        if let Err((what, output)) = run(&script, end.saturating_duration_since(Instant::now())) {
            notes.push(format!("greenboot script {what}"));
            notes.extend(output.into_iter().map(|line| format!("  {line}")));
        }
    }
    notes
}

/// The scripts of a kind, sorted by name in each folder: those that end in `.sh`, and what is executable.
fn scripts(root: &Path, kind: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder).join(kind)) else { continue };
        let runs = |path: &PathBuf| {
            std::fs::metadata(path)
                .is_ok_and(|it| it.is_file() && (is_shell(path) || it.permissions().mode() & 0o111 != 0))
        };
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(runs).collect();
        found.sort();
        all.extend(found);
    }
    all.truncate(MOST);
    all
}

fn is_shell(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sh")
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The names of disabled checks: `DISABLED_HEALTHCHECKS=("a.sh" "b.sh")`, also over several lines.
fn disabled(root: &Path) -> BTreeSet<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(root.join(CONFIG));
    if file.and_then(|file| file.take(MAX_CONFIG).read_to_string(&mut text)).is_err() {
        return BTreeSet::new();
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (_, rest) in
        text.match_indices("DISABLED_HEALTHCHECKS=(").map(|(at, key)| (at, &text[at + key.len()..]))
    {
        // As in a shell, the last assignment counts.
        let list = rest.split_once(')').map_or(rest, |(list, _)| list);
        let words = list.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
        found = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
    }
    found
}

fn run(script: &Path, limit: Duration) -> Result<(), (String, Vec<String>)> {
    let shown = script.display().to_string();
    let ended = if is_shell(script) {
        // As greenboot does, whether it is executable or not.
        match exec::run(&["bash".to_owned(), shown.clone()], limit) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                exec::run(&["sh".to_owned(), shown.clone()], limit)
            }
            ended => ended,
        }
    } else {
        exec::run(std::slice::from_ref(&shown), limit)
    };
    match ended {
        Err(error) => Err((format!("{shown} cannot be started: {error}"), Vec::new())),
        Ok(ended) => match ended.code() {
            Some(0) => Ok(()),
            Some(code) => Err((format!("{shown} exited with {code}"), ended.tail)),
            None => Err((format!("{shown} did not end in time and was killed"), ended.tail)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn script(root: &Path, path: &str, text: &str, mode: u32) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn required_decides_and_wanted_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let look = || look(root, Budget::new(Duration::from_mins(1), 1.0));
        assert!(matches!(look(), Finding::Misses(miss) if miss.message.contains("no greenboot check")));
        script(root, "etc/greenboot/check/required.d/10_a.sh", "#!/bin/sh\n", 0o755);
        script(root, "usr/lib/greenboot/check/required.d/20_b", "#!/bin/sh\n", 0o755);
        script(root, "usr/lib/greenboot/check/required.d/README", "not run\n", 0o644);
        script(root, "etc/greenboot/check/wanted.d/x.sh", "#!/bin/sh\necho hm; exit 1\n", 0o755);
        let Finding::HoldsWith(notes) = look() else { panic!("{:?}", look()) };
        assert_eq!(notes[0], "2 required greenboot checks passed");
        assert!(notes[1].contains("wanted.d/x.sh exited with 1") && notes[2] == "  hm", "{notes:?}");
        script(root, "usr/lib/greenboot/check/required.d/30_c.sh", "#!/bin/sh\necho bad; exit 2\n", 0o755);
        let Finding::Misses(miss) = look() else { panic!("it fails") };
        assert!(miss.message.contains("30_c.sh exited with 2"), "{miss:?}");
        assert_eq!(miss.output, ["bad"]);
    }

    #[test]
    fn scripts_run_as_greenboot_runs_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let text = format!("echo ${{0##*/}} >> {}/ran\n", root.display());
        // Not executable, and without a first line: greenboot starts them by bash.
        script(root, "etc/greenboot/check/required.d/a.sh", &text, 0o644);
        script(root, "usr/lib/greenboot/check/required.d/b.sh", &text, 0o644);
        script(root, "usr/lib/greenboot/check/required.d/bad.sh", "exit 1\n", 0o644);
        script(root, "usr/lib/greenboot/check/wanted.d/w.sh", "exit 1\n", 0o644);
        let config =
            "#DISABLED_HEALTHCHECKS=(\"a.sh\")\nDISABLED_HEALTHCHECKS=(\"bad.sh\"\n  'w.sh' typo.sh)\n";
        script(root, CONFIG, config, 0o644);
        let Finding::HoldsWith(notes) = look(root, Budget::new(Duration::from_mins(1), 1.0)) else {
            panic!("bad.sh is disabled")
        };
        assert_eq!(std::fs::read_to_string(root.join("ran")).unwrap(), "b.sh\na.sh\n");
        let notes = notes.join("\n");
        assert!(notes.contains("bad.sh is disabled") && notes.contains("w.sh is disabled"), "{notes}");
        assert!(notes.contains("disables typo.sh, which does not exist"), "{notes}");
    }

    #[test]
    fn what_follows_the_decision_is_run_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (path, after) in [
            ("usr/lib/greenboot/red.d/1.sh", "echo no; exit 3"),
            ("etc/greenboot/red.d/2.sh", ""),
            ("etc/greenboot/green.d/3.sh", ""),
        ] {
            let text = format!("echo ${{0##*/}} >> {}/ran\n{after}\n", root.display());
            script(root, path, &text, 0o644);
        }
        let ran = || std::fs::read_to_string(root.join("ran")).unwrap();
        assert_eq!(run_hooks(root, true, Duration::from_mins(1)), Vec::<String>::new());
        assert_eq!(ran(), "3.sh\n");
        let notes = run_hooks(root, false, Duration::from_mins(1));
        assert_eq!(ran(), "3.sh\n1.sh\n2.sh\n");
        assert!(notes[0].contains("red.d/1.sh exited with 3") && notes[1] == "  no", "{notes:?}");
        assert_eq!(notes.len(), 2);
    }
}

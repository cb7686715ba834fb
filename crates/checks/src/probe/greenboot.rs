//! The image's own greenboot checks: every script in `required.d` must pass; those in `wanted.d` are only
//! reported.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Budget, Finding};
use crate::exec;

/// The folders of greenboot's scripts, in greenboot's order.
const FOLDERS: [&str; 2] = ["etc/greenboot/check", "usr/lib/greenboot/check"];
/// Maximum number of scripts of one kind that are run.
const MOST: usize = 256;

pub(crate) fn look(root: &Path, budget: Budget) -> Finding {
    let (required, wanted) = (scripts(root, "required.d"), scripts(root, "wanted.d"));
    if required.is_empty() && wanted.is_empty() {
        let folders = FOLDERS.map(|folder| format!("/{folder}"));
        return Finding::image(format!("no greenboot check in {}", folders.join(" and ")), Vec::new());
    }
    let end = std::time::Instant::now() + budget.whole();
    let left = || end.saturating_duration_since(std::time::Instant::now());
    for script in &required {
        if let Err((what, output)) = run(script, left()) {
            return Finding::image(format!("required greenboot check {what}"), output);
        }
    }
    let mut notes = vec![format!("{} required greenboot checks passed", required.len())];
    for script in &wanted {
        // Reported only: it must not use up the time of the required scripts.
        if let Err((what, output)) = run(script, left().min(budget.one_look())) {
            notes.push(format!("wanted greenboot check {what}"));
            notes.extend(output.into_iter().map(|line| format!("  {line}")));
        }
    }
    Finding::HoldsWith(notes)
}

/// The executable files of a kind, sorted by name in each folder.
fn scripts(root: &Path, kind: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder).join(kind)) else { continue };
        let runs = |path: &PathBuf| {
            std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
        };
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(runs).collect();
        found.sort();
        all.extend(found);
    }
    all.truncate(MOST);
    all
}

fn run(script: &Path, limit: std::time::Duration) -> Result<(), (String, Vec<String>)> {
    let shown = script.display();
    match exec::run(&[shown.to_string()], limit) {
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
        script(root, "usr/lib/greenboot/check/required.d/20_b.sh", "#!/bin/sh\n", 0o755);
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
}

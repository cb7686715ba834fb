//! What of a repository has no counterpart in its source: for the list at the end of `init --from FOLDER`.

use std::path::{Path, PathBuf};

use super::context::exists;
use super::convert::Converted;
use super::repository::LeftOut;

/// The largest file that is searched for build commands, in bytes.
const MAX_SCRIPT: u64 = 256 * 1024;
/// Files that may hold build commands.
const SCRIPTS: [&str; 4] = ["justfile", "makefile", ".justfile", "taskfile.yml"];
/// Arguments of build commands, and of actions that build.
const ARGUMENTS: [&str; 4] = ["--build-arg", "build-args:", "build_args:", "--build-context"];

/// What a Containerfile needs that is not in the source.
pub(super) fn of(top: &Path, path: &Path, context: &Path, converted: &Converted) -> Vec<LeftOut> {
    let mut found = Vec::new();
    for (line, source) in &converted.sources {
        if !exists(&top.join(context), source) {
            let reason =
                format!("`{source}` is not in the repository; commit it, or let the Containerfile fetch it");
            found.push(LeftOut::new(path, *line, reason));
        }
    }
    for instruction in converted.instructions.iter().filter(|instruction| instruction.keyword == "RUN") {
        for mount in instruction.words.iter().filter_map(|word| word.strip_prefix("--mount=")) {
            let options: Vec<&str> = mount.split(',').collect();
            if options.contains(&"type=secret") {
                let id = options.iter().find_map(|option| option.strip_prefix("id=")).unwrap_or("ID");
                let reason = format!(
                    "the secret `{id}`: declare it in `secrets` of the step, and name its file in the server's settings"
                );
                found.push(LeftOut::new(path, instruction.line, reason));
            } else if options.contains(&"type=ssh") {
                found.push(LeftOut::new(path, instruction.line, "the ssh agent: use a secret instead"));
            }
        }
    }
    found
}

/// Build arguments in scripts and workflows, recipes of other programs, submodules.
pub(super) fn scan(top: &Path, files: &[PathBuf], left_out: &mut Vec<LeftOut>) {
    for path in files {
        let name = path.to_string_lossy().to_lowercase();
        let file = name.rsplit('/').next().unwrap_or_default();
        let extension = file.rsplit_once('.').map(|(_, extension)| extension);
        let is_yaml = matches!(extension, Some("yml" | "yaml"));
        let is_script = SCRIPTS.contains(&file)
            || matches!(extension, Some("just" | "sh"))
            || (is_yaml && (name.starts_with(".github/") || file.starts_with(".gitlab-ci")));
        if !(is_yaml || is_script || name == ".gitmodules") {
            continue;
        }
        let size = std::fs::symlink_metadata(top.join(path)).map_or(0, |metadata| metadata.len());
        if size > MAX_SCRIPT {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(top.join(path)) else { continue };
        if is_script {
            let lines = (1..).zip(text.lines());
            let with = lines.filter(|(_, line)| ARGUMENTS.iter().any(|argument| line.contains(argument)));
            let reason = "build arguments: write them in `args` of the step, or as defaults";
            left_out.extend(with.map(|(line, _)| LeftOut::new(path, line, reason)));
        }
        let has = |key: &str| text.lines().position(|line| line.starts_with(key));
        if let (true, Some(line), Some(_)) = (is_yaml, has("base-image:"), has("modules:")) {
            let reason =
                "a recipe of BlueBuild: commit the Containerfile that `bluebuild generate` makes of it";
            left_out.push(LeftOut::new(path, line + 1, reason));
        }
        if name == ".gitmodules" {
            let lines =
                (1..).zip(text.lines()).filter(|(_, line)| line.trim_start().starts_with("[submodule"));
            let reason = "a submodule: its checked-out files were copied, its commit is not followed";
            left_out.extend(lines.map(|(line, _)| LeftOut::new(path, line, reason)));
        }
    }
}

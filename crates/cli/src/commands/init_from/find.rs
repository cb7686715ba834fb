//! The Containerfiles of a repository, and the names of the images that they build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgewright_model::containerfile::{is_preprocessed, preprocess_hint};

use super::repository::LeftOut;

/// The image of the Containerfile at the top of a repository.
const TOP: &str = "system";
/// The usual names of Containerfiles.
const NAMES: [&str; 2] = ["containerfile", "dockerfile"];
/// Endings behind those names of files that are no Containerfiles.
const OTHERS: [&str; 10] =
    ["containerignore", "dockerignore", "md", "txt", "license", "orig", "bak", "swp", "rej", "sh"];
/// Endings of templates of other programs.
const TEMPLATES: [&str; 6] = ["j2", "jinja", "jinja2", "tmpl", "tpl", "erb"];
/// The longest name of an image.
const LONGEST_NAME: usize = 63;

/// The Containerfiles among the files of a repository, by path, with the names of their images.
pub(super) fn find(top: &Path, files: &[PathBuf], left_out: &mut Vec<LeftOut>) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for path in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(suffix) = suffix(&name) else { continue };
        if path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".")) {
            left_out.push(LeftOut::new(path, 1, "a Containerfile in a hidden folder"));
        } else if is_preprocessed(&name) {
            let reason =
                format!("podman runs it through cpp, Edgewright does not; {}", preprocess_hint(&name));
            left_out.push(LeftOut::new(path, 1, reason));
        } else if TEMPLATES.iter().any(|ending| suffix.ends_with(ending)) {
            left_out.push(LeftOut::new(path, 1, "a template of a Containerfile: commit what it renders to"));
        } else if std::fs::symlink_metadata(top.join(path)).is_ok_and(|metadata| metadata.is_symlink()) {
            // What it leads to is found by itself.
            left_out.push(LeftOut::new(path, 1, "a link to a Containerfile"));
        } else {
            found.insert(path.clone(), suffix);
        }
    }
    named(found)
}

/// What a file's name adds to the name of its folder; `None` if it is no Containerfile.
fn suffix(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    for known in NAMES {
        if let Some(rest) = name.strip_prefix(known) {
            let suffix = rest.strip_prefix(['.', '-', '_']);
            let ending = rest.rsplit('.').next().unwrap_or_default();
            return match suffix {
                _ if rest.is_empty() => Some(String::new()),
                Some(suffix) if !OTHERS.contains(&ending) => Some(suffix.to_owned()),
                _ => None,
            };
        }
        let stem = name.strip_suffix(known).and_then(|rest| rest.strip_suffix('.'));
        // `x.containerfile.in` is one, too, so that it is reported.
        let stem = stem.or_else(|| name.strip_suffix(".in")?.strip_suffix(known)?.strip_suffix('.'));
        if let Some(stem) = stem.filter(|stem| !stem.is_empty()) {
            return Some(stem.to_owned());
        }
    }
    None
}

/// The name of each image: its folder and what the file's name adds; further folders where that is not
/// unique.
fn named(found: BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    let mut names: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (path, suffix) in found {
        let folders: Vec<String> = path
            .parent()
            .into_iter()
            .flat_map(Path::components)
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        let candidates = (1..=folders.len().max(1)).map(|depth| {
            let mut parts: Vec<&str> = folders[folders.len().saturating_sub(depth)..]
                .iter()
                .map(String::as_str)
                .filter(|folder| *folder != suffix)
                .collect();
            parts.extend(Some(suffix.as_str()).filter(|suffix| !suffix.is_empty()));
            image_name(&if parts.is_empty() { TOP.to_owned() } else { parts.join("-") })
        });
        let mut candidates: Vec<String> = candidates.collect();
        let last = candidates.last().cloned().unwrap_or_default();
        candidates.extend((2..1000).map(|number| image_name(&format!("{number}-{last}"))));
        let free = candidates.into_iter().find(|name| !names.values().any(|taken| taken == name));
        names.insert(path, free.unwrap_or(last));
    }
    names
}

/// A text as a valid name: what is not allowed becomes a dash.
pub(super) fn image_name(text: &str) -> String {
    let mut name = String::new();
    for letter in text.to_lowercase().chars() {
        let letter = if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' };
        if name.len() < LONGEST_NAME && !(letter == '-' && (name.is_empty() || name.ends_with('-'))) {
            name.push(letter);
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { TOP.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_after_folder_and_file() {
        let files = [
            ("Containerfile", Some("system")),
            ("Containerfile.nvidia", Some("nvidia")),
            ("Containerfile-caddy", Some("caddy")),
            ("Dockerfile", Some("system")),
            ("web.containerfile", Some("web")),
            ("nvidia/Containerfile", Some("nvidia")),
            ("examples/wifi/Containerfile", Some("wifi")),
            ("a/GPU Box/Dockerfile.Dev_x", Some("gpu-box-dev-x")),
            ("x/x.Containerfile", Some("x")),
            ("Containerfile.dockerignore", None),
            ("Dockerfile.md", None),
            ("MyContainerfiles", None),
            (".containerfile", None),
            ("containerfiles/README", None),
        ];
        for (path, want) in files {
            let name = path.rsplit('/').next().unwrap();
            let found = suffix(name).map(|suffix| (PathBuf::from(path), suffix));
            let names: Vec<String> = named(found.into_iter().collect()).into_values().collect();
            assert_eq!(names.first().map(String::as_str), want, "{path}");
        }
    }

    #[test]
    fn names_are_unique_and_valid() {
        let long = format!("{}/Containerfile", "é".repeat(200));
        let paths = ["a/x/Containerfile", "b/x/Containerfile", "b/x/Dockerfile", "x.containerfile", &long];
        let found = paths.map(|path| {
            let name = path.rsplit('/').next().unwrap();
            (PathBuf::from(path), suffix(name).unwrap())
        });
        let names = named(found.into_iter().collect());
        let names: Vec<&str> = names.values().map(String::as_str).collect();
        assert_eq!(names, ["x", "b-x", "2-b-x", "2-x", "system"]);
    }
}

//! `init --from`: a source around an existing Containerfile. Its base becomes an image of the source, so that
//! it is locked and checked for updates; the Containerfile starts from that image's digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgewright_model::containerfile::{instructions, root, stages};
use edgewright_model::error::ErrorClass;
use edgewright_model::reference::ImageReference;

use crate::exit::{End, Failure};
use crate::output;

/// The image that the Containerfile builds.
const IMAGE: &str = "system";

/// Writes a source into an empty or new folder.
pub(crate) async fn init(containerfile: &Path, dir: &Path) -> Result<End, Failure> {
    let write = {
        let (containerfile, dir) = (containerfile.to_owned(), dir.to_owned());
        move || write(&containerfile, &dir)
    };
    let converted = super::blocking(write).await??;
    super::init::commit(dir, "Start from a Containerfile").await?;
    output::note(&format!(
        "{0} is a git repository with the images `base` ({1}) and `{IMAGE}` (your Containerfile).\n\n\
         Next:\n  cd {0}\n  edgewright check   check its files\n  \
         edgewright run     build, test and release it once",
        dir.display(),
        converted.base
    ));
    Ok(End::Good)
}

/// Writes all files of the source.
fn write(containerfile: &Path, dir: &Path) -> Result<Converted, Failure> {
    super::init::refuse_occupied(dir)?;
    let text = std::fs::read_to_string(containerfile)
        .map_err(|error| Failure::file("cannot read", containerfile, &error))?;
    let converted = convert(&text)?;
    let name = dir.canonicalize().ok().or_else(|| std::path::absolute(dir).ok());
    let name = name.and_then(|dir| edgewright_server::settings::name_of(&dir.display().to_string()));
    let name = name.map_or_else(|| "my-os".to_owned(), |name| name.to_string());
    let context =
        containerfile.canonicalize().map_err(|error| Failure::file("cannot read", containerfile, &error))?;
    let context = context.parent().map(Path::to_owned).unwrap_or_default();
    if resolved(dir).is_some_and(|dir| dir.starts_with(&context)) {
        let message = format!("{} is in the Containerfile's own folder, which is copied", dir.display());
        return Err(Failure::new(ErrorClass::UserFault, message).hint("name a folder outside of it"));
    }
    let image = dir.join("images").join(IMAGE);
    copy(&context, &image)?;
    let own = image.join(containerfile.file_name().unwrap_or_default());
    let _ = std::fs::remove_file(&own);
    // Ignore files that are named after the Containerfile are renamed with it.
    for suffix in ["containerignore", "dockerignore"] {
        let beside = |path: &Path| PathBuf::from(format!("{}.{suffix}", path.display()));
        let _ = std::fs::rename(beside(&own), beside(&image.join("Containerfile")));
    }
    put(&dir.join("edgewright.yaml"), &format!("edgewright: 1\nname: {name}\n"))?;
    put(&dir.join("images/base/image.yaml"), &format!("from: {}\ntest: none\n", converted.base))?;
    put(&image.join("Containerfile"), &converted.text)?;
    put(
        &image.join("image.yaml"),
        "from: base\nsteps:\n  - containerfile: Containerfile\nchecks:\n  - {id: system-up, systemd: running, timeout: 120s}\n",
    )?;
    Ok(converted)
}

/// The absolute path of a folder that may not exist yet, without `..` and links.
fn resolved(dir: &Path) -> Option<PathBuf> {
    let existing = dir.ancestors().find_map(|folder| {
        // The parent of a relative path is an empty one.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Some((folder, folder.canonicalize().ok()?))
    });
    let (folder, resolved) = existing?;
    Some(resolved.join(dir.strip_prefix(folder).unwrap_or(dir)))
}

/// A Containerfile whose final stage starts from `${BASE}`.
struct Converted {
    base: ImageReference,
    text: String,
}

/// The argument that names the step before.
const BASE: &str = "BASE";

fn convert(text: &str) -> Result<Converted, Failure> {
    let refuse =
        |message: String, hint: &str| Failure::new(ErrorClass::UserFault, message).hint(hint.to_owned());
    let instructions = instructions(text);
    let stages = stages(&instructions);
    // The built stage may start from an earlier one: the first of that chain has the external base.
    let last = stages.len().checked_sub(1).and_then(|last| root(&stages, last));
    let (Some(stage), Some(first)) = (last, stages.first()) else {
        return Err(refuse("the Containerfile has no FROM".to_owned(), "name the file of a whole image"));
    };
    let global = instructions.iter().take_while(|instruction| instruction.keyword != "FROM");
    let arguments: BTreeMap<&str, &str> = global
        .filter(|instruction| instruction.keyword == "ARG")
        .flat_map(|instruction| &instruction.words)
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(name, value)| (name, value.trim_matches(['"', '\''])))
        .collect();
    let line = stage.line;
    let from = expanded(&stage.from, &arguments);
    if from == "scratch" || from.is_empty() || from.contains('$') {
        let message =
            format!("line {line}: the final stage starts from `{}`, which is not an image", stage.from);
        return Err(refuse(
            message,
            "write the image that it starts from with its full host, such as quay.io/fedora/fedora-bootc:42",
        ));
    }
    let host = from.split('/').next().unwrap_or_default();
    if !from.contains('/') || !(host.contains(['.', ':']) || host == "localhost") {
        let message =
            format!("line {line}: `{from}` is a short name: which registry it means depends on the host");
        return Err(Failure::new(ErrorClass::UserFault, message)
            .hint(format!("write the full host, such as docker.io/library/{from} or quay.io/NAME/{from}")));
    }
    let base: ImageReference = from.parse().map_err(|error| {
        refuse(format!("line {line}: {error}"), "write HOST/NAME:TAG or HOST/NAME@DIGEST")
    })?;
    let is_declared = arguments.contains_key(BASE);
    let starts_from_base = matches!(stage.from.as_str(), "$BASE" | "${BASE}");
    if is_declared && !starts_from_base {
        let message = "the Containerfile has an argument BASE for something else".to_owned();
        return Err(refuse(message, "rename it: Edgewright gives the image of the step before in BASE"));
    }
    let mut out = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        // An argument that a FROM uses is declared before the first one.
        if number == first.line && !is_declared {
            out.push_str("ARG BASE\n");
        }
        if starts_from_base || !(stage.line..=stage.last).contains(&number) {
            out.push_str(line);
        } else if line.contains(&stage.from) {
            out.push_str(&line.replacen(&stage.from, "${BASE}", 1));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    Ok(Converted { base, text: out })
}

/// A text with `$NAME`, `${NAME}` and `${NAME:-DEFAULT}` replaced by the arguments' defaults; others are
/// kept.
fn expanded(text: &str, arguments: &BTreeMap<&str, &str>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let (inside, behind) = braced.unwrap_or_else(|| after.split_at(end));
        let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, it)| (name, Some(it)));
        match arguments.get(name).copied().filter(|value| !value.is_empty()).or(default) {
            Some(value) => out.push_str(value),
            None => out.extend(["$", &after[..after.len() - behind.len()]]),
        }
        rest = behind;
    }
    out + rest
}

/// Copies a folder, links as links, without `.git`.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut folders: Vec<(PathBuf, PathBuf)> = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        std::fs::create_dir_all(&to).map_err(|error| Failure::file("cannot create", &to, &error))?;
        let entries =
            std::fs::read_dir(&from).map_err(|error| Failure::file("cannot read", &from, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Failure::file("cannot read", &from, &error))?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().map_err(|error| Failure::file("cannot read", &source, &error))?;
            let copied = if kind.is_dir() {
                if entry.file_name() != ".git" {
                    folders.push((source, target));
                }
                continue;
            } else if kind.is_symlink() {
                std::fs::read_link(&source).and_then(|link| std::os::unix::fs::symlink(link, &target))
            } else if kind.is_file() {
                std::fs::copy(&source, &target).map(drop)
            } else {
                let message = format!("{} is not a file, a folder or a link", source.display());
                return Err(Failure::new(ErrorClass::UserFault, message)
                    .hint("move it out of the Containerfile's folder"));
            };
            copied.map_err(|error| Failure::file("cannot copy", &source, &error))?;
        }
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| Failure::file("cannot create", folder, &error))?;
    std::fs::write(path, text).map_err(|error| Failure::file("cannot write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_do_not_exist_yet_are_resolved() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("old")).unwrap();
        assert_eq!(resolved(&root.join("old/../new/deb")).unwrap(), root.join("new/deb"));
        assert_eq!(resolved(&root.join("old/deb")).unwrap(), root.join("old/deb"));
        assert_eq!(resolved(Path::new("no-such")).unwrap(), std::env::current_dir().unwrap().join("no-such"));
    }

    #[test]
    fn the_final_stage_starts_from_base() {
        for (text, base, want) in [
            ("FROM quay.io/a/b:1\nRUN x\n", "quay.io/a/b:1", "ARG BASE\nFROM ${BASE}\nRUN x\n"),
            (
                "# c\nARG V=1\nFROM golang:${V} AS build\nRUN go\nFROM --platform=linux/amd64 localhost:5000/x/y:2 AS final\n",
                "localhost:5000/x/y:2",
                "# c\nARG V=1\nARG BASE\nFROM golang:${V} AS build\nRUN go\nFROM --platform=linux/amd64 ${BASE} AS final\n",
            ),
            (
                "from docker.io/library/debian:trixie as one\nFROM one\n",
                "docker.io/library/debian:trixie",
                "ARG BASE\nfrom ${BASE} as one\nFROM one\n",
            ),
            (
                "ARG REG=quay.io TAG=\"42\"\nFROM ${REG}/fedora/fedora-bootc:$TAG\n",
                "quay.io/fedora/fedora-bootc:42",
                "ARG REG=quay.io TAG=\"42\"\nARG BASE\nFROM ${BASE}\n",
            ),
            ("ARG V\nFROM quay.io/a/b:${V:-9}\n", "quay.io/a/b:9", "ARG V\nARG BASE\nFROM ${BASE}\n"),
            ("ARG BASE=quay.io/a/b:1\nFROM $BASE\n", "quay.io/a/b:1", "ARG BASE=quay.io/a/b:1\nFROM $BASE\n"),
            (
                "FROM \\\n  --platform=linux/amd64 \\\n  quay.io/a/b:1 \\\n  AS x\nRUN <<EOF\nFROM no\nEOF\n",
                "quay.io/a/b:1",
                "ARG BASE\nFROM \\\n  --platform=linux/amd64 \\\n  ${BASE} \\\n  AS x\nRUN <<EOF\nFROM no\nEOF\n",
            ),
        ] {
            let converted = convert(text).unwrap_or_else(|failure| panic!("{text}: {failure}"));
            assert_eq!((converted.base.to_string().as_str(), converted.text.as_str()), (base, want));
        }
        for (text, want) in [
            ("FROM fedora:42\n", "short name"),
            ("FROM library/debian\n", "short name"),
            ("FROM scratch\n", "which is not an image"),
            ("FROM ${IMAGE}\n", "which is not an image"),
            ("ARG IMAGE\nFROM $IMAGE\n", "which is not an image"),
            ("RUN x\n", "no FROM"),
            ("RUN <<X\nFROM quay.io/a/b\nX\n", "no FROM"),
            ("ARG BASE=x\nFROM golang:$BASE AS a\nFROM quay.io/a/b\n", "for something else"),
        ] {
            let Err(failure) = convert(text) else { panic!("{text}") };
            assert!(format!("{failure:?}").contains(want), "{failure:?}");
        }
    }
}

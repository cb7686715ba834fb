//! `init --from`: a source around a Containerfile that exists. Its first base becomes an image of the source, so that it is
//! locked and watched; the Containerfile starts from that image's digest.

use std::path::{Path, PathBuf};

use edgewright_model::error::ErrorClass;
use edgewright_model::reference::ImageReference;

use crate::exit::{End, Failure};
use crate::output;

/// The image that the Containerfile makes.
const IMAGE: &str = "system";

/// Writes a source into an empty or new folder.
pub(crate) async fn init(containerfile: &Path, dir: &Path) -> Result<End, Failure> {
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
    let inside = std::path::absolute(dir).is_ok_and(|dir| dir.starts_with(&context));
    if inside {
        let message = format!("{} lies in the Containerfile's own folder, which is copied", dir.display());
        return Err(Failure::new(ErrorClass::UserFault, message).hint("name a folder beside it"));
    }
    let image = dir.join("images").join(IMAGE);
    copy(&context, &image)?;
    let _ = std::fs::remove_file(image.join(containerfile.file_name().unwrap_or_default()));
    put(&dir.join("edgewright.yaml"), &format!("edgewright: 1\nname: {name}\n"))?;
    put(&dir.join("images/base/image.yaml"), &format!("from: {}\ntest: none\n", converted.base))?;
    put(&image.join("Containerfile"), &converted.text)?;
    put(
        &image.join("image.yaml"),
        "from: base\nsteps:\n  - containerfile: Containerfile\nchecks:\n  - {id: system-up, systemd: running, within: 120s}\n",
    )?;
    super::init::commit(dir, "Start from a Containerfile").await?;
    output::note(&format!(
        "{0} is a git repository with the images `base` ({1}) and `{IMAGE}` (your Containerfile).\n\n\
         Next:\n  cd {0}\n  edgewright check           say all that is wrong with its files\n  \
         edgewright run             build, test and host it, once",
        dir.display(),
        converted.base
    ));
    Ok(End::Good)
}

/// A Containerfile whose final stage starts from `${BASE}`.
struct Converted {
    base: ImageReference,
    text: String,
}

/// A `FROM` line: the image, and the name of the stage.
struct Stage {
    line: usize,
    from: String,
    name: Option<String>,
}

fn convert(text: &str) -> Result<Converted, Failure> {
    let refuse =
        |message: String, hint: &str| Failure::new(ErrorClass::UserFault, message).hint(hint.to_owned());
    if text.contains("<<") {
        let hint = "write the here-document as a file and COPY it, or convert by hand: the final stage is FROM ${BASE}";
        return Err(refuse("a Containerfile with here-documents cannot be converted".to_owned(), hint));
    }
    let stages: Vec<Stage> = text.lines().enumerate().filter_map(|(line, text)| stage(line, text)).collect();
    let Some(mut stage) = stages.last() else {
        return Err(refuse("the Containerfile has no FROM".to_owned(), "name the file of a whole image"));
    };
    // The built stage may start from an earlier one: the first of that line is what starts from outside.
    while let Some(earlier) = stages.iter().rev().find(|it| {
        it.line < stage.line && it.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(&stage.from))
    }) {
        stage = earlier;
    }
    let line = stage.line + 1;
    let from = stage.from.trim_matches('"');
    if from == "scratch" || from.contains('$') {
        let message = format!("line {line}: the final stage starts from `{from}`, which is no image");
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
    let mut out = String::new();
    let first = stages.first().map_or(0, |stage| stage.line);
    for (index, line) in text.lines().enumerate() {
        // An argument that a FROM uses is declared before the first one.
        if index == first {
            out.push_str("ARG BASE\n");
        }
        if index == stage.line {
            out.push_str(&line.replacen(&stage.from, "${BASE}", 1));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    Ok(Converted { base, text: out })
}

fn stage(line: usize, text: &str) -> Option<Stage> {
    let mut words = text.split_whitespace();
    if !words.next()?.eq_ignore_ascii_case("from") {
        return None;
    }
    let mut words = words.filter(|word| !word.starts_with("--"));
    let from = words.next()?.to_owned();
    let name = words.next().filter(|word| word.eq_ignore_ascii_case("as")).and_then(|_| words.next());
    Some(Stage { line, from, name: name.map(str::to_owned) })
}

/// Copies a folder as it is, links as links; git's own folder stays out.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut folders: Vec<(PathBuf, PathBuf)> = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        std::fs::create_dir_all(&to).map_err(|error| Failure::file("cannot make", &to, &error))?;
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
                let message = format!("{} is neither file nor folder nor link", source.display());
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
    std::fs::create_dir_all(folder).map_err(|error| Failure::file("cannot make", folder, &error))?;
    std::fs::write(path, text).map_err(|error| Failure::file("cannot write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            let converted = convert(text).unwrap();
            assert_eq!((converted.base.to_string().as_str(), converted.text.as_str()), (base, want));
        }
        for (text, want) in [
            ("FROM fedora:42\n", "short name"),
            ("FROM library/debian\n", "short name"),
            ("FROM scratch\n", "which is no image"),
            ("FROM ${IMAGE}\n", "which is no image"),
            ("RUN x\n", "no FROM"),
            ("FROM quay.io/a/b\nRUN <<X\nX\n", "here-documents"),
        ] {
            let Err(failure) = convert(text) else { panic!("{text}") };
            assert!(format!("{failure:?}").contains(want), "{failure:?}");
        }
    }
}

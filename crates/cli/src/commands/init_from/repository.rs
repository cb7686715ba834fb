//! `init --from FOLDER`: a source around a whole repository: one image for each Containerfile.
//!
//! ```text
//! context/                      the repository; its Containerfiles start from ${BASE}
//! images/NAME/image.yaml        FROM became `from`; the step names file and context
//! images/NAME/context           a link to context/, which all images share
//! images/BASE/image.yaml        an image of a registry that Containerfiles start from
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::containerfile::Fault;
use edgewright_model::reference::ImageReference;
use edgewright_model::tree::{ContentId, Entry, EntryKind, TreePath, is_loaded};
use edgewright_process::Command;

use super::convert::{Base, Converted, convert};
use super::copy::{Selection, copy};
use super::find::{find, image_name};
use super::{context, notes, put};
use crate::exit::{End, Failure};
use crate::output;

/// The folder of the source with the repository's files.
const CONTEXT: &str = "context";
/// How long git may take to list the repository's files.
const LIST_TIMEOUT: Duration = Duration::from_mins(5);

/// What was not taken over, with its place in the repository.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LeftOut {
    path: String,
    line: usize,
    reason: String,
}

impl LeftOut {
    pub(super) fn new(path: &Path, line: usize, reason: impl Into<String>) -> Self {
        Self { path: path.display().to_string(), line, reason: reason.into() }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.reason)
    }
}

/// An image to be written.
struct Planned {
    name: String,
    converted: Converted,
    /// Its build context, relative to the repository.
    context: PathBuf,
}

/// Everything that was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Names of images, with the Containerfile or registry reference behind them.
    pub(super) images: Vec<(String, String)>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Writes a source into an empty or new folder.
pub(super) async fn init(repository: &Path, dir: &Path) -> Result<End, Failure> {
    let listed = listed(repository).await;
    let write = {
        let (repository, dir) = (repository.to_owned(), dir.to_owned());
        move || write(&repository, &dir, listed.as_ref())
    };
    let written = crate::commands::blocking(write).await??;
    crate::commands::init::commit(dir, "Start from a repository of Containerfiles").await?;
    output::note(&text(dir, &written));
    Ok(End::Good)
}

fn text(dir: &Path, written: &Written) -> String {
    let mut text = format!("{} is a git repository with the images:\n", dir.display());
    let width = written.images.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, from) in &written.images {
        let _ = writeln!(text, "  {name:width$}  {from}");
    }
    if !written.left_out.is_empty() {
        text.push_str("\nNot taken over:\n");
        for left_out in &written.left_out {
            let _ = writeln!(text, "  {left_out}");
        }
    }
    let _ = write!(
        text,
        "\nNext:\n  cd {}\n  edgewright check   check its files\n  edgewright run     build, test and release it once",
        dir.display()
    );
    text
}

/// The files of a repository that git does not ignore; `None` if it is not one, or git cannot read it.
async fn listed(folder: &Path) -> Option<BTreeSet<PathBuf>> {
    let command = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .cwd(folder)
        .deadline(LIST_TIMEOUT);
    let output = command.run().await.ok()?.stdout;
    let names = output.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Some(names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned())).collect())
}

/// Writes all files of the source.
pub(super) fn write(
    repository: &Path,
    dir: &Path,
    listed: Option<&BTreeSet<PathBuf>>,
) -> Result<Written, Failure> {
    crate::commands::init::refuse_occupied(dir)?;
    let top = repository.canonicalize().map_err(|error| Failure::file("cannot read", repository, &error))?;
    super::refuse_inside(dir, &top, "the repository")?;
    let files = Selection { listed }.files(&top)?;
    let mut left_out = Vec::new();
    let found = find(&top, &files, &mut left_out);
    let planned = plan(&top, &found, &mut left_out)?;
    notes::scan(&top, &files, &mut left_out);
    if planned.is_empty() {
        return Err(nothing(repository, &left_out));
    }
    let uncopied = copy(&top, &dir.join(CONTEXT), files, true)?;
    left_out.extend(uncopied.iter().map(|(path, reason)| LeftOut::new(path, 1, format!("it {reason}"))));
    let bases = bases(&planned);
    let mut images = Vec::new();
    for (reference, name) in &bases {
        put(&dir.join("images").join(name).join("image.yaml"), &format!("from: {reference}\ntest: none\n"))?;
        images.push((name.clone(), reference.to_string()));
    }
    for (path, image) in &planned {
        put_image(dir, path, image, &bases)?;
        images.push((image.name.clone(), path.display().to_string()));
    }
    put(&dir.join("edgewright.yaml"), &format!("edgewright: 1\nname: {}\n", super::source_name(dir)))?;
    left_out.sort();
    left_out.dedup();
    Ok(Written { images, left_out })
}

/// Converts the Containerfiles. Those that cannot be are left out, and so is what starts from them.
fn plan(
    top: &Path,
    found: &BTreeMap<PathBuf, String>,
    left_out: &mut Vec<LeftOut>,
) -> Result<BTreeMap<PathBuf, Planned>, Failure> {
    let mut left: BTreeMap<&PathBuf, &String> = found.iter().collect();
    loop {
        let mut planned = BTreeMap::new();
        let mut faults: Vec<(&PathBuf, Fault)> = Vec::new();
        for (path, name) in &left {
            let text = std::fs::read(top.join(path))
                .map_err(|error| Failure::file("cannot read", &top.join(path), &error))?;
            let is_local = |other: &str| other != name.as_str() && left.values().any(|name| *name == other);
            match converted(&text, is_local) {
                Ok(converted) => {
                    let context = context::choose(top, path, &converted.sources);
                    let name = (*name).clone();
                    planned.insert((*path).clone(), Planned { name, converted, context });
                }
                Err(fault) => faults.push((path, fault)),
            }
        }
        faults.extend(circle(&planned).and_then(|path| {
            let hint = "let one of them start from an image of a registry".to_owned();
            let message = "the Containerfiles start from each other".to_owned();
            Some((left.get_key_value(&path)?.0, Fault { line: 1, message, hint }))
                .map(|(path, fault)| (*path, fault))
        }));
        if faults.is_empty() {
            for (path, image) in &planned {
                left_out.extend(notes::of(top, path, &image.context, &image.converted));
            }
            return Ok(planned);
        }
        for (path, Fault { line, message, hint }) in faults {
            left_out.push(LeftOut::new(path, line, format!("{message}; {hint}")));
            left.remove(path);
        }
    }
}

fn converted(bytes: &[u8], is_local: impl Fn(&str) -> bool) -> Result<Converted, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault {
        line: 1,
        message: "the Containerfile is not UTF-8".to_owned(),
        hint: "save it as UTF-8".to_owned(),
    })?;
    convert(text, is_local)?.checked()
}

/// A Containerfile that starts from itself through other ones.
fn circle(planned: &BTreeMap<PathBuf, Planned>) -> Option<PathBuf> {
    let by_name: BTreeMap<&str, &Planned> =
        planned.values().map(|image| (image.name.as_str(), image)).collect();
    let leads_back = |start: &Planned| {
        let mut next = start;
        for _ in 0..planned.len() {
            let Base::Local(name) = &next.converted.base else { return false };
            match by_name.get(name.as_str()) {
                Some(image) if image.name == start.name => return true,
                Some(image) => next = image,
                None => return false,
            }
        }
        false
    };
    planned.iter().find(|(_, image)| leads_back(image)).map(|(path, _)| path.clone())
}

/// The images of registries that Containerfiles start from, with their names in the source: `base` if there
/// is one only.
fn bases(planned: &BTreeMap<PathBuf, Planned>) -> BTreeMap<ImageReference, String> {
    let mut taken: BTreeSet<String> = planned.values().map(|image| image.name.clone()).collect();
    let references: BTreeSet<&ImageReference> = planned
        .values()
        .filter_map(|image| match &image.converted.base {
            Base::External(reference) => Some(reference),
            Base::Local(_) => None,
        })
        .collect();
    let is_one = references.len() == 1 && !taken.contains("base");
    let mut bases = BTreeMap::new();
    for reference in references {
        let last = reference.repository.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        let tag = reference.tag.as_ref().map(|tag| format!("-{}", tag.as_str())).unwrap_or_default();
        let name = if is_one { "base".to_owned() } else { image_name(&format!("{last}{tag}")) };
        let others = (2..1000).map(|number| image_name(&format!("{number}-{name}")));
        let free = [name.clone(), image_name(&format!("base-{name}"))].into_iter().chain(others);
        let name = free.into_iter().find(|name| !taken.contains(name)).unwrap_or(name);
        taken.insert(name.clone());
        bases.insert(reference.clone(), name);
    }
    bases
}

fn put_image(
    dir: &Path,
    path: &Path,
    image: &Planned,
    bases: &BTreeMap<ImageReference, String>,
) -> Result<(), Failure> {
    let folder = dir.join("images").join(&image.name);
    let from = match &image.converted.base {
        Base::External(reference) => bases.get(reference).map_or("base", String::as_str),
        Base::Local(name) => name,
    };
    let top = Path::new(CONTEXT);
    // Joined with an empty path it would end with a slash.
    let context: PathBuf = top.components().chain(image.context.components()).collect();
    let inside = Path::new(CONTEXT).join(path);
    // A file with a name that planning does not read is put beside the definition.
    let file = if is_read(&inside, image.converted.text.len()) {
        put(&dir.join(&inside), &image.converted.text)?;
        inside
    } else {
        put(&folder.join("Containerfile"), &image.converted.text)?;
        PathBuf::from("Containerfile")
    };
    let quoted = |path: &Path| {
        // JSON strings are YAML.
        serde_json::to_string(&path.display().to_string()).unwrap_or_default()
    };
    let text = format!(
        "from: {from}\nsteps:\n  - containerfile:\n      file: {}\n      context: {}\nchecks:\n  - {{id: system-up, systemd: running, timeout: 120s}}\n",
        quoted(&file),
        quoted(&context)
    );
    put(&folder.join("image.yaml"), &text)?;
    let link = folder.join(CONTEXT);
    std::os::unix::fs::symlink(Path::new("../..").join(CONTEXT), &link)
        .map_err(|error| Failure::file("cannot create", &link, &error))
}

/// Whether planning reads a file of this name and size.
fn is_read(path: &Path, size: usize) -> bool {
    let path = path.to_str().and_then(|path| path.parse::<TreePath>().ok());
    let entry = Entry { kind: EntryKind::File, content: ContentId::new(""), size: size as u64 };
    path.is_some_and(|path| is_loaded(&path, &entry))
}

/// The error of a repository that makes no image.
fn nothing(repository: &Path, left_out: &[LeftOut]) -> Failure {
    let mut message = format!("{} has no Containerfile that can be taken over", repository.display());
    for left_out in left_out {
        let _ = write!(message, "\n  {left_out}");
    }
    Failure::user(message).hint("name the folder that holds Containerfiles, or one of them")
}

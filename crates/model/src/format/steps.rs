//! `steps:` of an image.

mod declared;

use super::decode::Input;
use super::paths::{self, Want};
use super::shape;
use super::yaml::{Data, Key, Node};
use crate::spec::{BootstrapStep, ContainerfileStep, FileRules, FilesStep, SecretRef, Step};
use crate::tree::TreePath;

/// One step.
pub(super) fn decode(input: &mut Input<'_>, node: &Node) -> Option<Step> {
    let fields = input.record(node, &shape::STEP)?;
    if let Some(node) = fields.get("bootstrap") {
        return bootstrap(input, node).map(Step::Bootstrap);
    }
    if let Some(node) = fields.get("containerfile") {
        return containerfile_step(input, node).map(Step::Containerfile);
    }
    files(input, fields.get("files")?).map(Step::Files)
}

fn bootstrap(input: &mut Input<'_>, node: &Node) -> Option<BootstrapStep> {
    let fields = input.record(node, &shape::BOOTSTRAP)?;
    let suite = fields.get("suite").and_then(|node| input.word(node, "suite"));
    let mirror = fields.get("mirror").and_then(|node| address(input, node));
    let packages = input.list(fields.get("packages"), |input, node| input.word(node, "package name"));
    let mut components = input.list(fields.get("components"), |input, node| input.word(node, "component"));
    if components.is_empty() {
        components.push("main".to_owned());
    }
    let sources = input.list(fields.get("sources"), source_line);
    let keys = input.list(fields.get("keys"), |input, node| input.repository_path(node, Want::File));
    Some(BootstrapStep { suite: suite?, packages, mirror, components, sources, keys })
}

/// The address of a package mirror.
fn address(input: &mut Input<'_>, node: &Node) -> Option<String> {
    let text = input.word(node, "mirror")?;
    let known = ["http://", "https://", "file:///"].iter().any(|scheme| text.starts_with(scheme));
    if !known {
        let message = format!("invalid mirror `{}`: not a URL", text.escape_debug());
        input.error(node.place, message, "write a URL with http://, https:// or file:///");
        return None;
    }
    Some(text)
}

fn source_line(input: &mut Input<'_>, node: &Node) -> Option<String> {
    let line = input.line(node)?;
    if !line.starts_with("deb ") {
        let hint = "write the one-line format: deb [OPTIONS] ADDRESS SUITE COMPONENT…";
        input.error(node.place, format!("invalid sources.list line `{}`", line.escape_debug()), hint);
        return None;
    }
    Some(line)
}

fn containerfile_step(input: &mut Input<'_>, node: &Node) -> Option<ContainerfileStep> {
    const DEFAULT_FILE: &str = "Containerfile";
    if !matches!(node.data, Data::Map(_)) {
        let file = input.repository_path(node, Want::SmallFile)?;
        let context = file.parent()?;
        unusable(input, node, &context);
        unread(input, node, &file);
        return Some(ContainerfileStep {
            file,
            context,
            args: std::collections::BTreeMap::new(),
            target: None,
            secrets: Vec::new(),
            refresh: None,
            images: std::collections::BTreeMap::new(),
        });
    }
    let fields = input.record(node, &shape::CONTAINERFILE)?;
    let file = match fields.get("file") {
        Some(node) => input.repository_path(node, Want::SmallFile),
        None => input.resolve(DEFAULT_FILE, node.place, Want::SmallFile),
    };
    let context = match fields.get("context") {
        Some(node) => input.repository_path(node, Want::Folder),
        None => file.as_ref().and_then(TreePath::parent),
    };
    if let Some(context) = &context {
        unusable(input, fields.get("context").unwrap_or(node), context);
    }
    let args = input.map(fields.get("args"), |input, key, value| {
        if !is_argument(&key.text) {
            let message = format!("invalid build argument `{}`", key.text.escape_debug());
            input.error(key.place, message, "use letters, digits and `_`, not starting with a digit");
            return None;
        }
        if key.text == "BASE" {
            input.error(
                key.place,
                "the build argument `BASE` is reserved",
                "remove it: Edgewright sets BASE to the digest of the previous step",
            );
            return None;
        }
        Some((key.text.clone(), input.any_text(value)?))
    });
    let target = fields.get("target").and_then(|node| input.word(node, "stage name"));
    if let Some(file) = &file {
        unread(input, fields.get("file").unwrap_or(node), file);
    }
    let secrets = input.list(fields.get("secrets"), |input, node| {
        let fields = input.record(node, &shape::SECRET)?;
        let id = fields.get("id").and_then(|node| input.word(node, "secret id"));
        let version = fields.get("version").and_then(|node| input.word(node, "version"));
        Some(SecretRef { id: id?, version: version? })
    });
    let refresh = fields.get("refresh").and_then(|node| input.span(node));
    let images = std::collections::BTreeMap::new();
    Some(ContainerfileStep { file: file?, context: context?, args, target, secrets, refresh, images })
}

fn is_argument(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().all(word) && text.as_bytes().first().is_some_and(|b| !b.is_ascii_digit())
}

fn files(input: &mut Input<'_>, node: &Node) -> Option<FilesStep> {
    let (path_node, fields) = if matches!(node.data, Data::Map(_)) {
        let fields = input.record(node, &shape::FILES)?;
        (fields.get("path"), Some(fields))
    } else {
        (Some(node), None)
    };
    let path = path_node.map(|node| {
        let path = input.repository_path(node, Want::Folder)?;
        if Some(&path) == input.file.parent().as_ref() {
            let hint = "move the files into a separate folder, such as files/";
            input.error(
                node.place,
                "invalid folder: it is the image's own folder, with its definition",
                hint,
            );
            return None;
        }
        unusable(input, node, &path);
        Some(path)
    });
    let get = |name| fields.as_ref().and_then(|fields| fields.get(name));
    if let (None, None, None) = (path_node, get("delete"), get("directories")) {
        let hint = "add `path: FOLDER`, `delete` or `directories`";
        input.error(node.place, "the files step is empty: it neither copies nor deletes anything", hint);
    }
    let rules = decode_rules(input, get);
    let path = path.map_or(Some(None), |path| path.map(Some))?;
    Some(FilesStep { path, rules })
}

/// `files:` of a site, of an image of a site, or of a slot.
pub(super) fn rules(input: &mut Input<'_>, node: Option<&Node>) -> FileRules {
    let fields = node.and_then(|node| input.record(node, &shape::FILE_RULES));
    fields.map(|fields| decode_rules(input, |name| fields.get(name))).unwrap_or_default()
}

fn decode_rules<'n>(input: &mut Input<'_>, get: impl Fn(&'static str) -> Option<&'n Node>) -> FileRules {
    let owner = get("owner").and_then(|node| input.file_owner(node));
    let modes = modes(input, get("modes"));
    let delete = input.list(get("delete"), Input::image_path);
    let directories = declared::directories(input, get("directories"), owner);
    let xattrs = declared::xattrs(input, get("xattrs"));
    let hard_links = declared::hard_links(input, get("hard_links"));
    FileRules { owner, modes, delete, directories, xattrs, hard_links }
}

fn modes(input: &mut Input<'_>, node: Option<&Node>) -> Vec<(String, u32)> {
    let entries = match node {
        None => return Vec::new(),
        Some(Node { data: Data::Map(entries), .. }) => entries,
        Some(node) => {
            input.wrong_kind(node, "a map");
            return Vec::new();
        }
    };
    let decode = |(key, value): &(Key, Node)| {
        let mode = input.mode(value);
        if key.text.is_empty() || key.text.starts_with('/') {
            let hint = "remove the first `/`: paths are relative to the image's root";
            let message = format!("invalid pattern `{}`: begins with `/`", key.text.escape_debug());
            input.error(key.place, message, hint);
            return None;
        }
        input.glob(&key.text, key.place)?;
        Some((key.text.clone(), mode?))
    };
    entries.iter().filter_map(decode).collect()
}

/// Reports a Containerfile whose text is not loaded with the tree, or is no text.
fn unread(input: &mut Input<'_>, node: &Node, file: &TreePath) {
    match input.tree.content(file).map(|bytes| std::str::from_utf8(bytes)) {
        Some(Ok(_)) => {}
        Some(Err(_)) => {
            let message = format!("cannot read `{file}`: it is not UTF-8");
            input.error(node.place, message, "save it as UTF-8");
        }
        None => {
            let message = format!("`{file}` is not named like a Containerfile");
            let hint = "give it a name with `Containerfile` or `Dockerfile` in it, such as Containerfile.hmi or hmi.containerfile";
            input.error(node.place, message, hint);
        }
    }
}

/// Reports the unusable entries of a used folder.
fn unusable(input: &mut Input<'_>, node: &Node, folder: &TreePath) {
    for (_, fault) in paths::unusable(input.tree, folder, input.file.parent().as_ref()) {
        input.error(node.place, fault.message, fault.hint);
    }
}

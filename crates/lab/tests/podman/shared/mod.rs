//! Shared by the lanes with a real machine: a registry in memory with images, orders, and static programs.

pub(crate) mod registry;

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::order::{LaneOrder, ManifestRef, check_set_digest};
use edgewright_model::spec::{Check, Lane};
use edgewright_model::verdict::Verdict;
use edgewright_process::Command;
use serde_json::json;

use registry::Contents;

/// A file of an image: path, mode, text; a link where the text is `-> TARGET`.
pub(crate) type ImageFile<'a> = (&'a str, u32, &'a str);

impl Contents {
    /// A layer of files that a user and a group own.
    pub(crate) fn layer(&self, files: &[ImageFile<'_>], (user, group): (u64, u64)) -> (String, usize) {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, mode, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_uid(user);
            header.set_gid(group);
            if let Some(target) = text.strip_prefix("-> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, path, target).expect("a tar in memory");
            } else {
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, path, text.as_bytes()).expect("a tar in memory");
            }
        }
        let (digest, size) = self.blob(tar.into_inner().expect("a tar in memory"));
        (digest.to_string(), size)
    }

    /// An image of layers.
    pub(crate) fn image(&self, command: &[&str], layers: &[(String, usize)]) -> ManifestRef {
        let diff_ids: Vec<_> = layers.iter().map(|(digest, _)| digest).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": if command.is_empty() { json!({}) } else { json!({"Cmd": command}) },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let (config, config_size) = self.blob(config.to_string());
        let layer = |(digest, size): &(String, usize)| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": config_size,
            },
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        let digest = self.manifest(manifest.to_string());
        ManifestRef { repository: "plant-os/test".parse().expect("a valid name"), digest }
    }

    /// A stored piece of evidence as text.
    pub(crate) fn evidence(&self, verdict: &Verdict, name: &str) -> String {
        let piece = verdict.evidence.iter().find(|piece| piece.name == name);
        let digest =
            piece.unwrap_or_else(|| panic!("no `{name}` in {:?}", verdict.evidence)).blob.digest.to_string();
        let (_, bytes) = self.get(&digest).expect("evidence is stored");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A lane order with these checks, given as JSON without the brackets.
pub(crate) fn order_of(lane: Lane, checks: &str) -> LaneOrder {
    let checks: Vec<Check> = serde_json::from_str(&format!("[{checks}]")).expect("checks as JSON");
    let check_set = check_set_digest(&checks);
    LaneOrder {
        lane,
        checks,
        check_set,
        within: "5m".parse().expect("a span"),
        keep: false,
        vm: None,
        from: None,
    }
}

/// The target folder of the workspace.
pub(crate) fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp has a parent")
}

/// Builds static programs, each the only one of the package with its name, as `crates/cli/build.rs` does and
/// in the same folder; gives the folder that they are in.
pub(crate) async fn build_static(programs: &[&str]) -> PathBuf {
    let host = Command::new("rustc").arg("-vV").run().await.expect("rustc works").text();
    let host =
        host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc prints its host").to_owned();
    let folder = target().join("runner");
    let command = Command::new(env!("CARGO"))
        .cwd(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--locked", "--profile", "runner", "--target", &host])
        .args(programs.iter().flat_map(|name| ["--package", name, "--bin", name]))
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let is_cargos = |name: &str| matches!(name, "CARGO_HOME" | "RUSTUP_HOME" | "RUSTUP_TOOLCHAIN");
    let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_cargos));
    let command = kept.fold(command, |command, (name, value)| command.env(name, value));
    command.deadline(Duration::from_mins(10)).run().await.expect("the programs build");
    folder.join(host).join("runner")
}

//! Shared by the cases: a bootstrapped system with a kernel, a registry with it, QEMU of the tool image.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use edgewright_lab::{EngineSettings, LabContext, PodmanHost, PodmanSettings, VmHost, run_lane};
use edgewright_model::order::{JobId, LaneOrder, ManifestRef, RegistryAccess, check_set_digest};
use edgewright_model::outcome::JobEvent;
use edgewright_model::spec::{Check, Lane};
use edgewright_model::verdict::Verdict;
use edgewright_oci::Client;
use edgewright_process::{CancellationToken, Command, ProcessContext};
use edgewright_sandbox::ToolImage;
use edgewright_vm::{Programs, Tools};

use crate::registry::{self, Contents};

pub(crate) struct World {
    work: PathBuf,
    folder: Option<tempfile::TempDir>,
    contents: Contents,
    url: String,
    base: (String, usize),
    vm: VmHost,
}

pub(crate) type ImageFile<'a> = (&'a str, u32, &'a str);

impl World {
    pub(crate) async fn make() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("target/tmp is writable");
        let mut world = Self::make_in(folder.path()).await;
        world.folder = Some(folder);
        world
    }

    pub(crate) async fn make_in(work: &Path) -> Self {
        let tools = ToolImage::open(&edgewright_testkit::tools().1).expect("the tool image is there");
        let tools = Tools::of_image(tools.root().to_owned(), tools.loader());
        let programs = build_programs().await;
        fs::create_dir_all(work.join("jobs")).expect("the work folder is writable");
        let contents = Contents::default();
        let (digest, size) =
            contents.blob(fs::read(edgewright_testkit::system::with_kernel()).expect("the system's tar"));
        let url = registry::serve(contents.clone()).await;
        let vm = VmHost::new(work, tools, programs);
        Self { work: work.to_owned(), folder: None, contents, url, base: (digest.to_string(), size), vm }
    }

    /// An image of the system with files over it, owned by 7:9.
    pub(crate) fn image(&self, files: &[ImageFile<'_>]) -> ManifestRef {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, mode, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_uid(7);
            header.set_gid(9);
            if let Some(target) = text.strip_prefix("-> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, path, target).expect("a tar in memory");
            } else {
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, path, text.as_bytes()).expect("a tar in memory");
            }
        }
        let (digest, size) = self.contents.blob(tar.into_inner().expect("a tar in memory"));
        self.manifest(&[self.base.clone(), (digest.to_string(), size)])
    }

    pub(crate) fn image_without_kernel(&self) -> ManifestRef {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(1);
        tar.append_data(&mut header, "etc/hostname", b"x".as_slice()).expect("a tar in memory");
        let (digest, size) = self.contents.blob(tar.into_inner().expect("a tar in memory"));
        self.manifest(&[(digest.to_string(), size)])
    }

    fn manifest(&self, layers: &[(String, usize)]) -> ManifestRef {
        let diff_ids: Vec<_> = layers.iter().map(|(digest, _)| digest).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let (config, config_size) = self.contents.blob(config.to_string());
        let layer = |(digest, size): &(String, usize)| serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size});
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": config_size,
            },
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        let digest = self.contents.manifest(manifest.to_string());
        ManifestRef { repository: "plant-os/test".parse().expect("a valid name"), digest }
    }

    /// Runs a lane.
    #[expect(clippy::print_stderr, reason = "shown where a case fails")]
    pub(crate) async fn run(&self, manifest: &ManifestRef, order: &LaneOrder) -> Verdict {
        let access = RegistryAccess { url: self.url.clone(), token: None };
        let settings =
            PodmanSettings { work: self.work.clone(), runner: b"", engine: EngineSettings::default() };
        let context = LabContext {
            podman: Arc::new(PodmanHost::new(settings)),
            vm: self.vm.clone(),
            client: Client::new(&access).expect("a loopback address"),
            job: JobId(uuid::Uuid::now_v7()),
            scratch: self.work.join("jobs"),
            processes: ProcessContext::new(CancellationToken::new()),
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        let begun = std::time::Instant::now();
        let verdict = run_lane(order, manifest, &context, &|event| {
            if let JobEvent::Log { line } = event {
                log.lock()
                    .expect("no case panics while it logs")
                    .push(format!("{:6.1} {line}", begun.elapsed().as_secs_f64()));
            }
        })
        .await;
        for line in log.lock().expect("no case panics while it logs").iter() {
            eprintln!("  {line}");
        }
        eprintln!("{:6.1} {:?}", begun.elapsed().as_secs_f64(), verdict.result);
        verdict
    }

    /// With another limit on boots, before scaling.
    pub(crate) fn with_boot_timeout(mut self, limit: Duration) -> Self {
        self.vm = self.vm.with_boot_timeout(limit);
        self
    }

    /// The files of images, with the time when each was written.
    pub(crate) fn files(&self) -> Vec<(PathBuf, SystemTime)> {
        let list = |folder: &Path| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let roots = list(&self.work.join("vm/images")).into_iter().filter(|path| path.is_dir());
        let files = roots.flat_map(|root| list(&root));
        let mut files: Vec<_> = files
            .map(|path| {
                let written = fs::metadata(&path).and_then(|found| found.modified()).expect("a file's time");
                (path, written)
            })
            .collect();
        files.sort();
        files
    }

    /// A stored piece of evidence as text.
    pub(crate) fn evidence(&self, verdict: &Verdict, name: &str) -> String {
        let piece = verdict.evidence.iter().find(|piece| piece.name == name);
        let digest =
            piece.unwrap_or_else(|| panic!("no `{name}` in {:?}", verdict.evidence)).blob.digest.to_string();
        let (_, bytes) = self.contents.get(&digest).expect("evidence is stored");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Checks that nothing is left behind.
    pub(crate) fn end(&self) {
        let left: Vec<_> = fs::read_dir(self.work.join("jobs")).expect("it is there").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A lane order with these checks, given as JSON without the brackets.
pub(crate) fn order(checks: &str) -> LaneOrder {
    let checks: Vec<Check> = serde_json::from_str(&format!("[{checks}]")).expect("checks as JSON");
    let check_set = check_set_digest(&checks);
    LaneOrder {
        lane: Lane::Vm,
        checks,
        check_set,
        within: "5m".parse().expect("a span"),
        keep: false,
        vm: None,
    }
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp has a parent")
}

/// The static programs, as `crates/cli/build.rs` builds them, in the same folder.
async fn build_programs() -> Programs {
    let host = Command::new("rustc").arg("-vV").run().await.expect("rustc works").text();
    let host =
        host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc prints its host").to_owned();
    let folder = target().join("runner");
    let command = Command::new(env!("CARGO"))
        .cwd(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--locked", "--profile", "runner", "--target", &host])
        .args(["--package", "edgewright-checks", "--bin", "edgewright-checks"])
        .args(["--package", "edgewright-guest", "--bin", "edgewright-guest", "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let is_cargos = |name: &str| matches!(name, "CARGO_HOME" | "RUSTUP_HOME" | "RUSTUP_TOOLCHAIN");
    let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_cargos));
    let command = kept.fold(command, |command, (name, value)| command.env(name, value));
    command.deadline(Duration::from_mins(10)).run().await.expect("the programs build");
    let read = |name: &str| -> &'static [u8] {
        fs::read(folder.join(&host).join("runner").join(name)).expect("it was built").leak()
    };
    Programs { guest: read("edgewright-guest"), checks: read("edgewright-checks") }
}

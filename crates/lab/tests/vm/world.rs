//! Shared by the cases: a bootstrapped system with a kernel, a registry with it, QEMU of the tool image.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use edgewright_lab::{EngineSettings, LabContext, PodmanHost, PodmanSettings, VmHost, run_lane};
use edgewright_model::order::{JobId, LaneOrder, ManifestRef, RegistryAccess};
use edgewright_model::outcome::JobEvent;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::Verdict;
use edgewright_oci::Client;
use edgewright_process::{CancellationToken, ProcessContext};
use edgewright_sandbox::ToolImage;
use edgewright_vm::{Programs, Tools};

use crate::shared::registry::{self, Contents};
use crate::shared::{ImageFile, build_static, order_of};

pub(crate) struct World {
    work: PathBuf,
    folder: Option<tempfile::TempDir>,
    contents: Contents,
    url: String,
    base: (String, usize),
    vm: VmHost,
}

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
        self.contents.image(&[], &[self.base.clone(), self.contents.layer(files, (7, 9))])
    }

    pub(crate) fn image_without_kernel(&self) -> ManifestRef {
        self.contents.image(&[], &[self.contents.layer(&[("etc/hostname", 0o644, "x")], (0, 0))])
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
        self.contents.evidence(verdict, name)
    }

    /// Checks that nothing is left behind.
    pub(crate) fn end(&self) {
        let left: Vec<_> = fs::read_dir(self.work.join("jobs")).expect("it is there").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A lane order with these checks, given as JSON without the brackets.
pub(crate) fn order(checks: &str) -> LaneOrder {
    order_of(Lane::Vm, checks)
}

/// The static programs that are brought into guests.
async fn build_programs() -> Programs {
    let folder = build_static(&["edgewright-checks", "edgewright-guest"]).await;
    let read = |name: &str| -> &'static [u8] { fs::read(folder.join(name)).expect("it was built").leak() };
    Programs { guest: read("edgewright-guest"), checks: read("edgewright-checks") }
}

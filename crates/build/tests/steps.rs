//! All kinds of step against the real tools: one small bootstrap, shared by everything after it.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use common::{World, epoch, has_tools, repo, task};
use edgewright_build::{BuildContext, BuildOutcome, execute, resolve_lock};
use edgewright_model::lock::LockRequest;
use edgewright_model::order::{Base, LockTask, ManifestRef, StepAction};
use edgewright_model::outcome::FailureKind;
use edgewright_model::reference::Reference;
use edgewright_model::spec::BootstrapStep;
use edgewright_oci::image::Image;
use edgewright_oci::layer::{Entry, Kind};
use edgewright_process::Command;

fn trixie(packages: &[&str]) -> BootstrapStep {
    BootstrapStep {
        suite: "trixie".into(),
        packages: packages.iter().map(|name| (*name).to_owned()).collect(),
        mirror: None,
        components: Vec::new(),
        sources: Vec::new(),
        keys: Vec::new(),
    }
}

fn lock_task(step: BootstrapStep) -> LockTask {
    LockTask {
        image: "base".parse().unwrap(),
        request: LockRequest {
            base: None,
            bootstrap: vec![step],
            platforms: vec!["linux/amd64".parse().unwrap()],
            images: Vec::new(),
            refresh: None,
        },
        keys: BTreeMap::new(),
        now: epoch(),
    }
}

async fn build(ctx: &BuildContext, base: Base, repository: &str, actions: Vec<StepAction>) -> BuildOutcome {
    let started = Instant::now();
    let outcome = execute(&task(base, repository, actions), ctx, &|_| {}).await;
    eprintln!("{repository}: {:.2} s", started.elapsed().as_secs_f64());
    outcome
}

fn containerfile(context: edgewright_model::order::Context, text: &str) -> StepAction {
    StepAction::Containerfile {
        context,
        containerfile: text.to_owned(),
        args: [("CHANNEL".to_owned(), "edge".to_owned())].into(),
        target: None,
        secrets: Vec::new(),
        images: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_step_works_and_repeats() {
    if !has_tools() {
        return;
    }
    let world = World::new().await;
    let started = Instant::now();
    let lock = resolve_lock(&lock_task(trixie(&[])), &world.job("lock"), &|_| {}).await.unwrap();
    eprintln!("lock: {:.2} s", started.elapsed().as_secs_f64());
    let packages = lock.packages.values().next().unwrap()[0].clone();
    assert!(packages.iter().any(|package| package.name == "base-files"));
    let bootstrap = StepAction::Bootstrap {
        step: trixie(&[]),
        packages: packages.clone(),
        archive: lock.archives.first().cloned(),
        keys: BTreeMap::new(),
        kept: None,
    };
    assert!(
        packages.iter().all(|package| package.sha256.is_some() && package.size.is_some()),
        "{packages:?}"
    );
    assert!(lock.archives[0].lines[0].starts_with("deb "), "{:?}", lock.archives);

    let first = build(&world.job("one"), Base::Scratch, "t/base", vec![bootstrap]).await;
    let base = first.result.unwrap();
    // Rebuilt from kept packages: without mirror and caches.
    let kept = first.builds[0].kept.clone().unwrap();
    assert_eq!(kept.packages.len(), packages.len());
    let step = BootstrapStep { mirror: Some("http://127.0.0.1:1/debian".to_owned()), ..trixie(&[]) };
    let packages_of = packages.clone();
    let again = StepAction::Bootstrap {
        step,
        packages: packages_of,
        archive: None,
        keys: BTreeMap::new(),
        kept: Some(kept),
    };
    let mut elsewhere = world.job("two");
    elsewhere.cache = world.job("cache").scratch;
    let second = build(&elsewhere, Base::Scratch, "t/again", vec![again]).await.result.unwrap();
    assert_eq!(base.digest, second.digest, "the same packages give the same bytes");

    files_and_containerfile(&world, &base).await;
    layers_have_only_what_instructions_wrote(&world, &base).await;
    failures_have_the_right_kind(&world, &base, packages).await;
    mounts_are_gone(&world);
}

/// Entries that git cannot store are in the image that podman mounts, and deleted ones are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_entries_of_a_files_step_are_in_the_mounted_image() {
    if !has_tools() {
        return;
    }
    let world = World::new().await;
    let attributes = BTreeMap::from([("user.origin".to_owned(), b"plant\n=1".to_vec())]);
    let file =
        |path: &str| Entry { xattrs: attributes.clone(), size: 4, ..Entry::new(path, Kind::File, 0o750) };
    let again =
        Entry { link: b"usr/bin/tool".to_vec(), size: 0, kind: Kind::HardLink, ..file("usr/bin/again") };
    let below = [
        (file("usr/bin/tool"), "tool"),
        (again, ""),
        (file("etc/old/one"), "gone"),
        (file("etc/old/two"), "gone"),
        (file("etc/motd"), "gone"),
        (file("etc/issue"), "stay"),
    ];
    let entries = world.push_entries(&below).await;
    let first = vec![StepAction::Files { entries, delete: Vec::new() }];
    let first = build(&world.job("first"), Base::Scratch, "t/first", first).await.result.unwrap();
    // A step that has no folder: deletions and a directory.
    let declared = Entry { user: 5, group: 6, ..Entry::new("var/lib/plant", Kind::Directory, 0o1750) };
    let entries = world.push_entries(&[(declared, "")]).await;
    let delete = vec!["etc/old".to_owned(), "etc/motd".to_owned(), "etc/never".to_owned()];
    let second = vec![StepAction::Files { entries, delete }];
    let image = build(&world.job("second"), Base::Manifest(first), "t/second", second).await.result.unwrap();

    let podman = |arguments: &[&str]| {
        let storage = [world.ctx.storage.as_os_str(), "--runroot".as_ref(), world.ctx.runroot.as_os_str()];
        Command::new("podman").arg("--root").args(storage).args(arguments).context(&world.ctx.process).run()
    };
    let name = format!("{}/{}@{}", world.ctx.client.host(), image.repository, image.digest);
    podman(&["pull", "--quiet", "--tls-verify=false", &name]).await.unwrap();
    let root = podman(&["image", "mount", &name]).await.unwrap().text();
    let root = std::path::Path::new(&root);
    let (tool, other) = (root.join("usr/bin/tool"), root.join("usr/bin/again"));
    let stat = |path: &std::path::Path| std::fs::metadata(path).unwrap();
    assert_eq!((stat(&tool).ino(), stat(&tool).nlink()), (stat(&other).ino(), 2), "one file of two names");
    assert_eq!(stat(&tool).mode() & 0o7777, 0o750);
    let mut value = [0_u8; 64];
    let length = rustix::fs::getxattr(&other, "user.origin", &mut value).unwrap();
    assert_eq!(&value[..length], b"plant\n=1");
    let plant = stat(&root.join("var/lib/plant"));
    assert_eq!((plant.mode() & 0o7777, plant.uid(), plant.gid()), (0o1750, 5, 6));
    let mut left: Vec<_> =
        std::fs::read_dir(root.join("etc")).unwrap().flatten().map(|it| it.file_name()).collect();
    left.sort();
    assert_eq!(left, ["issue"]);
    podman(&["image", "unmount", "--all"]).await.unwrap();
}

async fn files_and_containerfile(world: &World, base: &ManifestRef) {
    let entries = [("bin/tool", Kind::File, "tool"), ("etc/site.conf", Kind::File, "site=a\n")];
    let entries = world.push_tar(&entries).await;
    let context = world.push_tar(&[("page", Kind::File, "hello\n")]).await;
    let text = "ARG BASE\nFROM ${BASE}\nARG CHANNEL\nENV CHANNEL=$CHANNEL\nRUN mkdir /opt/x && echo $CHANNEL > \
                /opt/x/channel && rm -f /etc/motd && chmod 1770 /opt/x\nCOPY page /srv/page\nEXPOSE 8080\n";
    let actions = vec![
        containerfile(context, text),
        StepAction::Files { entries, delete: vec!["etc/debian_version".into()] },
    ];
    let from = || Base::Manifest(base.clone());
    let outcome = build(&world.job("role"), from(), "t/role", actions.clone()).await;
    let result = outcome.result.unwrap();
    assert_eq!(outcome.builds.len(), 2);
    assert_eq!(outcome.builds[1].manifest, result);
    let again = build(&world.job("role-2"), from(), "t/role-2", actions).await.result.unwrap();
    assert_eq!(result.digest, again.digest, "this Containerfile happens to be reproducible");

    let client = &world.ctx.client;
    let reference = Reference::Digest(result.digest.clone());
    let manifest = client.pull_manifest(&result.repository, &reference).await.unwrap();
    let config = edgewright_oci::image::config(&manifest.bytes).unwrap();
    let config = client.pull_blob_bytes(&result.repository, &config.digest, 1 << 20).await.unwrap();
    let image = Image::parse(&manifest.bytes, &config).unwrap();
    assert_eq!(image.layers().len(), 3);
    let runtime = serde_json::to_string(&image.runtime()).unwrap();
    for part in ["CHANNEL=edge", "8080/tcp", "/sbin/init", "SIGRTMIN+3", r#"{"containers.bootc":"1"}"#] {
        assert!(runtime.contains(part), "{part} in {runtime}");
    }

    let script = "cat /opt/x/channel /srv/page /usr/bin/tool /etc/site.conf; stat -c '%a %n' /opt/x /tmp /root /etc; \
                  test ! -e /etc/debian_version && test -L /bin && test ! -s /etc/machine-id && apt-get -v >/dev/null";
    let output = Command::new("podman")
        .arg("--root")
        .arg(&world.ctx.storage)
        .arg("--runroot")
        .arg(&world.ctx.runroot)
        .args(["run", "--rm", "--network=none", "--tls-verify=false"])
        .arg(format!("{}/{}@{}", client.host(), result.repository, result.digest))
        .args(["sh", "-c", script])
        .context(&world.ctx.process)
        .run()
        .await
        .unwrap();
    assert_eq!(output.text(), "edge\nhello\ntoolsite=a\n1770 /opt/x\n1777 /tmp\n700 /root\n755 /etc");
}

/// The paths of the layers above a base.
async fn new_paths(world: &World, image: &ManifestRef, below: usize) -> Vec<String> {
    let client = &world.ctx.client;
    let reference = Reference::Digest(image.digest.clone());
    let manifest = client.pull_manifest(&image.repository, &reference).await.unwrap();
    let mut paths = Vec::new();
    for layer in edgewright_oci::image::layers(&manifest.bytes).unwrap().into_iter().skip(below) {
        let path = world.folder.path().join("pulled");
        let quiet = edgewright_oci::client::QUIET;
        client.pull_blob_file(&image.repository, &layer.digest, &path, quiet).await.unwrap();
        edgewright_oci::layer::read_entries(common::read_layer(&path).as_slice(), |entry, _| {
            paths.push(String::from_utf8(entry.path).unwrap());
            Ok(())
        })
        .unwrap();
    }
    paths
}

/// No places of mounts, no file that an ignore rule names twice, no trigger of the base, and no mount that
/// this buildah damages the image with.
async fn layers_have_only_what_instructions_wrote(world: &World, base: &ManifestRef) {
    let client = &world.ctx.client;
    let reference = Reference::Digest(base.digest.clone());
    let manifest = client.pull_manifest(&base.repository, &reference).await.unwrap();
    let config = edgewright_oci::image::config(&manifest.bytes).unwrap();
    let config = client.pull_blob_bytes(&base.repository, &config.digest, 1 << 20).await.unwrap();
    let mut image = Image::parse(&manifest.bytes, &config).unwrap();
    image.set_runtime_field("OnBuild", serde_json::json!(["RUN echo trigger > /etc/trigger"]));
    let documents = image.documents(epoch());
    client.push_blob_bytes(&base.repository, documents.config).await.unwrap();
    let docker = String::from_utf8(documents.manifest.to_vec())
        .unwrap()
        .replace(edgewright_oci::media::MANIFEST, edgewright_oci::media::DOCKER_MANIFEST)
        .replace(edgewright_oci::media::CONFIG, "application/vnd.docker.container.image.v1+json");
    let digest = edgewright_model::Digest::of(&docker);
    let (reference, docker_type) =
        (Reference::Digest(digest.clone()), edgewright_oci::media::DOCKER_MANIFEST);
    client.push_manifest(&base.repository, &reference, docker_type, docker).await.unwrap();
    let docker = ManifestRef { repository: base.repository.clone(), digest };
    let ignored = [
        (".containerignore", Kind::File, "*\n!**/*.go\n!.containerignore\n"),
        ("src/deep/b.go", Kind::File, "b"),
    ];
    let context = world.push_tar(&ignored).await;
    let text = "ARG BASE\nFROM ${BASE}\nARG TARGETARCH\nCOPY . /ctx\nRUN test -f /ctx/src/deep/b.go && test \"$TARGETARCH\" = amd64\n";
    let log = std::sync::Mutex::new(Vec::new());
    let on_event = |event| {
        if let edgewright_model::outcome::JobEvent::Log { line } = event {
            log.lock().unwrap().push(line);
        }
    };
    let task = task(Base::Manifest(docker), "t/clean", vec![containerfile(context.clone(), text)]);
    let built = execute(&task, &world.job("clean"), &on_event).await.result.unwrap();
    let paths = new_paths(world, &built, image.layers().len()).await;
    assert_eq!(paths, ["ctx", "ctx/.containerignore", "ctx/src", "ctx/src/deep", "ctx/src/deep/b.go"]);
    let log = log.into_inner().unwrap();
    assert!(
        log.iter().any(|line| line.contains("`ONBUILD RUN echo trigger > /etc/trigger` is not executed")),
        "{log:?}"
    );

    for (mount, kind, phrase) in [
        ("type=cache,id=../../x,dst=/c", FailureKind::Image, "has `..` in its id"),
        ("type=cache,dst=/var/cache", FailureKind::Infrastructure, "(line 3) safely: before 1.39"),
    ] {
        let text = format!("ARG BASE\nFROM ${{BASE}}\nRUN --mount={mount} true\n");
        let actions = vec![containerfile(context.clone(), &text)];
        let ended = build(&world.job(phrase), Base::Manifest(base.clone()), "t/mounts", actions).await.result;
        match ended {
            // A buildah that is safe keeps the target.
            Ok(built) => assert_eq!(new_paths(world, &built, image.layers().len()).await, [""; 0]),
            Err(failed) => {
                assert_eq!(failed.kind, kind, "{failed:?}");
                assert!(failed.message.contains(phrase), "{failed:?}");
            }
        }
    }
}

async fn failures_have_the_right_kind(
    world: &World,
    base: &ManifestRef,
    packages: Vec<edgewright_model::lock::LockedPackage>,
) {
    let context = world.push_tar(&[]).await;
    let run = |job: &str, text: &str, limit: Duration| {
        let ctx = BuildContext { step_limit: limit, ..world.job(job) };
        let actions = vec![containerfile(context.clone(), text)];
        let base = Base::Manifest(base.clone());
        async move { build(&ctx, base, "t/failing", actions).await.result.unwrap_err() }
    };
    let long = Duration::from_mins(5);
    let failed = run("fails", "ARG BASE\nFROM ${BASE}\nRUN echo reason >&2; exit 7\n", long).await;
    assert_eq!(failed.kind, FailureKind::Image, "{failed:?}");
    assert!(failed.output.iter().any(|line| line.contains("reason")), "{failed:?}");

    let endless = run("hangs", "ARG BASE\nFROM ${BASE}\nRUN sleep 1000\n", Duration::from_secs(5)).await;
    assert_eq!(endless.kind, FailureKind::Image);
    assert_eq!(endless.message, "the Containerfile did not end within 5 s");

    let chatty = run("talks", "ARG BASE\nFROM ${BASE}\nRUN yes | head -c 100000000; exit 1\n", long).await;
    assert_eq!(chatty.kind, FailureKind::Image);
    assert!(chatty.output.len() <= 40);

    let foreign = run("foreign", "FROM debian\n", long).await;
    let from =
        "line 1 of the Containerfile: the stage that is built starts from `debian`, not from `${BASE}`";
    assert!(foreign.message.starts_with(from), "{foreign:?}");

    let mut gone = packages;
    for package in gone.iter_mut().filter(|package| package.name == "tar") {
        package.version = "0.1-1".into();
    }
    let action = StepAction::Bootstrap {
        step: trixie(&[]),
        packages: gone,
        archive: None,
        keys: BTreeMap::new(),
        kept: None,
    };
    let failed = build(&world.job("gone"), Base::Scratch, "t/gone", vec![action]).await.result.unwrap_err();
    assert_eq!(failed.kind, FailureKind::Infrastructure, "{failed:?}");
    assert!(failed.message.contains(" no longer has tar 0.1-1, which is locked"), "{failed:?}");

    for (step, kind, text) in [
        (trixie(&["no-such-package"]), FailureKind::Image, "trixie has no package `no-such-package` at "),
        (
            BootstrapStep { suite: "nosuite".into(), ..trixie(&[]) },
            FailureKind::Image,
            "does not have the suite `nosuite`",
        ),
        (
            BootstrapStep { mirror: Some("http://127.0.0.1:9/debian".into()), ..trixie(&[]) },
            FailureKind::Infrastructure,
            "cannot reach the mirror http://127.0.0.1:9/debian",
        ),
    ] {
        let failed = resolve_lock(&lock_task(step), &world.job(text), &|_| {}).await.unwrap_err();
        assert_eq!(failed.kind, kind, "{failed:?}");
        assert!(failed.message.contains(text), "{failed:?}");
    }
}

fn mounts_are_gone(world: &World) {
    let jobs = world.folder.path().join("work/jobs").display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&jobs), "{mounts}");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        assert!(!mounts.contains(&jobs), "{} is left over", entry.path().display());
    }
}

/// The base of the demo, twice: minutes, so only on demand (`--ignored`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: run it when the bootstrap's clean-up changes"]
async fn a_bootable_base_is_reproducible() {
    if !has_tools() {
        return;
    }
    let names = "systemd systemd-sysv dbus udev kmod linux-image-cloud-amd64 initramfs-tools openssh-server iproute2 \
                 ca-certificates";
    let step = trixie(&names.split_whitespace().collect::<Vec<_>>());
    let world = World::new().await;
    let started = Instant::now();
    let lock = resolve_lock(&lock_task(step.clone()), &world.job("lock"), &|_| {}).await.unwrap();
    eprintln!("lock: {:.2} s", started.elapsed().as_secs_f64());
    let packages = lock.packages.values().next().unwrap()[0].clone();
    let action = StepAction::Bootstrap { step, packages, archive: None, keys: BTreeMap::new(), kept: None };
    let mut digests = Vec::new();
    for name in ["one", "two"] {
        let actions = vec![action.clone()];
        let built =
            build(&world.job(name), Base::Scratch, &format!("t/{name}"), actions).await.result.unwrap();
        let reference = Reference::Digest(built.digest.clone());
        let manifest = world.ctx.client.pull_manifest(&built.repository, &reference).await.unwrap();
        let layer = &edgewright_oci::image::layers(&manifest.bytes).unwrap()[0];
        let path = std::env::temp_dir().join(format!("edgewright-base-{name}.tar.zst"));
        let quiet = edgewright_oci::client::QUIET;
        world.ctx.client.pull_blob_file(&built.repository, &layer.digest, &path, quiet).await.unwrap();
        eprintln!("compare {} ({} MB)", path.display(), layer.size / 1_000_000);
        digests.push(built.digest);
    }
    assert_eq!(digests[0], digests[1], "compare the two files");
}

#[tokio::test]
async fn files_alone_need_no_tools() {
    let world = World::new().await;
    let entries = world.push_tar(&[("etc/motd", Kind::File, "hi\n")]).await;
    let action = StepAction::Files { entries, delete: Vec::new() };
    let first = build(&world.ctx, Base::Scratch, "t/files", vec![action.clone()]).await.result.unwrap();
    // Based on itself from another repository: the layer is mounted, not uploaded.
    let on_top = build(&world.ctx, Base::Manifest(first.clone()), "t/more", vec![action]).await;
    let on_top = on_top.result.unwrap();
    assert_eq!(on_top.repository, repo("t/more"));
    // The same registry seen as an external one, and no step: the mirrored manifest itself.
    let base = Base::External {
        registry: world.ctx.client.host().to_owned(),
        repository: first.repository.clone(),
        digest: first.digest.clone(),
    };
    let mirrored = build(&world.ctx, base, "t/mirror", Vec::new()).await.result.unwrap();
    assert_eq!(mirrored.digest, first.digest);
    assert_eq!(mirrored.repository, repo("t/mirror"));
    let nothing = build(&world.ctx, Base::Scratch, "t/none", Vec::new()).await.result.unwrap_err();
    assert_eq!(nothing.kind, FailureKind::Image);
}

//! The lane `vm` by the command, in a sandbox: QEMU of the tool image, the image's own kernel.

use std::fs;
use std::time::Duration;

use crate::server::assert_clean;
use crate::systems::Upstream;
use crate::world::{Repository, edgewright, edgewright_within};

/// How long a run may take: an emulated machine on a host that is busy.
const RUN_TIMEOUT: Duration = Duration::from_mins(25);

const TESTS: &str = "test:
  lanes: [vm]
  vm: {memory: 768MiB}
checks:
  - {id: up, systemd: running, timeout: 60s}
  - {id: own, file: {path: /etc/own, contains: layer}}
  - {id: kernel, lanes: [vm], mount: {path: /, fstype: overlay}}
";

#[tokio::test]
async fn an_image_is_tested_with_its_own_kernel_in_a_sandbox() {
    let Some(_tools) = edgewright_testkit::tool_image() else { return };
    if !edgewright_testkit::has_as_root(&["mmdebstrap"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::with_kernel(folder.path()).await;
    let repository = Repository::make(folder.path().join("plants")).await;
    repository.write("edgewright.yaml", "edgewright: 1\nname: plants\n");
    let image = format!("from: {}\nsteps: [files: files/]\n{TESTS}", upstream.from());
    repository.write("images/os/image.yaml", image);
    repository.write("images/os/files/etc/own", "of a layer\n");
    repository.commit("a system with a kernel").await;

    let run = ["run", "plants", "--only", "os", "--lane", "vm", "--keep", "--json"];
    let ended = edgewright_within(folder.path(), &run, RUN_TIMEOUT).await.ends(0).json();
    let verdicts = ended["nodes"][0]["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), 1, "{ended:#}");
    let verdict = &verdicts[0];
    assert_eq!(
        (&verdict["lane"], &verdict["result"]["result"]),
        (&"vm".into(), &"passed".into()),
        "{verdict:#}"
    );
    // The verdict counts for a release of the same image: the lane does not run again.
    edgewright(folder.path(), &["run", "plants"]).await.ends(0);
    // Nor did that end the machine, which outlives its job in the job's sandbox.
    let inside = ["shell", "os", "--", "/bin/sh", "-c", "cat /etc/own; exit 7"];
    let shown = edgewright(folder.path(), &inside).await.ends(7);
    assert!(shown.out.contains("of a layer"), "{}{}", shown.out, shown.errors);
    let status = edgewright(folder.path(), &["status", "--json"]).await.ends(0).json();
    assert_eq!(status["kept"][0]["state"], "running", "{status:#}");
    edgewright(folder.path(), &["shell", "os", "--rm"]).await.ends(0);
    edgewright(folder.path(), &["shell", "os"]).await.ends(3);
    let shown = edgewright(folder.path(), &["image", "show", "os", "--json"]).await.ends(0).json();
    let lane = &shown["lanes"][0];
    assert_eq!((&lane["profile"], &lane["run"]), (&"vm-direct-768MiB".into(), &1.into()), "{lane:#}");
    assert!(["tcg", "kvm"].contains(&lane["accelerator"].as_str().unwrap()), "{lane:#}");
    let data = folder.path().join("data");
    assert_clean(&data).await;
    // QEMU ran in the sandbox, whose domain keeps the root file system for the next run.
    let images = fs::read_dir(data.join("work/sandbox/1/vm/images")).unwrap().flatten();
    assert_eq!(images.filter(|entry| entry.path().join("root.erofs").is_file()).count(), 1);
}

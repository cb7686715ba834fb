//! A user who is not root builds in sandboxes, as the root of a user namespace.

use std::path::Path;

use edgewright_process::Command;
use serde_json::Value;

use crate::schemas;
use crate::world::{EDGEWRIGHT, PATIENCE, Repository};

/// Calls the command as such a user.
async fn unprivileged(folder: &Path, tools: &Path, arguments: &[&str]) -> Value {
    let script = include_str!("unprivileged.sh");
    let finished = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .args([folder.as_os_str(), tools.as_os_str(), EDGEWRIGHT.as_ref()])
        .args(arguments)
        .deadline(PATIENCE)
        .run_status()
        .await
        .unwrap();
    let out = String::from_utf8(finished.output.stdout.clone()).unwrap();
    assert_eq!(finished.code(), Some(0), "{out}\n{}", finished.output.stderr_tail.join("\n"));
    schemas::validated(&out)
}

#[tokio::test]
async fn a_user_who_is_not_root_builds_in_sandboxes() {
    let Some(tools) = edgewright_testkit::tool_image() else { return };
    if !edgewright_testkit::has_as_root(&["newuidmap", "newgidmap", "setpriv", "git"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::make(folder.path().join("plants")).await;
    repository.write("edgewright.yaml", "edgewright: 1\nname: plants\n");
    repository.write("images/os/image.yaml", "from: scratch\nsteps: [files: files]\ntest: none\n");
    repository.write("images/os/files/etc/os", "an operating system\n");
    let app = "from: os\nsteps: [containerfile: Containerfile]\ntest: none\n";
    repository.write("images/app/image.yaml", app);
    repository.write("images/app/Containerfile", "ARG BASE\nFROM ${BASE}\nCOPY made /etc/made\n");
    repository.write("images/app/made", "by a user\n");
    repository.commit("a system and an application").await;
    let run = ["run", "--dir", "plants", "--data", "data", "--tools", "tools", "--json"];
    let ended = unprivileged(folder.path(), &tools, &run).await;
    assert_eq!(ended["state"], "passed", "{ended:#}");
    // What a job wrote belongs to an ID of the user's range.
    let storage = folder.path().join("data/work/sandbox/1");
    let owner = std::os::unix::fs::MetadataExt::uid(&storage.metadata().unwrap());
    assert_eq!(owner, 300_000);
}

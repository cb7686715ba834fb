//! Volumes of an installation: folders of the node, because the cluster has no driver that makes any.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::ROLLOUT;
use super::place::{Place, SOURCE};
use crate::command::Run;

/// The server's user in the image.
const OWNER: &str = "65532:65532";

const VOLUME: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata:
  name: VOLUME
  # As that of a driver, it is no part of the installation: Argo CD waits for the end of what it deletes.
  annotations: {argocd.argoproj.io/sync-options: "Prune=false,Delete=false"}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 80Gi}
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  hostPath: {path: PATH, type: Directory}
"#;

/// The restoration, without a driver that makes volumes of snapshots.
const RESTORE: &str = r#"
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [restore.yaml, volume.yaml]
images: [{name: registry.example.org/edgewright, newName: NAME, digest: "DIGEST"}]
patches:
  - target: {kind: PersistentVolumeClaim, name: edgewright-snapshot}
    patch: |
      - {op: remove, path: /spec/dataSource}
      - {op: add, path: /spec/storageClassName, value: ""}
      - {op: add, path: /spec/volumeName, value: VOLUME}
"#;

impl Place<'_> {
    /// Removes the volumes.
    pub(in crate::e2e::cluster::scenarios) fn clear(&self) -> anyhow::Result<()> {
        for name in ["install-data", "install-snapshot", "install-restored"] {
            self.kubectl(&["delete", "persistentvolume", name, "--ignore-not-found", ROLLOUT])?;
            let (folder, _) = self.world.cluster.volume(name);
            Run::as_root("rm")?.args(["-rf", "--one-file-system"]).arg(folder).run()?;
        }
        Ok(())
    }

    pub(super) fn make_volume(&self, name: &str) -> anyhow::Result<PathBuf> {
        let (folder, _) = self.world.cluster.volume(name);
        Run::as_root("mkdir")?.args(["--parents"]).arg(&folder).run()?;
        Run::as_root("chown")?.arg(OWNER).arg(&folder).run()?;
        Ok(folder)
    }

    /// The files of a folder beside `examples`.
    pub(super) fn write_files(
        &self,
        name: &str,
        kustomization: &str,
        volume: &str,
    ) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("deploy").join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("kustomization.yaml"), kustomization.replace("VOLUME", volume))?;
        let (_, path) = self.world.cluster.volume(volume);
        std::fs::write(folder.join("volume.yaml"), VOLUME.replace("VOLUME", volume).replace("PATH", &path))?;
        Ok(folder)
    }

    /// Copies the volume at one instant, while the server runs: all its processes are frozen meanwhile.
    pub(super) fn snapshot(&self) -> anyhow::Result<()> {
        let path = "jsonpath={.items[0].status.containerStatuses[0].containerID}";
        let id = self.server(&["get", "pods", "--output", path])?;
        let id = id.trim_start_matches("containerd://");
        let ((data, _), snapshot) =
            (self.world.cluster.volume(self.volume), self.make_volume("install-snapshot")?);
        self.world.cluster.freeze(id, true)?;
        let copied = Run::as_root("cp")
            .and_then(|cp| cp.args(["-a", "--no-target-directory"]).arg(data).arg(&snapshot).run());
        self.world.cluster.freeze(id, false)?;
        copied?;
        ensure!(snapshot.join("control.db-wal").exists(), "the databases of the snapshot are in use");
        Ok(())
    }

    /// Another volume for the server, with what the snapshot has.
    pub(super) fn restore_volume(&mut self) -> anyhow::Result<()> {
        let before = self.volume;
        self.volume = "install-restored";
        let data = self.make_volume(self.volume)?;
        // The claim alone: a server would begin on an empty volume.
        let folder = self.write()?;
        self.apply_folder(&folder, &["--selector", "app.kubernetes.io/component=data"])?;
        self.kubectl(&["apply", "--filename", &folder.join("volume.yaml").display().to_string()])?;
        let (name, digest) = self.image.split_once('@').context("the image has a digest")?;
        let folder = self.write_files(
            "restore",
            &RESTORE.replace("NAME", name).replace("DIGEST", digest),
            "install-snapshot",
        )?;
        // kustomize reads no files above its folder.
        std::fs::copy(self.folder.join("deploy/examples/restore.yaml"), folder.join("restore.yaml"))?;
        self.apply_folder(&folder, &[])?;
        let done = self.server(&["wait", "job/edgewright-restore", "--for=condition=Complete", ROLLOUT]);
        done.with_context(|| self.server(&["logs", "job/edgewright-restore"]).unwrap_or_default())?;
        self.server(&["delete", "job/edgewright-restore", "pvc/edgewright-snapshot", ROLLOUT])?;
        // The test's source is on the volume, too.
        let (from, _) = self.world.cluster.volume(before);
        Run::as_root("cp")?.arg("-a").arg(from.join(SOURCE)).arg(&data).run()
    }
}

/// The server's files.
pub(super) fn own(path: &Path) -> anyhow::Result<()> {
    Run::as_root("chown")?.args(["--recursive", OWNER]).arg(path).run()
}

/// The file of a blob in the data folder.
pub(super) fn blob(digest: &str) -> anyhow::Result<String> {
    let hex = digest.strip_prefix("sha256:").context("the digest is sha256")?;
    Ok(format!("/var/lib/edgewright/registry/blobs/sha256/{}/{hex}", &hex[..2]))
}

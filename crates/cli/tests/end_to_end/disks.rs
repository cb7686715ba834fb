//! A disk that is full: nothing acknowledged is lost, and work continues when there is space again.

use std::fs;
use std::path::{Path, PathBuf};

use edgewright_model::run::RunState;
use edgewright_process::Command;

use crate::server::{Server, assert_clean};
use crate::world::{Repository, until};

/// A file system of its own, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// Of a size in MiB; none where this user may not mount.
    async fn mount(folder: PathBuf, size: u64) -> Option<Self> {
        fs::create_dir_all(&folder).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs"]).arg(&folder);
        let is_mounted = mount.run().await.is_ok();
        edgewright_testkit::has_if(is_mounted, "root to mount a tmpfs").then_some(Self(folder))
    }

    /// Leaves about this much room, in KiB.
    fn leave(&self, room: u64) {
        let space = rustix::fs::statvfs(&self.0).unwrap();
        let free = space.f_bavail * space.f_frsize;
        fs::write(self.filler(), vec![0_u8; usize::try_from(free.saturating_sub(room * 1024)).unwrap()])
            .unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    #[expect(clippy::disallowed_methods, reason = "a destructor cannot wait")]
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Bytes that no compressor makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

fn full(text: &str) -> bool {
    text.contains("No space left")
        || text.contains("disk is full")
        || text.contains("no room")
        || text.contains("disk")
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path().join("disk"), 160).await else { return };
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let data: &Path = &disk.0.join("data");
    let config = folder.path().join("edgewright.toml");
    fs::write(&config, "[disk]\nfloor_mib = 1\n").unwrap();
    let arguments = ["--source", repository.url(), "--config", config.to_str().unwrap()];
    let server = Server::start(data, &arguments).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    let run = server.ended(&first).await;
    assert_eq!(run.run.state, RunState::Passed, "{run:#?}");
    let before = server.end_state().await;

    // Room for the commit, none for what becomes of it: the run fails, not the image.
    repository.write("sites/a/files/etc/large", noise(6 << 20));
    let large = repository.commit("large").await;
    disk.leave(9 << 10);
    let run = server.builds(&large).await;
    assert_eq!(run.run.state, RunState::Failed);
    let output =
        format!("{:?} {:?}", run.error, run.nodes.iter().map(|node| &node.failure).collect::<Vec<_>>());
    assert!(full(&output), "{output}");
    assert!(!output.contains("kind: Image"), "{output}");
    let kept = server.end_state().await;
    assert_eq!(kept, before);
    disk.free();

    // The same is requested again (by an empty commit): now it passes, and what had been built is not built
    // again.
    let again = repository.commit("once more").await;
    let run = server.builds(&again).await;
    assert_eq!(run.run.state, RunState::Passed, "{run:#?}");
    let hosted = server.end_state().await;

    // No space at all, not even for a row: nothing is acknowledged, and work continues by itself later.
    disk.leave(0);
    repository.write("sites/a/files/etc/site", "while the disk was full\n");
    let during = repository.commit("while the disk was full").await;
    server.poll().await;
    let error = until("an error in the log", async || {
        let log = server.log();
        log.lines().rev().take(20).find(|line| full(line)).map(str::to_owned)
    });
    error.await;
    assert_eq!(server.end_state().await, hosted, "reading still works");
    disk.free();
    assert_eq!(server.builds(&during).await.run.state, RunState::Passed);

    // And after a restart everything is still there.
    let after = server.end_state().await;
    server.kill_all();
    let server = Server::start(data, &arguments).await;
    assert_eq!(server.end_state().await, after);
    assert_clean(data).await;
    assert_eq!(server.stop().await, Some(0));
}

//! Transports to a remote, served by OpenSSH and git's http-backend.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

#[path = "common/backend.rs"]
mod backend;
mod common;
#[path = "common/sshd.rs"]
mod sshd;

use std::path::Path;

use common::Sandbox;
use edgewright_model::error::ErrorClass;
use edgewright_source::{Mirror, Remote, SourceError, SshIdentity};
use sshd::Sshd;

fn identity(key: &Path, known_hosts: &Path) -> Option<SshIdentity> {
    SshIdentity::new(Some(key.to_owned()), Some(known_hosts.to_owned())).unwrap()
}

#[tokio::test]
async fn ssh_with_a_key_and_pinned_host_keys() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("plant").await;
    let Some(sshd) = Sshd::start(&sandbox).await else { return };
    let remote: Remote = format!("{}{}", sshd.url, upstream.folder.display()).parse().unwrap();

    for (key, hosts, want) in [
        (&sshd.other_key, &sshd.known_hosts, "Permission denied (publickey)"),
        (&sshd.key, &sshd.no_hosts, "host key is known for"),
        (&sshd.key, &sshd.changed_hosts, "REMOTE HOST IDENTIFICATION HAS CHANGED"),
        (&sandbox.path("no-such-key"), &sshd.known_hosts, "Permission denied (publickey)"),
    ] {
        sandbox.git.identify(&remote, identity(key, hosts));
        let error = sandbox.git.poll(&remote).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied, "{error:?}");
        assert!(error.to_string().contains(want), "{error}");
        assert!(error.hint().unwrap().contains("`known_hosts`"), "{error:?}");
    }

    sandbox.git.identify(&remote, identity(&sshd.key, &sshd.known_hosts));
    let refs = sandbox.git.poll(&remote).await.unwrap();
    let (name, commit) = refs.branch(&remote, None).unwrap();
    assert_eq!(name, "main");
    let mirror = Mirror::new(sandbox.git.clone(), sandbox.path("mirror.git"), remote.clone());
    assert_eq!(mirror.read_tree(&commit).await.unwrap().entries.len(), 1);
    upstream.write("second", b"2");
    let next = upstream.commit("second").await;
    assert_eq!(mirror.read_tree(&next).await.unwrap().entries.len(), 2);

    let missing: Remote = format!("{}/no/such/plant.git", sshd.url).parse().unwrap();
    sandbox.git.identify(&missing, identity(&sshd.key, &sshd.known_hosts));
    let error = sandbox.git.poll(&missing).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound, "{error:?}");
    drop(sshd);
    let error = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            match sandbox.git.poll(&remote).await {
                Err(error) => break error,
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    })
    .await
    .expect("sshd ends");
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("ssh: connect to host 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn smart_http_with_and_without_a_password() {
    let sandbox = Sandbox::new();
    let upstream = sandbox.repository("up").await;
    upstream.write("images/a/image.yaml", b"from: scratch\n");
    upstream.commit("second").await;
    // A history deep enough that only the smart protocol negotiates.
    for number in 0..40 {
        upstream.commit(&format!("change {number}")).await;
    }
    let bare = sandbox.path("served/plant.git");
    upstream.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]).await;
    let open = backend::serve(&sandbox.path("served"), false);
    let closed = backend::serve(&sandbox.path("served"), true);
    let with = |credentials: &str| closed.replace("http://", &format!("http://{credentials}@"));

    for (index, base) in [open, with("bob:s3cret")].into_iter().enumerate() {
        let remote: Remote = format!("{base}/plant.git").parse().unwrap();
        let refs = sandbox.git.poll(&remote).await.unwrap();
        let (_, commit) = refs.branch(&remote, None).unwrap();
        let folder = sandbox.path(&format!("mirror-{index}.git"));
        let mirror = Mirror::new(sandbox.git.clone(), folder.clone(), remote.clone());
        assert_eq!(mirror.read_tree(&commit).await.unwrap().entries.len(), 2 + index);
        upstream.write(&format!("more-{index}"), b"x");
        let next = upstream.commit("more").await;
        upstream.git(&["push", "--quiet", bare.to_str().unwrap(), "main"]).await;
        assert_eq!(mirror.read_tree(&next).await.unwrap().entries.len(), 3 + index);
        let config = std::fs::read_to_string(folder.join("config")).unwrap();
        assert!(!config.contains("s3cret"));
        let missing: Remote = format!("{base}/other.git").parse().unwrap();
        let error = sandbox.git.poll(&missing).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotFound, "{error:?}");
    }
    for base in [closed.clone(), with("bob:wr0ng")] {
        let remote: Remote = format!("{base}/plant.git").parse().unwrap();
        let error = sandbox.git.poll(&remote).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied, "{error:?}");
        assert!(!format!("{error} {error:?}").contains("wr0ng"));
    }
}

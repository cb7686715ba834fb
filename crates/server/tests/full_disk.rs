//! A server on a full disk.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{Credentials, OWN, Served};
use edgewright_api::access::Method;
use edgewright_model::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A small file system that is unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`: this user may not mount.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", folder.path().to_str().unwrap()])
            .then_some(Self(folder))
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let fill = |path: &Path| std::fs::write(path, vec![1; 64 * 1024 * 1024]);
        assert!(fill(&self.0.path().join("filler")).is_err(), "the disk is full");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["--lazy", self.0.path().to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "mounts a disk for one test")]
    let mut command = std::process::Command::new(program);
    command.args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Sends a request with a body of `length` bytes, without looking for a response until everything is sent.
/// Returns the response.
async fn stream(server: &Served, head: &str, length: usize) -> String {
    let mut connection = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let head = format!("{head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![0; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let next = left.min(piece.len());
        connection.write_all(&piece[..next]).await.unwrap();
        left -= next;
    }
    let mut response = vec![0; 4096];
    let read = connection.read(&mut response).await.unwrap();
    String::from_utf8_lossy(&response[..read]).into_owned()
}

#[tokio::test]
async fn a_stopped_server_starts_on_a_full_disk_serves_reads_and_answers_507() {
    let disk = SmallDisk::mount("48m");
    if !edgewright_testkit::has_if(disk.is_some(), "root to mount a tmpfs") {
        return;
    }
    let disk = disk.unwrap();
    let server = Served::start_in(disk.0.path(), true).await;
    let digest = server.push_image(Credentials::Operator, OWN, "layer").await;
    server.close().await;
    disk.fill();

    for _ in 0..2 {
        let server = Served::start_in(disk.0.path(), true).await;
        let manifest =
            server.ask(Method::Get, &format!("/v2/{OWN}/manifests/v1"), Credentials::Anonymous).await;
        assert_eq!(manifest.status().as_u16(), 200);
        let blob = format!("/v2/{OWN}/blobs/{}", Digest::of("layer"));
        let blob = server.ask(Method::Get, &blob, Credentials::Anonymous).await;
        assert_eq!(blob.text().await.unwrap(), "layer");
        for path in ["/api/v1/status", "/api/v1/images", "/api/v1/runs"] {
            let response = server.ask(Method::Get, path, Credentials::Anonymous).await;
            assert_eq!(response.status().as_u16(), 200, "{path}");
        }
        let authorization = format!("Authorization: Bearer {}", server.operator_token());
        let path = format!("POST /v2/{OWN}/blobs/uploads/?digest={digest} HTTP/1.1\r\n{authorization}\r\nX:");
        let response = stream(&server, &path, 40_000_000).await;
        assert!(response.starts_with("HTTP/1.1 507 "), "{response}");
        assert!(response.contains("\"UNAVAILABLE\""), "an OCI body: {response}");
        server.close().await;
    }
}

#[tokio::test]
async fn a_client_that_streams_sees_the_response_to_a_request_that_is_rejected_early() {
    let server = Served::start(true).await;
    for (head, status) in [
        (format!("POST /v2/{OWN}/blobs/uploads/?digest={}", Digest::of("x")), "401"),
        (format!("PATCH /v2/{OWN}/blobs/uploads/0189-none"), "401"),
        (format!("PUT /v2/{OWN}/manifests/v1"), "401"),
        ("POST /api/v1/verdicts".to_owned(), "401"),
        ("POST /no/such/route".to_owned(), "404"),
    ] {
        let response = stream(&server, &head, 40_000_000).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {response}");
    }
    server.close().await;
}

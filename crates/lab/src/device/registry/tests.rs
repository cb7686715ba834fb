use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// A registry that offers a manifest of one layer in memory and one in a file.
struct Offering {
    registry: Registry,
    manifest: Digest,
    _folder: tempfile::TempDir,
}

fn offering() -> Offering {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::with_url("http://127.0.0.1:1", edgewright_oci::Credentials::Anonymous).unwrap();
    let registry = Registry::serve(client, folder.path());
    let bytes = Bytes::from_static(b"{\"layers\":[]}");
    let manifest =
        ManifestBytes { media_type: media::MANIFEST.to_owned(), digest: Digest::of(&bytes), bytes };
    let path = folder.path().join("blob");
    std::fs::write(&path, "0123456789").unwrap();
    let places = vec![
        (Digest::of("0123456789"), Place::File(path)),
        (Digest::of("far"), Place::Registry("plant/hmi".parse().unwrap())),
    ];
    let digest = manifest.digest.clone();
    registry.shared.add(manifest, places, &[]);
    Offering { registry, manifest: digest, _folder: folder }
}

impl Offering {
    /// What is answered to a request: the head in lower case, and the body.
    async fn ask(&self, method: &str, path: &str, more: &str) -> (String, String) {
        let mut stream = self.registry.connect();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }
}

#[tokio::test]
async fn the_tag_is_what_was_offered_last_with_its_checks() {
    let offering = offering();
    let (head, body) = offering.ask("GET", "/v2/lane/device/manifests/next", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains(&offering.manifest.to_string()), "{head}");
    assert_eq!(body, "{\"layers\":[]}");
    let (_, referrers) = offering
        .ask("GET", &format!("/v2/lane/device/referrers/{}?artifactType=x", offering.manifest), "")
        .await;
    let index: serde_json::Value = serde_json::from_str(&referrers).unwrap();
    let artifact = index["manifests"][0]["digest"].as_str().unwrap();
    let (_, artifact) = offering.ask("GET", &format!("/v2/lane/device/manifests/{artifact}"), "").await;
    let artifact: serde_json::Value = serde_json::from_str(&artifact).unwrap();
    let checks = artifact["layers"][0]["digest"].as_str().unwrap();
    let (_, checks) = offering.ask("GET", &format!("/v2/lane/device/blobs/{checks}"), "").await;
    assert_eq!(checks, "[]");
}

#[tokio::test]
async fn a_blob_is_resumed_and_counted() {
    let offering = offering();
    let path = format!("/v2/lane/device/blobs/{}", Digest::of("0123456789"));
    let (head, body) = offering.ask("GET", &path, "").await;
    assert!(head.starts_with("http/1.1 200") && body == "0123456789", "{head}");
    let (head, body) = offering.ask("GET", &path, "range: bytes=7-\r\n").await;
    assert!(head.starts_with("http/1.1 206") && head.contains("content-range: bytes 7-9/10"), "{head}");
    assert_eq!((body.as_str(), offering.registry.sent()), ("789", 13));
    let (head, _) = offering.ask("GET", &path, "range: bytes=10-\r\n").await;
    assert!(head.starts_with("http/1.1 416"), "{head}");
    let (head, body) = offering.ask("HEAD", &path, "").await;
    assert!(head.contains("content-length: 10") && body.is_empty(), "{head}");
}

#[tokio::test]
async fn nothing_else_is_offered() {
    let offering = offering();
    let status = async |method, path: &str| offering.ask(method, path, "").await.0[9..12].to_owned();
    assert_eq!(status("GET", "/v2/").await, "200");
    assert_eq!(status("GET", "/v2/other/manifests/next").await, "404");
    assert_eq!(status("GET", "/v2/lane/device/manifests/stable").await, "404");
    assert_eq!(status("GET", "/v2/lane/device/blobs/../../etc/passwd").await, "404");
    assert_eq!(status("PUT", "/v2/lane/device/manifests/next").await, "405");
    // The job's registry is gone.
    assert_eq!(status("GET", &format!("/v2/lane/device/blobs/{}", Digest::of("far"))).await, "502");
}

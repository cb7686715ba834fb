//! The distribution protocol over a real listener.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use common::{IMAGE, INDEX, Server, code, descriptor, header, image};
use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use edgewright_testkit::noise;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn blobs_are_pushed_at_once_and_in_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let ping = server.get("/v2/").await;
    assert_eq!(
        (ping.status(), header(&ping, "docker-distribution-api-version").as_str()),
        (StatusCode::OK, "registry/2.0")
    );

    let small = server.push_blob("a/blobs", "hello").await;
    assert_eq!(server.get(&format!("/v2/a/blobs/blobs/{small}")).await.bytes().await.unwrap(), "hello");
    assert_eq!(server.get(&format!("/v2/other/blobs/{small}")).await.status(), StatusCode::NOT_FOUND);
    let empty = server.push_blob("a/blobs", "").await;
    assert_eq!(server.get(&format!("/v2/a/blobs/blobs/{empty}")).await.bytes().await.unwrap(), "");

    // POST, then PUT with the whole body.
    let location = server.begin("a").await;
    let put = server.request(Method::PUT, &format!("{location}?digest={small}")).body("hello");
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);

    // Chunks, the last of them with the PUT.
    let bytes = noise(700_000);
    let digest = Digest::of(&bytes);
    let location = server.begin("a").await;
    let patch = |range: &str, body: &[u8]| {
        server.request(Method::PATCH, &location).header("content-range", range).body(body.to_vec()).send()
    };
    let answer = patch("0-299999", &bytes[..300_000]).await.unwrap();
    assert_eq!((answer.status(), header(&answer, "range").as_str()), (StatusCode::ACCEPTED, "0-299999"));
    let answer = patch("400000-499999", &bytes[400_000..500_000]).await.unwrap();
    assert_eq!(
        (answer.status(), header(&answer, "range").as_str()),
        (StatusCode::RANGE_NOT_SATISFIABLE, "0-299999")
    );
    assert_eq!(patch("nonsense", b"x").await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(patch("300000-300009", b"x").await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        patch("300000-499999", &bytes[300_000..500_000]).await.unwrap().status(),
        StatusCode::ACCEPTED
    );
    let status = server.get(&location).await;
    assert_eq!((status.status(), header(&status, "range").as_str()), (StatusCode::NO_CONTENT, "0-499999"));
    let put = server.request(Method::PUT, &format!("{location}?digest={digest}"));
    let put = put.header("content-range", "500000-699999").body(bytes[500_000..].to_vec());
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap(), bytes);
    assert_eq!(server.get(&location).await.status(), StatusCode::NOT_FOUND);

    // sha512, wrong digests, cancel.
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"long");
    let long = hasher.finish();
    let post = server.request(Method::POST, &format!("/v2/a/blobs/uploads/?digest={long}")).body("long");
    assert_eq!(post.send().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(server.get(&format!("/v2/a/blobs/{long}")).await.bytes().await.unwrap(), "long");
    let location = server.begin("a").await;
    let put = server.request(Method::PUT, &format!("{location}?digest={digest}")).body("not that");
    let answer = put.send().await.unwrap();
    assert_eq!((answer.status(), code(answer).await.as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
    let location = server.begin("a").await;
    assert_eq!(server.status(Method::DELETE, &location).await, StatusCode::NO_CONTENT);
    assert_eq!(server.get(&location).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.status(Method::PATCH, &location).await, StatusCode::NOT_FOUND);
    server.close().await;
}

#[tokio::test]
async fn existing_blobs_are_mounted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let digest = server.push_blob("from/here", "content").await;
    let mount =
        |from: &str, digest: &Digest| format!("/v2/to/there/blobs/uploads/?mount={digest}&from={from}");
    assert_eq!(server.status(Method::POST, &mount("from/here", &digest)).await, StatusCode::CREATED);
    assert_eq!(server.get(&format!("/v2/to/there/blobs/{digest}")).await.text().await.unwrap(), "content");
    // A missing blob must be pushed.
    assert_eq!(
        server.status(Method::POST, &mount("from/here", &Digest::of("x"))).await,
        StatusCode::ACCEPTED
    );
    assert_eq!(server.status(Method::POST, &mount("nowhere", &digest)).await, StatusCode::ACCEPTED);
    server.close().await;
}

#[tokio::test]
async fn parts_of_blobs_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let bytes = noise(1_000_000);
    let digest = server.push_blob("a", bytes.clone()).await;
    let path = format!("/v2/a/blobs/{digest}");
    let ranged = |range: String| server.request(Method::GET, &path).header("range", range).send();

    let answer = ranged("bytes=262143-262145".into()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(&answer, "content-range"), "bytes 262143-262145/1000000");
    assert_eq!(answer.bytes().await.unwrap(), bytes[262_143..262_146]);
    let answer = ranged("bytes=-10".into()).await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), bytes[999_990..]);
    let answer = ranged("bytes=1000000-".into()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&answer, "content-range"), "bytes */1000000");

    let starts: Vec<usize> = (0..1500).map(|index| index * 600).collect();
    let list: Vec<String> = starts.iter().map(|start| format!("{start}-{}", start + 9)).collect();
    let answer = ranged(format!("bytes={}", list.join(","))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    let boundary = header(&answer, "content-type").split_once("boundary=").unwrap().1.to_owned();
    let body = answer.bytes().await.unwrap();
    let mut expected = Vec::new();
    for start in starts {
        let end = start + 9;
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {start}-{end}/1000000\r\n\r\n"
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&bytes[start..=end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(body == expected, "1500 parts");

    let head = server.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!((head.status(), header(&head, "content-length").as_str()), (StatusCode::OK, "1000000"));
    let etag = header(&head, "etag");
    let conditional = server.request(Method::GET, &path).header("if-none-match", &etag).send().await.unwrap();
    assert_eq!(conditional.status(), StatusCode::NOT_MODIFIED);
    let stale =
        server.request(Method::GET, &path).header("range", "bytes=0-1").header("if-range", "\"other\"");
    assert_eq!(stale.send().await.unwrap().status(), StatusCode::OK);
    server.close().await;
}

#[tokio::test]
async fn manifests_are_stored_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (document, digest) = server.push_image("a/b", "v1", "layer").await;
    for reference in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/a/b/manifests/{reference}");
        for method in [Method::GET, Method::HEAD] {
            let answer = server.request(method.clone(), &path).send().await.unwrap();
            assert_eq!(header(&answer, "content-type"), IMAGE);
            assert_eq!(header(&answer, "docker-content-digest"), digest.to_string());
            assert_eq!(header(&answer, "content-length"), document.to_string().len().to_string());
            if method == Method::GET {
                assert_eq!(answer.text().await.unwrap(), document.to_string());
            }
        }
        let etag = format!("\"{digest}\"");
        let answer = server.request(Method::GET, &path).header("if-none-match", etag).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
    }

    let refused = |answer: reqwest::Response| async { (answer.status().as_u16(), code(answer).await) };
    let missing = server.put_manifest("a/b", "v2", &image("never pushed")).await;
    assert_eq!(refused(missing).await, (400, "MANIFEST_BLOB_UNKNOWN".into()));
    let elsewhere = server.put_manifest("other", "v2", &image("layer")).await;
    assert_eq!(refused(elsewhere).await, (400, "MANIFEST_BLOB_UNKNOWN".into()));
    let mut wrong_size = image("layer");
    wrong_size["layers"][0]["size"] = json!(6);
    assert_eq!(
        refused(server.put_manifest("a/b", "v2", &wrong_size).await).await,
        (400, "MANIFEST_INVALID".into())
    );
    let by_other = server.put_manifest("a/b", &Digest::of("other").to_string(), &document).await;
    assert_eq!(refused(by_other).await, (400, "DIGEST_INVALID".into()));
    assert_eq!(refused(server.get("/v2/a/b/manifests/v2").await).await, (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(refused(server.get("/v2/a/b/manifests/.x").await).await, (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(refused(server.get("/v2/A/manifests/x").await).await, (400, "NAME_INVALID".into()));
    let large = server.request(Method::PUT, "/v2/a/b/manifests/v2").header("content-type", IMAGE);
    let large = large.body(vec![b' '; 4 * 1024 * 1024 + 1]).send().await.unwrap();
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);

    // sha512 and tags in the query.
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(document.to_string().as_bytes());
    let long = hasher.finish();
    let answer = server.put_manifest("a/b", &format!("{long}?tag=x&tag=y"), &document).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers().get_all("oci-tag").iter().count(), 2);
    assert_eq!(header(&server.get("/v2/a/b/manifests/y").await, "docker-content-digest"), long.to_string());

    // An index needs its manifests; foreign layers are not needed.
    let index = |digest: &Digest, size: usize| {
        json!({"schemaVersion": 2, "mediaType": INDEX,
               "manifests": [{"mediaType": IMAGE, "digest": digest, "size": size}]})
    };
    let answer = server.put_manifest("a/b", "all", &index(&digest, document.to_string().len())).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let answer = server.put_manifest("a/b", "none", &index(&Digest::of("none"), 4)).await;
    assert_eq!(refused(answer).await, (400, "MANIFEST_BLOB_UNKNOWN".into()));
    let mut foreign = image("layer");
    foreign["layers"][0] = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", "far away");
    assert_eq!(server.put_manifest("a/b", "foreign", &foreign).await.status(), StatusCode::CREATED);
    server.close().await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    assert_eq!(server.get("/v2/a/tags/list").await.status(), StatusCode::NOT_FOUND);
    for tag in ["c", "a", "B", "d"] {
        server.push_image("r/one", tag, "layer").await;
    }
    server.push_image("r/two", "t", "layer").await;
    let list = async |path: &str| {
        let answer = server.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        (header(&answer, "link"), answer.json::<Value>().await.unwrap())
    };
    let (link, body) = list("/v2/r/one/tags/list").await;
    assert_eq!((link.as_str(), body), ("", json!({"name": "r/one", "tags": ["B", "a", "c", "d"]})));
    let (link, body) = list("/v2/r/one/tags/list?n=2").await;
    assert_eq!(body["tags"], json!(["B", "a"]));
    assert_eq!(link, "</v2/r/one/tags/list?n=2&last=a>; rel=\"next\"");
    let (link, body) = list("/v2/r/one/tags/list?n=2&last=a").await;
    assert_eq!((link.as_str(), &body["tags"]), ("", &json!(["c", "d"])));
    assert_eq!(list("/v2/r/one/tags/list?n=0").await.1["tags"], json!([]));
    assert_eq!(server.get("/v2/r/one/tags/list?n=x").await.status(), StatusCode::BAD_REQUEST);
    let (link, body) = list("/v2/_catalog?n=1").await;
    assert_eq!(
        (link.as_str(), body),
        ("</v2/_catalog?n=1&last=r%2Fone>; rel=\"next\"", json!({"repositories": ["r/one"]}))
    );
    assert_eq!(list("/v2/_catalog?n=1&last=r%2Fone").await.1["repositories"], json!(["r/two"]));
    server.close().await;
}

#[tokio::test]
async fn referrers_are_found_by_subject() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (document, subject) = server.push_image("a", "v1", "layer").await;
    let size = document.to_string().len();
    let referrer = |artifact_type: &str| {
        let mut referrer = image("layer");
        referrer["subject"] = json!({"mediaType": IMAGE, "digest": subject, "size": size});
        referrer["artifactType"] = json!(artifact_type);
        referrer["annotations"] = json!({"kind": artifact_type});
        referrer
    };
    let signature = referrer("application/x.signature+json");
    let digest = Digest::of(signature.to_string());
    let answer = server.put_manifest("a", &digest.to_string(), &signature).await;
    assert_eq!(header(&answer, "oci-subject"), subject.to_string());
    let other = referrer("application/x.sbom");
    server.put_manifest("a", &Digest::of(other.to_string()).to_string(), &other).await;

    let all: Value = server.get(&format!("/v2/a/referrers/{subject}")).await.json().await.unwrap();
    assert_eq!(all["manifests"].as_array().unwrap().len(), 2);
    let path = format!("/v2/a/referrers/{subject}?artifactType=application/x.signature%2Bjson");
    let answer = server.get(&path).await;
    assert_eq!(header(&answer, "oci-filters-applied"), "artifactType");
    assert_eq!(header(&answer, "content-type"), INDEX);
    let some: Value = answer.json().await.unwrap();
    assert_eq!(
        some["manifests"],
        json!([{
            "mediaType": IMAGE, "digest": digest, "size": signature.to_string().len(),
            "artifactType": "application/x.signature+json", "annotations": {"kind": "application/x.signature+json"},
        }])
    );
    let page = server.get(&format!("/v2/a/referrers/{subject}?n=1")).await;
    let link = header(&page, "link");
    let next = link.trim_start_matches('<').split_once('>').unwrap().0;
    let rest: Value = server.get(next).await.json().await.unwrap();
    assert_eq!(rest["manifests"].as_array().unwrap().len(), 1);
    let none: Value = server.get(&format!("/v2/never/referrers/{subject}")).await.json().await.unwrap();
    assert_eq!(none["manifests"], json!([]));
    server.close().await;
}

#[tokio::test]
async fn only_unreferenced_content_can_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (_, digest) = server.push_image("a", "v1", "layer").await;
    let layer = format!("/v2/a/blobs/{}", Digest::of("layer"));
    let manifest = format!("/v2/a/manifests/{digest}");
    assert_eq!(
        server.status(Method::DELETE, &layer).await,
        StatusCode::METHOD_NOT_ALLOWED,
        "the manifest needs it"
    );
    server.put_manifest("a", "v2", &image("layer")).await;
    assert_eq!(server.status(Method::DELETE, "/v2/a/manifests/v2").await, StatusCode::ACCEPTED);
    assert_eq!(server.status(Method::GET, "/v2/a/manifests/v2").await, StatusCode::NOT_FOUND);
    assert_eq!(server.status(Method::GET, "/v2/a/manifests/v1").await, StatusCode::OK);
    assert_eq!(server.status(Method::DELETE, &manifest).await, StatusCode::ACCEPTED);
    assert_eq!(server.status(Method::DELETE, &manifest).await, StatusCode::NOT_FOUND);
    assert_eq!(
        server.status(Method::GET, "/v2/a/manifests/v1").await,
        StatusCode::NOT_FOUND,
        "tags went with it"
    );
    assert_eq!(server.status(Method::DELETE, &layer).await, StatusCode::ACCEPTED);
    assert_eq!(server.status(Method::HEAD, &layer).await, StatusCode::NOT_FOUND);
    assert_eq!(server.status(Method::DELETE, &layer).await, StatusCode::NOT_FOUND);
    assert_eq!(server.status(Method::POST, &layer).await, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(server.status(Method::GET, "/v2/nothing").await, StatusCode::NOT_FOUND);
    server.close().await;
}

#[tokio::test]
async fn the_same_bytes_never_change_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (_, _) = server.push_image("a", "v1", "layer").await;
    let mut document = image("layer");
    document.as_object_mut().unwrap().remove("mediaType");
    let bytes = document.to_string();
    let path = format!("/v2/a/manifests/{}", Digest::of(&bytes));
    let put = |media_type: &'static str, body: String| {
        server.request(Method::PUT, &path).header("content-type", media_type).body(body).send()
    };
    assert_eq!(put(IMAGE, bytes.clone()).await.unwrap().status(), StatusCode::CREATED);
    for other in [INDEX, "application/vnd.docker.distribution.manifest.v2+json"] {
        let answer = put(other, bytes.clone()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{other}");
        assert_eq!(code(answer).await, "MANIFEST_INVALID");
    }
    assert_eq!(put(IMAGE, bytes.clone()).await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(header(&server.get(&path).await, "content-type"), IMAGE);

    document["manifests"] = json!([]);
    let both = server.put_manifest("a", "both", &document).await;
    assert_eq!((both.status(), code(both).await.as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"));
    server.close().await;
}

#[tokio::test]
async fn manifests_of_many_entries_and_deeply_nested_indexes_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (_, image) = server.push_image("a", "v1", "layer").await;
    let size = common::image("layer").to_string().len();
    let index = |digest: &Digest, size: usize, entries: usize| {
        let entry = json!({"mediaType": IMAGE, "digest": digest, "size": size});
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": vec![entry; entries]})
    };
    let answer = server.put_manifest("a", "many", &index(&image, size, 4096)).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let answer = server.put_manifest("a", "more", &index(&image, size, 4097)).await;
    assert_eq!((answer.status(), code(answer).await.as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"));
    let mut layers = image_of(&vec![descriptor(common::LAYER, "layer"); 4097]);
    let answer = server.put_manifest("a", "layers", &layers).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    layers["layers"] = json!([descriptor(common::LAYER, "layer"), descriptor(common::LAYER, "missing")]);
    let answer = server.put_manifest("a", "missing", &layers).await;
    assert_eq!(
        (answer.status(), code(answer).await.as_str()),
        (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN")
    );

    let (mut digest, mut size) = (image, size);
    for depth in 1..=9 {
        let document = index(&digest, size, 1);
        let answer = server.put_manifest("a", &format!("depth-{depth}"), &document).await;
        let expected = if depth <= 8 { StatusCode::CREATED } else { StatusCode::BAD_REQUEST };
        assert_eq!(answer.status(), expected, "{depth}");
        (digest, size) = (Digest::of(document.to_string()), document.to_string().len());
    }
    server.close().await;
}

fn image_of(layers: &[Value]) -> Value {
    let mut document = image("layer");
    document["layers"] = layers.into();
    document
}

/// Requests that are wrong in each of their parts.
fn malformed(blob: &Digest, image: &Digest) -> Vec<(Method, String)> {
    let long = "a/".repeat(300);
    let hex = "0".repeat(64);
    let get = |path: String| (Method::GET, path);
    let mut requests: Vec<(Method, String)> =
        ["A", "a//b", "a%2F..%2Fb", "%00", "a\u{fc}", "-a", "a__-b", &long, "a%", "a%zz", "%ff%fe"]
            .iter()
            .flat_map(|name| {
                ["manifests/v1", "tags/list", "blobs/uploads/", "referrers/x"]
                    .map(|rest| get(format!("/v2/{name}/{rest}")))
            })
            .collect();
    for digest in ["", "x", "sha256:", "sha256:abc", "md5:abc", "sha256:G", ":", "sha256", "sha512:00"] {
        requests.push(get(format!("/v2/a/blobs/{digest}")));
        requests.push(get(format!("/v2/a/referrers/{digest}")));
        requests.push(get(format!("/v2/a/manifests/sha256:{digest}")));
        requests.push((Method::DELETE, format!("/v2/a/blobs/{digest}")));
        requests.push((Method::PUT, format!("/v2/a/blobs/uploads/0189?digest={digest}")));
        requests.push((Method::POST, format!("/v2/a/blobs/uploads/?digest={digest}x")));
        requests.push((Method::POST, format!("/v2/b/blobs/uploads/?mount={digest}x&from=a")));
    }
    for query in ["n=-1", "n=x", "n=99999999999999999999999", "n=1.5"] {
        requests.push(get(format!("/v2/_catalog?{query}")));
        requests.push(get(format!("/v2/a/tags/list?{query}")));
        requests.push(get(format!("/v2/a/referrers/{image}?{query}")));
    }
    for from in ["A", "..", "a/../b", "%00", &long] {
        requests.push((Method::POST, format!("/v2/b/blobs/uploads/?mount={blob}&from={from}")));
    }
    requests.push((Method::PUT, format!("/v2/a/manifests/sha256:{hex}")));
    requests.push((Method::PUT, "/v2/a/manifests/v1?tag=..".to_owned()));
    requests.push((Method::PUT, format!("/v2/a/manifests/{}", "t".repeat(129))));
    requests.push((Method::PATCH, "/v2/a/manifests/v1".to_owned()));
    requests.push((Method::TRACE, "/v2/".to_owned()));
    requests
}

/// None is a defect, and each error has an OCI body.
#[tokio::test]
async fn malformed_requests_get_an_error_of_the_client_with_an_oci_body() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let blob = server.push_blob("a", noise(100_000)).await;
    let (_, image) = server.push_image("a", "v1", "layer").await;
    for (method, path) in malformed(&blob, &image) {
        let answer = server.request(method.clone(), &path).body("{}").send().await.unwrap();
        assert!(answer.status().is_client_error(), "{method} {path}: {}", answer.status());
        if method != Method::HEAD {
            let body = answer.text().await.unwrap();
            assert!(body.starts_with("{\"errors\":[{\"code\":\""), "{method} {path}: {body}");
        }
    }
    // A filter of referrers is text, whatever it is.
    for filter in ["", "%00", "a&artifactType=b", &"x".repeat(5000), "' OR 1=1 --"] {
        let answer = server.get(&format!("/v2/a/referrers/{image}?artifactType={filter}")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{filter}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["manifests"], json!([]), "{filter}");
    }
    // Mounts from a repository without the blob begin an upload.
    let mount = format!("/v2/b/blobs/uploads/?mount={blob}&from=nowhere");
    assert_eq!(server.status(Method::POST, &mount).await, StatusCode::ACCEPTED);
    server.close().await;
}

/// An error shows the size of the blob; what is no range is ignored.
#[tokio::test]
async fn malformed_ranges_and_chunks_are_no_defects() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let blob = server.push_blob("a", noise(100_000)).await;
    for (range, status) in [
        ("bytes=18446744073709551615-", 416),
        ("bytes=100000-18446744073709551615", 416),
        ("bytes=0-18446744073709551616", 200),
        ("bytes=-99999999999999999999", 200),
        ("bytes=--1", 200),
        ("bytes=,", 416),
        ("bytes=0-0,-1", 206),
        ("bytes=0-99999,0-99999", 200),
    ] {
        let request = server.request(Method::GET, &format!("/v2/a/blobs/{blob}")).header("range", range);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{range}");
        let body = answer.bytes().await.unwrap();
        if status == 416 {
            assert!(body.starts_with(b"{\"errors\""), "{range}: {body:?}");
        }
    }
    // Chunks: nothing of a wrong one is kept.
    let location = server.begin("a").await;
    for range in [
        "",
        "0",
        "-",
        "5-1",
        "0--1",
        "0-18446744073709551615",
        "18446744073709551615-0",
        "1-2",
        "bytes 0-9/2",
    ] {
        let patch = server.request(Method::PATCH, &location).header("content-range", range).body("x");
        let answer = patch.send().await.unwrap();
        assert!(answer.status().is_client_error(), "{range}: {}", answer.status());
        assert!(answer.text().await.unwrap().starts_with("{\"errors\""), "{range}");
    }
    assert_eq!(header(&server.get(&location).await, "range"), "0-0");
    server.close().await;
}

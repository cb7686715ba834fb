//! The image that a device is offered, as a registry with one tag on its own loopback. It comes from a
//! folder, so no network is needed, however the image configures or filters its own.
//!
//! ```text
//! FOLDER/offer.json          where it is served, and the tag's digest
//!        manifests/HEX       manifests; HEX.type is the media type
//!        referrers/HEX       the index of what refers to a manifest
//!        blobs/HEX
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgewright_model::Digest;
use serde::{Deserialize, Serialize};
use tiny_http::{Header, Method, Request, Response, Server, StatusCode};

/// The file that describes the offer.
pub const OFFER: &str = "offer.json";
/// The folders of an offer.
pub const MANIFESTS: &str = "manifests";
/// See [`MANIFESTS`].
pub const REFERRERS: &str = "referrers";
/// See [`MANIFESTS`].
pub const BLOBS: &str = "blobs";
/// The ending of the file with a manifest's media type.
pub const TYPE: &str = "type";

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const BLOB_TYPE: &str = "application/octet-stream";
/// How many requests are answered at once.
const THREADS: usize = 4;

/// What is offered, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The address to listen on, `HOST:PORT`.
    pub address: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// What the tag is.
    pub digest: Digest,
}

/// A registry that serves a folder. It ends when this is dropped.
pub(super) struct Registry(Arc<Server>);

impl Registry {
    /// Listens.
    pub(super) fn serve(folder: &Path) -> io::Result<Self> {
        let offer: Offer =
            serde_json::from_slice(&fs::read(folder.join(OFFER))?).map_err(io::Error::other)?;
        let server = Arc::new(Server::http(&offer.address).map_err(io::Error::other)?);
        let content = Arc::new(Content { folder: folder.to_owned(), offer });
        for _ in 0..THREADS {
            let (server, content) = (Arc::clone(&server), Arc::clone(&content));
            std::thread::Builder::new().spawn(move || {
                while let Ok(request) = server.recv() {
                    let response = content.respond(&request);
                    // A client that is gone asks again.
                    let _ = request.respond(response);
                }
            })?;
        }
        Ok(Self(server))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for _ in 0..THREADS {
            self.0.unblock();
        }
    }
}

struct Content {
    folder: PathBuf,
    offer: Offer,
}

type Answer = Response<Box<dyn Read + Send>>;

impl Content {
    fn respond(&self, request: &Request) -> Answer {
        if !matches!(request.method(), Method::Get | Method::Head) {
            return empty(405);
        }
        let range = request.headers().iter().find(|header| header.field.equiv("range"));
        self.find(request.url(), range.map(|header| header.value.as_str()))
            .unwrap_or_else(|error| empty(if error.kind() == io::ErrorKind::NotFound { 404 } else { 500 }))
    }

    fn find(&self, url: &str, range: Option<&str>) -> io::Result<Answer> {
        let path = url.split('?').next().unwrap_or_default();
        if matches!(path, "/v2" | "/v2/") {
            return Ok(whole("application/json", b"{}".to_vec()));
        }
        let prefix = format!("/v2/{}/", self.offer.repository);
        let Some((kind, name)) = path.strip_prefix(&prefix).and_then(|rest| rest.split_once('/')) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let digest = if kind == MANIFESTS && name == self.offer.tag {
            self.offer.digest.clone()
        } else {
            name.parse().map_err(|_| io::ErrorKind::NotFound)?
        };
        // A digest is hexadecimal: its name leads nowhere else.
        let file = self.folder.join(kind).join(digest.hex());
        match kind {
            MANIFESTS => {
                let media_type = fs::read_to_string(file.with_extension(TYPE))?;
                let mut response = whole(&media_type, fs::read(file)?);
                response.add_header(header("Docker-Content-Digest", &digest.to_string())?);
                Ok(response)
            }
            REFERRERS => Ok(whole(INDEX_TYPE, fs::read(file)?)),
            BLOBS => blob(&file, range),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// A file, or the rest of it: clients resume with that.
fn blob(file: &Path, range: Option<&str>) -> io::Result<Answer> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    let start: Option<u64> =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from = start.unwrap_or(0);
    if start.is_some() && from >= length {
        return Ok(empty(416));
    }
    file.seek(SeekFrom::Start(from))?;
    let mut headers = vec![header("Content-Type", BLOB_TYPE)?, header("Accept-Ranges", "bytes")?];
    if start.is_some() {
        headers.push(header("Content-Range", &format!("bytes {from}-{}/{length}", length - 1))?);
    }
    let status = StatusCode(if start.is_some() { 206 } else { 200 });
    let left = usize::try_from(length - from).ok();
    let body: Box<dyn Read + Send> = Box::new(file);
    // Without a threshold, long bodies come in chunks, and clients do not see where they end.
    Ok(Response::new(status, headers, body, left, None).with_chunked_threshold(usize::MAX))
}

fn whole(media_type: &str, bytes: Vec<u8>) -> Answer {
    let length = bytes.len();
    let headers = header("Content-Type", media_type.trim()).into_iter().collect();
    Response::new(
        StatusCode(200),
        headers,
        Box::new(io::Cursor::new(bytes)) as Box<dyn Read + Send>,
        Some(length),
        None,
    )
    .with_chunked_threshold(usize::MAX)
}

fn empty(status: u16) -> Answer {
    Response::new(
        StatusCode(status),
        Vec::new(),
        Box::new(io::empty()) as Box<dyn Read + Send>,
        Some(0),
        None,
    )
}

fn header(name: &str, value: &str) -> io::Result<Header> {
    Header::from_bytes(name, value).map_err(|()| io::Error::other(format!("invalid header {name}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn ask(address: &str, head: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_folder_is_a_registry_with_one_tag() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let (manifest, blob) = (Digest::of("manifest"), Digest::of("blob"));
        for kind in [MANIFESTS, REFERRERS, BLOBS] {
            fs::create_dir(at(kind)).unwrap();
        }
        fs::write(at(MANIFESTS).join(manifest.hex()), "the manifest").unwrap();
        fs::write(at(MANIFESTS).join(format!("{}.{TYPE}", manifest.hex())), "a/type").unwrap();
        fs::write(at(REFERRERS).join(manifest.hex()), "the index").unwrap();
        fs::write(at(BLOBS).join(blob.hex()), "0123456789").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let offer = Offer {
            address: format!("127.0.0.1:{port}"),
            repository: "lane/device".to_owned(),
            tag: "next".to_owned(),
            digest: manifest.clone(),
        };
        fs::write(at(OFFER), serde_json::to_vec(&offer).unwrap()).unwrap();
        let registry = Registry::serve(folder.path()).unwrap();
        let get = |path: &str, more: &str| ask(&offer.address, &format!("GET /v2/{path} HTTP/1.1{more}"));
        assert!(get("", "").ends_with("\r\n\r\n{}"));
        let by_tag = get("lane/device/manifests/next", "");
        assert!(by_tag.contains(&format!("Docker-Content-Digest: {manifest}")), "{by_tag}");
        assert!(by_tag.contains("Content-Type: a/type") && by_tag.ends_with("the manifest"), "{by_tag}");
        assert!(get(&format!("lane/device/referrers/{manifest}?a=b"), "").ends_with("the index"));
        let path = format!("lane/device/blobs/{blob}");
        let whole = get(&path, "");
        assert!(whole.contains("Content-Length: 10") && whole.ends_with("0123456789"), "{whole}");
        let rest = get(&path, "\r\nRange: bytes=7-");
        assert!(rest.starts_with("HTTP/1.1 206") && rest.contains("bytes 7-9/10"), "{rest}");
        assert!(rest.contains("Content-Length: 3") && rest.ends_with("\r\n789"), "{rest}");
        assert!(get(&path, "\r\nRange: bytes=10-").starts_with("HTTP/1.1 416"));
        let head = ask(&offer.address, &format!("HEAD /v2/{path} HTTP/1.1"));
        assert!(head.contains("Content-Length: 10") && head.ends_with("\r\n\r\n"), "{head}");
        for missing in
            ["lane/device/manifests/other", "lane/device/blobs/../offer.json", "other/manifests/next"]
        {
            assert!(get(missing, "").starts_with("HTTP/1.1 404"), "{missing}");
        }
        assert!(ask(&offer.address, "PUT /v2/x HTTP/1.1").starts_with("HTTP/1.1 405"));
        drop(registry);
    }
}

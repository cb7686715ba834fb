//! Evidence that explains the result of a lane: gathered before the machine is removed, limited in size, and
//! stored as blobs beside the manifest. If evidence cannot be gathered or stored, it is missing; the lane
//! does not fail.

use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_model::outcome::JobEvent;
use edgewright_model::verdict::Evidence;
use edgewright_oci::Client;

use crate::lane::Events;

/// The size limit of one piece, in bytes. Its end is kept, where the cause usually is.
const LIMIT: usize = 1024 * 1024;
/// The time limit to store all pieces.
const STORING: Duration = Duration::from_mins(1);

/// A piece before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its name in verdicts, such as `journal`.
    pub name: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content; of a long one, the end.
    pub bytes: Vec<u8>,
}

impl Piece {
    /// A piece of text.
    pub fn text(name: &'static str, bytes: Vec<u8>) -> Self {
        Self { name, media_type: "text/plain; charset=utf-8", bytes }
    }
}

/// Bounds memory while lines arrive; cuts rarely, so that it costs little.
pub fn keep_end(bytes: &mut Vec<u8>) {
    if bytes.len() > 2 * LIMIT {
        bound(bytes);
    }
}

/// Cuts the beginning, to whole lines.
pub fn bound(bytes: &mut Vec<u8>) {
    let excess = bytes.len().saturating_sub(LIMIT);
    if excess > 0 {
        let rest = bytes[excess..].iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        bytes.drain(..excess + rest);
    }
}

/// Stores the pieces in the manifest's repository.
pub(crate) async fn store(
    pieces: Vec<Piece>,
    client: &Client,
    repository: &edgewright_model::reference::RepoName,
    events: Events<'_>,
) -> Vec<Evidence> {
    let store_all = async {
        let mut stored = Vec::new();
        for piece in pieces {
            match client.push_blob_bytes(repository, piece.bytes).await {
                Ok(blob) => stored.push(Evidence {
                    name: piece.name.to_owned(),
                    media_type: piece.media_type.to_owned(),
                    blob,
                }),
                Err(error) => {
                    let line = format!("cannot store evidence `{}`: {}", piece.name, Chain(&error));
                    tracing::warn!("{line}");
                    events(JobEvent::Log { line });
                }
            }
        }
        stored
    };
    tokio::time::timeout(STORING, store_all).await.unwrap_or_else(|_| {
        events(JobEvent::Log { line: "cannot store evidence: the registry does not answer".to_owned() });
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_in_whole_lines() {
        let mut short = b"one\ntwo\n".to_vec();
        bound(&mut short);
        assert_eq!(short, b"one\ntwo\n");
        let mut long: Vec<u8> = (0..300_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        keep_end(&mut long);
        bound(&mut long);
        assert!(long.len() <= LIMIT && long.len() > LIMIT - 100);
        assert!(long.starts_with(b"line ") && long.ends_with(b"line 299999\n"));
    }
}

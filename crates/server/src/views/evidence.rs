//! Evidence of a node's lanes. Its bytes come from the machine under test: they are bounded and verified, and
//! never more than text.

use edgewright_api::{EvidenceQuery, EvidenceView};
use edgewright_model::Digest;
use edgewright_model::run::RunNumber;
use edgewright_model::verdict::VerdictOrigin;
use edgewright_store::nodes::NodeRow;
use edgewright_store::results::VerdictRow;
use tokio::io::AsyncReadExt as _;

use super::{ViewError, Views, is_asked};

/// The largest piece of evidence that is served, in bytes. Lanes keep less.
const MAX_EVIDENCE_BYTES: u64 = 16 * 1024 * 1024;

impl Views {
    /// The evidence of a node: of its own lanes in this run, else of the newest verdicts on its digest.
    pub async fn evidence(&self, run: RunNumber, node: &str) -> Result<Vec<EvidenceView>, ViewError> {
        let domain = self.run_row(run).await?.domain();
        let mut rows = self.store.nodes(run).await?;
        rows.retain(|row| row.node == node);
        if rows.is_empty() {
            return Err(ViewError::NotFound {
                what: format!("node `{node}` not found in run {run}"),
                hint: format!("`edgewright run show {run}` lists them"),
            });
        }
        let mut pieces = Vec::new();
        for row in &rows {
            let Some(digest) = &row.digest else { continue };
            let verdicts = self.store.verdicts_in(digest, domain).await?;
            let asked = row.lanes.as_deref();
            let counts =
                |verdict: &VerdictRow| self.is_current(&verdict.verdict) && is_asked(&verdict.verdict, asked);
            for verdict in chosen(&verdicts, run, &counts) {
                pieces.extend(views(row, verdict));
            }
        }
        pieces.sort_by_key(|piece| piece.lane);
        Ok(pieces)
    }

    /// The bytes of one piece.
    pub async fn piece(
        &self,
        run: RunNumber,
        node: &str,
        name: &str,
        of: &EvidenceQuery,
    ) -> Result<Vec<u8>, ViewError> {
        let pieces = self.evidence(run, node).await?;
        let Some(piece) = pieces.iter().find(|piece| piece.name == name && of.matches(piece)) else {
            let mut names: Vec<&str> = pieces.iter().map(|piece| piece.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let hint = if names.is_empty() {
                format!("no lane of it left evidence; `edgewright logs {run} {node}` has its log")
            } else {
                format!("it has {}", names.join(", "))
            };
            return Err(ViewError::NotFound {
                what: format!("no evidence `{name}` of `{node}` in run {run}"),
                hint,
            });
        };
        self.blob(piece).await
    }

    async fn blob(&self, piece: &EvidenceView) -> Result<Vec<u8>, ViewError> {
        let digest = &piece.digest;
        let folder = self.folder.registry().join("blobs").join(digest.algorithm().name());
        let path = folder.join(&digest.hex()[..2]).join(digest.hex());
        let gone = |why: &str| ViewError::NotFound {
            what: format!("the evidence `{}` ({}) {why}", piece.name, digest.short()),
            hint: "run the lane again: `edgewright run VARIANT --lane LANE`".to_owned(),
        };
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(gone("is no longer stored"));
            }
            Err(source) => return Err(ViewError::Log { path, source }),
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_EVIDENCE_BYTES + 1).read_to_end(&mut bytes).await;
        read.map_err(|source| ViewError::Log { path, source })?;
        if bytes.len() as u64 > MAX_EVIDENCE_BYTES {
            return Err(gone("is too large to be evidence"));
        }
        if Digest::of(&bytes) != *digest {
            return Err(gone("is damaged on the disk"));
        }
        Ok(bytes)
    }
}

/// The verdicts whose evidence is shown, newest first: of each lane the newest of this run, else the newest
/// current one, else the newest.
fn chosen<'a>(
    verdicts: &'a [VerdictRow],
    run: RunNumber,
    counts: &dyn Fn(&VerdictRow) -> bool,
) -> Vec<&'a VerdictRow> {
    let mut rows: Vec<&VerdictRow> = verdicts.iter().collect();
    rows.sort_by_key(|row| (row.run != run, !counts(row)));
    let mut seen = std::collections::BTreeSet::new();
    rows.retain(|row| seen.insert(row.verdict.lane));
    rows
}

fn views(node: &NodeRow, row: &VerdictRow) -> Vec<EvidenceView> {
    let verdict = &row.verdict;
    // A lane stores its evidence beside the image that it ran; a blob of another repository is none of it.
    let ran = match &verdict.origin {
        VerdictOrigin::Inherited { from, .. } => &from.repository,
        VerdictOrigin::Ran | VerdictOrigin::External { .. } => &verdict.manifest.repository,
    };
    let own = verdict.evidence.iter().filter(|piece| piece.blob.repository == *ran);
    own.map(|piece| EvidenceView {
        lane: verdict.lane,
        platform: node.platform.clone(),
        name: piece.name.clone(),
        media_type: piece.media_type.clone(),
        size_bytes: piece.blob.size,
        digest: piece.blob.digest.clone(),
        run: row.run,
        recorded: row.created_at,
    })
    .collect()
}

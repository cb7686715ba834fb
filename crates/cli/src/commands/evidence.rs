//! `evidence`: what the lanes of a node left behind: journal, failed units, console.

use std::io::IsTerminal as _;
use std::path::Path;

use edgewright_api::EvidenceQuery;
use edgewright_api::documents::EvidenceList;

use super::now;
use crate::args::{EvidenceArgs, Global};
use crate::exit::{End, Failure};
use crate::reader::Reader;
use crate::render::visible::Visible;
use crate::{output, render};

/// Lists the evidence of a node, or prints a piece.
pub(super) async fn evidence(global: &Global, args: EvidenceArgs) -> Result<End, Failure> {
    let reader = Reader::open(global).await?;
    let EvidenceArgs { run, node, name, lane, platform, output, format } = args;
    let of = EvidenceQuery { lane, platform };
    let Some(name) = name else {
        let mut evidence = reader.evidence(run, &node).await?;
        evidence.retain(|piece| of.matches(piece));
        let hint = format!("edgewright evidence {run} {node} NAME");
        return super::print(format.json, &EvidenceList { evidence }, |list| {
            render::evidence(&list.evidence, &hint, now())
        });
    };
    if format.json {
        let message = "a piece of evidence is no JSON document: `--json` is for the list";
        return Err(Failure::user(message).hint("leave out `--json`, or NAME"));
    }
    let bytes = reader.piece(run, &node, &name, &of).await?;
    match output {
        Some(file) => write(&file, &bytes).await?,
        // It must not steer the terminal.
        None if std::io::stdout().is_terminal() => output::print(&Visible::default().next(&bytes))?,
        None => drop(output::print_bytes(&bytes)?),
    }
    Ok(End::Good)
}

async fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = tokio::fs::write(file, bytes).await;
    written.map_err(|error| Failure::unavailable(&format!("cannot write {}", file.display()), &error))
}

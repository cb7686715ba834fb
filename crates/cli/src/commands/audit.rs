//! The audit trail: list, verify, export. What is verified is computed here, from the entries alone: the
//! server is not trusted with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use edgewright_api::{AuditEntry, AuditFilter, routes};
use edgewright_model::audit::{Anchor, Broken, Verifier};
use edgewright_model::error::ErrorClass;

use super::{blocking, now};
use crate::args::{AuditArgs, AuditCommand, AuditListArgs};
use crate::exit::{End, Failure};
use crate::reader::Reader;
use crate::{output, render};

/// `audit`.
pub(super) async fn audit(reader: &Reader, args: AuditArgs) -> Result<End, Failure> {
    match args.command {
        None => list(reader, args.list).await,
        Some(AuditCommand::Export { after }) => export(reader, after).await,
        Some(AuditCommand::Verify { anchor, .. }) => verify(reader, anchor).await,
    }
}

async fn list(reader: &Reader, args: AuditListArgs) -> Result<End, Failure> {
    let filter = AuditFilter {
        actor: args.actor,
        operation: args.operation,
        object: args.object,
        since: args.since,
        limit: args.limit,
        cursor: args.cursor,
        after: None,
    };
    let page = reader.audit(&filter).await?;
    super::print(args.format.json, &page, |page| render::audit(page, now()))
}

/// A page of the entries after a number, oldest first; an empty one is the end.
async fn page(reader: &Reader, after: u64) -> Result<Vec<AuditEntry>, Failure> {
    let filter = AuditFilter { after: Some(after), limit: routes::LARGEST_LIMIT, ..AuditFilter::default() };
    Ok(reader.audit(&filter).await?.entries)
}

async fn export(reader: &Reader, mut after: u64) -> Result<End, Failure> {
    let mut head = None;
    loop {
        let entries = page(reader, after).await?;
        let Some(last) = entries.last() else { break };
        (after, head) = (last.number, Some(Anchor { number: last.number, hash: last.hash.clone() }));
        let mut lines = String::new();
        for entry in &entries {
            lines.push_str(
                &serde_json::to_string(entry)
                    .map_err(|error| Failure::new(ErrorClass::Bug, format!("cannot write JSON: {error}")))?,
            );
            lines.push('\n');
        }
        if !output::print_text(&lines)? {
            return Ok(End::Good);
        }
    }
    match head {
        Some(head) => output::note(&format!("head: {head}")),
        None => output::note(&format!("no changes after {after}")),
    }
    Ok(End::Good)
}

async fn verify(reader: &Reader, anchor: Option<Anchor>) -> Result<End, Failure> {
    let mut verifier = Verifier::new(Anchor::genesis(), anchor);
    let mut after = 0;
    loop {
        let entries = page(reader, after).await?;
        let Some(last) = entries.last() else { break };
        after = last.number;
        for entry in &entries {
            if let Err(broken) = entry.verify(&mut verifier) {
                return report(Err(broken));
            }
        }
    }
    report(verifier.finish())
}

/// `audit verify --file`.
pub(super) async fn verify_file(file: PathBuf, anchor: Option<Anchor>) -> Result<End, Failure> {
    let verdict = blocking(move || {
        let read = |error| Failure::file("cannot read", &file, &error);
        if file == Path::new("-") {
            return verify_lines(std::io::stdin().lock(), &file, anchor);
        }
        verify_lines(BufReader::new(std::fs::File::open(&file).map_err(read)?), &file, anchor)
    });
    report(verdict.await??)
}

fn verify_lines(
    lines: impl BufRead,
    file: &Path,
    anchor: Option<Anchor>,
) -> Result<Result<(Anchor, u64), Broken>, Failure> {
    let mut verifier: Option<Verifier> = None;
    for (index, line) in lines.lines().enumerate() {
        let line = line.map_err(|error| Failure::file("cannot read", file, &error))?;
        let entry: AuditEntry = serde_json::from_str(&line).map_err(|error| {
            Failure::user(format!("malformed entry in line {} of {}: {error}", index + 1, file.display()))
                .hint("give what `edgewright audit export` printed")
        })?;
        let verifier = verifier.get_or_insert_with(|| {
            // An export may begin later: its first entry names the hash of the one before.
            let start = match entry.number {
                0 | 1 => Anchor::genesis(),
                number => Anchor { number: number - 1, hash: entry.previous.clone() },
            };
            Verifier::new(start, anchor.clone())
        });
        if let Err(broken) = entry.verify(verifier) {
            return Ok(Err(broken));
        }
    }
    Ok(verifier.unwrap_or_else(|| Verifier::new(Anchor::genesis(), anchor)).finish())
}

/// Prints the verdict.
fn report(verdict: Result<(Anchor, u64), Broken>) -> Result<End, Failure> {
    match verdict {
        Ok((head, rows)) => {
            output::print(&format!("verified {rows} changes\nhead: {head}\n"))?;
            Ok(End::Good)
        }
        Err(broken) => {
            output::print(&format!("the audit trail is broken: {broken}\n"))?;
            Ok(End::Fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::audit::{Row, genesis};

    use super::*;

    fn entries(count: u64) -> Vec<AuditEntry> {
        let mut previous = genesis();
        (1..=count)
            .map(|number| {
                let at = jiff::Timestamp::from_second(1_800_000_000).unwrap();
                let (actor, after) = ("user:anna".parse().unwrap(), serde_json::json!({"release": number}));
                let row = Row {
                    number,
                    at: &at.to_string(),
                    actor: "user:anna",
                    operation: "run.cancel",
                    object: "runs/7",
                    before: None,
                    after: Some(&after),
                    request: None,
                    previous: &previous,
                };
                let hash = row.hash();
                let previous = std::mem::replace(&mut previous, hash.clone());
                AuditEntry {
                    number,
                    at,
                    actor,
                    operation: "run.cancel".to_owned(),
                    object: "runs/7".to_owned(),
                    before: None,
                    after: Some(after),
                    request: None,
                    previous,
                    hash,
                }
            })
            .collect()
    }

    fn verified(entries: &[AuditEntry], anchor: Option<Anchor>) -> Result<(Anchor, u64), Broken> {
        let lines: Vec<String> = entries.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
        verify_lines(lines.join("\n").as_bytes(), Path::new("x"), anchor).unwrap()
    }

    #[test]
    fn an_export_is_verified_whole_or_from_where_it_begins() {
        let mut all = entries(6);
        let head = Anchor { number: 6, hash: all[5].hash.clone() };
        assert_eq!(verified(&all, None), Ok((head.clone(), 6)));
        assert_eq!(verified(&all[3..], Some(head.clone())), Ok((head, 3)));
        all[4].actor = "user:otto".parse().unwrap();
        assert!(matches!(verified(&all, None), Err(Broken::Changed { number: 5, .. })));
        assert!(verify_lines("{}".as_bytes(), Path::new("x"), None).is_err());
    }
}

//! The chain of the audit trail: each row has the hash of the row before, so that a row that was changed,
//! removed, inserted or moved is found.
//!
//! The hash of a row is the SHA-256 of its canonical JSON: the fields of [`Row`] without spaces, keys of all
//! objects sorted, UTF-8. So a reader without Edgewright checks it, too:
//! `jq -cjS 'del(.hash)' | sha256sum`, for a line of `edgewright audit export`.
//!
//! ```text
//!  genesis ◀── row 1 ◀── row 2 ◀── … ◀── row N: the head, whose hash is kept elsewhere as an anchor
//! ```

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::names::InvalidName;

/// The `previous` of the first row of all.
pub fn genesis() -> Digest {
    Digest::from_sha256([0; 32])
}

/// A row, as it is hashed.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its number.
    pub number: u64,
    /// Time of the change, as stored.
    pub at: &'a str,
    /// Principal.
    pub actor: &'a str,
    /// Operation.
    pub operation: &'a str,
    /// Object.
    pub object: &'a str,
    /// State before.
    pub before: Option<&'a Value>,
    /// State after.
    pub after: Option<&'a Value>,
    /// Id of the request.
    pub request: Option<&'a str>,
    /// Hash of the row before.
    pub previous: &'a Digest,
}

impl Row<'_> {
    /// Its hash.
    pub fn hash(&self) -> Digest {
        let mut fields = Map::new();
        fields.insert("number".to_owned(), self.number.into());
        fields.insert("previous".to_owned(), self.previous.to_string().into());
        for (name, text) in [
            ("at", Some(self.at)),
            ("actor", Some(self.actor)),
            ("operation", Some(self.operation)),
            ("object", Some(self.object)),
            ("request", self.request),
        ] {
            if let Some(text) = text {
                fields.insert(name.to_owned(), text.into());
            }
        }
        for (name, value) in [("before", self.before), ("after", self.after)] {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value.clone());
            }
        }
        let mut text = String::new();
        canonical(&Value::Object(fields), &mut text);
        Digest::of(text)
    }
}

/// Writes JSON without spaces and with sorted keys, whatever order the map has.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, field)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                canonical(field, text);
            }
            text.push('}');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// A row's number and hash: enough to recognise the whole trail up to it. Written `NUMBER:sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The row's number; 0 before the first row.
    pub number: u64,
    /// The row's hash.
    pub hash: Digest,
}

impl Anchor {
    /// Before the first row of all.
    pub fn genesis() -> Self {
        Self { number: 0, hash: genesis() }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for Anchor {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const RULE: &str = "want NUMBER:sha256:HEX, as `edgewright audit verify` prints it";
        let parsed = text
            .split_once(':')
            .and_then(|(number, hash)| Some(Self { number: number.parse().ok()?, hash: hash.parse().ok()? }));
        parsed.ok_or_else(|| InvalidName::new("anchor", RULE, text))
    }
}

/// The first fault of a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The row's content is not what was hashed.
    #[error("row {number} was changed: its content has the hash {found}, it claims {claimed}")]
    Changed {
        /// Its number.
        number: u64,
        /// The hash of its content.
        found: Digest,
        /// The hash that it has.
        claimed: Digest,
    },
    /// Numbers do not follow each other.
    #[error("row {number} follows row {after}: rows between them were removed, or rows were reordered")]
    Gap {
        /// The row.
        number: u64,
        /// The one before.
        after: u64,
    },
    /// The row does not continue the one before.
    #[error("row {number} does not continue row {after}: one of them was replaced")]
    Unlinked {
        /// The row.
        number: u64,
        /// The one before.
        after: u64,
    },
    /// The row of an anchor has another hash.
    #[error("row {} is not the one of the anchor: the trail up to it was rewritten", .0.number)]
    OtherThanAnchor(Anchor),
    /// The trail ends before the anchor.
    #[error("the trail ends at row {head}, before the anchor's row {}: its end was removed", .anchor.number)]
    EndsBefore {
        /// The last row.
        head: u64,
        /// The anchor.
        anchor: Anchor,
    },
    /// The trail begins after the anchor.
    #[error("the trail begins after row {start}: the anchor's row {} is not part of it", .anchor.number)]
    BeginsAfter {
        /// The last row that is not part of it.
        start: u64,
        /// The anchor.
        anchor: Anchor,
    },
}

/// Verifies rows in order.
#[derive(Debug, Clone)]
pub struct Verifier {
    start: Anchor,
    head: Anchor,
    rows: u64,
    anchor: Option<Anchor>,
}

impl Verifier {
    /// Of rows that follow `start`. The row of `anchor`, if given, must have its hash.
    pub fn new(start: Anchor, anchor: Option<Anchor>) -> Self {
        Self { head: start.clone(), start, rows: 0, anchor }
    }

    /// Verifies the next row.
    ///
    /// # Errors
    /// It was changed, or does not continue the one before.
    pub fn push(&mut self, row: &Row<'_>, claimed: &Digest) -> Result<(), Broken> {
        let (number, after) = (row.number, self.head.number);
        if number != after + 1 {
            return Err(Broken::Gap { number, after });
        }
        let found = row.hash();
        if found != *claimed {
            return Err(Broken::Changed { number, found, claimed: claimed.clone() });
        }
        if *row.previous != self.head.hash {
            return Err(Broken::Unlinked { number, after });
        }
        self.head = Anchor { number, hash: found };
        self.rows += 1;
        match &self.anchor {
            Some(anchor) if anchor.number == number && *anchor != self.head => {
                Err(Broken::OtherThanAnchor(anchor.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The last verified row, after the last one was pushed, and the number of rows.
    ///
    /// # Errors
    /// The row of the anchor is not part of the trail.
    pub fn finish(self) -> Result<(Anchor, u64), Broken> {
        let (start, head) = (self.start.number, self.head.number);
        match self.anchor {
            Some(anchor) if anchor.number > head => Err(Broken::EndsBefore { head, anchor }),
            Some(anchor) if anchor.number < start => Err(Broken::BeginsAfter { start, anchor }),
            Some(anchor) if anchor.number == start && anchor != self.start => {
                Err(Broken::OtherThanAnchor(anchor))
            }
            _ => Ok((self.head, self.rows)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A row with its own strings.
    #[derive(Debug, Clone)]
    struct Stored(u64, String, Digest, Digest);

    impl Stored {
        fn row(&self) -> Row<'_> {
            Row {
                number: self.0,
                at: "2026-11-29T00:00:00Z",
                actor: "user:a",
                operation: "run.cancel",
                object: &self.1,
                before: None,
                after: None,
                request: None,
                previous: &self.2,
            }
        }
    }

    fn trail(rows: u64) -> Vec<Stored> {
        let mut previous = genesis();
        (1..=rows)
            .map(|number| {
                let mut stored = Stored(number, format!("runs/{number}"), previous.clone(), genesis());
                stored.3 = stored.row().hash();
                previous = stored.3.clone();
                stored
            })
            .collect()
    }

    fn verify(rows: &[Stored], anchor: Option<Anchor>) -> Result<(Anchor, u64), Broken> {
        let mut verifier = Verifier::new(Anchor::genesis(), anchor);
        for stored in rows {
            verifier.push(&stored.row(), &stored.3)?;
        }
        verifier.finish()
    }

    #[test]
    fn the_hash_is_that_of_the_canonical_json() {
        let before = json!({"b": [1, {"z": null, "a": "ü\"\n"}], "a": true});
        let (previous, stored) = (genesis(), trail(1));
        let row = Row { before: Some(&before), after: Some(&before), request: Some("r"), ..stored[0].row() };
        let text = format!(
            r#"{{"actor":"user:a","after":{{"a":true,"b":[1,{{"a":"ü\"\n","z":null}}]}},"at":"2026-11-29T00:00:00Z","before":{{"a":true,"b":[1,{{"a":"ü\"\n","z":null}}]}},"number":1,"object":"runs/1","operation":"run.cancel","previous":"{previous}","request":"r"}}"#
        );
        assert_eq!(row.hash(), Digest::of(text));
    }

    #[test]
    fn every_change_of_a_trail_is_found_at_its_first_row() {
        let good = trail(5);
        let head = Anchor { number: 5, hash: good[4].3.clone() };
        assert_eq!(verify(&good, None), Ok((head.clone(), 5)));
        assert_eq!(verify(&good, Some(head.clone())), Ok((head.clone(), 5)));
        let altered = |change: &dyn Fn(&mut Vec<Stored>)| {
            let mut rows = good.clone();
            change(&mut rows);
            verify(&rows, None).unwrap_err()
        };
        assert!(matches!(altered(&|rows| rows[2].1.push('x')), Broken::Changed { number: 3, .. }));
        assert_eq!(altered(&|rows| drop(rows.remove(1))), Broken::Gap { number: 3, after: 1 });
        assert_eq!(altered(&|rows| drop(rows.remove(0))), Broken::Gap { number: 2, after: 0 });
        assert_eq!(altered(&|rows| rows.swap(1, 2)), Broken::Gap { number: 3, after: 1 });
        assert_eq!(altered(&|rows| rows.insert(1, rows[0].clone())), Broken::Gap { number: 1, after: 1 });
        // A row that is replaced by another consistent one: its successor reveals it.
        let replaced = |rows: &mut Vec<Stored>| {
            rows[2].1.push('x');
            rows[2].3 = rows[2].row().hash();
        };
        assert_eq!(altered(&replaced), Broken::Unlinked { number: 4, after: 3 });
    }

    #[test]
    fn an_anchor_reveals_a_removed_end_and_a_rewritten_trail() {
        let good = trail(5);
        let head = Anchor { number: 5, hash: good[4].3.clone() };
        assert_eq!(
            verify(&good[..4], Some(head.clone())),
            Err(Broken::EndsBefore { head: 4, anchor: head.clone() })
        );
        let mut rewritten = trail(4);
        rewritten[3].1.push('x');
        rewritten[3].3 = rewritten[3].row().hash();
        let anchor = Anchor { number: 4, hash: good[3].3.clone() };
        assert_eq!(verify(&rewritten, Some(anchor.clone())), Err(Broken::OtherThanAnchor(anchor)));
        let start = Anchor { number: 3, hash: good[2].3.clone() };
        let early = Anchor { number: 2, hash: good[1].3.clone() };
        let verifier = Verifier::new(start, Some(early.clone()));
        assert_eq!(verifier.finish(), Err(Broken::BeginsAfter { start: 3, anchor: early }));
    }

    #[test]
    fn anchors_read_back() {
        let anchor = Anchor { number: 7, hash: Digest::of("x") };
        assert_eq!(anchor.to_string().parse::<Anchor>(), Ok(anchor));
        for text in ["", "7", "7:", ":sha256:00", "x:sha256:00"] {
            assert!(text.parse::<Anchor>().is_err(), "{text}");
        }
    }
}

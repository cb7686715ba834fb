//! Facts, a line each: a name, then its value. Facts without a value are left out.

use std::fmt::Write as _;

use super::style::{DIM, paint};

/// Lines that are being written.
#[derive(Debug)]
pub(super) struct Facts {
    text: String,
    /// How many columns the names take.
    columns: usize,
}

impl Facts {
    /// Whose longest name has so many letters.
    pub(super) const fn new(columns: usize) -> Self {
        Self { text: String::new(), columns }
    }

    /// Adds a fact, if it has a value.
    pub(super) fn add(&mut self, name: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        if !value.is_empty() {
            let name = format!("{name:<columns$}", columns = self.columns);
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "{} {value}", paint(DIM, name));
        }
    }

    /// The lines, each ending in a line feed.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_align_and_facts_without_one_are_left_out() {
        let mut facts = Facts::new(7);
        facts.add("run", "7");
        facts.add("release", "");
        facts.add("created", "now");
        let text = anstream::adapter::strip_str(&facts.into_text()).to_string();
        assert_eq!(text, "run     7\ncreated now\n");
    }
}

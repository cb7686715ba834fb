//! Aligned tables without rules: a head in capitals, two spaces between columns, the last column as it comes.

use super::style::{DIM, paint, width};

/// A table that is being filled.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a head.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.iter().map(|name| paint(DIM, name.to_uppercase())).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The text, each line ending in a line feed; `otherwise` where there is no row.
    pub(crate) fn text(&self, otherwise: &str) -> String {
        if self.rows.len() < 2 {
            return format!("{otherwise}\n");
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|cell| !cell.is_empty()).unwrap_or(0);
            for (column, cell) in row.iter().enumerate().take(last + 1) {
                text.push_str(cell);
                if column < last {
                    text.extend(std::iter::repeat_n(' ', widths[column] - width(cell) + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::style::RED;

    #[test]
    fn columns_align_whatever_their_colour() {
        let mut table = Table::new(["run", "state", "subject"]);
        table.row(["7".into(), paint(RED, "failed"), "more".into()]);
        table.row(["128".into(), "passed".into(), String::new()]);
        let text = anstream::adapter::strip_str(&table.text("-")).to_string();
        assert_eq!(text, "RUN  STATE   SUBJECT\n7    failed  more\n128  passed\n");
        assert_eq!(Table::new(["run"]).text("no runs"), "no runs\n");
    }
}

//! Aligned tables without rules: a head in capitals, two spaces between columns. Columns that are empty in
//! every row are left out, and the last one is wrapped, so that tables fit a terminal.

use super::style::{DIM, paint, width};

/// The columns that a table may take.
const WIDTH: usize = 100;
/// The smallest width of the last column, whatever is before it.
const LAST_WIDTH: usize = 30;

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

    /// The text, each line ending in a line feed; `otherwise` if there is no row.
    pub(crate) fn text(&self, otherwise: &str) -> String {
        if self.rows.len() < 2 {
            return format!("{otherwise}\n");
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |rows: &[Vec<String>], column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or_default()
        };
        let shown: Vec<usize> =
            (0..columns).filter(|column| *column == 0 || widest(&self.rows[1..], *column) > 0).collect();
        let Some((last, front)) = shown.split_last() else { return String::new() };
        let before: usize = front.iter().map(|column| widest(&self.rows, *column) + 2).sum();
        let room = WIDTH.saturating_sub(before).max(LAST_WIDTH);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for column in front {
                let cell = row.get(*column).map_or("", String::as_str);
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', widest(&self.rows, *column) - width(cell) + 2));
            }
            let parts = wrapped(row.get(*last).map_or("", String::as_str), room);
            for (count, part) in parts.iter().enumerate() {
                if count > 0 {
                    line.extend(std::iter::repeat_n(' ', before));
                }
                line.push_str(part);
                text.push_str(line.trim_end());
                text.push('\n');
                line.clear();
            }
        }
        text
    }
}

/// A cell in lines of at most `room` columns, cut between words; a longer word stays whole. One that is
/// coloured stays in one line: cells with colours are short.
fn wrapped(cell: &str, room: usize) -> Vec<String> {
    if width(cell) <= room || cell.contains('\x1b') {
        return vec![cell.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in cell.split(' ') {
        let used = lines.last().map_or(0, |line| width(line));
        if used > 0 && used + 1 + width(word) > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
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

    #[test]
    fn columns_align_whatever_the_script() {
        let mut table = Table::new(["subject", "by"]);
        table.row(["工厂更新".into(), "李".into()]);
        table.row(["gro\u{308}\u{df}er".into(), "x".into()]);
        let text = anstream::adapter::strip_str(&table.text("-")).to_string();
        assert_eq!(text, "SUBJECT   BY\n工厂更新  李\ngro\u{308}\u{df}er    x\n");
    }

    #[test]
    fn tables_fit_a_terminal() {
        let mut table = Table::new(["node", "lanes", "reason"]);
        table.row(["hmi/plant-a".into(), String::new(), "word ".repeat(40)]);
        let text = anstream::adapter::strip_str(&table.text("-")).to_string();
        assert!(!text.contains("LANES"), "{text}");
        assert!(text.lines().all(|line| width(line) <= WIDTH), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("             word")), "{text}");
        assert_eq!(wrapped(&"x".repeat(200), 40).len(), 1);
    }
}

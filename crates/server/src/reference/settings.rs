//! The reference of the settings file.

use crate::settings::described::{Applies, Setting};
use crate::settings::described_settings;

/// All tables with their keys, in Markdown without line breaks inside of paragraphs.
pub(super) fn page() -> String {
    let rows = described_settings();
    let mut page = String::new();
    for table in rows.iter().filter(|row| row.table.is_empty()) {
        page += &section(table, &rows);
        let inner =
            |row: &&Setting| row.table.strip_prefix(table.key).is_some_and(|rest| rest.starts_with('.'));
        let mut tables: Vec<&str> = rows.iter().filter(inner).map(|row| row.table).collect();
        tables.dedup();
        for inner in tables {
            page += &format!("\n## `[{inner}]`\n");
            let about = rows.iter().find(|row| format!("{}.{}", row.table, row.key) == inner);
            page += &about.map_or_else(String::new, |row| format!("\n{}\n", row.about));
            rows.iter().filter(|row| row.table == inner).for_each(|row| page += &key(row));
        }
    }
    page
}

fn section(table: &Setting, rows: &[Setting]) -> String {
    let name = if table.kind == "list of tables" {
        format!("[[{}]]", table.key)
    } else {
        format!("[{}]", table.key)
    };
    let mut text = format!("\n## `{name}`\n\n{}\n", table.about);
    if !table.was.is_empty() {
        let old = if table.kind == "list of tables" {
            format!("[[{}]]", table.was)
        } else {
            format!("[{}]", table.was)
        };
        text += &format!("\nOld spelling, accepted until the next release: `{old}`.\n");
    }
    if table.table.is_empty() && table.kind.starts_with("table of") {
        return text + &facts(table);
    }
    rows.iter().filter(|row| row.table == table.key).for_each(|row| text += &key(row));
    text
}

fn key(row: &Setting) -> String {
    format!("\n### `{}.{}`\n\n{}\n{}", row.table, row.key, row.about, facts(row))
}

fn facts(row: &Setting) -> String {
    let range = if row.range.is_empty() { String::new() } else { format!(", {}", row.range) };
    let default = match row.default.as_str() {
        "" => "none: required".to_owned(),
        default if is_value(default) => format!("`{default}`"),
        default => default.to_owned(),
    };
    let mut text = format!("\n- type: {}{range}\n- default: {default}\n", row.kind);
    if !row.example.is_empty() && !row.table.is_empty() {
        text += &format!("- example: `{} = {}`\n", row.key, row.example);
    }
    if !row.flag.is_empty() {
        text += &format!("- flag of `edgewright serve`: `{}`\n", row.flag);
    }
    text += match row.applies {
        Applies::Reload => "- a change applies after: reload (SIGHUP)\n",
        Applies::Restart => "- a change applies after: restart\n",
    };
    if !row.was.is_empty() && !row.table.is_empty() {
        text += &format!("- old spelling, accepted until the next release: `{}`\n", row.was);
    }
    text
}

/// Whether a default is a value and not a sentence.
fn is_value(default: &str) -> bool {
    !matches!(default, "none" | "all")
        && (!default.contains(' ') || default.contains('<'))
        && !default.contains('`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_on_the_page() {
        let page = page();
        for row in described_settings().iter().filter(|row| !row.table.is_empty()) {
            assert!(
                page.contains(&format!("### `{}.{}`\n\n{}", row.table, row.key, row.about)),
                "{}",
                row.key
            );
        }
        let example = "### `jobs.timeout`\n\nTime limit of one job: all its steps and lanes.\n\n- type: duration\n- default: `2h`\n\
                       - example: `timeout = \"2h\"`\n- a change applies after: restart\n\
                       - old spelling, accepted until the next release: `within`\n";
        assert!(page.contains(example), "{page}");
    }
}

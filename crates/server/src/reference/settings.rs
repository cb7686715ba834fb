//! The reference of the settings file.

use crate::settings::described::{Applies, Setting};
use crate::settings::described_settings;

/// All tables with their keys, in Markdown without line breaks inside of paragraphs.
pub(super) fn page() -> String {
    let rows = described_settings();
    let mut page = Vec::new();
    for table in rows.iter().filter(|row| row.table.is_empty()) {
        page.push(section(table, &rows));
        let is_inner =
            |row: &&Setting| row.table.strip_prefix(table.key).is_some_and(|rest| rest.starts_with('.'));
        let mut tables: Vec<&str> = rows.iter().filter(is_inner).map(|row| row.table).collect();
        tables.dedup();
        for inner in tables {
            let row = rows.iter().find(|row| format!("{}.{}", row.table, row.key) == inner);
            page.push(format!("\n## `[{inner}]`\n\n{}\n", row.map_or("", |row| row.about)));
            page.extend(rows.iter().filter(|row| row.table == inner).map(key));
        }
    }
    page.concat()
}

fn section(table: &Setting, rows: &[Setting]) -> String {
    let is_list = table.kind == "list of tables";
    let header = |name| if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
    let mut section = vec![format!("\n## `{}`\n\n{}\n", header(table.key), table.about)];
    if !table.was.is_empty() {
        let old = header(table.was);
        section.push(format!("\nOld spelling, accepted until the next release: `{old}`.\n"));
    }
    if table.kind.starts_with("table of") {
        section.push(facts(table));
    }
    section.extend(rows.iter().filter(|row| row.table == table.key).map(key));
    section.concat()
}

fn key(row: &Setting) -> String {
    format!("\n### `{}.{}`\n\n{}\n{}", row.table, row.key, row.about, facts(row))
}

fn facts(row: &Setting) -> String {
    let range = if row.range.is_empty() { String::new() } else { format!(", {}", row.range) };
    let default = match row.default.as_str() {
        "" => "none, the key is required".to_owned(),
        default if is_value(default) => format!("`{default}`"),
        default => default.to_owned(),
    };
    let mut facts = vec![format!("type: {}{range}", row.kind), format!("default: {default}")];
    if !row.example.is_empty() && !row.table.is_empty() {
        facts.push(format!("example: `{} = {}`", row.key, row.example));
    }
    if !row.flag.is_empty() {
        facts.push(format!("flag of `edgewright serve`: `{}`", row.flag));
    }
    facts.push(match row.applies {
        Applies::Reload => "a change applies after: reload (SIGHUP)".to_owned(),
        Applies::Restart => "a change applies after: restart".to_owned(),
    });
    if !row.was.is_empty() && !row.table.is_empty() {
        facts.push(format!("old spelling, accepted until the next release: `{}`", row.was));
    }
    let lines: Vec<String> = facts.into_iter().map(|fact| format!("- {fact}\n")).collect();
    format!("\n{}", lines.concat())
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

//! The settings file of a server.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Tables with their keys; the sources are apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    tables: BTreeMap<String, BTreeMap<String, String>>,
    /// Tables of a list, as TOML.
    more: String,
    /// The only source's keys.
    pub(super) source: BTreeMap<String, String>,
}

impl Settings {
    /// Sets a key to a number, a text or a list: JSON writes them as TOML does.
    pub(crate) fn set(&mut self, table: &str, key: &str, value: impl Into<Value>) -> &mut Self {
        let value: Value = value.into();
        self.tables.entry(table.to_owned()).or_default().insert(key.to_owned(), value.to_string());
        self
    }

    /// Removes a table.
    pub(crate) fn remove(&mut self, table: &str) {
        self.tables.remove(table);
    }

    /// Sets a key to a text.
    pub(crate) fn text(&mut self, table: &str, key: &str, value: &str) -> &mut Self {
        self.set(table, key, value)
    }

    /// Sets a key of the source.
    pub(crate) fn of_source(&mut self, key: &str, value: &str) -> &mut Self {
        self.source.insert(key.to_owned(), Value::from(value).to_string());
        self
    }

    /// Adds tables of a list, as TOML writes them.
    pub(crate) fn append(&mut self, tables: &str) {
        self.more.push_str(tables);
    }

    /// The file.
    pub(super) fn file(&self) -> String {
        let mut file = String::new();
        let tables = self.tables.iter().map(|(name, keys)| (format!("[{name}]"), keys));
        for (head, keys) in tables.chain([("[[source]]".to_owned(), &self.source)]) {
            // Writing to a text cannot fail.
            let _ = writeln!(file, "{head}");
            for (key, value) in keys {
                let _ = writeln!(file, "{key} = {value}");
            }
        }
        file.push_str(&self.more);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_tables_and_the_source_last() {
        let mut settings = Settings::default();
        settings.text("server", "listen", "127.0.0.1:1").set("jobs", "parallel", 2);
        settings.set("jobs", "parallel", 3).of_source("url", "a\"b");
        let wanted =
            "[jobs]\nparallel = 3\n[server]\nlisten = \"127.0.0.1:1\"\n[[source]]\nurl = \"a\\\"b\"\n";
        assert_eq!(settings.file(), wanted);
    }
}

//! What a user sees of a run.

use anyhow::ensure;
use serde_json::Value;

use crate::demo::server::text;

/// A node of a run.
pub(super) fn node<'r>(run: &'r Value, name: &str) -> anyhow::Result<&'r Value> {
    let nodes = run["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = nodes.iter().find(|node| text(&node["node"]) == name);
    found.ok_or_else(|| anyhow::anyhow!("the run has no node {name}: {run}"))
}

/// Why a node failed: its failure and the results of its lanes, as one text.
pub(super) fn failure(node: &Value) -> String {
    format!("{} {}", node["failure"], node["verdicts"])
}

/// An error that shows the text, if it does not have these words.
pub(super) fn ensure_contains(what: &str, text: &str, words: &str) -> anyhow::Result<()> {
    ensure!(text.contains(words), "{what} should have `{words}`, and is:\n{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_found_and_its_failure_is_one_text() {
        let run =
            json!({ "nodes": [{ "node": "app", "failure": { "message": "it burns" }, "verdicts": [] }] });
        let app = node(&run, "app").unwrap();
        ensure_contains("the failure", &failure(app), "it burns").unwrap();
        let error = ensure_contains("the failure", &failure(app), "it rains").unwrap_err();
        assert!(error.to_string().contains("it burns"), "{error}");
        assert!(node(&run, "base").is_err());
    }
}

//! A variant's variables.

use std::collections::BTreeMap;

use edgewright_model::names::VarName;
use edgewright_model::resolve::ResolvedVar;

use super::style::{DIM, paint};
use super::table::Table;

/// Each variable with its value as JSON, and where it is set.
pub(crate) fn vars(vars: &BTreeMap<VarName, ResolvedVar>) -> String {
    let mut table = Table::new(["variable", "value", "set by"]);
    for (name, var) in vars {
        let value = serde_json::to_string(&var.value).unwrap_or_default();
        table.row([name.to_string(), value, paint(DIM, &var.origin)]);
    }
    table.text("this variant has no variables")
}

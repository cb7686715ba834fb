//! Arrows between the modules of a crate point one way, as those between crates do: the tables below,
//! compared with every path.
//!
//! A module is what `lib.rs` declares; what lies below it belongs to it. Its row lists the modules that its
//! code may name. Rows are ordered from the bottom up and name only rows above themselves, so there are no
//! cycles. Composing files may name everything: `lib.rs`, and modules with the row [`ANY`].
//!
//! A path counts anywhere: in a `use`, in an expression, a type or a macro's arguments. `crate::` and
//! `super::` are resolved; what `lib.rs` exports from a module counts as that module. Tests may use what they
//! like.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::bail;
use syn::visit::{self, Visit};
use syn::{Item, ItemUse};

use super::syntax::{Mention, Source, imports, is_for_tests, mention, mentions_in_tokens, sources};

/// A module, and the others that it may name.
type Row = (&'static str, &'static [&'static str]);

/// The crates that are held to this, each with its modules from the bottom up.
const MODULES: &[(&str, &[Row])] = &[("control", CONTROL), ("server", SERVER)];

#[rustfmt::skip]
const CONTROL: &[Row] = &[
    ("access",        &[]),
    ("approvals",     &["access"]),
    ("audit",         &[]),
    ("hosting",       &[]),
    ("logs",          &[]),
    ("pins",          &[]),
    ("settings",      &[]),
    ("verdicts",      &[]),
    ("context",       &["access"]),
    ("error",         &["access", "approvals", "hosting"]),
    ("inventory",     &["error"]),
    ("reconcile",     &["error"]),
    ("events",        &["reconcile"]),
    ("cancellations", &["access", "context", "error", "reconcile"]),
    ("users",         &["access", "context", "error"]),
    ("sources",       &["access", "context", "error", "reconcile", "settings"]),
    ("jobs",          &["error", "events", "hosting", "logs", "pins", "settings"]),
    ("releases",      &["access", "context", "error", "events", "hosting", "pins", "reconcile", "sources"]),
    ("devices",       &["access", "context", "error", "hosting", "reconcile", "releases"]),
    ("rollouts",      &["access", "approvals", "context", "devices", "error", "reconcile", "releases"]),
    ("locks",         &["access", "context", "error", "jobs", "reconcile", "settings", "sources"]),
    ("posting",       &["access", "context", "error", "hosting", "jobs", "releases"]),
    ("polling",       &["access", "cancellations", "context", "error", "hosting", "inventory", "pins", "reconcile",
                        "releases", "settings", "sources"]),
    ("rebuilds",      &["access", "context", "error", "events", "jobs", "locks", "pins", "reconcile", "sources"]),
    ("runs",          &["access", "cancellations", "context", "error", "events", "hosting", "inventory", "jobs",
                        "locks", "pins", "reconcile", "releases", "settings", "sources", "verdicts"]),
    ("outbound",      &["error", "events", "hosting", "reconcile", "sources"]),
    ("retention",     &["error", "hosting", "pins", "reconcile", "settings", "sources"]),
    ("control",       ANY),
];

#[rustfmt::skip]
const SERVER: &[Row] = &[
    ("reserve",       &[]),
    ("folder",        &["reserve"]),
    ("metrics",       &[]),
    ("telemetry",     &[]),
    ("tls",           &[]),
    ("backup",        &["folder"]),
    ("settings",      &["folder", "tls"]),
    ("reference",     &["metrics", "settings"]),
    ("oidc",          &["settings"]),
    ("tokens",        &["settings"]),
    ("watched",       &["settings"]),
    ("live",          &["oidc", "settings", "tokens"]),
    ("views",         &["folder", "live", "metrics", "settings"]),
    ("http",          &["live", "metrics", "oidc", "settings", "tokens", "views"]),
    ("composition",   ANY),
];

/// For modules that compose the others.
const ANY: &[&str] = &["*"];

/// Checks the tables, and the crates against them.
pub(super) fn check() -> anyhow::Result<()> {
    let sources = sources()?;
    let mut faults = String::new();
    for (name, rows) in MODULES {
        faults += &table_faults(name, rows)?;
        faults += &crate_faults(name, rows, &sources)?;
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.trim_end()) }
}

/// One line per row that names itself, something below itself or something unknown.
fn table_faults(name: &str, rows: &[Row]) -> anyhow::Result<String> {
    let mut faults = String::new();
    let mut above = BTreeSet::new();
    for (module, used) in rows {
        for used in used.iter().filter(|used| **used != "*" && !above.contains(*used)) {
            writeln!(
                faults,
                "the row of `{name}::{module}` must not name `{used}`: a row names only rows above itself"
            )?;
        }
        above.insert(module);
    }
    Ok(faults)
}

/// One line per arrow that the rows do not allow, per module without a row and per row without a module.
fn crate_faults(name: &str, rows: &[Row], sources: &[Source]) -> anyhow::Result<String> {
    let folder = format!("crates/{name}/src/");
    let files: Vec<(&Source, Vec<String>)> = sources
        .iter()
        .filter_map(|source| Some((source, module_path(source.name.strip_prefix(&folder)?))))
        .collect();
    let modules: BTreeSet<&str> =
        files.iter().filter_map(|(_, path)| path.first().map(String::as_str)).collect();
    let root = files.iter().find(|(_, path)| path.is_empty()).map(|(source, _)| &source.tree);
    let exports = root.map(|tree| exports(tree, &modules)).unwrap_or_default();

    let mut faults = String::new();
    for module in rows.iter().map(|(module, _)| *module).filter(|module| !modules.contains(module)) {
        writeln!(faults, "`{name}::{module}` has a row, and there is no such module")?;
    }
    let mut unknown = BTreeSet::new();
    for (source, path) in &files {
        let Some(module) = path.first() else { continue };
        let Some((_, allowed)) = rows.iter().find(|(row, _)| row == module) else {
            unknown.insert(module);
            continue;
        };
        for Mention { line, path: target } in mentions(&source.tree, path) {
            let Some(first) = target.first() else { continue };
            let used = exports.get(first.as_str()).map_or(first.as_str(), String::as_str);
            let is_arrow = used != module && modules.contains(used);
            if is_arrow && *allowed != ANY && !allowed.contains(&used) {
                writeln!(faults, "{}:{line}: `{name}::{module}` must not use `{name}::{used}`", source.name)?;
            }
        }
    }
    for module in unknown {
        writeln!(faults, "`{name}::{module}` has no row: say in {} what it may use", file!())?;
    }
    Ok(faults)
}

/// `runs/job.rs` → `runs`, `job`; `runs/mod.rs` → `runs`; `lib.rs` → nothing.
fn module_path(file: &str) -> Vec<String> {
    let words = file.trim_end_matches(".rs").split('/');
    words.filter(|word| !matches!(*word, "lib" | "main" | "mod")).map(str::to_owned).collect()
}

/// What `lib.rs` exports under a name of its own, with the module that it comes from.
fn exports(tree: &syn::File, modules: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let uses = tree.items.iter().filter_map(|item| match item {
        Item::Use(item) => Some(imports(item)),
        _ => None,
    });
    let from_module = |(name, mention): (String, Mention)| {
        let mut path = mention.path.into_iter().filter(|word| !matches!(word.as_str(), "self" | "crate"));
        let module = path.next().filter(|module| modules.contains(module.as_str()))?;
        (name != module).then_some((name, module))
    };
    uses.flatten().filter_map(from_module).collect()
}

/// Every path of a file that starts at the crate, without `crate`, in the order of lines. `place` is the
/// file's module.
fn mentions(tree: &syn::File, place: &[String]) -> BTreeSet<Mention> {
    let mut visitor = Visitor { place: place.to_vec(), found: BTreeSet::new() };
    visitor.visit_file(tree);
    visitor.found
}

struct Visitor {
    /// The module at hand, with those that enclose it.
    place: Vec<String>,
    found: BTreeSet<Mention>,
}

impl Visitor {
    fn note(&mut self, Mention { line, path }: Mention) {
        let Some(path) = from_the_crate(&self.place, &path) else { return };
        self.found.insert(Mention { line, path });
    }
}

/// A path that starts with `crate`, `self` or `super`, from the crate on; `None` for other paths.
fn from_the_crate(place: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut start = place;
    let mut rest = path;
    match rest.first().map(String::as_str)? {
        "crate" => (start, rest) = (&[], &rest[1..]),
        "self" => rest = &rest[1..],
        "super" => {
            while let Some(("super", above)) =
                rest.split_first().map(|(first, above)| (first.as_str(), above))
            {
                start = start.split_last().map_or(&[], |(_, outer)| outer);
                rest = above;
            }
        }
        _ => return None,
    }
    Some(start.iter().chain(rest).cloned().collect())
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for (_, mention) in imports(item) {
            self.note(mention);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        self.place.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.place.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.note(mention(path));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        for mention in mentions_in_tokens(&call.tokens) {
            self.note(mention);
        }
        visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[Row] =
        &[("error", &[]), ("jobs", &["error"]), ("runs", &["error", "jobs"]), ("control", ANY)];
    const LIB: &str =
        "mod error; mod jobs; mod runs; mod control; pub use error::Error; pub use runs::Run as Executed;";

    /// Faults of a crate with all modules of [`ROWS`], one of which has this file.
    fn faults_of(file: &str, text: &str) -> String {
        let others =
            ["error.rs", "jobs.rs", "runs/mod.rs", "control.rs"].into_iter().filter(|other| *other != file);
        let files = others.map(|other| (other, "")).chain([("lib.rs", LIB), (file, text)]);
        let parse = |(file, text)| Source::parse(&format!("crates/x/src/{file}"), text).unwrap();
        let sources: Vec<Source> = files.map(parse).collect();
        crate_faults("x", ROWS, &sources).unwrap()
    }

    #[test]
    fn the_workspace_keeps_its_module_arrows() {
        check().unwrap();
    }

    #[test]
    fn arrows_against_the_table_are_found_wherever_they_stand() {
        for (file, text, used) in [
            ("error.rs", "use crate::jobs::Job;", "jobs"),
            ("error.rs", "use crate::{jobs::{Job, other}, Error};", "jobs"),
            ("error.rs", "use super::runs;", "runs"),
            ("error.rs", "fn a() { crate::jobs::start(); }", "jobs"),
            ("error.rs", "fn a(job: &crate::jobs::Job) {}", "jobs"),
            ("error.rs", "impl From<crate::jobs::Job> for Error {}", "jobs"),
            ("error.rs", "fn a() { format!(\"{}\", crate::jobs::COUNT); }", "jobs"),
            // By another name, as lib.rs exports it.
            ("jobs.rs", "use crate::Executed;", "runs"),
            ("jobs.rs", "mod inner { fn a() { super::super::runs::start(); } }", "runs"),
            ("jobs/deep.rs", "use super::super::runs::start;", "runs"),
            ("runs/job.rs", "use crate::control::Control;", "control"),
        ] {
            let faults = faults_of(file, text);
            let want = format!("crates/x/src/{file}:1: `x::");
            assert!(
                faults.starts_with(&want) && faults.contains(&format!("must not use `x::{used}`")),
                "{text}: {faults}"
            );
        }
    }

    #[test]
    fn arrows_of_the_table_are_allowed() {
        for (file, text) in [
            ("runs/job.rs", "use super::selection; use super::super::jobs; use crate::Error;"),
            ("runs/mod.rs", "use crate::jobs::Job; use crate::Executed; use self::job::X;"),
            ("control.rs", "use crate::{error, jobs, runs};"),
            ("error.rs", "use std::jobs::Job; use other::runs; fn a() { jobs::start(); }"),
            ("error.rs", "#[cfg(test)] mod tests { use crate::runs::Run; }"),
            ("error.rs", "#[test] fn a() { crate::runs::start(); }"),
        ] {
            assert_eq!(faults_of(file, text), "", "{file}: {text}");
        }
    }

    #[test]
    fn modules_and_rows_belong_together() {
        assert!(faults_of("novel.rs", "").contains("`x::novel` has no row"));
        let alone = [Source::parse("crates/x/src/error.rs", "").unwrap()];
        assert!(
            crate_faults("x", ROWS, &alone)
                .unwrap()
                .contains("`x::runs` has a row, and there is no such module")
        );
    }

    #[test]
    fn a_table_with_a_cycle_is_refused() {
        assert_eq!(table_faults("x", ROWS).unwrap(), "");
        let faults = table_faults("x", &[("a", &["b"]), ("b", &["a"]), ("c", &["c"])]).unwrap();
        assert!(
            faults.contains("`x::a` must not name `b`") && faults.contains("`x::c` must not name `c`"),
            "{faults}"
        );
    }
}

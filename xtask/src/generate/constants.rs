//! Constants that bound input, work or time, read from the syntax of all crates.
//!
//! A constant counts by its name (`BODY_LIMIT`, `LONGEST_NAME`, `POLL_TIMEOUT`) and its type (an integer or a
//! duration). Its doc comment is its description; without one, neither `generate` nor `check` passes.

use anyhow::Context as _;
use syn::visit::Visit;
use syn::{Attribute, Expr, Ident, ImplItemConst, ItemConst, ItemMod, Type};

use super::values::{shown, value};
use crate::workspace;

/// Words in the names of constants that bound something.
const WORDS: &[&str] = &[
    "ATTEMPTS",
    "BACKLOG",
    "BACKOFF",
    "BURST",
    "CONCURRENT",
    "DEADLINE",
    "DEEPEST",
    "DEFAULT",
    "DEPTH",
    "EXPIRY",
    "FUEL",
    "GRACE",
    "INTERVAL",
    "KEPT",
    "LARGEST",
    "LIMIT",
    "LONGEST",
    "MAX",
    "MIN",
    "MOST",
    "PARALLEL",
    "PAUSE",
    "PERIOD",
    "RATE",
    "READERS",
    "RETENTION",
    "SHORTEST",
    "SMALLEST",
    "THREADS",
    "TIMEOUT",
    "TRIES",
    "UNUSED",
    "WITHIN",
];

/// A constant that bounds something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Constant {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) value: String,
    /// The doc comment on one line; empty without one.
    pub(super) about: String,
}

/// All such constants of the crates, by file and line.
pub(super) fn constants() -> anyhow::Result<Vec<Constant>> {
    let mut found = Vec::new();
    for path in workspace::files_below(&workspace::root().join("crates"))? {
        let name = workspace::shown(&path);
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        if is_rust && name.split('/').nth(2) == Some("src") && !name.ends_with("/tests.rs") {
            let text = std::fs::read_to_string(&path)?;
            found.extend(of_file(&name, &text)?);
        }
    }
    Ok(found)
}

fn of_file(name: &str, text: &str) -> anyhow::Result<Vec<Constant>> {
    let tree = syn::parse_file(text).with_context(|| format!("{name} cannot be parsed"))?;
    let mut all = All::default();
    all.visit_file(&tree);
    let mut found = Vec::new();
    for item in all.0.iter().filter(|item| is_bound(item)) {
        let value = value(item.expr, &all.0).with_context(|| {
            format!(
                "{name}: cannot evaluate `{}`: write it with literals, `*` and `Duration::from_…`",
                item.ident
            )
        })?;
        let shown = shown(&value, item.expr);
        found.push(Constant {
            file: name.to_owned(),
            name: item.ident.to_string(),
            value: shown,
            about: about(item.attributes),
        });
    }
    Ok(found)
}

/// The constants of a file that ship.
#[derive(Default)]
struct All<'ast>(Vec<Item<'ast>>);

/// A constant of a module, function or `impl`.
#[derive(Clone, Copy)]
pub(super) struct Item<'ast> {
    pub(super) ident: &'ast Ident,
    kind: &'ast Type,
    pub(super) expr: &'ast Expr,
    attributes: &'ast [Attribute],
}

impl<'ast> Visit<'ast> for All<'ast> {
    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        let ItemConst { ident, ty, expr, attrs, .. } = item;
        self.0.push(Item { ident, kind: ty, expr, attributes: attrs });
    }

    fn visit_impl_item_const(&mut self, item: &'ast ImplItemConst) {
        let ImplItemConst { ident, ty, expr, attrs, .. } = item;
        self.0.push(Item { ident, kind: ty, expr, attributes: attrs });
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
        });
        if !is_test {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

fn is_bound(item: &Item<'_>) -> bool {
    const TYPES: &[&str] =
        &["u16", "u32", "u64", "usize", "i64", "u8", "Duration", "SignedDuration", "Span", "NonZeroUsize"];
    let Type::Path(kind) = item.kind else { return false };
    let kind = kind.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
    let name = item.ident.to_string();
    let is_named = name.contains("AT_ONCE") || name.split('_').any(|word| WORDS.contains(&word));
    is_named && TYPES.contains(&kind.as_str())
}

/// The first paragraph of a doc comment.
fn about(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let syn::Meta::NameValue(pair) = &attribute.meta else { continue };
        let Expr::Lit(literal) = &pair.value else { continue };
        let syn::Lit::Str(text) = &literal.lit else { continue };
        lines.push(text.value().trim().to_owned());
    }
    let paragraph: Vec<String> = lines.into_iter().take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_that_bound_something_are_found_with_value_and_description() {
        let text = "
            /// The largest body.
            /// It is hashed.
            ///
            /// More.
            const BODY_LIMIT: usize = 26 * 1024 * 1024;
            const GIB: u64 = 1 << 30;
            /// Entries.
            pub(crate) const MAX_ENTRIES: usize = 2_000_000;
            /// Events.
            const EVENT_LIMIT: usize = 1024;
            /// Wait.
            const IDLE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(90);
            const WIDTH: usize = 100;
            const LIMIT_TEXT: &str = \"no number\";
            fn f() { /** Storage. */ const STORAGE_LIMIT: u64 = 2 * GIB; }
            impl A { const MAX_JOBS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3); }
            #[cfg(test)] mod tests { const TEST_LIMIT: u8 = 1; }";
        let found = of_file("x.rs", text).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|found| (found.name.as_str(), found.value.as_str(), found.about.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("BODY_LIMIT", "26 MiB", "The largest body. It is hashed."),
                ("MAX_ENTRIES", "2,000,000", "Entries."),
                ("EVENT_LIMIT", "1,024", "Events."),
                ("IDLE_TIMEOUT", "90 s", "Wait."),
                ("STORAGE_LIMIT", "2 GiB", "Storage."),
                ("MAX_JOBS", "4", ""),
            ]
        );
        assert!(of_file("x.rs", "const A_LIMIT: usize = f();").is_err());
    }
}

//! Rust sources as syntax trees, for checks that need more than lines: names in scope, paths, what is test
//! code.
//!
//! Nothing here knows types. A check built on it judges by names, so it can be fooled on purpose, but not by
//! accident.

use anyhow::Context as _;
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{Attribute, ItemUse, UseTree};

use super::files::rust_files;
use crate::workspace;

/// A source file that ships: no tests, examples or build scripts.
pub(super) struct Source {
    /// Path from the workspace's folder, with `/`.
    pub(super) name: String,
    /// Its syntax tree.
    pub(super) tree: syn::File,
}

/// A path such as `std::fs::read`, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mention {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
}

/// All files below `src` of all crates, but those that hold only tests.
pub(super) fn sources() -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in rust_files()? {
        let name = workspace::shown(&path);
        let ships = name.starts_with("crates/") && name.split('/').nth(2) == Some("src");
        if ships && !name.ends_with("/tests.rs") {
            let text = std::fs::read_to_string(&path)?;
            sources.push(Source::parse(&name, &text)?);
        }
    }
    Ok(sources)
}

impl Source {
    pub(super) fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let tree = syn::parse_file(text).with_context(|| format!("{name} cannot be parsed"))?;
        Ok(Self { name: name.to_owned(), tree })
    }
}

/// Whether an item exists only in tests: `#[cfg(test)]`, `#[test]`, `#[tokio::test]`.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let names_test = |path: &syn::Path| path.segments.last().is_some_and(|last| last.ident == "test");
        let path = attribute.path();
        if path.is_ident("cfg") {
            return attribute.parse_args::<syn::Path>().is_ok_and(|condition| names_test(&condition));
        }
        names_test(path)
    })
}

/// The paths that a `use` brings into scope, each with the name that it gets here; `*` for a glob.
pub(super) fn imports(item: &ItemUse) -> Vec<(String, Mention)> {
    let mut found = Vec::new();
    let mut open = vec![(Vec::new(), &item.tree)];
    while let Some((prefix, tree)) = open.pop() {
        let joined = |ident: &syn::Ident| {
            let mut path = prefix.clone();
            // `use a::b::{self}` imports `a::b`.
            if ident != "self" || path.is_empty() {
                path.push(ident.to_string());
            }
            path
        };
        let mut import = |name: String, path: Vec<String>, line| found.push((name, Mention { line, path }));
        match tree {
            UseTree::Path(inner) => open.push((joined(&inner.ident), &inner.tree)),
            UseTree::Name(inner) => {
                let path = joined(&inner.ident);
                import(path.last().cloned().unwrap_or_default(), path, line_of(inner.ident.span()));
            }
            UseTree::Rename(inner) => {
                import(inner.rename.to_string(), joined(&inner.ident), line_of(inner.ident.span()));
            }
            UseTree::Glob(inner) => import("*".to_owned(), prefix, line_of(inner.star_token.span)),
            UseTree::Group(inner) => open.extend(inner.items.iter().map(|tree| (prefix.clone(), tree))),
        }
    }
    found
}

/// A path without generic arguments.
pub(super) fn mention(path: &syn::Path) -> Mention {
    let line = path.segments.first().map_or(0, |first| line_of(first.ident.span()));
    Mention { line, path: path.segments.iter().map(|segment| segment.ident.to_string()).collect() }
}

/// Paths in the arguments of a macro, which are tokens and not yet expressions.
pub(super) fn mentions_in_tokens(tokens: &TokenStream) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut path: Option<Mention> = None;
    let mut colons = 0;
    for tree in tokens.clone() {
        match tree {
            TokenTree::Ident(ident) => {
                let segment = ident.to_string();
                match &mut path {
                    Some(path) if colons == 2 => path.path.push(segment),
                    _ => {
                        let line = line_of(ident.span());
                        found.extend(path.replace(Mention { line, path: vec![segment] }));
                    }
                }
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            other => {
                found.extend(path.take());
                colons = 0;
                if let TokenTree::Group(group) = other {
                    found.extend(mentions_in_tokens(&group.stream()));
                }
            }
        }
    }
    found.extend(path);
    found
}

pub(super) fn line_of(span: Span) -> usize {
    span.start().line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(mentions: impl IntoIterator<Item = Mention>) -> Vec<String> {
        let mut words: Vec<String> = mentions.into_iter().map(|mention| mention.path.join("::")).collect();
        words.sort();
        words
    }

    #[test]
    fn every_leaf_of_a_use_is_an_import() {
        let item: ItemUse = syn::parse_str("use a::{b::{self, C as D}, e::*, f};").unwrap();
        let mut imports: Vec<_> =
            imports(&item).into_iter().map(|(name, mention)| (name, mention.path.join("::"))).collect();
        imports.sort();
        let want = [("*", "a::e"), ("D", "a::b::C"), ("b", "a::b"), ("f", "a::f")];
        assert_eq!(imports, want.map(|(name, path)| (name.to_owned(), path.to_owned())));
    }

    #[test]
    fn paths_are_found_inside_of_macros() {
        let tokens: TokenStream = "a => b::c(d.e(), crate::f), [g::<H>::i]".parse().unwrap();
        let found = words(mentions_in_tokens(&tokens));
        for path in ["a", "b::c", "crate::f", "d", "e", "g", "H"] {
            assert!(found.iter().any(|mention| mention == path), "{path}: {found:?}");
        }
    }

    #[test]
    fn test_code_is_known_by_its_attributes() {
        for (text, is_test) in [
            ("#[cfg(test)] mod tests {}", true),
            ("#[test] fn a() {}", true),
            ("#[tokio::test] async fn a() {}", true),
            ("#[cfg(unix)] fn a() {}", false),
            ("#[derive(Debug)] struct A;", false),
        ] {
            let attributes = match syn::parse_str::<syn::Item>(text).unwrap() {
                syn::Item::Mod(item) => item.attrs,
                syn::Item::Fn(item) => item.attrs,
                syn::Item::Struct(item) => item.attrs,
                _ => Vec::new(),
            };
            assert_eq!(is_for_tests(&attributes), is_test, "{text}");
        }
    }
}

//! No blocking call runs on a thread of the async runtime: files and sleeps go to `spawn_blocking`.
//!
//! It checks the bodies of `async fn` and `async` blocks, not the functions that they call: a blocking
//! function is to be called inside of `spawn_blocking`. Names decide, since there are no types here:
//! `.exists()` is taken for a path's unless it is awaited. [`ALLOWED`] has the exceptions, each with its
//! reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::bail;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ItemUse};

use super::syntax::{Source, imports, is_for_tests, line_of, mention, mentions_in_tokens, sources};

/// Functions that block, by module or by name.
const BLOCKING: [&str; 5] = ["std::fs", "std::thread::sleep", "std::process", "std::net", "rustix::fs"];

/// Methods of paths that ask the file system.
const BLOCKING_METHODS: [&str; 9] = [
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

/// What values are called that have the same methods, and do not ask.
const METADATA: [&str; 2] = ["metadata", "file_type"];

/// What these are given runs where blocking is right. Crates call their own way to `spawn_blocking`
/// `blocking`.
const OFF_THE_RUNTIME: [&str; 3] = ["spawn_blocking", "block_in_place", "blocking"];

/// Places that are right: file, function, and the reason.
const ALLOWED: &[(&str, &str, &str)] = &[];

/// A blocking call in async code.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    line: usize,
    function: String,
    call: String,
}

/// Checks all sources of all crates.
pub(super) fn check() -> anyhow::Result<()> {
    let faults = faults(&sources()?, ALLOWED)?;
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.trim_end()) }
}

/// One line per fault, and per allowance that nothing needs.
fn faults(sources: &[Source], allowed: &[(&str, &str, &str)]) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut needed = vec![false; allowed.len()];
    for source in sources {
        for Fault { line, function, call } in blocking_calls(&source.tree) {
            let name = &source.name;
            match allowed.iter().position(|(file, within, _)| file == name && *within == function) {
                Some(position) => needed[position] = true,
                None => writeln!(
                    text,
                    "{name}:{line}: `{call}` blocks a thread of the async runtime in `{function}`: use `tokio::fs` or `spawn_blocking`"
                )?,
            }
        }
    }
    for ((file, function, _), _) in allowed.iter().zip(needed).filter(|(_, is_needed)| !is_needed) {
        writeln!(text, "{file}: `{function}` does not block: remove it from ALLOWED")?;
    }
    Ok(text)
}

/// All blocking calls of a file's async code, in the order of lines.
fn blocking_calls(tree: &syn::File) -> Vec<Fault> {
    let scope = Scope::of(tree);
    let mut visitor = Visitor {
        scope: &scope,
        function: String::new(),
        is_async: false,
        sent_away: Vec::new(),
        faults: Vec::new(),
    };
    visitor.visit_file(tree);
    visitor.faults.sort();
    visitor.faults.dedup();
    visitor.faults
}

/// Names that a file's imports give to paths elsewhere.
#[derive(Debug, Default)]
struct Scope(BTreeMap<String, Vec<String>>);

impl Scope {
    /// Of all imports of a file, those in functions included.
    fn of(tree: &syn::File) -> Self {
        #[derive(Default)]
        struct Visitor(BTreeMap<String, Vec<String>>);
        impl<'ast> Visit<'ast> for Visitor {
            fn visit_item_use(&mut self, item: &'ast ItemUse) {
                self.0.extend(imports(item).into_iter().map(|(name, mention)| (name, mention.path)));
            }
        }
        let mut visitor = Visitor::default();
        Visit::visit_file(&mut visitor, tree);
        Self(visitor.0)
    }

    /// A path from its crate on, where an import gives its first word a meaning.
    fn resolve(&self, path: &[String]) -> Vec<String> {
        match path.split_first().and_then(|(first, rest)| Some((self.0.get(first)?, rest))) {
            Some((meaning, rest)) => meaning.iter().chain(rest).cloned().collect(),
            None => path.to_vec(),
        }
    }
}

struct Visitor<'a> {
    scope: &'a Scope,
    /// The innermost named function.
    function: String,
    /// Whether the code at hand runs on the runtime's threads.
    is_async: bool,
    /// Closures of the function at hand that are given a name and sent off the runtime by it.
    sent_away: Vec<String>,
    faults: Vec<Fault>,
}

impl Visitor<'_> {
    fn within(&mut self, is_async: bool, look: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.is_async, is_async);
        look(self);
        self.is_async = before;
    }

    fn within_function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let before = std::mem::replace(&mut self.function, signature.ident.to_string());
        let sent_away = std::mem::replace(&mut self.sent_away, names_sent_away(block));
        self.within(signature.asyncness.is_some(), |visitor| visitor.visit_block(block));
        self.sent_away = sent_away;
        self.function = before;
    }

    fn report(&mut self, line: usize, call: String) {
        if self.is_async {
            self.faults.push(Fault { line, function: self.function.clone(), call });
        }
    }

    /// Reports a call of this function, if it blocks.
    fn call(&mut self, line: usize, path: &[String]) {
        let path = self.scope.resolve(path).join("::");
        if blocks(&path) {
            self.report(line, path);
        }
    }

    /// A macro's arguments: calls and methods by their tokens.
    fn tokens(&mut self, tokens: &TokenStream) {
        if !self.is_async {
            return;
        }
        for mention in mentions_in_tokens(tokens) {
            // A path of one word could be anything; imported functions are called with their module in this
            // code base.
            if mention.path.len() > 1 {
                self.call(mention.line, &mention.path);
            }
        }
        for (line, method) in methods_in_tokens(tokens) {
            self.report(line, format!(".{method}()"));
        }
    }
}

/// Whether a function is one of those that block. What only describes a call that is to come does not.
fn blocks(path: &str) -> bool {
    let is_below = |prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let last = path.rsplit("::").next().unwrap_or_default();
    let is_constructor = matches!(
        last,
        "new" | "options" | "from" | "from_mode" | "from_raw_fd" | "null" | "piped" | "inherit" | "id"
    ) || path.starts_with("std::net::")
        && !matches!(last, "connect" | "connect_timeout" | "bind");
    // Types and constants, such as `std::fs::Metadata` in a cast.
    let is_function = last.starts_with(|c: char| c.is_lowercase());
    is_function && !is_constructor && BLOCKING.into_iter().any(is_below)
}

/// Whether a value is what the file system answered already, by its name: `metadata.is_dir()`,
/// `entry.file_type()?.is_dir()`.
fn is_known_metadata(receiver: &Expr) -> bool {
    let name = match receiver {
        Expr::Path(path) => path.path.get_ident(),
        Expr::MethodCall(call) => Some(&call.method),
        Expr::Try(inner) => return is_known_metadata(&inner.expr),
        _ => None,
    };
    name.is_some_and(|name| METADATA.iter().any(|known| name == known))
}

/// Variables that are passed to [`OFF_THE_RUNTIME`] somewhere in a function.
fn names_sent_away(block: &syn::Block) -> Vec<String> {
    struct Names(Vec<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
            if leaves_the_runtime(call) {
                self.0.extend(call.args.iter().filter_map(|argument| match argument {
                    Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
                    _ => None,
                }));
            }
            visit::visit_expr_call(self, call);
        }
    }
    let mut names = Names(Vec::new());
    names.visit_block(block);
    names.0
}

fn leaves_the_runtime(call: &syn::ExprCall) -> bool {
    let Expr::Path(function) = &*call.func else { return false };
    let last = function.path.segments.last();
    last.is_some_and(|last| OFF_THE_RUNTIME.iter().any(|name| last.ident == name))
}

/// `.exists()` and its like in tokens: a point, the name, empty brackets, and no `.await` behind.
fn methods_in_tokens(tokens: &TokenStream) -> Vec<(usize, String)> {
    let trees: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let is_point =
        |at: usize| matches!(trees.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == '.');
    let is_await = |at: usize| matches!(trees.get(at), Some(TokenTree::Ident(ident)) if ident == "await");
    let mut found = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Group(group) => found.extend(methods_in_tokens(&group.stream())),
            TokenTree::Ident(ident) if at > 0 && is_point(at - 1) => {
                let name = ident.to_string();
                let is_call = matches!(trees.get(at + 1), Some(TokenTree::Group(group))
                    if group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty());
                let is_awaited = is_point(at + 2) && is_await(at + 3);
                if is_call && !is_awaited && BLOCKING_METHODS.contains(&name.as_str()) {
                    found.push((line_of(ident.span()), name));
                }
            }
            _ => {}
        }
    }
    found
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, _: &'ast ItemUse) {}

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within_function(&item.sig, &item.block);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            self.within_function(&item.sig, &item.block);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.within_function(&item.sig, block);
        }
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.within(true, |visitor| visitor.visit_block(&block.block));
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        // A plain closure runs where it is written, unless it is sent away.
        let is_async = self.is_async || closure.asyncness.is_some();
        self.within(is_async, |visitor| visitor.visit_expr(&closure.body));
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        let is_sent_away =
            matches!(&local.pat, syn::Pat::Ident(name) if self.sent_away.contains(&name.ident.to_string()));
        if is_sent_away {
            self.within(false, |visitor| visit::visit_local(visitor, local));
        } else {
            visit::visit_local(self, local);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if leaves_the_runtime(call) {
            self.within(false, |visitor| visit::visit_expr_call(visitor, call));
            return;
        }
        if let Expr::Path(function) = &*call.func {
            let mention = mention(&function.path);
            self.call(mention.line, &mention.path);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_await(&mut self, awaited: &'ast syn::ExprAwait) {
        // The call itself is async; its receiver and its arguments are looked at.
        match &*awaited.base {
            Expr::MethodCall(call) => {
                self.visit_expr(&call.receiver);
                call.args.iter().for_each(|argument| self.visit_expr(argument));
            }
            base => self.visit_expr(base),
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        let is_blocking = call.args.is_empty() && BLOCKING_METHODS.contains(&name.as_str());
        if is_blocking && !is_known_metadata(&call.receiver) {
            self.report(line_of(call.method.span()), format!(".{name}()"));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(&call.tokens);
    }
}

fn attributes_of(item: &syn::Item) -> &[Attribute] {
    match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        let faults = blocking_calls(&syn::parse_file(text).unwrap());
        faults.into_iter().map(|fault| (fault.line, fault.call)).collect()
    }

    #[test]
    fn no_async_code_of_the_workspace_blocks() {
        check().unwrap();
    }

    #[test]
    fn blocking_calls_of_async_code_are_found() {
        for (text, call) in [
            ("async fn a() { std::fs::read(p); }", "std::fs::read"),
            ("use std::fs; async fn a() { fs::read(p)?; }", "std::fs::read"),
            ("use std::fs::{self, File}; async fn a() { File::open(p)?; }", "std::fs::File::open"),
            ("use std::thread::sleep; async fn a() { sleep(t); }", "std::thread::sleep"),
            ("fn a() { let b = async { std::fs::write(p, t) }; }", "std::fs::write"),
            ("fn a() { let b = async move || std::fs::write(p, t); }", "std::fs::write"),
            ("impl A { async fn a(&self) { self.path.exists(); } }", ".exists()"),
            ("async fn a() { paths.iter().filter(|path| path.is_file()); }", ".is_file()"),
            ("async fn a() { tokio::select! { _ = b => std::fs::remove_file(p), } }", "std::fs::remove_file"),
            ("async fn a() { println!(\"{}\", p.exists()); }", ".exists()"),
            ("async fn a() { spawn_blocking(move || b).await; std::fs::read(p); }", "std::fs::read"),
            (
                "use std::process::Command; async fn a() { Command::new(p); Command::status(c); }",
                "std::process::Command::status",
            ),
        ] {
            assert_eq!(found(text), [(1, call.to_owned())], "{text}");
        }
    }

    #[test]
    fn names_are_resolved_through_imports() {
        let tree =
            syn::parse_file("use std::fs; use std::thread::sleep as rest; fn a() { use x::Y; }").unwrap();
        let scope = Scope::of(&tree);
        let resolve =
            |path: &str| scope.resolve(&path.split("::").map(str::to_owned).collect::<Vec<_>>()).join("::");
        assert_eq!(resolve("fs::read"), "std::fs::read");
        assert_eq!(resolve("rest"), "std::thread::sleep");
        assert_eq!(resolve("Y::new"), "x::Y::new");
        assert_eq!(resolve("other::read"), "other::read");
    }

    #[test]
    fn calls_off_the_runtime_are_right() {
        for text in [
            "fn a() { std::fs::read(p); }",
            "async fn a() { tokio::fs::read(p).await; }",
            "async fn a() { spawn_blocking(move || std::fs::read(p)).await; }",
            "async fn a() { tokio::task::block_in_place(|| p.exists()); }",
            "async fn a() { let work = move || std::fs::read(p); spawn_blocking(work).await; }",
            "async fn a() { fn b() { std::fs::read(p); } spawn_blocking(b).await; }",
            "async fn a() { file.metadata().await; }",
            "async fn a() { let o = std::fs::OpenOptions::new(); }",
            "async fn a() { map.metadata(7); }",
            "async fn a() { tokio::fs::metadata(p).await.is_ok_and(|metadata| metadata.is_dir()); }",
            "async fn a() { let b = entry.file_type()?.is_dir(); }",
            "#[cfg(test)] mod tests { async fn a() { std::fs::read(p); } }",
            "#[tokio::test] async fn a() { std::fs::read(p); }",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn an_allowance_names_file_and_function_and_is_needed() {
        let text = "async fn a() { std::fs::read(p); }\nasync fn b() {\n    std::fs::read(p);\n}";
        let sources = [Source::parse("crates/x/src/y.rs", text).unwrap()];
        let found = faults(&sources, &[("crates/x/src/y.rs", "a", "a reason")]).unwrap();
        assert!(found.starts_with("crates/x/src/y.rs:3: `std::fs::read` blocks"), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
        let stale = faults(&[], &[("crates/x/src/y.rs", "a", "a reason")]).unwrap();
        assert!(stale.contains("remove it from ALLOWED"), "{stale}");
    }
}

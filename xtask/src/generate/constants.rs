//! Constants that bound input, work or time, read from the syntax of all crates.
//!
//! A constant counts by its name (`BODY_LIMIT`, `LONGEST_NAME`, `POLL_TIMEOUT`) and its type (an integer or a duration). Its
//! doc comment is its description; without one, neither `generate` nor `check` passes.

use anyhow::Context as _;
use syn::visit::Visit;
use syn::{Attribute, Expr, ItemConst, ItemMod};

use crate::workspace;

/// Words in the names of constants that bound something.
const WORDS: &[&str] = &[
    "ATTEMPTS",
    "BACKLOG",
    "BACKOFF",
    "BATCH",
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
        let value = value(&item.expr, &all.0).with_context(|| {
            format!(
                "{name}: cannot evaluate `{}`: write it with literals, `*` and `Duration::from_…`",
                item.ident
            )
        })?;
        let shown = shown(&value, &item.expr);
        found.push(Constant {
            file: name.to_owned(),
            name: item.ident.to_string(),
            value: shown,
            about: about(&item.attrs),
        });
    }
    Ok(found)
}

/// The constants of a file that ship.
#[derive(Default)]
struct All(Vec<ItemConst>);

impl<'ast> Visit<'ast> for All {
    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.0.push(item.clone());
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

fn is_bound(item: &ItemConst) -> bool {
    const TYPES: &[&str] =
        &["u16", "u32", "u64", "usize", "i64", "u8", "Duration", "SignedDuration", "Span", "NonZeroUsize"];
    let syn::Type::Path(kind) = &*item.ty else { return false };
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

/// The value of a constant: a number, or milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Number(u128),
    Milliseconds(u128),
}

fn value(expr: &Expr, all: &[ItemConst]) -> Option<Value> {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            syn::Lit::Int(number) => Some(Value::Number(number.base10_parse().ok()?)),
            _ => None,
        },
        Expr::Paren(inner) => value(&inner.expr, all),
        Expr::Cast(inner) => value(&inner.expr, all),
        Expr::Binary(binary) => binary_value(binary, all),
        Expr::Path(path) => {
            let name = path.path.segments.last()?.ident.to_string();
            if name == "MIN" {
                return Some(Value::Number(1));
            }
            all.iter().find(|item| item.ident == name).and_then(|item| value(&item.expr, all))
        }
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else { return None };
            let Value::Number(count) = value(call.args.first()?, all)? else { return None };
            let unit = match function.path.segments.last()?.ident.to_string().as_str() {
                "from_millis" => 1,
                "from_secs" => 1_000,
                "from_mins" => 60_000,
                "from_hours" => 3_600_000,
                _ => return None,
            };
            Some(Value::Milliseconds(count * unit))
        }
        Expr::MethodCall(call) if call.method == "saturating_add" => {
            match (value(&call.receiver, all)?, value(call.args.first()?, all)?) {
                (Value::Number(left), Value::Number(right)) => Some(Value::Number(left + right)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn binary_value(binary: &syn::ExprBinary, all: &[ItemConst]) -> Option<Value> {
    let (left, right) = (value(&binary.left, all)?, value(&binary.right, all)?);
    match (&binary.op, left, right) {
        (syn::BinOp::Mul(_), Value::Number(left), Value::Number(right)) => Some(Value::Number(left * right)),
        (syn::BinOp::Mul(_), Value::Milliseconds(time), Value::Number(count)) => {
            Some(Value::Milliseconds(time * count))
        }
        (syn::BinOp::Add(_), Value::Number(left), Value::Number(right)) => Some(Value::Number(left + right)),
        (syn::BinOp::Sub(_), Value::Number(left), Value::Number(right)) => {
            left.checked_sub(right).map(Value::Number)
        }
        (syn::BinOp::Shl(_), Value::Number(left), Value::Number(right)) => {
            left.checked_shl(u32::try_from(right).ok()?).map(Value::Number)
        }
        _ => None,
    }
}

/// A value for people. A number counts bytes if it is written as a product with 1024.
fn shown(value: &Value, expr: &Expr) -> String {
    match *value {
        Value::Milliseconds(time) => {
            let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
            let unit = units.into_iter().find(|(length, _)| time % length == 0 && time >= *length);
            let (length, unit) = unit.unwrap_or((1, "ms"));
            format!("{} {unit}", time / length)
        }
        Value::Number(number) if is_bytes(expr) => {
            let units = [
                (1 << 50, "PiB"),
                (1 << 40, "TiB"),
                (1 << 30, "GiB"),
                (1 << 20, "MiB"),
                (1 << 10, "KiB"),
                (1, "bytes"),
            ];
            let unit = units.into_iter().find(|(size, _)| number % size == 0 && number >= *size);
            let (size, unit) = unit.unwrap_or((1, "bytes"));
            format!("{} {unit}", number / size)
        }
        Value::Number(number) => grouped(number),
    }
}

fn is_bytes(expr: &Expr) -> bool {
    match expr {
        Expr::Binary(binary) => {
            matches!(binary.op, syn::BinOp::Shl(_)) || is_bytes(&binary.left) || is_bytes(&binary.right)
        }
        Expr::Paren(inner) => is_bytes(&inner.expr),
        Expr::Cast(inner) => is_bytes(&inner.expr),
        Expr::Lit(literal) => {
            matches!(&literal.lit, syn::Lit::Int(number) if number.base10_digits() == "1024")
        }
        Expr::Path(path) => {
            path.path.segments.last().is_some_and(|last| last.ident == "MIB" || last.ident == "GIB")
        }
        _ => false,
    }
}

/// A number with commas between thousands.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
                ("IDLE_TIMEOUT", "90 s", "Wait."),
                ("STORAGE_LIMIT", "2 GiB", "Storage."),
                ("MAX_JOBS", "4", ""),
            ]
        );
        assert!(of_file("x.rs", "const A_LIMIT: usize = f();").is_err());
    }
}

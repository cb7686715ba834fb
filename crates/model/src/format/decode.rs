//! From spanned values to typed ones. Every function reports an invalid value and returns `None`; none stops
//! the file.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::report::{MAX_DIAGNOSTICS_PER_FILE, Owner, Report, nearest, suggest};
use super::shape::Shape;
use super::yaml::{Data, Key, Node};
use super::{Place, paths, written};
use crate::duration::Span;
use crate::glob::Glob;
use crate::names::InvalidName;
use crate::size::ByteSize;
use crate::spec::{Labels, Lane, Owner as FileOwner, Value, Vars};
use crate::tree::{Tree, TreePath};

/// One file being decoded.
pub(super) struct Input<'r> {
    pub(super) tree: &'r Tree,
    pub(super) file: TreePath,
    pub(super) owner: Owner,
    pub(super) report: &'r mut Report,
}

/// The keys of a record.
pub(super) struct Fields<'n> {
    pub(super) node: &'n Node,
    shape: &'static Shape,
}

impl<'n> Fields<'n> {
    /// The value of a key of the shape, under its present or its old spelling.
    pub(super) fn get(&self, name: &'static str) -> Option<&'n Node> {
        let field = self.shape.field(name).filter(|field| field.name == name);
        debug_assert!(field.is_some(), "`{name}` is not in the shape");
        let old_name = field.and_then(|field| field.old_name);
        let is_it = |key: &Key| key.text == name || old_name == Some(key.text.as_str());
        self.node.entries().iter().find(|(key, _)| is_it(key)).map(|(_, value)| value)
    }

    /// Whether the presence or absence of a key is intended: see [`Shape::is_clear`].
    pub(super) fn is_clear(&self, name: &'static str) -> bool {
        self.shape.is_clear(self.node, name)
    }
}

/// A sentence as part of another.
fn inline(doc: &str) -> String {
    let mut rest = doc.trim_end_matches('.').chars();
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

impl Input<'_> {
    /// Reports an error of this file.
    pub(super) fn error(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.report.add(&self.owner, &self.file, Some(place), message, hint);
    }

    /// Reports a value of the wrong kind. Rejected values are reported already.
    pub(super) fn wrong_kind(&mut self, node: &Node, want: &str) {
        let hint = match &node.data {
            Data::Refused => return,
            Data::Integer(_) | Data::Number(_) | Data::Boolean(_) if want.contains("string") => {
                if self.report.is_full(&self.file) {
                    String::new()
                } else {
                    written::quoted(self.tree, &self.file, node.place)
                }
            }
            Data::Null => format!("write {want} here, or remove the key"),
            Data::Text(text) if want.contains("list") => format!("write [{text}]"),
            _ => format!("write {want} here"),
        };
        self.error(node.place, format!("expected {want}, found {}", node.data.describe()), hint);
    }

    /// A record: reports unknown, missing and renamed keys.
    pub(super) fn record<'n>(&mut self, node: &'n Node, shape: &'static Shape) -> Option<Fields<'n>> {
        let Data::Map(entries) = &node.data else {
            self.wrong_kind(node, "a map");
            return None;
        };
        let known = |name: &str| shape.field(name).is_some();
        let strays = || entries.iter().map(|(key, _)| key).filter(|key| !known(&key.text));
        for key in strays() {
            self.unknown_key(key, shape);
        }
        for (key, _) in entries {
            self.renamed_key(key, entries, shape);
        }
        let names = || shape.keys.iter().map(|key| key.name);
        // A key that is only misspelt is not missing, too.
        let has = |name: &str| {
            entries.iter().any(|(key, _)| key.text == name)
                || strays()
                    .take(MAX_DIAGNOSTICS_PER_FILE)
                    .any(|key| nearest(&key.text, names()) == Some(name))
        };
        for field in shape.keys.iter().filter(|field| field.needed && !has(field.name)) {
            let message = format!("{} has no key `{}`", shape.what, field.name);
            self.error(node.place, message, format!("add `{}`: {}", field.name, inline(field.doc)));
        }
        let chosen: Vec<&Key> = entries
            .iter()
            .map(|(key, _)| key)
            .filter(|key| shape.one_of.contains(&key.text.as_str()))
            .collect();
        let choice = shape.one_of.join(", ");
        if let [first, second, ..] = chosen.as_slice() {
            let message = format!("{} has both `{}` and `{}`", shape.what, first.text, second.text);
            self.error(second.place, message, format!("keep one of {choice}"));
        } else if chosen.is_empty()
            && !shape.one_of.is_empty()
            && entries.iter().all(|(key, _)| known(&key.text))
        {
            let message = format!("{} has none of {choice}", shape.what);
            self.error(node.place, message, "add one of them");
        }
        Some(Fields { node, shape })
    }

    /// Warns about the old spelling of a key; next to the present one it is an error.
    fn renamed_key(&mut self, key: &Key, entries: &[(Key, Node)], shape: &'static Shape) {
        let Some(field) = shape.field(&key.text).filter(|field| field.name != key.text) else { return };
        if entries.iter().any(|(other, _)| other.text == field.name) {
            let message = format!("{} has both `{}` and `{}`", shape.what, field.name, key.text);
            self.error(
                key.place,
                message,
                format!("remove `{}`, the old name of `{}`", key.text, field.name),
            );
            return;
        }
        let message = format!("the key `{}` is deprecated", key.text);
        let hint = format!("write `{}`; the next release rejects `{}`", field.name, key.text);
        self.report.warn(&self.file, Some(key.place), message, hint);
    }

    fn unknown_key(&mut self, key: &Key, shape: &'static Shape) {
        let hint = if self.report.is_full(&self.file) {
            String::new()
        } else if key.text == "config" {
            "remove it: `config` is reserved for a future version".to_owned()
        } else {
            suggest(&key.text, shape.keys.iter().map(|key| key.name))
        };
        self.error(key.place, format!("unknown key `{}` in {}", key.text, shape.what), hint);
    }

    /// A string that is not empty.
    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.data {
            Data::Text(text) if !text.is_empty() => Some(text),
            Data::Text(_) => {
                self.error(node.place, "the string is empty", "write a value, or remove the key");
                None
            }
            _ => {
                self.wrong_kind(node, "a string");
                None
            }
        }
    }

    /// A string that may be empty.
    pub(super) fn any_text(&mut self, node: &Node) -> Option<String> {
        if let Data::Text(text) = &node.data {
            return Some(text.clone());
        }
        self.wrong_kind(node, "a string");
        None
    }

    /// A text without spaces that no program can take for a command line option.
    pub(super) fn word(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node)?;
        if text.starts_with('-') || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            let message = format!("invalid {what} `{}`", text.escape_debug());
            self.error(node.place, message, "remove spaces, line ends and a leading `-`");
            return None;
        }
        Some(text.to_owned())
    }

    /// A string on one line.
    pub(super) fn line(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if text.contains(char::is_control) {
            self.error(node.place, "the string has more than one line", "write it on one line");
            return None;
        }
        Some(text.to_owned())
    }

    /// A name of some kind.
    pub(super) fn name<T: FromStr<Err = InvalidName>>(&mut self, node: &Node) -> Option<T> {
        let text = self.text(node)?;
        self.parsed(text, node.place)
    }

    /// A name written as a key.
    pub(super) fn key<T: FromStr<Err = InvalidName>>(&mut self, key: &Key) -> Option<T> {
        self.parsed(&key.text, key.place)
    }

    fn parsed<T: FromStr<Err = InvalidName>>(&mut self, text: &str, place: Place) -> Option<T> {
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                let message = format!("invalid {} `{}`", error.kind(), text.escape_debug());
                self.error(place, message, error.rule());
                None
            }
        }
    }

    /// A whole number between two bounds.
    pub(super) fn integer<T: TryFrom<i64>>(&mut self, node: &Node, least: i64, most: i64) -> Option<T> {
        let Data::Integer(number) = node.data else {
            self.wrong_kind(node, "an integer");
            return None;
        };
        if !(least..=most).contains(&number) {
            let message = format!("{number} is out of range: allowed are {least} to {most}");
            self.error(node.place, message, format!("write {least} to {most}"));
            return None;
        }
        T::try_from(number).ok()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        if let Data::Boolean(value) = node.data {
            return Some(value);
        }
        self.wrong_kind(node, "true or false");
        None
    }

    /// A duration.
    pub(super) fn span(&mut self, node: &Node) -> Option<Span> {
        const HINT: &str = "write a whole number and a unit, such as 500ms, 60s, 10m, 2h or 7d";
        self.with_unit(node, "duration", ("s", "seconds"), HINT)
    }

    /// A number of bytes.
    pub(super) fn size(&mut self, node: &Node) -> Option<ByteSize> {
        const HINT: &str = "write a whole number and a unit, such as 500MiB or 2GiB";
        self.with_unit(node, "size", ("B", "bytes"), HINT)
    }

    /// A number with a unit; for one without, `unit` and its `name` are proposed.
    fn with_unit<T: FromStr>(
        &mut self,
        node: &Node,
        what: &str,
        (unit, name): (&str, &str),
        hint: &str,
    ) -> Option<T> {
        if let Data::Integer(number) = node.data {
            let hint = format!("write {number}{unit} for {name}");
            self.error(node.place, format!("invalid {what} {number}: no unit"), hint);
            return None;
        }
        let text = self.text(node)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.error(node.place, format!("invalid {what} `{}`", text.escape_debug()), hint);
        }
        value
    }

    /// One of some words.
    pub(super) fn one_of<'n>(&mut self, node: &'n Node, words: &[&'static str]) -> Option<&'n str> {
        let text = self.text(node)?;
        if words.contains(&text) {
            return Some(text);
        }
        let message = format!("unknown value `{}`", text.escape_debug());
        self.error(node.place, message, suggest(text, words.iter().copied()));
        None
    }

    /// A list, item by item; invalid items are left out.
    pub(super) fn list<T>(
        &mut self,
        node: Option<&Node>,
        mut item: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Vec<T> {
        match node {
            None => Vec::new(),
            Some(Node { data: Data::List(items), .. }) => {
                items.iter().filter_map(|node| item(self, node)).collect()
            }
            Some(node) => {
                self.wrong_kind(node, "a list");
                Vec::new()
            }
        }
    }

    /// A map with free keys; invalid entries are left out.
    pub(super) fn map<K: Ord, V>(
        &mut self,
        node: Option<&Node>,
        mut entry: impl FnMut(&mut Self, &Key, &Node) -> Option<(K, V)>,
    ) -> BTreeMap<K, V> {
        match node {
            None => BTreeMap::new(),
            Some(Node { data: Data::Map(entries), .. }) => {
                entries.iter().filter_map(|(key, node)| entry(self, key, node)).collect()
            }
            Some(node) => {
                self.wrong_kind(node, "a map");
                BTreeMap::new()
            }
        }
    }

    /// Labels.
    pub(super) fn labels(&mut self, node: Option<&Node>) -> Labels {
        self.map(node, |input, key, value| Some((input.key(key)?, input.name(value)?)))
    }

    /// Variables. Their names and types are checked against declarations later.
    pub(super) fn vars(&mut self, node: Option<&Node>) -> Vars {
        self.map(node, |input, key, value| {
            let name = input.key(key);
            // A placeholder, so that a value that could not be read is not reported as missing, too.
            let value = input.value(value).unwrap_or(Value::String(String::new()));
            Some((name?, value))
        })
    }

    /// A variable's value.
    pub(super) fn value(&mut self, node: &Node) -> Option<Value> {
        Some(match &node.data {
            Data::Refused => return None,
            Data::Null => {
                self.error(node.place, "the variable has no value", "write \"\" for an empty string");
                return None;
            }
            Data::Number(text) => {
                let message = format!("{text} is not a 64-bit integer");
                self.error(node.place, message, format!("write \"{text}\" and declare it as a string"));
                return None;
            }
            Data::Boolean(value) => Value::Boolean(*value),
            Data::Integer(value) => Value::Integer(*value),
            Data::Text(value) => Value::String(value.clone()),
            Data::List(_) => Value::List(self.list(Some(node), Self::value)),
            Data::Map(_) => Value::Map(
                self.map(Some(node), |input, key, value| Some((key.text.clone(), input.value(value)?))),
            ),
        })
    }

    /// Lanes by name, each once.
    pub(super) fn lanes(&mut self, node: &Node) -> std::collections::BTreeSet<Lane> {
        let names = Lane::ALL.map(Lane::name);
        let lanes = self.list(Some(node), |input, node| {
            let name = input.one_of(node, &names)?;
            Lane::ALL.into_iter().find(|lane| lane.name() == name)
        });
        lanes.into_iter().collect()
    }

    /// Permission bits, in quotes: `"0755"`.
    pub(super) fn mode(&mut self, node: &Node) -> Option<u32> {
        const HINT: &str = "write 3 or 4 octal digits in quotes, such as \"0755\"";
        let text = match &node.data {
            Data::Text(text) => text.as_str(),
            Data::Refused => return None,
            _ => "",
        };
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if octal {
            return u32::from_str_radix(text, 8).ok();
        }
        let message = match &node.data {
            Data::Text(text) => format!("invalid mode `{}`", text.escape_debug()),
            other => format!("invalid mode: expected a string, found {}", other.describe()),
        };
        self.error(node.place, message, HINT);
        None
    }

    /// `USER:GROUP`, numeric.
    pub(super) fn file_owner(&mut self, node: &Node) -> Option<FileOwner> {
        let text = self.text(node)?;
        let number =
            |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let owner = text
            .split_once(':')
            .and_then(|(user, group)| Some(FileOwner { user: number(user)?, group: number(group)? }));
        if owner.is_none() {
            let message = format!("invalid owner `{}`: not numeric", text.escape_debug());
            self.error(node.place, message, "write USER:GROUP as numbers in quotes, such as \"0:0\"");
        }
        owner
    }

    /// A pattern over paths or names.
    pub(super) fn glob(&mut self, text: &str, place: Place) -> Option<Glob> {
        match Glob::new(text) {
            Ok(glob) => Some(glob),
            Err(error) => {
                self.error(place, error.to_string(), error.hint());
                None
            }
        }
    }

    /// A path in the image, without leading `/`.
    pub(super) fn image_path(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        match text.trim_end_matches('/').parse::<TreePath>() {
            Ok(path) => Some(path.to_string()),
            Err(_) if text.starts_with('/') => {
                let message = format!("invalid path `{}`: begins with `/`", text.escape_debug());
                self.error(
                    node.place,
                    message,
                    "remove the first `/`: paths are relative to the image's root",
                );
                None
            }
            Err(error) => {
                let message = format!("invalid path `{}`", text.escape_debug());
                self.error(node.place, message, error.rule());
                None
            }
        }
    }

    /// A path of the repository, written relative to this file's folder; it must exist, and links in it stay
    /// inside the repository. Gives the path with all links followed.
    pub(super) fn repository_path(&mut self, node: &Node, want: paths::Want) -> Option<TreePath> {
        let text = self.text(node)?;
        self.resolve(text, node.place, want)
    }

    /// As [`Self::repository_path`], for a path that comes from a default.
    pub(super) fn resolve(&mut self, text: &str, place: Place, want: paths::Want) -> Option<TreePath> {
        match paths::find(self.tree, &self.file, text, want) {
            Ok(path) => Some(path),
            Err(fault) => {
                self.error(place, fault.message, fault.hint);
                None
            }
        }
    }
}

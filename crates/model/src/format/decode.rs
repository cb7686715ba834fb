//! From spanned values to typed ones. Every function reports what does not fit and gives `None`; none stops the file.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::report::{Owner, Report, nearest, suggest};
use super::shape::Shape;
use super::yaml::{Data, Key, Node};
use super::{Place, paths};
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

/// The keys of a record that is there.
pub(super) struct Fields<'n> {
    pub(super) node: &'n Node,
    shape: &'static Shape,
}

impl<'n> Fields<'n> {
    /// The value of a key of the shape.
    pub(super) fn get(&self, name: &'static str) -> Option<&'n Node> {
        debug_assert!(self.shape.keys.iter().any(|key| key.name == name), "`{name}` is not in the shape");
        self.node.entries().iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    /// Whether it says what a key of the shape is for: see [`Shape::says`].
    pub(super) fn says(&self, name: &'static str) -> bool {
        self.shape.says(self.node, name)
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

    /// Reports a value of the wrong kind. Refused values are reported already.
    pub(super) fn unfit(&mut self, node: &Node, want: &str) {
        let hint = match &node.data {
            Data::Refused => return,
            Data::Integer(_) | Data::Number(_) | Data::Boolean(_) if want.contains("text") => {
                "write it in quotes".to_owned()
            }
            Data::Null => format!("write {want} here, or remove the key"),
            Data::Text(text) if want.contains("list") => format!("write [{text}]"),
            _ => format!("write {want} here"),
        };
        self.error(node.place, format!("want {want}, found {}", node.data.describe()), hint);
    }

    /// A record: refuses unknown keys, asks for missing ones.
    pub(super) fn record<'n>(&mut self, node: &'n Node, shape: &'static Shape) -> Option<Fields<'n>> {
        let Data::Map(entries) = &node.data else {
            self.unfit(node, "a map");
            return None;
        };
        let known = |name: &str| shape.keys.iter().any(|key| key.name == name);
        let strays = || entries.iter().map(|(key, _)| key).filter(|key| !known(&key.text));
        for key in strays() {
            self.unknown_key(key, shape);
        }
        let names = || shape.keys.iter().map(|key| key.name);
        // A key that is only misspelt is not missing, too.
        let has = |name: &str| {
            entries.iter().any(|(key, _)| key.text == name)
                || strays().any(|key| nearest(&key.text, names()) == Some(name))
        };
        for field in shape.keys.iter().filter(|field| field.needed && !has(field.name)) {
            let message = format!("{} needs the key `{}`", shape.what, field.name);
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
            self.error(second.place, message, format!("keep exactly one of {choice}"));
        } else if chosen.is_empty()
            && !shape.one_of.is_empty()
            && entries.iter().all(|(key, _)| known(&key.text))
        {
            let message = format!("{} needs one of {choice}", shape.what);
            self.error(node.place, message, "add exactly one of them");
        }
        Some(Fields { node, shape })
    }

    fn unknown_key(&mut self, key: &Key, shape: &'static Shape) {
        let hint = if key.text == "config" {
            "the word is reserved for small per-device artifacts that need no image".to_owned()
        } else {
            suggest(&key.text, shape.keys.iter().map(|key| key.name))
        };
        self.error(key.place, format!("unknown key `{}` in {}", key.text, shape.what), hint);
    }

    /// A text that is not empty.
    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.data {
            Data::Text(text) if !text.is_empty() => Some(text),
            Data::Text(_) => {
                self.error(node.place, "this text is empty", "write something here, or remove the key");
                None
            }
            _ => {
                self.unfit(node, "a text");
                None
            }
        }
    }

    /// A text that may be empty.
    pub(super) fn any_text(&mut self, node: &Node) -> Option<String> {
        if let Data::Text(text) = &node.data {
            return Some(text.clone());
        }
        self.unfit(node, "a text");
        None
    }

    /// A text that stands on one line and cannot be taken for an option of a command line.
    pub(super) fn word(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node)?;
        if text.starts_with('-') || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            let message = format!("`{}` is not a fit {what}", text.escape_debug());
            self.error(node.place, message, "want no spaces, line ends or leading `-`");
            return None;
        }
        Some(text.to_owned())
    }

    /// A text on one line.
    pub(super) fn line(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if text.contains(char::is_control) {
            self.error(node.place, "this text has more than one line", "write it on one line");
            return None;
        }
        Some(text.to_owned())
    }

    /// A name of some kind.
    pub(super) fn name<T: FromStr<Err = InvalidName>>(&mut self, node: &Node) -> Option<T> {
        let text = self.text(node)?;
        self.fit(text, node.place)
    }

    /// A name written as a key.
    pub(super) fn key<T: FromStr<Err = InvalidName>>(&mut self, key: &Key) -> Option<T> {
        self.fit(&key.text, key.place)
    }

    fn fit<T: FromStr<Err = InvalidName>>(&mut self, text: &str, place: Place) -> Option<T> {
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                let message = format!("`{}` is not a fit {}", text.escape_debug(), error.kind());
                self.error(place, message, error.rule());
                None
            }
        }
    }

    /// A whole number between two bounds.
    pub(super) fn integer<T: TryFrom<i64>>(&mut self, node: &Node, least: i64, most: i64) -> Option<T> {
        let Data::Integer(number) = node.data else {
            self.unfit(node, "a whole number");
            return None;
        };
        if !(least..=most).contains(&number) {
            let message = format!("{number} is out of range");
            self.error(node.place, message, format!("want {least} to {most}"));
            return None;
        }
        T::try_from(number).ok()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        if let Data::Boolean(value) = node.data {
            return Some(value);
        }
        self.unfit(node, "true or false");
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
            self.error(node.place, format!("this {what} has no unit"), hint);
            return None;
        }
        let text = self.text(node)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.error(node.place, format!("`{}` is not a {what}", text.escape_debug()), hint);
        }
        value
    }

    /// One of some words.
    pub(super) fn one_of<'n>(&mut self, node: &'n Node, words: &[&'static str]) -> Option<&'n str> {
        let text = self.text(node)?;
        if words.contains(&text) {
            return Some(text);
        }
        let message = format!("`{}` is not known here", text.escape_debug());
        self.error(node.place, message, suggest(text, words.iter().copied()));
        None
    }

    /// A list, item by item; unfit items are left out.
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
                self.unfit(node, "a list");
                Vec::new()
            }
        }
    }

    /// A map with free keys; unfit entries are left out.
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
                self.unfit(node, "a map");
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
                self.error(node.place, "a variable cannot be nothing", "write \"\" for an empty text");
                return None;
            }
            Data::Number(text) => {
                let message = format!("{text} is not a whole number of 64 bits");
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
        self.error(node.place, "this is not a mode", HINT);
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
            let message = format!("`{}` is not a numeric owner", text.escape_debug());
            self.error(node.place, message, "write USER:GROUP as numbers in quotes, such as \"0:0\"");
        }
        owner
    }

    /// A pattern over paths or names.
    pub(super) fn glob(&mut self, text: &str, place: Place) -> Option<Glob> {
        match Glob::new(text) {
            Ok(glob) => Some(glob),
            Err(error) => {
                let message = format!("`{}` is not a pattern", text.escape_debug());
                self.error(place, message, error.fault());
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
                let message = format!("`{}` begins with `/`", text.escape_debug());
                self.error(node.place, message, "leave the first `/` out: paths start at the image's root");
                None
            }
            Err(error) => {
                let message = format!("`{}` is not a fit path", text.escape_debug());
                self.error(node.place, message, error.rule());
                None
            }
        }
    }

    /// A path of the repository, written relative to this file's folder; it must exist, and links in it stay inside the
    /// repository. Gives the path with all links followed.
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

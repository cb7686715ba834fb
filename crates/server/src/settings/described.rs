//! Settings that describe themselves: one declaration makes the struct that decodes a table of the settings
//! file, the way in which its layers merge, and the rows of `docs/reference/settings.md`. A key without a
//! description does not compile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use edgewright_control::outbound::notify::{EventMode, SinkKind};
use edgewright_control::outbound::replicate::DeviceReads;
use edgewright_model::duration::Span;
use edgewright_model::names::{ChannelName, SourceName};
use jiff::civil::Time;

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// After a reload (SIGHUP).
    Reload,
    /// After a restart of the server.
    Restart,
}

/// One key of the settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The table that holds it, such as `jobs` or `source.locks`; empty for the tables themselves.
    pub table: &'static str,
    /// The key.
    pub key: &'static str,
    /// The type of its value.
    pub kind: &'static str,
    /// What it does, as sentences.
    pub about: &'static str,
    /// When a changed value takes effect.
    pub applies: Applies,
    /// The default; empty for a key that is required.
    pub default: String,
    /// The values that are accepted, with their unit; empty if the type is enough.
    pub range: &'static str,
    /// A value as it is written in the file.
    pub example: &'static str,
    /// The flag of `serve` that sets it, too; empty without one.
    pub flag: &'static str,
    /// Its spelling in earlier releases; empty without one.
    pub was: &'static str,
}

/// The type of a setting's value.
pub(super) trait Kind {
    /// What readers call it.
    const NAME: &'static str;
    /// A value as it is written in the file.
    const EXAMPLE: &'static str;
}

macro_rules! kinds {
    ($($kind:ty => $name:literal, $example:literal;)+) => {$(
        impl Kind for $kind {
            const NAME: &'static str = $name;
            const EXAMPLE: &'static str = $example;
        }
    )+};
}

kinds! {
    bool => "boolean", "true";
    u8 => "integer", "10";
    u16 => "integer", "2";
    u32 => "integer", "10";
    String => "string", "\"…\"";
    PathBuf => "path", "\"/etc/edgewright/…\"";
    Span => "duration", "\"30s\"";
    SocketAddr => "address and port", "\"127.0.0.1:5080\"";
    Time => "time of day", "\"02:00\"";
    SourceName => "source name", "\"plant-os\"";
    SinkKind => "`\"cloud-events\"`, `\"github\"`, `\"gitlab\"` or `\"gitea\"`", "\"cloud-events\"";
    EventMode => "`\"structured\"` or `\"binary\"`", "\"binary\"";
    DeviceReads => "`\"redirect\"` or `\"proxy\"`", "\"redirect\"";
    Vec<String> => "list of strings", "[\"main\"]";
    Vec<SourceName> => "list of source names", "[\"plant-os\"]";
    Vec<ChannelName> => "list of channel names", "[\"stable\"]";
    BTreeMap<String, PathBuf> => "table of paths", "{npm = \"/etc/edgewright/npm.token\"}";
}

impl<T: Kind> Kind for Option<T> {
    const NAME: &'static str = T::NAME;
    const EXAMPLE: &'static str = T::EXAMPLE;
}

/// A value that may be given in several layers: the settings file, the environment, flags.
pub(super) trait Layer {
    /// This layer over a lower one.
    #[must_use]
    fn over(self, lower: Self) -> Self;
}

impl<T> Layer for Option<T> {
    fn over(self, lower: Self) -> Self {
        self.or(lower)
    }
}

/// Lists add up, the lower layer first.
impl<T> Layer for Vec<T> {
    fn over(self, mut lower: Self) -> Self {
        lower.extend(self);
        lower
    }
}

impl<K: Ord, V> Layer for BTreeMap<K, V> {
    fn over(self, mut lower: Self) -> Self {
        lower.extend(self);
        lower
    }
}

/// Declares one table of the settings file. `layered` makes it a [`Layer`] that merges key by key; `was` is
/// the spelling of earlier releases; `skip` adds a field that is not in the file.
macro_rules! described {
    (
        $(#[$outer:meta])*
        pub struct $name:ident: $table:literal $(, $layered:ident)? {
            $(
                $(#[doc = $about:literal])+
                pub $key:ident: $kind:ty $(, was $was:literal)? {
                    $applies:ident $(, $column:ident: $value:expr)*
                }
            )+
            $(skip $skipped:ident: $skipped_kind:ty, $skipped_about:literal;)?
        }
    ) => {
        $(#[$outer])*
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $about])+
                $(#[serde(alias = $was)])?
                pub $key: $kind,
            )+
            $(
                #[doc = $skipped_about]
                #[serde(skip)]
                pub $skipped: $skipped_kind,
            )?
        }

        impl $name {
            /// The rows of the reference, in the order of their declaration.
            pub(super) fn rows() -> Vec<$crate::settings::described::Setting> {
                use $crate::settings::described::{Applies, Kind, Setting};
                vec![$(
                    #[allow(clippy::useless_conversion, reason = "defaults are texts of both kinds")]
                    Setting {
                        $($column: $value.into(),)*
                        ..Setting {
                            table: $table,
                            key: stringify!($key),
                            kind: <$kind as Kind>::NAME,
                            about: concat!($($about),+).trim_ascii(),
                            applies: Applies::$applies,
                            default: String::new(),
                            range: "",
                            example: <$kind as Kind>::EXAMPLE,
                            flag: "",
                            was: concat!($($was)?),
                        }
                    }
                ),+]
            }
        }

        described!(@layer [$($layered)?] $name { $($key)+ $($skipped)? });
    };
    (@layer [] $name:ident { $($key:ident)+ }) => {};
    (@layer [layered] $name:ident { $($key:ident)+ }) => {
        impl $crate::settings::described::Layer for $name {
            fn over(self, lower: Self) -> Self {
                use $crate::settings::described::Layer;
                Self { $($key: Layer::over(self.$key, lower.$key),)+ }
            }
        }
    };
}

pub(super) use described;

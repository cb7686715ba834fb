//! `locks = {…}` of a source: where new locks go.

use std::path::PathBuf;

use edgewright_control::{CommitLocks, LockPolicy};
use serde::Deserialize;

use super::SettingsError;
use super::described::{Kind, described};

/// Who commits locks by default.
const DEFAULT_AUTHOR: &str = "Edgewright <edgewright@localhost>";
/// The first line of such a commit's message by default.
const DEFAULT_MESSAGE: &str = "Update locks";
/// The user name for https by default.
const DEFAULT_USER: &str = "edgewright";

/// Where new locks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// The server keeps them in its database.
    Overlay,
    /// The server pushes them as a commit.
    Commit,
}

impl Kind for LockMode {
    const NAME: &'static str = "`\"overlay\"` or `\"commit\"`";
    const EXAMPLE: &'static str = "\"commit\"";
}

described! {
    /// `[source.locks]`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct LockOptions: "source.locks" {
        /// `overlay`: the server keeps new locks and builds from them at once. `commit`: it pushes them as a
        /// commit. All other keys need `commit`.
        pub mode: Option<LockMode> { Reload, default: "overlay" }
        /// The branch that is pushed to.
        pub branch: Option<String> { Reload, default: "the followed branch", example: "\"locks\"" }
        /// Author and committer.
        pub author: Option<String> { Reload, default: DEFAULT_AUTHOR, range: "NAME <ADDRESS>", example: "\"Edgewright <edge@example.org>\"" }
        /// First line of the commit's message. A list of the changes follows it.
        pub message: Option<String> { Reload, default: DEFAULT_MESSAGE, example: "\"Update locks\"" }
        /// User name for https.
        pub user: Option<String> { Reload, default: DEFAULT_USER, example: "\"edgewright\"" }
        /// File with the password or token for https. It is read at every push.
        pub token_file: Option<PathBuf> { Reload, default: "none", example: "\"/etc/edgewright/push.token\"" }
    }
}

impl Kind for LockOptions {
    const NAME: &'static str = "table";
    const EXAMPLE: &'static str =
        "{mode = \"commit\", branch = \"locks\", token_file = \"/etc/edgewright/push.token\"}";
}

impl LockOptions {
    /// The policy.
    pub fn resolve(self) -> Result<LockPolicy, SettingsError> {
        let fault = |reason: &'static str| Err(SettingsError::Locks { reason });
        if self.mode.unwrap_or(LockMode::Overlay) == LockMode::Overlay {
            let plain = Self { mode: self.mode, ..Self::default() };
            return if self == plain {
                Ok(LockPolicy::Overlay)
            } else {
                fault("all other keys need `mode = \"commit\"`")
            };
        }
        let author = self.author.unwrap_or_else(|| DEFAULT_AUTHOR.to_owned());
        let is_address = author.split_once('<').is_some_and(|(name, address)| {
            !name.trim().is_empty()
                && address.strip_suffix('>').is_some_and(|address| !address.contains(['<', '>']))
        });
        if !is_address || author.contains(char::is_control) {
            return fault("invalid `author`: expected `NAME <ADDRESS>`");
        }
        let message = self.message.unwrap_or_else(|| DEFAULT_MESSAGE.to_owned());
        if message.trim().is_empty() || message.contains('\0') {
            return fault("`message` is empty");
        }
        let user = self.user.unwrap_or_else(|| DEFAULT_USER.to_owned());
        Ok(LockPolicy::Commit(CommitLocks {
            branch: self.branch,
            author,
            message,
            user,
            token_file: self.token_file,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_overlays_or_commits() {
        let policy = |text: &str| {
            let options: LockOptions = toml::from_str(text).map_err(|error| error.to_string())?;
            options.resolve().map_err(|error| error.to_string())
        };
        assert_eq!(policy(""), Ok(LockPolicy::Overlay));
        assert_eq!(policy("mode = \"overlay\""), Ok(LockPolicy::Overlay));
        let Ok(LockPolicy::Commit(plain)) = policy("mode = \"commit\"") else { panic!("commit") };
        assert_eq!((plain.author.as_str(), plain.branch), (DEFAULT_AUTHOR, None));
        for (text, part) in [
            ("branch = \"main\"", "need `mode"),
            ("mode = \"push\"", "unknown variant"),
            ("mode = \"commit\"\nauthor = \"me\"", "NAME <ADDRESS>"),
            ("mode = \"commit\"\nmessage = \" \"", "empty"),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

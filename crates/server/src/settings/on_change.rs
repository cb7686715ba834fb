//! `[server] on_change`, and the files whose content a reload takes over.

use std::path::PathBuf;

use serde::Deserialize;

use super::Settings;
use super::described::Kind;

/// What a server does when its settings file, or a file that it names, has other content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// Nothing: a signal reloads.
    #[default]
    Signal,
    /// It reloads.
    Reload,
    /// It reloads, and ends if a change needs a restart: a supervisor starts it again.
    Restart,
}

impl Kind for OnChange {
    const NAME: &'static str = "`\"signal\"`, `\"reload\"` or `\"restart\"`";
    const EXAMPLE: &'static str = "\"restart\"";
}

impl Settings {
    /// The files that a reload reads, besides the settings file itself: tokens, certificates, authorities.
    /// Files that are read at each use, such as keys of sources and build secrets, are not among them.
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = self.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]);
        let targets = self.targets.iter();
        let targets = targets.flat_map(|target| [&target.password_file, &target.token_file, &target.ca_file]);
        let provider = self.oidc.iter().filter_map(|oidc| oidc.ca_file.as_ref());
        let sinks = self.sinks.iter().map(|sink| &sink.token_file);
        let optional = self.token_file.iter().chain(targets.chain(sinks).flatten());
        optional.chain(provider).chain(tls).chain(self.hook_secret_files.values()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::Path;

    use super::super::{Options, described_settings};
    use super::*;

    const ALL: &str = "\
        [server]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\n\
        tls_certificate_file = \"/1\"\ntls_key_file = \"/2\"\non_change = \"restart\"\n\
        [access]\ntoken_file = \"/3\"\n\
        [access.oidc]\nissuer = \"https://a\"\nclient_id = \"a\"\ngroups = {}\nca_file = \"/9\"\n\
        [[source]]\nurl = \"/git/plants\"\nhook_secret_file = \"/4\"\nssh_key = \"/at-use\"\n\
        known_hosts = \"/at-use\"\nlocks = {mode = \"commit\", token_file = \"/at-use\"}\n\
        [[sink]]\nname = \"a\"\nkind = \"cloud-events\"\nurl = \"http://a\"\ntoken_file = \"/5\"\n\
        [[target]]\nname = \"a\"\nurl = \"http://a\"\nuser = \"a\"\npassword_file = \"/6\"\nca_file = \"/7\"\n\
        [[target]]\nname = \"b\"\nurl = \"http://a\"\ntoken_file = \"/8\"\n\
        [secrets]\nnpm = \"/at-use\"\n";

    /// A new setting that names a file belongs to one of both kinds.
    #[test]
    fn every_file_of_the_settings_is_watched_or_read_at_each_use() {
        let settings = Options::parse(ALL).unwrap().resolve(Path::new("/d"), NonZeroUsize::MIN).unwrap();
        assert_eq!(settings.on_change, OnChange::Restart);
        let mut files = settings.files();
        files.sort();
        assert_eq!(files, (1..=9).map(|number| format!("/{number}").into()).collect::<Vec<PathBuf>>());
        for setting in described_settings().iter().filter(|setting| setting.kind == "path") {
            let is_restart = setting.applies == super::super::described::Applies::Restart;
            assert!(is_restart || ALL.contains(setting.key), "is `{}` watched?", setting.key);
        }
    }
}

//! The mirrors that this host uses: the default of `mirror:`. No mirror is hard-coded.

use std::path::Path;

/// One repository that the host's apt uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// Its address.
    pub uri: String,
    /// Its suite, such as `bookworm` or `bookworm-security`.
    pub suite: String,
    pub components: Vec<String>,
}

/// The host's distribution and its repositories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// `ID` of `os-release`.
    pub distribution: String,
    /// `VERSION_CODENAME` of `os-release`.
    pub codename: String,
    /// Binary repositories, in reading order.
    pub entries: Vec<HostEntry>,
}

impl Host {
    /// Reads `os-release` and apt's sources below `/etc`.
    pub fn read(etc: &Path) -> Self {
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let mut files = vec![etc.join("apt/sources.list")];
        let parts = std::fs::read_dir(etc.join("apt/sources.list.d")).into_iter().flatten().flatten();
        let mut parts: Vec<_> = parts.map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
        let mut entries = Vec::new();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => entries.extend(one_line_entries(&text(&file))),
                Some("sources") => entries.extend(deb822_entries(&text(&file))),
                _ => {}
            }
        }
        let release = text(&etc.join("os-release"));
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        Self { distribution: field("ID"), codename: field("VERSION_CODENAME"), entries }
    }

    /// The repositories of another suite of the same distribution, from the host's own, with updates and
    /// security updates. Empty if the host is not Debian.
    pub fn for_suite(&self, suite: &str) -> Vec<HostEntry> {
        if self.distribution != "debian" || self.codename.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<HostEntry> = Vec::new();
        for entry in &self.entries {
            let Some(pocket) = entry.suite.strip_prefix(&self.codename) else { continue };
            // Unstable has no further pockets; backports are asked for by name (`sources:`).
            let wanted = match pocket {
                "" => true,
                "-updates" | "-security" => !matches!(suite, "sid" | "unstable" | "experimental"),
                _ => false,
            };
            let entry = HostEntry { suite: format!("{suite}{pocket}"), ..entry.clone() };
            if wanted && !found.iter().any(|known| known.suite == entry.suite) {
                found.push(entry);
            }
        }
        found
    }
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line_entries(text: &str) -> Vec<HostEntry> {
    let entry = |line: &str| {
        let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        Some(HostEntry { uri: words.next()?, suite: words.next()?, components: words.collect() })
    };
    text.lines().filter_map(entry).collect()
}

/// Paragraphs of `Types:`, `URIs:`, `Suites:`, `Components:`.
fn deb822_entries(text: &str) -> Vec<HostEntry> {
    let mut entries = Vec::new();
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n");
    for paragraph in text.split("\n\n") {
        let field = |name: &str| -> Vec<String> {
            let value = paragraph.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then_some(value)
            });
            value.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let disabled = field("Enabled").iter().any(|word| word.eq_ignore_ascii_case("no"));
        if disabled || !field("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for uri in field("URIs") {
            for suite in field("Suites") {
                entries.push(HostEntry { uri: uri.clone(), suite, components: field("Components") });
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(distribution: &str, files: &[(&str, &str)]) -> Host {
        let etc = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(etc.path().join("apt/sources.list.d")).unwrap();
        let release = format!("ID={distribution}\nVERSION_CODENAME=\"bookworm\"\n");
        std::fs::write(etc.path().join("os-release"), release).unwrap();
        for (name, text) in files {
            std::fs::write(etc.path().join(name), text).unwrap();
        }
        Host::read(etc.path())
    }

    fn shown(entries: &[HostEntry]) -> Vec<String> {
        entries.iter().map(|e| format!("{} {} {}", e.uri, e.suite, e.components.join("+"))).collect()
    }

    const DEB822: &str = "Types: deb\n# a comment\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates \
        bookworm-backports\nComponents: main contrib\n\nTypes: deb deb-src\nURIs: http://mirror/security\nSuites: \
        bookworm-security\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: http://off\nSuites: bookworm\n";

    #[test]
    fn the_hosts_mirror_is_used_for_other_suites() {
        let host = host(
            "debian",
            &[
                ("apt/sources.list.d/debian.sources", DEB822),
                ("apt/sources.list.d/extra.list", "deb [arch=amd64] https://other nodistro main\n"),
            ],
        );
        let expected = [
            "http://mirror/debian trixie main+contrib",
            "http://mirror/debian trixie-updates main+contrib",
            "http://mirror/security trixie-security main",
        ];
        assert_eq!(shown(&host.for_suite("trixie")), expected);
        assert_eq!(shown(&host.for_suite("sid")), ["http://mirror/debian sid main+contrib"]);
    }

    #[test]
    fn one_line_sources_are_read_too() {
        let list = "# deb http://no x y\ndeb-src http://no bookworm main\n  deb [trusted=yes] http://m bookworm main\n";
        assert_eq!(
            shown(&host("debian", &[("apt/sources.list", list)]).for_suite("sid")),
            ["http://m sid main"]
        );
    }

    #[test]
    fn other_distributions_have_no_default() {
        assert!(
            host("ubuntu", &[("apt/sources.list", "deb http://m bookworm main\n")])
                .for_suite("sid")
                .is_empty()
        );
        assert!(Host::read(Path::new("/nowhere")).for_suite("sid").is_empty());
    }
}

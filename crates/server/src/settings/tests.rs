//! Tests of the whole settings file.

use std::collections::BTreeSet;

use edgewright_model::error::Chain;

use super::described::Applies;
use super::*;

fn options(text: &str) -> Options {
    Options::parse(text).unwrap()
}

fn resolve(text: &str) -> Result<Settings, SettingsError> {
    options(text).resolve(Path::new("/d"), NonZeroUsize::MIN)
}

#[test]
fn layers_merge_and_resolve() {
    let file = "[server]\nlisten = \"0.0.0.0:80\"\ndata = \"/file\"\n[[source]]\nurl = \"/git/one\"";
    let flags = "[server]\ndata = \"/flag\"\n[[source]]\nurl = \"/git/two.git\"\npoll = \"5s\"";
    let settings = options(flags).over(options(file)).resolve(Path::new("/d"), NonZeroUsize::MIN).unwrap();
    assert_eq!(settings.listen.to_string(), "0.0.0.0:80");
    assert_eq!(settings.data, Path::new("/flag"));
    let sources: Vec<_> =
        settings.sources.iter().map(|source| format!("{} {:?}", source.name, source.poll)).collect();
    assert_eq!(sources, ["one 30s", "two 5s"]);
    let secrets = options("[secrets]\nnpm = \"/new\"")
        .over(options("[secrets]\nnpm = \"/run/npm\"\nkey = \"key\""))
        .resolve(Path::new("/d"), NonZeroUsize::MIN)
        .unwrap()
        .build_secrets;
    assert_eq!((secrets["npm"].as_path(), secrets["key"].as_path()), (Path::new("/new"), Path::new("key")));
    let bare = Options::default().resolve(Path::new("/default"), NonZeroUsize::new(64).unwrap()).unwrap();
    assert_eq!(bare.listen.to_string(), DEFAULT_LISTEN);
    assert!(bare.listen.ip().is_loopback());
    assert_eq!((bare.data.as_path(), bare.parallel), (Path::new("/default"), MAX_DEFAULT_JOBS));
}

#[test]
fn mistakes_are_reported_with_their_line() {
    let unknown = Options::parse("[server]\nlisten = \"127.0.0.1:1\"\nprot = 1").unwrap_err().to_string();
    assert!(unknown.contains("line 3") && unknown.contains("unknown field `prot`"), "{unknown}");
    let wrong = Options::parse("[[source]]\nurl = \"/a\"\npoll = \"soon\"").unwrap_err().to_string();
    assert!(wrong.contains("line 3") && wrong.contains("invalid duration `soon`"), "{wrong}");
    let error = |text| resolve(text).unwrap_err();
    assert!(matches!(error("[jobs]\nparallel = 0"), SettingsError::NoJobs));
    assert!(matches!(error("[jobs]\nnice = 20"), SettingsError::Nice { nice: 20 }));
    assert!(matches!(error("[jobs]\nregistry = \"hub:5080\""), SettingsError::JobRegistry { .. }));
    assert!(matches!(error("[[source]]\nurl = \"plants\""), SettingsError::Url(_)));
    let twice = "[[source]]\nurl = \"/x/a\"\n[[source]]\nurl = \"/y/a.git\"";
    assert!(matches!(error(twice), SettingsError::DuplicateSource { .. }));
    assert!(matches!(error("[[source]]\nurl = \"/srv/___\""), SettingsError::UnnamedSource { .. }));
}

#[test]
fn a_wrong_value_is_answered_with_a_correct_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edgewright.toml");
    for (text, hint) in [
        ("[server]\nlisten = \"5080\"\n", "write it like `listen = \"127.0.0.1:5080\"`"),
        ("[jobs]\nnice = \"low\"\n", "write it like `nice = 10` (0 to 19)"),
        ("[jobs]\nwithin = \"soon\"\n", "write it like `timeout = \"2h\"`"),
        ("[[source]]\nurl = \"/a\"\npull_requests = \"yes\"\n", "write it like `pull_requests = {from"),
        ("[[sink]]\nname = \"a\"\nkind = \"mail\"\n", "write it like `kind = \"cloud-events\"`"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Options::read(&path).unwrap_err();
        let found = error.hint().unwrap_or_default();
        assert!(found.starts_with(hint), "{text}: {}: {found}", Chain(&error));
    }
}

#[test]
fn old_spellings_work_with_a_warning() {
    let old = "[jobs]\nwithin = \"5m\"\nlane_within = \"7m\"\nexternal_within = \"8h\"\n[watch]\nevery = \"6h\"\n\
               [[source]]\nurl = \"/a\"\nwatch = {off = true}\n[[targets]]\nname = \"t\"\nurl = \"https://r\"\n";
    let new = old.replace("external_within", "external_timeout");
    let new = new.replace("lane_within", "lane_timeout").replace("within", "timeout");
    let new = new.replace("watch", "updates").replace("targets", "target");
    let found: Vec<String> = options(old).old_spellings.iter().map(ToString::to_string).collect();
    let expected = [
        "settings:2: `jobs.within` is now `jobs.timeout`",
        "settings:3: `jobs.lane_within` is now `jobs.lane_timeout`",
        "settings:4: `jobs.external_within` is now `jobs.external_timeout`",
        "settings:5: `watch` is now `updates`",
        "settings:9: `source.watch` is now `source.updates`",
        "settings:10: `targets` is now `target`",
    ];
    assert_eq!(found, expected);
    assert_eq!(options(&new).old_spellings, []);
    assert_eq!(Options { old_spellings: Vec::new(), ..options(old) }, options(&new));
    let both = Options::parse("[jobs]\nwithin = \"5m\"\ntimeout = \"5m\"").unwrap_err().to_string();
    assert!(both.contains("duplicate field"), "{both}");
}

/// The decoders name the keys that they know in the error about one that they do not.
#[test]
fn the_reference_lists_exactly_the_keys_that_are_decoded() {
    let rows = described_settings();
    let tables: BTreeSet<&str> = rows.iter().map(|row| row.table).collect();
    for table in tables {
        let before = "[[source]]\nurl = \"/a\"\n";
        let text = match table {
            "" => "no-such-key = 1".to_owned(),
            "source" => format!("{before}no-such-key = 1"),
            "source.locks" | "source.pull_requests" => format!("{before}[{table}]\nno-such-key = 1"),
            "sink" | "target" => format!("[[{table}]]\nno-such-key = 1"),
            _ => format!("[{table}]\nno-such-key = 1"),
        };
        let error = Options::parse(&text).unwrap_err().to_string();
        let (_, known) = error.rsplit_once("expected").unwrap_or_else(|| panic!("{error}"));
        let known: BTreeSet<&str> = known.split('`').skip(1).step_by(2).collect();
        let keys = rows.iter().filter(|row| row.table == table).flat_map(|row| [row.key, row.was]);
        let described: BTreeSet<&str> = keys.filter(|key| !key.is_empty()).collect();
        assert_eq!(described, known, "[{table}]");
    }
}

#[test]
fn every_example_decodes() {
    for row in described_settings().iter().filter(|row| !row.table.is_empty()) {
        let required = match row.table {
            "source" | "source.locks" | "source.pull_requests" => "url = \"/a\"\n",
            "sink" => "name = \"ops\"\nkind = \"github\"\nurl = \"https://h\"\n",
            "target" => "name = \"hub\"\nurl = \"https://h\"\n",
            "access.oidc" => "issuer = \"https://h\"\nclient_id = \"c\"\ngroups = {}\n",
            _ => "",
        };
        let required: String = required
            .lines()
            .filter(|line| !line.starts_with(&format!("{} =", row.key)))
            .fold(String::new(), |text, line| text + line + "\n");
        let line = format!("{} = {}", row.key, row.example);
        let text = match row.table.split_once('.') {
            Some(("access", table)) => format!("[access.{table}]\n{required}{line}"),
            Some((array, table)) => format!("[[{array}]]\n{required}[{array}.{table}]\n{line}"),
            None if required.is_empty() && !matches!(row.table, "source" | "sink" | "target") => {
                format!("[{}]\n{line}", row.table)
            }
            None => format!("[[{}]]\n{required}{line}", row.table),
        };
        let decoded = Options::parse(&text);
        assert!(decoded.is_ok(), "{text}: {}", decoded.unwrap_err());
        assert!(
            !row.about.is_empty() && row.about.ends_with('.'),
            "{}.{}: {}",
            row.table,
            row.key,
            row.about
        );
    }
}

#[test]
fn a_reload_reports_every_setting_that_needs_a_restart() {
    let before = resolve("[[source]]\nurl = \"/a\"").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for row in
        described_settings().iter().filter(|row| row.applies == Applies::Restart && !row.table.is_empty())
    {
        let text = match (row.table, row.key) {
            // Bounds `parallel`, which the command line interface works out.
            ("jobs", "memory_mib") => continue,
            ("server", "data") => format!("data = \"{}\"", folder.path().display()),
            ("server", "listen") => "listen = \"127.0.0.1:5081\"".to_owned(),
            ("server", "tls_listen") => {
                "tls_listen = \"127.0.0.1:443\"\ntls_certificate_file = \"/c\"\ntls_key_file = \"/k\""
                    .to_owned()
            }
            ("updates", "every") => "every = \"25h\"".to_owned(),
            ("updates", "zone") => "at = \"02:00\"\nzone = \"Europe/Berlin\"".to_owned(),
            (_, "nice") => "nice = 11".to_owned(),
            (_, "storage_gib") => "storage_gib = 31".to_owned(),
            (_, "logs" | "releases" | "retired" | "builds" | "evidence") => format!("{} = \"1d\"", row.key),
            (_, "logs_gib" | "cache_gib") => format!("{} = 3", row.key),
            (_, key) => format!("{key} = {}", row.example),
        };
        let text = match row.table {
            "source" => format!("[[source]]\nurl = \"/a\"\n{text}"),
            "cluster" if row.key != "image" => {
                let image = format!("image = \"r/x@sha256:{}\"", "0".repeat(64));
                let from = if row.key == "pull_from" { "" } else { "pull_from = \"r\"" };
                format!("[[source]]\nurl = \"/a\"\n[cluster]\n{image}\n{from}\n{text}")
            }
            "cluster" => format!("[server]\naddress = \"r\"\n[[source]]\nurl = \"/a\"\n[cluster]\n{text}"),
            table => format!("[[source]]\nurl = \"/a\"\n[{table}]\n{text}"),
        };
        let name = format!("{}.{}", row.table, row.key);
        let reported = before.restart_needed_for(&resolve(&text).unwrap());
        assert!(
            reported.iter().any(|reported| *reported == row.table || *reported == name),
            "{name}: {reported:?}"
        );
    }
}

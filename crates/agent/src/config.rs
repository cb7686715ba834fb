//! `/etc/edgewright/agent.toml`: decoded, completed by defaults, and checked as a whole.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::names::DeviceId;
use edgewright_model::reference::ImageReference;
use edgewright_model::size::ByteSize;
use edgewright_model::window::{Window, Windows};
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::health::HealthSettings;
use crate::machine::Rules;
use crate::policy::Policy;

/// Where the configuration is by default.
pub const CONFIG_FILE: &str = "/etc/edgewright/agent.toml";
/// Maximum length of a configuration, credential or authority file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The shortest interval between two checks.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of mirrors, and of windows.
const MAX_ENTRIES: usize = 32;
/// Where the identity of this machine is.
const MACHINE_ID: &str = "/etc/machine-id";

/// Why the configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, has an unknown key, or a value of the wrong type.
    #[error("invalid configuration {}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value is invalid.
    #[error("invalid `{key}` in {}: {problem}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Others may read the credentials.
    #[error("{} is readable by other users: its mode is {mode:o}", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl ConfigError {
    /// The next action.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { source, path } if source.kind() == std::io::ErrorKind::NotFound => {
                format!("create {}, or name another file with --config", path.display())
            }
            Self::Exposed { path, .. } => format!("run `chmod 600 {}`", path.display()),
            _ => "see https://edgewright.dev/reference/agent.html, or docs/reference/agent.md".to_owned(),
        }
    }
}

/// Which updater puts images onto this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdaterKind {
    /// The one that this device was installed with.
    #[default]
    Auto,
    /// `bootc`.
    Bootc,
    /// Our own, with composefs.
    Composefs,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the fields are the keys")]
struct File {
    image: ImageReference,
    registry: Option<String>,
    #[serde(default)]
    mirrors: Vec<String>,
    ca_file: Option<PathBuf>,
    auth_file: Option<PathBuf>,
    #[serde(default)]
    updater: UpdaterKind,
    #[serde(default)]
    policy: Policy,
    interval: Option<Span>,
    jitter: Option<Jitter>,
    bandwidth: Option<ByteSize>,
    time_zone: Option<String>,
    #[serde(default)]
    windows: Vec<Window>,
    #[serde(default)]
    health: HealthFile,
    report: Option<ReportFile>,
}

/// A duration, or `0` for none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Jitter(Duration);

impl TryFrom<String> for Jitter {
    type Error = edgewright_model::duration::InvalidSpan;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "0" || text == "0s" {
            return Ok(Self(Duration::ZERO));
        }
        text.parse().map(|span: Span| Self(span.get()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HealthFile {
    within: Span,
    scale: f64,
    check_set: bool,
    greenboot: bool,
    target: String,
}

impl Default for HealthFile {
    fn default() -> Self {
        Self {
            within: Span::from_secs(600),
            scale: 1.0,
            check_set: true,
            greenboot: true,
            target: "multi-user.target".to_owned(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportFile {
    url: String,
    token_file: Option<PathBuf>,
    device: Option<DeviceId>,
}

/// The configuration of a device.
#[derive(Debug, Clone)]
pub struct Config {
    /// The reference that is followed.
    pub image: ImageReference,
    /// The address of its registry, if it is not the default of its host.
    pub registry: Option<String>,
    /// Mirrors in order of preference.
    pub mirrors: Vec<String>,
    /// Additional certificate authorities, PEM.
    pub authority: Option<Vec<u8>>,
    /// The text of the credential file (`containers-auth.json(5)`).
    pub auth: Option<Secret>,
    /// The updater.
    pub updater: UpdaterKind,
    /// Policy, windows, interval.
    pub rules: Rules,
    /// Bytes per second that a download may use.
    pub bandwidth: Option<u64>,
    /// Health checks.
    pub health: HealthSettings,
    /// Where reports go.
    pub report: Option<ReportSettings>,
    /// The name of this device.
    pub device: DeviceId,
}

/// Where reports go.
#[derive(Debug, Clone)]
pub struct ReportSettings {
    /// The address of the server.
    pub url: String,
    /// The token that identifies the device.
    pub token: Option<Secret>,
}

/// A secret; `Debug` hides it.
#[derive(Clone)]
pub struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Config {
    /// Whom this device reports to, and as whom.
    pub fn identity(&self) -> String {
        let server = self.report.as_ref().map_or("no server", |report| &report.url);
        format!("{} at {server}", self.device)
    }

    /// Reads a configuration file, and the files that it names. Relative paths start at its folder. Blocking.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_file(path)?;
        let file: File = toml::from_str(&text)
            .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let value = |key, problem: String| ConfigError::Value { path: path.to_owned(), key, problem };
        let near = |name: &Path| path.parent().unwrap_or(Path::new("/")).join(name);
        let auth_file = file.auth_file.as_deref().map(near).or_else(|| {
            let usual = near(Path::new("auth.json"));
            usual.is_file().then_some(usual)
        });
        let auth = auth_file.as_deref().map(read_secret).transpose()?;
        let authority =
            file.ca_file.as_deref().map(|name| read_file(&near(name))).transpose()?.map(String::into_bytes);
        if file.mirrors.len() > MAX_ENTRIES || file.windows.len() > MAX_ENTRIES {
            return Err(value("mirrors or windows", format!("more than {MAX_ENTRIES} entries")));
        }
        addresses(&file).map_err(|(key, problem)| value(key, problem))?;
        let interval = file.interval.map_or(Duration::from_mins(15), Span::get);
        if interval < MIN_INTERVAL {
            return Err(value("interval", format!("it must be at least {} s", MIN_INTERVAL.as_secs())));
        }
        let windows =
            windows(file.windows, file.time_zone.as_deref()).map_err(|(key, problem)| value(key, problem))?;
        if file.policy == Policy::Window && windows.windows.is_empty() {
            return Err(value("policy", "`window` needs at least one `[[windows]]`".to_owned()));
        }
        let jitter = file.jitter.map_or(Duration::from_mins(5), |jitter| jitter.0);
        let health = health(file.health).map_err(|problem| value("health.scale", problem))?;
        let (report, device) = match file.report {
            Some(report) => {
                let token = report.token_file.map(|name| read_secret(&near(&name))).transpose()?;
                (Some(ReportSettings { url: report.url, token }), report.device)
            }
            None => (None, None),
        };
        let device = match device {
            Some(device) => device,
            None => own_id().map_err(|problem| value("report.device", problem))?,
        };
        Ok(Self {
            image: file.image,
            registry: file.registry,
            mirrors: file.mirrors,
            authority,
            auth,
            updater: file.updater,
            rules: Rules { policy: file.policy, windows, interval, jitter },
            bandwidth: file.bandwidth.map(ByteSize::bytes),
            health,
            report,
            device,
        })
    }
}

/// Whether registry and mirrors are addresses.
fn addresses(file: &File) -> Result<(), (&'static str, String)> {
    let registry = file.registry.iter().map(|url| ("registry", url));
    for (key, url) in registry.chain(file.mirrors.iter().map(|url| ("mirrors", url))) {
        if !url.starts_with("https://") && !url.starts_with("http://") {
            let problem = format!("`{url}` is no address: use https://HOST[:PORT] or http://HOST[:PORT]");
            return Err((key, problem));
        }
    }
    Ok(())
}

fn health(file: HealthFile) -> Result<HealthSettings, String> {
    if !(0.1..=100.0).contains(&file.scale) {
        return Err(format!("{} is not between 0.1 and 100", file.scale));
    }
    let HealthFile { within, scale, check_set, greenboot, target } = file;
    Ok(HealthSettings { within: within.get(), scale, check_set, greenboot, target })
}

fn windows(windows: Vec<Window>, zone: Option<&str>) -> Result<Windows, (&'static str, String)> {
    let zone = match zone {
        None | Some("UTC") => TimeZone::UTC,
        Some(name) => {
            TimeZone::get(name).map_err(|error| ("time_zone", format!("{error}; is tzdata installed?")))?
        }
    };
    Ok(Windows { zone, windows })
}

/// The name of a device that has no other: of its machine ID, which is not to be published itself.
fn own_id() -> Result<DeviceId, String> {
    let id =
        std::fs::read_to_string(MACHINE_ID).map_err(|error| format!("cannot read {MACHINE_ID}: {error}"))?;
    let hash = Digest::of(format!("edgewright device {}", id.trim()));
    let name: String = hash.hex().chars().take(32).collect();
    name.parse().map_err(|error| format!("{error}"))
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

fn read_secret(path: &Path) -> Result<Secret, ConfigError> {
    let metadata = std::fs::metadata(path);
    let metadata = metadata.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::Exposed { path: path.to_owned(), mode });
    }
    read_file(path).map(|text| Secret(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| {
            edgewright_model::error::Chain(&error).to_string().replace(&*path.to_string_lossy(), "FILE")
        })
    }

    #[test]
    fn the_shortest_configuration_names_an_image() {
        let config =
            read("image = \"r.example/plant-os/hmi:stable\"\n[report]\nurl = \"http://x\"\ndevice = \"a\"\n")
                .unwrap();
        assert_eq!(config.rules.policy, Policy::Immediately);
        assert_eq!(config.rules.interval, Duration::from_mins(15));
        assert_eq!(config.device.as_str(), "a");
        assert!(config.health.greenboot && config.bandwidth.is_none());
    }

    #[test]
    fn faults_are_named() {
        let image = "image = \"r.example/a:b\"\n";
        for (text, want) in [
            ("", "missing field `image`"),
            ("image = \"a\"", "image reference"),
            (&format!("{image}imagee = 1"), "unknown field `imagee`"),
            (&format!("{image}policy = \"window\""), "needs at least one"),
            (
                &format!(
                    "{image}policy = \"window\"\ntime_zone = \"Mars/Olympus\"\n[[windows]]\nfrom = \"02:00\"\nto = \"03:00\""
                ),
                "time_zone",
            ),
            (&format!("{image}mirrors = [\"mirror.example\"]"), "is no address"),
            (&format!("{image}interval = \"1s\""), "at least 10 s"),
            (&format!("{image}[health]\nscale = 0.0"), "between 0.1 and 100"),
            (&format!("{image}auth_file = \"missing.json\""), "cannot read"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, "image = \"r.example/a:b\"\n").unwrap();
        let auth = folder.path().join("auth.json");
        std::fs::write(&auth, "{}").unwrap();
        std::fs::set_permissions(&auth, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Config::read(&path), Err(ConfigError::Exposed { mode: 0o644, .. })));
        std::fs::set_permissions(&auth, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(
            Config::read(&path).is_ok_and(|config| config.auth.is_some()) || !Path::new(MACHINE_ID).exists()
        );
    }

    /// Every key with its table, from the structs that decode them.
    fn keys() -> Vec<(&'static str, &'static str)> {
        let own = include_str!("config.rs");
        let model = include_str!("../../model/src/window.rs");
        let of = |source: &'static str, name: &str, table: &'static str| {
            let start = source.find(&format!("struct {name} {{")).unwrap();
            let body = source[start..].split_once('}').unwrap().0;
            let lines = body.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('/'));
            let fields = lines.filter_map(|line| line.trim_start_matches("pub ").split_once(": "));
            fields.map(|(key, _)| (table, key)).collect::<Vec<_>>()
        };
        let tables = [
            (own, "File", ""),
            (model, "Window", "windows"),
            (own, "HealthFile", "health"),
            (own, "ReportFile", "report"),
        ];
        tables.into_iter().flat_map(|(source, name, table)| of(source, name, table)).collect()
    }

    #[test]
    fn every_key_is_documented_and_in_the_sample() {
        let reference = include_str!("../../../docs/reference/agent.md");
        let sample = include_str!("../../../packaging/agent/agent.toml");
        assert_eq!(keys().len(), 25);
        for (table, key) in
            keys().into_iter().filter(|(_, key)| !["windows", "health", "report"].contains(key))
        {
            assert!(
                reference.contains(&format!("\n| `{key}` |")),
                "{table}.{key} in docs/reference/agent.md"
            );
            assert!(
                sample.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = "))),
                "{table}.{key}"
            );
        }
    }

    #[test]
    fn the_sample_is_read_with_and_without_its_comments() {
        let sample = include_str!("../../../packaging/agent/agent.toml");
        let report = "[report]\nurl = \"http://x\"\ndevice = \"a\"\n";
        read(&format!("{sample}\n{report}")).unwrap();
        let is_code = |line: &str| line.starts_with('#') && !line.starts_with("# ");
        let all: Vec<&str> = sample
            .lines()
            .map(|line| if is_code(line) { &line[1..] } else { line })
            .filter(|line| !line.contains("_file = ") && !line.starts_with("time_zone"))
            .collect();
        let config = read(&all.join("\n")).unwrap();
        assert_eq!((config.bandwidth, config.rules.windows.windows.len()), (Some(2 << 20), 1));
    }
}

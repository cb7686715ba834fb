//! The only reader of the environment and of the settings file: defaults < file < environment < flags.
//!
//! | variable | flag |
//! |---|---|
//! | `EDGEWRIGHT_SERVER` | `--server` |
//! | `EDGEWRIGHT_TOKEN_FILE` | `--token-file` |
//! | `EDGEWRIGHT_CA_FILE` | `--ca-file` |
//! | `EDGEWRIGHT_DATA` | `--data` |
//! | `EDGEWRIGHT_CONFIG` | `--config` |
//! | `EDGEWRIGHT_LOG` | `--log` |
//!
//! clap reads those as it parses, so a flag wins over its variable. `XDG_DATA_HOME` and `HOME` give the
//! default data folder of users, `XDG_CONFIG_HOME` and `HOME` the folder of the client's configuration;
//! proxies and `CONTAINERS_CONF` are passed to jobs.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use edgewright_job::admission::slots;
use edgewright_server::settings::SettingsError;
use edgewright_server::{DataFolder, Options, Settings};

use crate::args::ServeArgs;
use crate::exit::Failure;

/// The data folder of root.
const SYSTEM_DATA: &str = "/var/lib/edgewright";
/// The settings file that `serve` reads if none is named.
const SYSTEM_CONFIG: &str = "/etc/edgewright/edgewright.toml";

/// Variables that jobs inherit: proxies, authorities, and the user's own container settings.
const FOR_JOBS: [&str; 8] = [
    "CONTAINERS_CONF",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
];

/// The environment and the user of this process.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    is_root: bool,
    is_in_namespace: bool,
    xdg_data_home: Option<PathBuf>,
    xdg_config_home: Option<PathBuf>,
    home: Option<PathBuf>,
    for_jobs: Vec<(OsString, OsString)>,
    /// Where systemd puts the credentials of this service.
    credentials: Option<PathBuf>,
    /// Where systemd takes notifications of this service.
    notify_socket: Option<OsString>,
}

impl Environment {
    /// Whether this process can make sandboxes: as root, or as the root of a namespace of its own.
    pub(crate) const fn makes_sandboxes(&self) -> bool {
        self.is_root || self.is_in_namespace
    }

    /// Whether another user than root works in a namespace of its own.
    pub(crate) const fn is_in_namespace(&self) -> bool {
        self.is_in_namespace
    }

    /// Of this process.
    pub(crate) fn read() -> Self {
        let folder = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let is_in_namespace = edgewright_sandbox::namespace::is_inside();
        Self {
            // In a namespace, the folders are still those of the user.
            is_root: rustix::process::geteuid().is_root() && !is_in_namespace,
            is_in_namespace,
            xdg_data_home: folder("XDG_DATA_HOME"),
            xdg_config_home: folder("XDG_CONFIG_HOME"),
            home: folder("HOME"),
            credentials: variable("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            notify_socket: variable("NOTIFY_SOCKET"),
            for_jobs: FOR_JOBS
                .iter()
                .filter_map(|name| variable(name).map(|value| (OsString::from(name), value)))
                .collect(),
        }
    }

    /// The socket of the service manager that started this process.
    pub(crate) fn service_manager(&self) -> Option<OsString> {
        self.notify_socket.clone()
    }

    /// The environment that jobs get besides their own.
    pub(crate) fn for_jobs(&self) -> Vec<(OsString, OsString)> {
        self.for_jobs.clone()
    }

    /// The proxy for addresses of other machines, as a URL.
    pub(crate) fn proxy(&self) -> Option<String> {
        let names = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"];
        let found = names.iter().find_map(|name| self.for_jobs.iter().find(|(own, _)| own == name))?;
        Some(found.1.to_string_lossy().into_owned())
    }

    /// The user's own settings of podman and buildah.
    pub(crate) fn containers_conf(&self) -> Option<PathBuf> {
        let own = self.for_jobs.iter().find(|(name, _)| name == "CONTAINERS_CONF");
        own.map(|(_, value)| value.into())
    }

    /// The file with the client's configuration; none without a home.
    pub(crate) fn client_config(&self) -> Option<PathBuf> {
        let config = || self.home.as_ref().map(|home| home.join(".config"));
        Some(self.xdg_config_home.clone().or_else(config)?.join("edgewright/client.toml"))
    }

    /// The data folder if none is named.
    fn data(&self) -> PathBuf {
        if self.is_root {
            return SYSTEM_DATA.into();
        }
        let share = || self.home.as_ref().map(|home| home.join(".local/share"));
        match self.xdg_data_home.clone().or_else(share) {
            Some(share) => share.join("edgewright"),
            None => ".edgewright".into(),
        }
    }

    /// The data folder that a command works on.
    pub(crate) fn data_folder(&self, flag: Option<PathBuf>) -> DataFolder {
        DataFolder::new(absolute(flag.unwrap_or_else(|| self.data())))
    }

    /// The settings file of `serve`; none if no file is named and the system has none.
    #[expect(clippy::unused_self, reason = "it is part of the environment, with the system's folders")]
    pub(crate) fn config_of_serve(&self, args: &ServeArgs) -> Option<PathBuf> {
        let system = || Some(PathBuf::from(SYSTEM_CONFIG)).filter(|path| path.exists());
        args.config.clone().or_else(system)
    }

    /// A server's settings.
    pub(crate) fn serve(&self, args: &ServeArgs, data: Option<PathBuf>) -> Result<Settings, Failure> {
        let file = match self.config_of_serve(args) {
            Some(path) => Options::read(&path)?,
            None => Options::default(),
        };
        self.resolve(args, data, file)
    }

    /// The settings of a command that works without a server: of the settings file what concerns jobs, and
    /// nothing of sources, listeners and sinks.
    pub(crate) fn run(&self, args: &ServeArgs, data: Option<PathBuf>) -> Result<Settings, Failure> {
        let system = Path::new(SYSTEM_CONFIG);
        let file = match &args.config {
            Some(path) => Options::read(path)?,
            None => match Options::read(system) {
                Ok(file) => file,
                // Other users need not be able to read root's file; one that is named has to be readable.
                Err(SettingsError::Read { .. }) => Options::default(),
                Err(error) => return Err(error.into()),
            },
        };
        self.resolve(args, data, for_jobs(file))
    }

    fn resolve(&self, args: &ServeArgs, data: Option<PathBuf>, file: Options) -> Result<Settings, Failure> {
        let mut options = args.options(data).over(file);
        // `--poll` is for every source that the file gives no interval of its own.
        for source in &mut options.source {
            source.poll = source.poll.or(args.poll);
            // A local path may be relative.
            if !source.url.contains(':') {
                source.url = absolute(source.url.clone().into()).display().to_string();
            }
        }
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cores = slots(cores, &meminfo, options.jobs.memory_mib);
        let mut settings = options.resolve(&self.data(), cores)?;
        settings.data = absolute(settings.data);
        settings.tools = absolute(settings.tools);
        let credentials = self.credentials.clone().unwrap_or_default();
        for file in settings.build_secrets.values_mut() {
            // An absolute path stays what it is.
            *file = absolute(credentials.join(&*file));
        }
        Ok(settings)
    }
}

/// The part of a settings file that concerns jobs.
fn for_jobs(file: Options) -> Options {
    let Options { mut jobs, disk, keep, secrets, old_spellings, .. } = file;
    // A person waits for it.
    jobs.nice = jobs.nice.or(Some(0));
    Options { jobs, disk, keep, secrets, old_spellings, ..Options::default() }
}

/// A path that does not depend on the working directory.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[expect(clippy::disallowed_methods, reason = "this module is the only reader of the environment")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_follows_user_and_environment() {
        let cases = [
            (true, Some("/x"), Some("/home/a"), "/var/lib/edgewright"),
            (false, Some("/x"), Some("/home/a"), "/x/edgewright"),
            (false, None, Some("/home/a"), "/home/a/.local/share/edgewright"),
            (false, None, None, ".edgewright"),
        ];
        for (is_root, xdg, home, expected) in cases {
            let environment = Environment {
                is_root,
                xdg_data_home: xdg.map(Into::into),
                home: home.map(Into::into),
                ..Default::default()
            };
            assert_eq!(environment.data(), Path::new(expected));
        }
        let named = Environment::default().data_folder(Some("/flag".into()));
        assert_eq!(named.root(), Path::new("/flag"));
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = Options::parse(
            "[server]\nlisten = \"0.0.0.0:80\"\ndata = \"/file\"\n\
             [[source]]\nurl = \"/git/a\"\n[[source]]\nurl = \"/git/b\"\npoll = \"1h\"",
        )
        .unwrap();
        let args = ServeArgs {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            source: vec!["/git/c".to_owned()],
            poll: Some("5s".parse().unwrap()),
            ..ServeArgs::default()
        };
        let settings = Environment::default().resolve(&args, None, file).unwrap();
        assert_eq!((settings.listen.port(), settings.data.as_path()), (0, Path::new("/file")));
        let polls: Vec<_> = settings
            .sources
            .iter()
            .map(|source| format!("{} {}", source.name, source.poll.as_secs()))
            .collect();
        assert_eq!(polls, ["a 5", "b 3600", "c 5"]);
    }

    #[test]
    fn a_run_takes_what_concerns_jobs_and_no_more() {
        let file = Options::parse(
            "[server]\nlisten = \"0.0.0.0:80\"\ndata = \"/file\"\n[jobs]\ntimeout = \"5m\"\nlane_timeout = \"7m\"\nexternal_timeout = \"8h\"\n\
             [[source]]\nurl = \"/git/a\"\n[secrets]\nnpm = \"/etc/npm\"\nkey = \"/etc/key\"",
        )
        .unwrap();
        let args = ServeArgs { secret: vec![("npm".to_owned(), "/flag/npm".into())], ..ServeArgs::default() };
        let settings = Environment::default().resolve(&args, Some("/data".into()), for_jobs(file)).unwrap();
        assert_eq!((settings.data.as_path(), settings.sources.len()), (Path::new("/data"), 0));
        assert!(settings.listen.ip().is_loopback());
        let limits = [settings.job_timeout, settings.lane_timeout, settings.external_timeout];
        assert_eq!(
            limits.map(|limit| limit.map(|limit| limit.to_string()).unwrap_or_default()),
            ["5m", "7m", "8h"]
        );
        let secrets: Vec<_> = settings.build_secrets.into_iter().collect();
        let (key, npm) = (("key".to_owned(), "/etc/key".into()), ("npm".to_owned(), "/flag/npm".into()));
        assert_eq!(secrets, [key, npm]);
    }
}

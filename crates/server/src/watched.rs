//! Notices when the settings file, or a file that it names, has other content: in a Pod, ConfigMaps and
//! Secrets change that way, and no one sends a signal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use edgewright_model::Digest;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::settings::Settings;
use crate::settings::on_change::OnChange;

/// How often the files are read. A change is reported when it was seen twice, so not while it is written.
const PERIOD: Duration = Duration::from_secs(5);
/// The most of a file that is compared, in bytes: settings, secrets and certificates are far smaller.
const FILE_LIMIT: u64 = 4 << 20;

/// What the files contain: none for a file that cannot be read.
type Contents = BTreeMap<PathBuf, Option<Digest>>;

/// The files of a server's settings.
#[derive(Debug)]
pub struct WatchedFiles {
    config: Option<PathBuf>,
    files: Vec<PathBuf>,
    is_watched: bool,
    applied: Contents,
    seen: Option<Contents>,
    ticks: Interval,
}

impl WatchedFiles {
    /// Of settings that were read from this file; none if there is no such file.
    pub async fn new(config: Option<PathBuf>, settings: &Settings) -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (files, applied) = (Vec::new(), Contents::new());
        let mut all = Self { config, files, is_watched: false, applied, seen: None, ticks };
        all.watch(settings).await;
        all
    }

    /// Watches the files of these settings. They may have changed since these were read: then that is seen,
    /// too, unless it is a file that was not watched before.
    pub async fn watch(&mut self, settings: &Settings) {
        self.is_watched = settings.on_change != OnChange::Signal;
        self.files = settings.files();
        for (path, content) in self.contents().await {
            self.applied.entry(path).or_insert(content);
        }
    }

    /// Takes the files as they are now for those that were applied, before they are.
    pub async fn apply(&mut self) {
        self.applied = self.contents().await;
        self.seen = None;
    }

    /// Waits until there is a change, if there is to be a reload then. May be dropped at any point.
    pub async fn changed(&mut self) {
        if !self.is_watched {
            return std::future::pending().await;
        }
        loop {
            self.ticks.tick().await;
            let now = self.contents().await;
            let is_other = now.iter().any(|(path, content)| self.applied.get(path) != Some(content));
            if is_other && self.seen.as_ref() == Some(&now) {
                return;
            }
            self.seen = is_other.then_some(now);
        }
    }

    async fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for path in self.config.iter().chain(&self.files) {
            contents.insert(path.clone(), content(path.clone()).await);
        }
        contents
    }
}

async fn content(path: PathBuf) -> Option<Digest> {
    use tokio::io::AsyncReadExt as _;
    let file = tokio::fs::File::open(path).await.ok()?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut bytes).await.ok()?;
    Some(Digest::of(&bytes))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::Path;

    use super::*;
    use crate::settings::Options;

    struct World {
        folder: tempfile::TempDir,
        files: WatchedFiles,
    }

    impl World {
        async fn new(on_change: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (config, token) = (folder.path().join("edgewright.toml"), folder.path().join("token"));
            let text = format!(
                "[server]\non_change = \"{on_change}\"\n[access]\ntoken_file = \"{}\"\n",
                token.display()
            );
            std::fs::write(&config, text).unwrap();
            std::fs::write(&token, "0123456789abcdef").unwrap();
            let files = WatchedFiles::new(Some(config.clone()), &read(&config)).await;
            Self { folder, files }
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).unwrap();
        }

        fn remove(&self, name: &str) {
            std::fs::remove_file(self.folder.path().join(name)).unwrap();
        }

        /// Whether a change is seen within some periods; time is not the machine's.
        async fn sees_change(&mut self) -> bool {
            tokio::time::timeout(PERIOD * 10, self.files.changed()).await.is_ok()
        }
    }

    fn read(config: &Path) -> Settings {
        let options = Options::read(config).unwrap();
        options.resolve(Path::new("/data"), NonZeroUsize::MIN).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn other_content_is_a_change_until_it_was_applied() {
        let mut world = World::new("reload").await;
        assert!(!world.sees_change().await);
        world.write("token", "fedcba9876543210");
        assert!(world.sees_change().await && world.sees_change().await);
        world.files.apply().await;
        assert!(!world.sees_change().await);
        // The same content once more is none.
        world.write("token", "fedcba9876543210");
        assert!(!world.sees_change().await);
        world.remove("token");
        assert!(world.sees_change().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_the_settings_name_later_is_watched_from_then_on() {
        let mut world = World::new("reload").await;
        let config = world.folder.path().join("edgewright.toml");
        let other = world.folder.path().join("other");
        let text =
            format!("[server]\non_change = \"reload\"\n[access]\ntoken_file = \"{}\"\n", other.display());
        world.write("edgewright.toml", &text);
        assert!(world.sees_change().await);
        world.files.apply().await;
        world.files.watch(&read(&config)).await;
        assert!(!world.sees_change().await);
        world.write("other", "0123456789abcdef");
        assert!(world.sees_change().await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_a_signal_is_waited_for() {
        let mut world = World::new("signal").await;
        world.write("token", "fedcba9876543210");
        assert!(!world.sees_change().await);
    }
}

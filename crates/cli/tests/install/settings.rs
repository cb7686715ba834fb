//! The example of a settings file that the packages install.

use std::num::NonZeroUsize;
use std::path::Path;

use edgewright_server::Options;
use edgewright_server::settings::described_settings;

fn example() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/edgewright.toml");
    std::fs::read_to_string(file).unwrap()
}

/// Without the `#` in front of settings and sections; comments for people have a space after it.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|first: char| first == '[' || first.is_ascii_lowercase()) => {
            setting
        }
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_changes_nothing_until_it_is_edited() {
    assert_eq!(Options::parse(&example()).unwrap(), Options::default());
}

#[test]
fn every_setting_of_the_example_is_valid() {
    let options = Options::parse(&uncommented(&example())).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((options.source.len(), options.sink.len(), options.target.len()), (1, 1, 1));
    let settings = options.resolve(Path::new("/unused"), NonZeroUsize::MIN).unwrap();
    assert_eq!(settings.data, Path::new("/var/lib/edgewright"));
}

#[test]
fn the_example_has_every_setting() {
    let example = example();
    // Keys of inline tables, such as `locks = {…}`, are described in the reference only.
    for setting in described_settings().iter().filter(|setting| !setting.table.contains('.')) {
        let key = setting.key;
        let spellings = [format!("#{key} = "), format!("`{key}"), format!("[{key}]")];
        assert!(
            spellings.iter().any(|spelling| example.contains(spelling)),
            "packaging/edgewright.toml has no `{key}` of [{}]: {}",
            setting.table,
            setting.about
        );
    }
}

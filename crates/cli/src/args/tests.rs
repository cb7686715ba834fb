//! What is parsed, and what help and errors show.

use edgewright_model::run::RunNumber;

use super::*;

fn parsed(line: &str) -> Result<Command, clap::Error> {
    parse(line.split(' ').map(Into::into).collect()).map(|cli| cli.command)
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn run_takes_a_target_or_a_verb() {
    let Ok(Command::Run(run)) = parsed("edgewright run") else { panic!("run") };
    assert!(run.target.is_none() && run.command.is_none());
    let Ok(Command::Run(run)) = parsed("edgewright run https://h/x.git --data /d") else { panic!("url") };
    assert_eq!(run.target.as_deref(), Some("https://h/x.git"));
    let Ok(Command::Run(run)) = parsed("edgewright run ./list") else { panic!("folder") };
    assert_eq!(run.target.as_deref(), Some("./list"));
    let Ok(Command::Run(run)) = parsed("edgewright run show 7 --json") else { panic!("show") };
    let Some(RunCommand::Show { number, format, .. }) = run.command else { panic!("show") };
    assert_eq!((number, format.json), (RunNumber(7), true));
    for bad in [
        "edgewright run show seven",
        "edgewright run . show 7",
        "edgewright vars A",
        "edgewright serve --listen 80",
        "edgewright serve --poll soon",
        "edgewright runs --limit 0",
        "edgewright run --secret npm",
        "edgewright images -q --json",
    ] {
        assert_eq!(parsed(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
}

#[test]
fn watch_takes_a_run_or_a_source() {
    let watch = |rest: &str| {
        let Command::Run(run) = parsed(&format!("edgewright run watch {rest}"))? else { panic!("run") };
        let Some(RunCommand::Watch(watch)) = run.command else { panic!("watch") };
        Ok::<_, clap::Error>(watch)
    };
    assert_eq!(watch("7").unwrap().number, Some(RunNumber(7)));
    let found =
        watch("--source plants --commit 4F1C2D3 --results out --variant hmi/a --variant hmi/b").unwrap();
    assert_eq!((found.number, found.commit.as_deref(), found.variant.len()), (None, Some("4f1c2d3"), 2));
    for bad in ["", "7 --source plants", "7 --retry", "--source plants --commit main", "7 --logs --json"] {
        assert!(watch(bad).is_err(), "{bad}");
    }
}

#[test]
fn disk_takes_an_image_or_a_slot() {
    let Ok(Command::Disk(disk)) = parsed("edgewright disk hmi/plant-a --output x.raw") else {
        panic!("image")
    };
    assert_eq!(disk.image.as_deref(), Some("hmi/plant-a"));
    let Ok(Command::Disk(disk)) = parsed("edgewright disk --slot plant-a/press-1 --output x.raw") else {
        panic!("slot")
    };
    let (site, slot) = disk.slot.unwrap();
    assert_eq!((site.as_str(), slot.as_str()), ("plant-a", "press-1"));
    for bad in ["", "hmi --slot plant-a/press-1", "--slot press-1", "--slot plant-a/", "--slot a/b/c"] {
        assert!(parsed(format!("edgewright disk --output x.raw {bad}").trim_end()).is_err(), "{bad}");
    }
}

#[test]
fn nouns_take_verbs_and_plurals_are_short_forms() {
    for line in [
        "run list",
        "run list --limit 3 -q",
        "run show 7",
        "run watch 7",
        "run cancel 7",
        "run retry 7",
        "runs",
        "image list",
        "image list --no-headers",
        "image show hmi/plant-a",
        "images",
        "release list",
        "release show 3",
        "releases",
        "channel list",
        "channel show stable",
        "channels",
        "site list",
        "site show plant-a",
        "sites",
        "source list",
        "source poll plants",
        "poll plants",
        "plan hmi/plant-a",
        "plan --explain hmi/plant-a",
        "plan hmi/plant-a --dir ../plants",
        "run hmi/plant-a --dir ../plants",
        "update base --dir ../plants",
        "logs -f 7",
        "config set server http://127.0.0.1:5080",
    ] {
        if let Err(error) = parsed(&format!("edgewright {line}")) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn errors_give_an_example() {
    let error = parsed("edgewright logs abc").unwrap_err().to_string();
    assert!(error.contains("'abc'") && error.contains("expected a number such as 7"), "{error}");
    let error = parsed("edgewright serve --listen 80").unwrap_err().to_string();
    assert!(error.contains("such as 127.0.0.1:5080"), "{error}");
}

#[test]
fn help_names_global_options_once() {
    let mut command = command();
    command.build();
    let mut of = |name: &str| {
        let sub = command.find_subcommand_mut(name).unwrap();
        (sub.render_help().to_string(), sub.render_long_help().to_string())
    };
    let (short, long) = of("runs");
    assert!(!short.contains("--server") && long.contains("Global options:"), "{short}{long}");
    for local in ["init", "man", "schema"] {
        let (_, long) = of(local);
        assert!(!long.contains("--server") && !long.contains("--token-file"), "{long}");
    }
    let root = command.render_help().to_string();
    assert!(root.contains("--server") && root.contains("--ca-file"), "{root}");
}

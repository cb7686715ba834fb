//! The command as users call it: exit codes, messages, and `init` → `check` → `plan`.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::path::Path;

use edgewright_process::{Command, Finished};

mod schemas;

/// Calls the command in a folder, with that folder as home and data folder: nothing of the user's has an
/// influence.
async fn edgewright(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let finished: Finished = Command::new(env!("CARGO_BIN_EXE_edgewright"))
        .args(arguments.iter().copied())
        .cwd(folder)
        .env("HOME", folder)
        .env("EDGEWRIGHT_DATA", folder.join("data"))
        .run_status()
        .await
        .unwrap();
    let code = finished.code().unwrap();
    let errors = finished.output.stderr_tail.join("\n");
    (code, String::from_utf8(finished.output.stdout).unwrap(), errors)
}

#[tokio::test]
async fn a_sample_is_made_checked_and_planned() {
    let folder = tempfile::tempdir().unwrap();
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;
    let (code, _, errors) = call(&["init", "plants"]).await;
    assert_eq!(code, 0, "{errors}");
    let (code, _, errors) = call(&["init", "plants"]).await;
    assert_eq!(code, 4, "{errors}");
    assert!(errors.contains("is not empty"), "{errors}");

    let (code, out, errors) = call(&["check", "plants"]).await;
    assert_eq!((code, out.as_str()), (0, "ok plant-os: 3 images, 2 sites, 5 variants\n"), "{errors}");
    let (code, out, _) = call(&["vars", "hmi/plant-a", "--dir", "plants", "--json"]).await;
    assert_eq!(code, 0);
    let vars = schemas::validated(&out);
    assert_eq!(vars["vars"]["brand"]["value"], "blue");
    assert_eq!(call(&["vars", "hmi", "--dir", "plants"]).await.0, 3);

    let (code, out, _) = call(&["plan", "plants", "--json"]).await;
    let plan = schemas::validated(&out);
    assert_eq!((code, &plan["counts"]["build"], &plan["since"]), (0, &7.into(), &serde_json::Value::Null));

    let site = folder.path().join("plants/sites/plant-a/files/etc/plant/site.conf");
    std::fs::write(&site, "shift_change=05:00\n").unwrap();
    let (code, out, errors) = call(&["plan", "plants", "--since", "HEAD", "--json"]).await;
    let plan = schemas::validated(&out);
    let built: Vec<&str> = plan["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["action"] == "build")
        .map(|node| node["node"].as_str().unwrap())
        .collect();
    assert_eq!((code, built), (0, vec!["gateway/plant-a", "hmi/plant-a"]), "{errors}");
    assert_eq!(call(&["plan", "plants", "--since", "no-such"]).await.0, 3);
    let (code, out, errors) = call(&["plan", "hmi/plant-a", "--dir", "plants"]).await;
    assert!(code == 0 && out.starts_with("hmi/plant-a "), "{errors}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    for missing in [&["vars", "nope/plant-a", "--dir", "plants"][..], &["run", "nope", "--dir", "plants"]] {
        let (code, _, errors) = call(missing).await;
        assert!(code == 3 && errors.contains("there is no image `nope`"), "{code} {errors}");
    }
}

#[tokio::test]
async fn a_fault_is_shown_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;
    assert_eq!(call(&["init", "plants"]).await.0, 0);
    let image = folder.path().join("plants/images/hmi/image.yaml");
    let text = std::fs::read_to_string(&image).unwrap();
    std::fs::write(&image, text.replace("from: base", "from: bse")).unwrap();
    let (code, out, errors) = call(&["check", "plants"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("images/hmi/image.yaml:") && errors.contains("^^^"), "{errors}");
    assert!(!errors.contains('\x1b'), "no colours without a terminal: {errors}");
    let (code, out, _) = call(&["check", "plants", "--json"]).await;
    let diagnostics = schemas::validated(&out);
    assert_eq!((code, diagnostics["diagnostics"][0]["file"].as_str()), (1, Some("images/hmi/image.yaml")));
}

#[tokio::test]
async fn ends_have_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bad.toml");
    std::fs::write(&config, "[server]\nlissten = 1\n").unwrap();
    let config = config.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 13] = [
        (&["--version"], 0, ""),
        (&["no-such-command"], 2, "unrecognized subcommand"),
        (&["runs"], 3, "no builds in"),
        (&["check", "no-such-folder"], 3, "no-such-folder"),
        (&["run", "."], 3, "is not a source"),
        (&["serve", "--config", config], 2, "unknown field `lissten`"),
        (&["serve", "--config", "/no/such/file"], 3, "cannot read the settings file"),
        (&["serve", "--listen", "127.0.0.1:0", "--log", "a=b=c"], 2, "invalid log filter"),
        (&["status", "--server", "nowhere"], 2, "is not the address of a server"),
        (&["status", "--server", "http://127.0.0.1:1"], 5, "no response from"),
        (&["run", "list"], 3, "no builds in"),
        (&["logs", "abc"], 2, "expected a number such as 7"),
        // The environment sets --data, which was not typed.
        (&["logs"], 2, "Usage: edgewright logs <RUN> [NODE]"),
    ];
    for (arguments, code, message) in cases {
        let (found, _, errors) = edgewright(folder.path(), arguments).await;
        assert_eq!(found, code, "{arguments:?}: {errors}");
        assert!(errors.contains(message), "{arguments:?}: {errors}");
    }
}

/// The error of a command with `--json`: the last line of standard error.
fn error(errors: &str) -> serde_json::Value {
    schemas::validated(errors.lines().last().unwrap_or_default())
}

#[tokio::test]
async fn with_json_errors_are_json_those_of_the_command_line_too() {
    let folder = tempfile::tempdir().unwrap();
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;
    let cases: [(&[&str], i32, &str, &str); 5] = [
        (&["runs", "--json"], 3, "not_found", "no builds in"),
        (&["runs", "--json", "--limit", "many"], 2, "user_fault", "--limit"),
        (&["no-such-command", "--json"], 2, "user_fault", "unrecognized subcommand"),
        (&["vars", "--json"], 2, "user_fault", "<VARIANT>"),
        (&["status", "--json", "--server", "http://127.0.0.1:1"], 5, "unavailable", "127.0.0.1:1"),
    ];
    for (arguments, code, class, message) in cases {
        let (found, out, errors) = call(arguments).await;
        assert_eq!((found, out.as_str()), (code, ""), "{arguments:?}: {errors}");
        let error = &error(&errors)["error"];
        assert_eq!(error["code"], class, "{errors}");
        assert!(error["message"].as_str().unwrap().contains(message), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let (code, out, errors) = call(&["runs", "--json", "--help"]).await;
    assert!(code == 0 && errors.is_empty() && out.contains("Usage:"), "help is text: {errors}");
    let (_, _, errors) = call(&["runs"]).await;
    assert!(errors.starts_with("error: "), "{errors}");

    // A source whose main file cannot be read.
    std::fs::create_dir(folder.path().join("plants")).unwrap();
    std::fs::write(folder.path().join("plants/edgewright.yaml"), "edgewright: 1\nname: 7\n").unwrap();
    for command in [&["plan", "plants", "--json"][..], &["vars", "hmi", "--dir", "plants", "--json"]] {
        let (code, out, errors) = call(command).await;
        assert_eq!((code, out.as_str()), (1, ""), "{errors}");
        let message = error(&errors)["error"]["message"].clone();
        assert!(message.as_str().unwrap().starts_with("edgewright.yaml: "), "{errors}");
    }
    let (code, out, errors) = call(&["check", "plants", "--json"]).await;
    let report = schemas::validated(&out);
    assert_eq!((code, &report["source"], errors.as_str()), (1, &serde_json::Value::Null, ""));
}

#[tokio::test]
async fn a_containerfile_becomes_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;
    let old = folder.path().join("old");
    std::fs::create_dir_all(old.join("files")).unwrap();
    std::fs::write(old.join("files/motd"), "hello\n").unwrap();
    let write = |text: &str| std::fs::write(old.join("Dockerfile"), text).unwrap();
    write("FROM fedora:42\n");
    let (code, _, errors) = call(&["init", "--from", "old/Dockerfile", "new"]).await;
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("short name") && errors.contains("docker.io/library/fedora:42"), "{errors}");
    assert!(!folder.path().join("new").exists(), "nothing was written");

    write("FROM quay.io/fedora/fedora-bootc:42\nCOPY files/motd /etc/motd\n");
    let (code, _, errors) = call(&["init", "--from", "old/Dockerfile", "new"]).await;
    assert_eq!(code, 0, "{errors}");
    let (code, out, errors) = call(&["check", "new"]).await;
    assert_eq!((code, out.as_str()), (0, "ok new: 2 images, 0 sites, 2 variants\n"), "{errors}");
    let read = |path: &str| std::fs::read_to_string(folder.path().join("new").join(path)).unwrap();
    assert_eq!(read("images/system/Containerfile"), "ARG BASE\nFROM ${BASE}\nCOPY files/motd /etc/motd\n");
    assert_eq!(read("images/system/files/motd"), "hello\n");
    assert!(read("images/base/image.yaml").starts_with("from: quay.io/fedora/fedora-bootc:42\n"));
}

#[tokio::test]
async fn the_configuration_names_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;
    let (code, out, errors) = call(&["config", "set", "server", "http://127.0.0.1:1"]).await;
    assert_eq!((code, out.as_str()), (0, "server = http://127.0.0.1:1\n"), "{errors}");
    // A data folder that is named wins.
    assert_eq!(call(&["runs"]).await.0, 3);
    let bare = Command::new(env!("CARGO_BIN_EXE_edgewright")).args(["runs"]).env("HOME", folder.path());
    let bare = bare.run_status().await.unwrap();
    assert_eq!(bare.code(), Some(5), "{:?}", bare.output.stderr_tail);
    let (code, _, errors) = call(&["config", "set", "server", "nowhere"]).await;
    assert_eq!(code, 2, "{errors}");
}

#[tokio::test]
async fn shells_complete_names() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(edgewright(folder.path(), &["init", "plants"]).await.0, 0);
    let (code, script, _) = edgewright(folder.path(), &["completions", "bash"]).await;
    assert!(code == 0 && script.contains("COMPLETE="), "{script}");
    let asked = Command::new(env!("CARGO_BIN_EXE_edgewright"))
        .args(["--", "edgewright", "vars", "hmi/"])
        .cwd(folder.path().join("plants"))
        .env("HOME", folder.path())
        .env("EDGEWRIGHT_DATA", folder.path().join("data"))
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2")
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .env("_CLAP_IFS", "\n");
    let asked = asked.run_status().await.unwrap();
    let names = asked.output.text();
    assert_eq!(names.lines().map(str::trim).collect::<Vec<_>>(), ["hmi/plant-a", "hmi/plant-b"], "{asked:?}");
}

#[tokio::test]
async fn schemas_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = edgewright(folder.path(), &["schema", "image"]).await;
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &schema["properties"]["from"]["type"]), (0, &"string".into()));
    let (code, out, _) = edgewright(folder.path(), &["schema", "edgewright/run-list/v1"]).await;
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &schema["properties"]["runs"]["type"]), (0, &"array".into()));
    let (code, out, _) = edgewright(folder.path(), &["schema"]).await;
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, all.as_object().unwrap().len()), (0, 4));
    let (code, _, errors) = edgewright(folder.path(), &["schema", "slot"]).await;
    assert!(code == 3 && errors.contains("schemas: edgewright, image"), "{errors}");
}

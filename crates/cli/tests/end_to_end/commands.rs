//! The command without a server: what each gives, and how it exits.

use serde_json::Value;

use crate::world::{Repository, edgewright};

#[tokio::test]
async fn a_second_run_builds_nothing_and_every_document_parses() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a", "b"]).await;
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;

    let first = call(&["run", "plants", "--json"]).await.ends(0).json();
    assert_eq!((&first["state"], &first["counts"]["build"]), (&"passed".into(), &4.into()));
    let second = call(&["run", "plants", "--json"]).await.ends(0).json();
    assert_eq!((&second["state"], &second["counts"]["build"]), (&"passed".into(), &0.into()));
    assert_eq!((&first["release"], &second["release"]), (&1.into(), &Value::Null));

    let images = call(&["images", "--json"]).await.ends(0).json();
    let names: Vec<&str> =
        images["images"].as_array().unwrap().iter().map(|image| image["variant"].as_str().unwrap()).collect();
    assert_eq!(names, ["base", "hmi/a", "hmi/b"]);
    let image = call(&["image", "show", "hmi/a", "--json"]).await.ends(0).json();
    assert_eq!(image["digest"], images["images"][1]["digest"]);
    assert_eq!(image["builds"][0]["steps"].as_array().unwrap().len(), 3, "{image:#}");
    assert_eq!(call(&["runs", "--json"]).await.ends(0).json()["runs"].as_array().unwrap().len(), 2);
    assert_eq!(call(&["run", "show", "1", "--json"]).await.ends(0).json()["number"], 1);
    assert!(call(&["logs", "1", "hmi/a"]).await.ends(0).out.contains("files sites/a/files"));
    assert_eq!(
        call(&["releases", "--json"]).await.ends(0).json()["releases"][0]["entries"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(call(&["channels", "--json"]).await.ends(0).json()["channels"][0]["release"], 1);
    assert_eq!(
        call(&["vars", "hmi/a", "--dir", "plants", "--json"]).await.ends(0).json()["vars"],
        serde_json::json!({})
    );
    assert_eq!(
        call(&["check", "plants", "--json"]).await.ends(0).json()["diagnostics"],
        serde_json::json!([])
    );
    call(&["status", "--json"]).await.ends(0).json();

    // People read tables of the same.
    for arguments in
        [&["images"][..], &["image", "show", "hmi/a"], &["runs"], &["run", "show", "1"], &["status"]]
    {
        assert!(call(arguments).await.ends(0).out.contains("plants"), "{arguments:?}");
    }
    // What does not exist has its code.
    for arguments in
        [&["image", "show", "hmi/z"][..], &["run", "show", "77"], &["logs", "77"], &["logs", "1", "hmi/z"]]
    {
        let ended = call(arguments).await.ends(3);
        assert!(ended.errors.starts_with("error: "), "{arguments:?}: {}", ended.errors);
    }

    // Since a revision, only what it changed.
    repository.write("sites/b/files/etc/site", "changed\n");
    repository.commit("second").await;
    let plan = call(&["plan", "plants", "--since", "HEAD~1", "--json"]).await.ends(0).json();
    let built = plan["nodes"].as_array().unwrap().iter().filter(|node| node["action"] == "build");
    assert_eq!(built.map(|node| node["node"].as_str().unwrap()).collect::<Vec<_>>(), ["hmi/b"]);
    assert_eq!(plan["counts"]["build"], 1);
    let third = call(&["run", "plants", "--json"]).await.ends(0).json();
    assert_eq!((&third["counts"]["build"], &third["release"]), (&1.into(), &2.into()));
}

#[tokio::test]
async fn folders_with_uncommitted_files_and_urls_are_run() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;
    let digest = async |variant: &str| {
        let shown = call(&["image", "show", variant, "--json"]).await.ends(0).json();
        shown["digest"].as_str().unwrap().to_owned()
    };
    call(&["run", "plants"]).await.ends(0);
    let committed = digest("hmi/a").await;

    // Uncommitted: a changed file and a new one are in, an ignored one is not.
    repository.write("sites/a/files/etc/site", "not committed\n");
    repository.write("sites/a/files/etc/new", "not even added\n");
    repository.write(".gitignore", "*.swp\n");
    repository.write("sites/a/files/etc/site.swp", "an editor's\n");
    let status = repository.git(&["status", "--porcelain"]).await;
    let ended = call(&["run", "plants", "--json"]).await.ends(0);
    assert!(ended.errors.contains("uncommitted"), "{}", ended.errors);
    let tried = ended.json();
    assert_eq!((&tried["counts"]["build"], &tried["release"]), (&1.into(), &Value::Null));
    assert_eq!(tried["no_release"], "the files are not committed: no release");
    assert_eq!(digest("hmi/a").await, committed, "only committed files are released");
    let released = call(&["run", "plants", "--release", "--json"]).await.ends(0).json();
    assert_eq!(released["counts"]["build"], 0, "it was built before");
    assert_ne!(digest("hmi/a").await, committed);
    assert_eq!(repository.git(&["status", "--porcelain"]).await, status, "the working tree was touched");

    // The same files without git, and as a commit over file://: the same bytes, so nothing is built.
    std::fs::create_dir(folder.path().join("bare")).unwrap();
    std::fs::rename(folder.path().join("plants/.git"), folder.path().join("bare/.git")).unwrap();
    let plain = call(&["run", "plants", "--release", "--json"]).await.ends(0).json();
    let uncommitted = digest("hmi/a").await;
    std::fs::rename(folder.path().join("bare/.git"), folder.path().join("plants/.git")).unwrap();
    assert!(plain["state"] == "passed" && uncommitted != committed, "{plain:#}");
    repository.git(&["reset", "--quiet", "--hard"]).await;
    repository.git(&["clean", "--quiet", "-fdx"]).await;
    let url = format!("file://{}", repository.url());
    let again = call(&["run", &url, "--json"]).await.ends(0).json();
    assert_eq!(again["counts"]["build"], 0, "{again:#}");
    assert_eq!(digest("hmi/a").await, committed);
}

#[tokio::test]
async fn a_plan_after_a_rename_is_what_the_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;
    call(&["run", "plants"]).await.ends(0);
    repository.write("edgewright.yaml", "edgewright: 1\nname: renamed\n");
    repository.commit("renamed").await;
    let plan = call(&["plan", "plants", "--json"]).await.ends(0).json();
    let run = call(&["run", "plants", "--json"]).await.ends(0).json();
    assert_eq!((&plan["counts"]["build"], &run["counts"]["build"]), (&0.into(), &0.into()), "{plan:#}");
    let reasons = |nodes: &Value| -> Vec<(String, String)> {
        let text = |node: &Value, key: &str| node[key].as_str().unwrap().to_owned();
        nodes.as_array().unwrap().iter().map(|node| (text(node, "node"), text(node, "reason"))).collect()
    };
    let run_nodes = call(&["run", "show", "2", "--json"]).await.ends(0).json();
    assert_eq!(reasons(&plan["nodes"]), reasons(&run_nodes["nodes"]), "{plan:#} {run_nodes:#}");
}

#[tokio::test]
async fn faults_of_the_source_have_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let call = async |arguments: &[&str]| edgewright(folder.path(), arguments).await;
    repository.write("images/hmi/image.yaml", "from: bse\nper: site\nsteps: [files: files/]\ntest: none\n");
    for arguments in [&["check", "plants"][..], &["run", "plants", "--release"], &["plan", "plants"]] {
        let ended = call(arguments).await.ends(1);
        let output = format!("{}{}", ended.out, ended.errors);
        assert!(output.contains("images/hmi/image.yaml"), "{arguments:?}: {output}");
    }
    let found = call(&["check", "plants", "--json"]).await.ends(1).json();
    assert_eq!(found["diagnostics"][0]["file"], "images/hmi/image.yaml");
    // The image that is well was built all the same.
    assert_eq!(call(&["image", "show", "base", "--json"]).await.ends(0).json()["state"], "current");

    std::fs::write(folder.path().join("plants/edgewright.yaml"), "edgewright: 1\nname: 7\n").unwrap();
    call(&["check", "plants"]).await.ends(1);
    call(&["run", "plants"]).await.ends(1);
    assert_eq!(call(&["run", "no-such-folder"]).await.code, call(&["check", "no-such-folder"]).await.code);
}

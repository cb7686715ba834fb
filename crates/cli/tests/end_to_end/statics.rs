//! The lane `static` in the hands of a user: a failure that can be acted on, then a rule that is off and one
//! that is excepted. Files alone, so no tool is needed.

use crate::world::{Repository, edgewright};

#[tokio::test]
async fn static_checks_fail_and_can_be_turned_off_or_excepted() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::make(folder.path().join("src")).await;
    repository.write("edgewright.yaml", "edgewright: 1\nname: p\n");
    let image = |checks: &str, size: &str| {
        format!(
            "from: scratch\nsteps: [files: files]\ntest: {{lanes: [static]}}\n\
             checks:\n- {{id: budget, size: {{unpacked: {size}}}}}\n{checks}"
        )
    };
    repository.write("images/base/image.yaml", image("", "20B"));
    repository.write("images/base/files/etc/plant.key", "-----BEGIN PRIVATE KEY-----\n");
    repository.write("images/base/files/etc/motd", "hello\n");
    repository.commit("one").await;
    let run = |arguments: &'static [&'static str]| edgewright(folder.path(), arguments);
    let failed = run(&["run", "src", "--data", "data"]).await.ends(1);
    for want in [
        "budget (image): the image has 34 bytes unpacked, 14 bytes more than 20B; largest layers: files images/base/files",
        "static.kernel (image): no kernel in /usr/lib/modules: the image cannot boot a machine",
        "static.secrets (image): secrets in the image's layers: /etc/plant.key (a private key); generate them",
    ] {
        assert!(failed.out.contains(want), "{want}\n{}", failed.out);
    }

    // The digest is the same: only the checks are another set, so that it is tested again.
    repository.write("images/base/image.yaml", image("- {id: static.kernel, off: a container}\n", "1KiB"));
    let exception =
        "{check: static.secrets, variants: [base], reason: of the bench, owner: ann, until: 9999-12-31}\n";
    repository.write("exceptions/key.yaml", exception);
    repository.commit("two").await;
    run(&["run", "src", "--data", "data"]).await.ends(0);
    let shown = run(&["image", "show", "base", "--data", "data"]).await.ends(0).out;
    for want in ["is excepted until 9999-12-31 by ann: of the bench", "34 bytes unpacked, of at most 1KiB"] {
        assert!(shown.contains(want), "{want}\n{shown}");
    }
    let shown = run(&["image", "show", "base", "--json", "--data", "data"]).await.ends(0).json();
    assert_eq!(shown["notes"][0]["note"], "excepted", "{shown:#}");
    let shown = run(&["run", "show", "2", "--json", "--data", "data"]).await.ends(0).json();
    let node = &shown["nodes"][0];
    assert_eq!(
        (&node["action"], &node["notes"][0]["check"]),
        (&"test".into(), &"static.secrets".into()),
        "{node:#}"
    );
}

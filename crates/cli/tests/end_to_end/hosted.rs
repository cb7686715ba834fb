//! Images without steps: what others built is mirrored, released and hosted as it is; and OCI labels of those
//! with steps.

use crate::server::Server;
use crate::world::{Repository, edgewright, until};

#[tokio::test]
async fn images_built_elsewhere_are_hosted_unchanged_and_labels_reach_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let plants = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let server = Server::start(&folder.path().join("others"), &["--source", plants.url()]).await;
    let theirs = until("the release of the others", async || {
        let images = server.client.images(None).await.ok()?;
        let base = images.iter().find(|image| image.variant.to_string() == "base")?.clone();
        base.digest
    })
    .await;
    let from = format!("{}/plants/base@{theirs}", server.address);

    let ours = Repository::make(folder.path().join("ours")).await;
    ours.write("edgewright.yaml", "edgewright: 1\nname: ours\n");
    ours.write("images/os/image.yaml", format!("from: {from}\ntest: none\n"));
    ours.write("images/plain/image.yaml", "from: os\ntest: none\n");
    let panel = "from: os\nlabels: {org.example.team: ot}\nsteps: [files: files/]\ntest: none\n";
    ours.write("images/panel/image.yaml", panel);
    ours.write("images/panel/files/etc/panel", "x\n");
    ours.commit("first").await;
    let call = async |arguments: &[&str]| edgewright(&ours.folder, arguments).await;
    let run = call(&["run", "--json"]).await.ends(0).json();
    assert_eq!(run["state"], "passed", "{run:#}");
    let built = |name: &str| {
        let node = run["nodes"].as_array().unwrap().iter().find(|node| node["node"] == name).unwrap().clone();
        node["digest"].as_str().unwrap_or_else(|| panic!("{name} has no digest: {run:#}")).to_owned()
    };
    assert_eq!(built("plain"), built("os"), "nothing was added");
    assert_ne!(built("panel"), built("os"));

    // The step adds its own layer, not the image below it.
    let shown_build = async |variant: &str| {
        let shown = call(&["image", "show", variant, "--json"]).await.ends(0).json();
        shown["builds"][0].clone()
    };
    let (panel, os) = (shown_build("panel").await, shown_build("os").await);
    let size = |build: &serde_json::Value| build["size_bytes"].as_u64().unwrap();
    assert_eq!(panel["steps"][0]["added_bytes"].as_u64(), Some(size(&panel) - size(&os)), "{panel:#} {os:#}");

    // Nothing is fetched again, and the release is the same.
    let again = call(&["run", "--json"]).await.ends(0).json();
    let actions: Vec<&str> =
        again["nodes"].as_array().unwrap().iter().map(|node| node["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["reuse", "reuse", "reuse"]);

    let hosting = Server::start(&ours.folder.join("data"), &[]).await;
    let config = |name: &str| {
        let (digest, address) = (built(name), hosting.address.clone());
        let repository = format!("ours/{name}");
        async move {
            let client = edgewright_oci::Client::with_url(
                &format!("http://{address}"),
                edgewright_oci::client::Credentials::Anonymous,
            )
            .unwrap();
            let repository = repository.parse().unwrap();
            let reference = edgewright_model::reference::Reference::Digest(digest.parse().unwrap());
            let manifest = client.pull_manifest(&repository, &reference).await.unwrap();
            let config = edgewright_oci::image::config(&manifest.bytes).unwrap();
            let bytes = client.pull_blob_bytes(&repository, &config.digest, 1 << 20).await.unwrap();
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
        }
    };
    assert_eq!(config("panel").await["config"]["Labels"]["org.example.team"], "ot");
    assert_eq!(config("plain").await["config"]["Labels"], serde_json::Value::Null);
}

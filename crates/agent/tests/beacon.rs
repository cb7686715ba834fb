//! The beacon of stock bootc devices: a shell script.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use std::path::Path;

use common::{Device, Server};
use edgewright_process::Command;

async fn beacon(device: &Device, event: &str) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/beacon/edgewright-beacon");
    let command = Command::new("sh")
        .arg(script)
        .arg(event)
        .env("BOOTC", device.path("bootc"))
        .env("BEACON_CONF", device.path("beacon.conf"))
        .env("BEACON_AUTH", device.path("auth.json"));
    command.run().await.map(drop).map_err(|error| error.stderr_tail().join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_sees_what_runs() {
    if !edgewright_testkit::has(&["curl", "jq"]) {
        return;
    }
    let server = Server::start().await;
    let digest = server.publish("v2");
    let device = Device::new(&digest, &server.host, "");
    std::fs::write(device.path("beacon.conf"), "CURL_OPTIONS='--retry 0'\n").unwrap();
    beacon(&device, "booted").await.unwrap();
    beacon(&device, "failed").await.unwrap();
    let failed = format!("/v2/a/b/manifests/edgewright-failed-{}", &digest.hex()[..32]);
    {
        let content = server.content.lock().unwrap();
        let paths: Vec<&str> = content.requests.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, [format!("/v2/a/b/manifests/{digest}"), failed]);
        assert!(content.requests[0].1.starts_with("edgewright-beacon/1 (booted; boot "), "{content:?}");
    }

    // With credentials, of the most specific entry.
    server.content.lock().unwrap().authorization = Some("Basic dTpw".to_owned());
    assert!(beacon(&device, "booted").await.unwrap_err().contains("denies access"));
    let host = &server.host;
    let auth = format!(r#"{{"auths":{{"{host}":{{"auth":"eDp5"}},"{host}/a":{{"auth":"dTpw"}}}}}}"#);
    std::fs::write(device.path("auth.json"), auth).unwrap();
    beacon(&device, "booted").await.unwrap();

    // A device that bootc did not boot, and a registry that forgot the digest.
    device.set_booted(&format!("sha256:{}", "0".repeat(64)));
    assert!(beacon(&device, "booted").await.unwrap_err().contains("responded with 404"));
    device.set_booted("-");
    assert!(beacon(&device, "booted").await.unwrap_err().contains("not booted by bootc"));
}

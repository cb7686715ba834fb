//! Jobs in sandboxes: images are built and tested as without, and a hostile Containerfile reaches nothing of
//! the host.

use std::fs;
use std::net::TcpListener;

use crate::world::{Repository, edgewright};

const OS: &str = "from: scratch
steps:
  - bootstrap: {suite: trixie, packages: [systemd, systemd-sysv, dbus]}
checks:
  - {id: up, systemd: running, timeout: 60s}
";

/// The tool image's buildah keeps the targets of mounts, and what RUN writes below a VOLUME.
const APP: &str = "from: os
steps: [containerfile: Containerfile]
checks:
  - {id: made, file: {path: /etc/made}}
  - {id: target, file: {path: /var/cache/apt}}
  - {id: volume, file: {path: /var/lib/data/f}}
";

#[tokio::test]
async fn a_sandboxed_build_reaches_neither_files_nor_loopback_of_the_host_and_its_image_is_tested() {
    let Some(_tools) = edgewright_testkit::tool_image() else { return };
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("secret"), "of the host").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let repository = Repository::make(folder.path().join("plants")).await;
    repository.write("edgewright.yaml", "edgewright: 1\nname: plants\n");
    repository.write("images/os/image.yaml", OS);
    repository.write("images/app/image.yaml", APP);
    repository.write(
        "images/app/Containerfile",
        format!(
            "ARG BASE\nFROM ${{BASE}}\n\
             RUN test \"$(id -u)\" = 0 && grep -q 100000 /proc/1/uid_map\n\
             RUN test ! -e {host} && test ! -e {data}\n\
             RUN ! bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'\n\
             RUN --mount=type=cache,target=/var/cache --mount=type=tmpfs,target=/tmp touch /etc/made\n\
             VOLUME /var/lib/data\n\
             RUN mkdir -p /var/lib/data && echo x > /var/lib/data/f\n",
            host = host.display(),
            data = folder.path().join("data").display(),
        ),
    );
    repository.commit("a system and a hostile application").await;
    let run = ["run", "plants", "--json"];
    let ended = edgewright(folder.path(), &run).await.ends(0).json();
    let nodes = ended["nodes"].as_array().unwrap();
    assert!(nodes.iter().any(|node| node["verdicts"][0]["result"]["result"] == "passed"), "{ended:#}");
    let left: Vec<String> =
        fs::read_dir(&host).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left, ["secret"], "the build wrote to the host");
    // Nothing of the jobs is left: configuration, scratch, cgroups.
    let work = folder.path().join("data/work");
    for name in ["sandboxes", "sandbox/1/jobs"] {
        assert_eq!(fs::read_dir(work.join(name)).unwrap().count(), 0, "{name}");
    }
    // The system's index was read by this process: what the job wrote into its own folder is not believed.
    assert_ne!(fs::read_dir(work.join("cache/indexes")).unwrap().count(), 0);
}

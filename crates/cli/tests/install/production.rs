//! The guides, from a clean machine to a removed package.

use std::fs;
use std::path::Path;

use edgewright_process::Command;

use crate::guide::{Block, Place, blocks};
use crate::machine::Machine;
use crate::packages::{self, Packages};

const OLD: &str = "0.1.0";
const NEW: &str = "0.1.1";

/// Runs one block of a guide; an error ends the test with the block's place.
async fn run(machine: &Machine, block: &Block, folder: &str) {
    let script = block.script.replace("NEW", NEW).replace("OLD", OLD);
    let finished = match block.place {
        Place::Server => machine.script("root", folder, &script).await,
        Place::Workstation => machine.script("alice", "/home/alice", &script).await,
    };
    if !finished.success() {
        machine.fail(&format!("{}\n{script}", block.title), &finished).await;
    }
}

/// The packages that the Debian package depends on.
async fn dependencies(deb: &Path) -> Vec<String> {
    let field = Command::new("dpkg-deb").arg("--field").arg(deb).arg("Depends").run().await.unwrap().text();
    field.split(',').filter_map(|one| Some(one.split_whitespace().next()?.to_owned())).collect()
}

/// The repository that the guide follows, on the machine's forge: a base that a job with a container makes,
/// and two sites.
async fn forge(machine: &Machine, folder: &Path) {
    let work = folder.join("plant-os");
    let write = |path: &str, text: &[u8]| {
        let path = work.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("edgewright.yaml", b"edgewright: 1\nname: plant-os\n");
    write(
        "images/base/image.yaml",
        b"from: scratch\nsteps: [files: files/, containerfile: tools/Containerfile]\ntest: none\n",
    );
    let busybox = fs::read(machine.root().join("usr/bin/busybox")).unwrap();
    write("images/base/files/bin/busybox", &busybox);
    write(
        "images/base/tools/Containerfile",
        b"ARG BASE\nFROM ${BASE}\nRUN [\"/bin/busybox\", \"mkdir\", \"/made-by-a-container\"]\n",
    );
    let hmi = b"from: base\nper: site\nsteps: [files: files/]\ntest: none\n";
    write("images/hmi/image.yaml", hmi);
    write("images/hmi/files/etc/hmi", b"hmi\n");
    for site in ["plant-a", "plant-b"] {
        let text = format!("id: s-{site}\nslots: [{{id: one, image: hmi}}]\n");
        write(&format!("sites/{site}/site.yaml"), text.as_bytes());
    }
    let bare = machine.root().join("home/git/plant-os.git");
    let script = "chmod 755 images/base/files/bin/busybox && git init --quiet --initial-branch=main . && git add --all \
        && git -c user.name=Ann -c user.email=ann@example.org commit --quiet --message=first \
        && git clone --quiet --bare . \"$0\" && chown -R \"$(stat -c %u:%g \"$0/..\")\" \"$0\"";
    Command::new("sh").args(["-c", script]).arg(bare).cwd(&work).run().await.unwrap();
}

/// The machine and the packages of two versions in folders of their own.
async fn prepare(folder: &Path) -> (Machine, Packages) {
    let dist = folder.join("dist");
    let (old, new) = (packages::make(OLD, &dist).await, packages::make(NEW, &dist).await);
    let machine = Machine::unpack(folder, &dependencies(&old.deb).await).await;
    forge(&machine, folder).await;
    for (name, package) in [("first", &old.deb), ("both", &old.deb), ("both", &new.deb)] {
        let to = machine.root().join("opt").join(name);
        fs::create_dir_all(&to).unwrap();
        fs::copy(package, to.join(package.file_name().unwrap())).unwrap();
    }
    machine.boot().await;
    (machine, old)
}

/// What the guide promises that none of its commands shows.
async fn check_production(machine: &Machine, token: &str) {
    machine.run("systemctl is-enabled edgewright.service edgewright-backup.timer").await;
    let modes = "stat -c '%a %U' /var/lib/edgewright /etc/edgewright/edgewright.toml /var/backups/edgewright";
    assert_eq!(machine.run(modes).await, "700 root\n600 root\n700 root");
    // The token that was replaced has ended, and without one nothing can be read any more.
    let status = "edgewright status --server https://images.example.org --ca-file ~/edgewright-ca.pem";
    for script in [format!("{status} --token-file ~/edgewright-token"), status.to_owned()] {
        let denied = machine.script("alice", "/home/alice", &script).await;
        let errors = denied.output.stderr_tail.join("\n");
        assert!(denied.code() == Some(4) && errors.contains("token"), "{script}: {errors}");
    }
    let now = machine.run("cat /var/lib/edgewright/operator-token").await;
    assert_ne!(now, token);
    // What did not change since the last backup takes no room in the next one.
    machine.run("sleep 1; systemctl start edgewright-backup.service").await;
    let links = "find /var/backups/edgewright -path '*/blobs/*' -type f -links 1 | wc -l; \
        ls /var/backups/edgewright | wc -l";
    assert_eq!(machine.run(links).await, "0\n2");
}

/// As if a version after this one had migrated the database: the server does not start and is not tried
/// again.
async fn refuses_a_newer_database(machine: &Machine) {
    machine.run("systemctl stop edgewright").await;
    let migrate = "import sqlite3\n\
        db = sqlite3.connect('/var/lib/edgewright/control.db')\n\
        db.execute(\"INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'later', 1, x'00', 0)\")\n\
        db.commit()\n";
    machine.run(&format!("python3 - <<'EOF'\n{migrate}EOF\n")).await;
    let finished = machine.script("root", "/", "systemctl start edgewright").await;
    assert!(!finished.success(), "the server started");
    assert_eq!(machine.run("systemctl show --property=SubState --value edgewright").await, "failed");
    let journal = machine.run("journalctl --unit edgewright --lines 20 --no-pager --output cat").await;
    assert!(journal.contains("control.db"), "{journal}");
}

async fn is_installed(machine: &Machine) -> String {
    machine.run("dpkg-query --show --showformat '${Version} ${db:Status-Status}' edgewright").await
}

async fn remove(machine: &Machine) {
    machine.run("apt remove edgewright").await;
    machine.run("! systemctl is-active edgewright.service edgewright-backup.timer").await;
    machine.run("test ! -e /usr/bin/edgewright && test -e /etc/edgewright/edgewright.toml").await;
    machine.run("test -e /var/lib/edgewright/control.db && test -e /var/lib/edgewright/work").await;
    machine.run("apt purge edgewright").await;
    machine.run("test ! -e /etc/edgewright/edgewright.toml && test ! -e /var/lib/edgewright/work").await;
    machine.run("test -e /var/lib/edgewright/control.db && ls /var/lib/edgewright/registry/blobs").await;
    machine.run("test -z \"$(find /etc/systemd -name 'edgewright*')\"").await;
}

/// The tarball on a machine without the package.
async fn unpack(machine: &Machine, tarball: &Path) {
    fs::copy(tarball, machine.root().join("opt/edgewright.tar.gz")).unwrap();
    machine.run("tar -xzf /opt/edgewright.tar.gz -C / --strip-components=1").await;
    assert_eq!(
        machine.run("edgewright --version").await,
        format!("edgewright {}", env!("CARGO_PKG_VERSION"))
    );
    machine.run("systemctl daemon-reload && systemctl cat edgewright > /dev/null").await;
}

#[tokio::test]
async fn a_server_is_installed_upgraded_downgraded_and_removed_by_the_guides() {
    if !edgewright_testkit::has_as_root(&["podman", "runc", "mmdebstrap", "dpkg-deb", "objdump", "git"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (machine, old) = prepare(folder.path()).await;

    let mut token = String::new();
    for block in blocks("how-to/production.md") {
        run(&machine, &block, "/opt/first").await;
        if block.script.contains("apt install") {
            assert_eq!(machine.script("root", "/", "systemctl is-active edgewright").await.code(), Some(3));
            machine.run("systemd-analyze verify --man=no edgewright.service edgewright-backup.timer").await;
        } else if block.script.contains("enable --now edgewright\n") {
            machine.until("edgewright release list | grep -q plant-os").await;
            token = machine.run("cat /var/lib/edgewright/operator-token").await;
        }
    }
    check_production(&machine, &token).await;

    for block in blocks("how-to/upgrade.md") {
        if block.script.contains("--allow-downgrades") {
            assert_eq!(is_installed(&machine).await, format!("{NEW} installed"));
            machine.run("systemctl is-active edgewright").await;
            refuses_a_newer_database(&machine).await;
        }
        run(&machine, &block, "/opt/both").await;
    }
    assert_eq!(is_installed(&machine).await, format!("{OLD} installed"));
    machine.until("edgewright channel list | grep -q 'default branch  *[0-9]'").await;
    assert_eq!(machine.run("systemctl --failed --no-legend").await, "");

    remove(&machine).await;
    unpack(&machine, &old.tarball).await;
}

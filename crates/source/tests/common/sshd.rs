//! An ssh server of OpenSSH on loopback, with keys of its own; it ends with the value.

use std::net::TcpListener;
use std::path::PathBuf;

use edgewright_process::{Command, CommandError, Finished, OwnedTask};
use edgewright_testkit::{has, has_if, program};

use crate::common::Sandbox;

pub(crate) struct Sshd {
    /// `ssh://USER@127.0.0.1:PORT`
    pub(crate) url: String,
    /// The key that may log in, and one that may not.
    pub(crate) key: PathBuf,
    pub(crate) other_key: PathBuf,
    /// Host keys: the right one, another one for the same address, none.
    pub(crate) known_hosts: PathBuf,
    pub(crate) changed_hosts: PathBuf,
    pub(crate) no_hosts: PathBuf,
    _daemon: OwnedTask<Result<Finished, CommandError>>,
}

async fn keygen(sandbox: &Sandbox, name: &str) -> (PathBuf, String) {
    let path = sandbox.path(name);
    let command = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
    command.arg(&path).run().await.unwrap();
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (path, public)
}

impl Sshd {
    pub(crate) async fn start(sandbox: &Sandbox) -> Option<Self> {
        // sshd forks into a folder that a start of the system would have made.
        let has_folder = std::fs::create_dir_all("/run/sshd").is_ok();
        if !has(&["sshd"]) || !has_if(has_folder, "/run/sshd, which only root can make") {
            return None;
        }
        let (host_key, host_public) = keygen(sandbox, "host").await;
        let (_, changed_public) = keygen(sandbox, "changed").await;
        let (key, public) = keygen(sandbox, "deploy").await;
        let (other_key, _) = keygen(sandbox, "stranger").await;
        let write = |name: &str, text: &str| {
            std::fs::write(sandbox.path(name), text).unwrap();
            sandbox.path(name)
        };
        let authorized = write("authorized_keys", &public);
        // Another test may take the port in between; then polling fails with an error.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let known = |key: &str| format!("[127.0.0.1]:{port} {key}");
        let conf = write(
            "sshd_config",
            &format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nPermitRootLogin yes\n",
                host_key.display(),
                authorized.display()
            ),
        );
        let command = Command::new(program("sshd")?).args(["-D", "-e", "-f"]).arg(conf);
        let daemon = OwnedTask::spawn(command.deadline(std::time::Duration::from_mins(5)).run_status());
        let user = Command::new("id").arg("-un").run().await.unwrap().text();
        tokio::time::timeout(std::time::Duration::from_secs(20), async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("sshd listens");
        Some(Self {
            url: format!("ssh://{user}@127.0.0.1:{port}"),
            key,
            other_key,
            known_hosts: write("known_hosts", &known(&host_public)),
            changed_hosts: write("changed_hosts", &known(&changed_public)),
            no_hosts: write("no_hosts", ""),
            _daemon: daemon,
        })
    }
}

//! `setup`: installs the programs that tests and demo need. Quick if all are installed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::command::{Run, is_installed, is_root};
use crate::workspace;

/// Programs with the Debian package that brings them.
const PROGRAMS: [(&str, &str); 22] = [
    ("podman", "podman"),
    ("buildah", "buildah"),
    ("skopeo", "skopeo"),
    ("mmdebstrap", "mmdebstrap"),
    // crun, podman's first choice, fails on hosts with a hybrid cgroup tree.
    ("runc", "runc"),
    // podman's bridge networks.
    ("iptables", "iptables"),
    // A registry that is not ours, and knows no referrers.
    ("docker-registry", "docker-registry"),
    ("git", "git"),
    // libFuzzer, the engine of the fuzz targets.
    ("c++", "g++"),
    // Finds the library that the agent hashes with.
    ("pkg-config", "pkg-config"),
    ("setpriv", "util-linux"),
    // A server that is not root.
    ("newuidmap", "uidmap"),
    ("curl", "curl"),
    ("jq", "jq"),
    ("openssl", "openssl"),
    // The network of a cluster's node.
    ("ip", "iproute2"),
    ("slirp4netns", "slirp4netns"),
    // Parts of clusters in the cache; a file capability in one of them.
    ("zstd", "zstd"),
    ("setcap", "libcap2-bin"),
    // Tests of ssh sources start one of their own, on loopback.
    ("sshd", "openssh-server"),
    // The login provider of tests is a package of npm.
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// Headers that the compiler needs, with the Debian package that brings them.
const HEADERS: [(&str, &str); 1] = [("/usr/include/openssl/ssl.h", "libssl-dev")];

/// The Debian suite that oras comes from: bookworm has no oras, but its C library is new enough for it. A
/// stable suite keeps its version of oras, so the suite determines the version.
const SUITE_OF_ORAS: &str = "trixie";

/// The Debian suite and the package that Go comes from where it is not installed: any that can fetch another
/// version of itself.
const SUITE_OF_GO: &str = "trixie";
const PACKAGE_OF_GO: &str = "golang-go";

/// The Debian suite and the package that Redis comes from.
const SUITE_OF_REDIS: &str = "trixie";
const PACKAGE_OF_REDIS: &str = "redis-server";
/// The login provider of tests, and its version; `crates/cli/tests/login.rs` names the same one.
const LOGIN_PROVIDER: &str = "oidc-provider";
const VERSION_OF_LOGIN_PROVIDER: &str = "8.8.1";

/// The tool image's folder in the cache. Another number where the list of its packages changes.
const TOOL_IMAGE: &str = "image-4";

/// Installs missing programs by apt-get.
pub(crate) fn run() -> anyhow::Result<()> {
    let packages = missing();
    if packages.is_empty() {
        println!("setup: all tools are installed");
        return Ok(());
    }
    if !is_installed("apt-get") {
        bail!(
            "cannot install packages: apt-get is not installed; install these and try again: {}",
            packages.join(" ")
        );
    }
    if !is_root()? && !is_installed("sudo") {
        bail!(
            "cannot install packages: neither root nor sudo; run `apt-get install {}` as root and try again",
            packages.join(" ")
        );
    }
    println!("setup: installing {}", packages.join(" "));
    apt_get(&["update", "-qq"]).context("cannot fetch the package lists")?;
    install(&packages)?;
    match missing().as_slice() {
        [] => Ok(()),
        still => bail!("installed, but what these packages bring is still not found: {}", still.join(" ")),
    }
}

/// Installs clients that tests alone need, into the cache folder.
pub(crate) fn clients() -> anyhow::Result<()> {
    login_provider()?;
    let folder = root_of_oras()?;
    if is_installed("oras") || folder.exists() {
        return Ok(());
    }
    fetch("oras", SUITE_OF_ORAS, &folder)
}

/// A root file system with `redis-server`, in the cache folder.
pub(crate) fn redis() -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?.join("redis").join(SUITE_OF_REDIS);
    fetch(PACKAGE_OF_REDIS, SUITE_OF_REDIS, &folder)?;
    // What is only unpacked has no links to its libraries.
    for name in ["lib", "lib64"] {
        if folder.join("usr").join(name).is_dir() && !folder.join(name).exists() {
            std::os::unix::fs::symlink(format!("usr/{name}"), folder.join(name))?;
        }
    }
    Ok(folder)
}

/// Installs the login provider of tests from the registry of npm, once.
fn login_provider() -> anyhow::Result<()> {
    let folder = workspace::cache()?.join(format!("{LOGIN_PROVIDER}-{VERSION_OF_LOGIN_PROVIDER}"));
    if folder.join("node_modules").join(LOGIN_PROVIDER).exists() {
        return Ok(());
    }
    let package = format!("{LOGIN_PROVIDER}@{VERSION_OF_LOGIN_PROVIDER}");
    println!("setup: fetching {package} from npm");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Scripts of packages are not run: none of these needs one.
    Run::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(&folder)
        .args([package.as_str()])
        .run()
        .with_context(|| format!("cannot fetch {package}"))?;
    Ok(())
}

/// The files of a package of Debian and of what it needs, in a folder, once.
fn fetch(package: &str, suite: &str, folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    println!("setup: fetching {package} from Debian {suite}");
    let parent = folder.parent().context("the cache folder has no parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let unfinished = folder.with_extension("new");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    Run::new("mmdebstrap")
        .args(["--quiet", "--variant=extract", &format!("--include={package}"), suite])
        .arg(&unfinished)
        .run()
        .with_context(|| format!("cannot fetch {package}"))?;
    Ok(std::fs::rename(unfinished, folder)?)
}

/// A Go tool that fetches the version it is asked for: the machine's own, else one of Debian in the cache
/// folder.
pub(crate) fn go() -> anyhow::Result<PathBuf> {
    if let Ok(version) = Run::new("go").arg("version").env("GOTOOLCHAIN", "local").output()
        && go_fetches_others(&version)
    {
        return Ok("go".into());
    }
    let folder = workspace::cache()?.join("go").join(SUITE_OF_GO);
    fetch(PACKAGE_OF_GO, SUITE_OF_GO, &folder)?;
    Ok(folder.join("usr/bin/go"))
}

/// Whether this version of Go, from the output of `go version`, is 1.21 or later.
fn go_fetches_others(output: &str) -> bool {
    let minor = output.split_once("go1.").map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit));
    minor.is_some_and(|digits| digits.collect::<String>().parse::<u32>().is_ok_and(|minor| minor >= 21))
}

/// The tool image of sandboxes, made once by `program`, the command that was just built.
pub(crate) fn tool_image(program: &Path) -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?.join("tools").join(TOOL_IMAGE);
    if folder.join("tools.json").is_file() {
        return Ok(folder);
    }
    println!("setup: making the tool image once, about one minute");
    Run::as_root(program)?
        .args(["tools", "update", "--tools"])
        .arg(&folder)
        .run()
        .context("cannot make the tool image")?;
    Ok(folder)
}

/// The oras to test with: the machine's own, else the one of [`clients`].
pub(crate) fn oras() -> anyhow::Result<PathBuf> {
    if is_installed("oras") { Ok("oras".into()) } else { Ok(root_of_oras()?.join("usr/bin/oras")) }
}

/// Where [`clients`] puts oras: the root of a small Debian.
fn root_of_oras() -> anyhow::Result<PathBuf> {
    Ok(workspace::cache()?.join("oras").join(SUITE_OF_ORAS))
}

/// Installs packages of Debian.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let install = ["install", "-y", "-qq", "-o", "DPkg::Lock::Timeout=300"];
    apt_get(&[&install[..], packages].concat()).context("cannot install the packages")
}

fn missing() -> Vec<&'static str> {
    let package_of = |(program, package)| (!is_installed(program)).then_some(package);
    let header_of = |(path, package)| (!Path::new(path).exists()).then_some(package);
    let programs = PROGRAMS.into_iter().filter_map(package_of);
    programs.chain(HEADERS.into_iter().filter_map(header_of)).collect()
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    // RUNLEVEL: services of the packages are not started.
    Run::as_root("env")?
        .args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"])
        .args(arguments)
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_that_fetch_others_are_recognised() {
        assert!(go_fetches_others("go version go1.26.8 linux/amd64\n"));
        assert!(go_fetches_others("go version go1.21 linux/amd64\n"));
        for old in ["go version go1.19.8 linux/amd64\n", "go version devel linux/amd64\n", ""] {
            assert!(!go_fetches_others(old), "{old}");
        }
    }
}

//! Detection of secrets in files.

/// Folders whose files belong to one machine; test keys of packages under `usr/share` are not secret.
const FOLDERS: [&str; 9] =
    ["etc/", "usr/etc/", "usr/local/", "root/", "home/", "var/", "srv/", "opt/", "run/"];
/// Further folders with logins of registries, where bootc and rpm-ostree look for them.
const LOGINS: [&str; 2] = ["usr/lib/ostree/", "usr/lib/containers/"];
/// Files of connections with passwords, which must not be readable by all users; `usr/lib` and `run` are
/// searched for NetworkManager's, too.
const CONNECTIONS: [&str; 3] = ["system-connections/", "etc/wpa_supplicant/", "etc/netplan/"];
/// Files whose name shows that they hold passwords: a text without which they hold none, and what they are.
const NAMES: [(&str, &str, &str); 11] = [
    (".netrc", "password", "passwords for servers"),
    ("_netrc", "password", "passwords for servers"),
    (".git-credentials", "://", "passwords for git"),
    (".pgpass", ":", "passwords for databases"),
    (".my.cnf", "password", "passwords for databases"),
    (".npmrc", "_authToken=", "a login for a package registry"),
    (".pypirc", "password", "a login for a package registry"),
    (".aws/credentials", "aws_secret_access_key", "a key for a cloud"),
    ("gcloud/application_default_credentials.json", "refresh_token", "a key for a cloud"),
    ("gh/hosts.yml", "oauth_token", "a login for git"),
    (".vault-token", "", "a login for a vault"),
];
/// Mode bits with which all users can read a file.
const READABLE_BY_ALL: u32 = 0o004;

/// Whether the content of a file is searched.
pub(super) fn is_searched(path: &str) -> bool {
    let is_below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    is_below(&FOLDERS) || is_below(&LOGINS) || path.contains("NetworkManager/system-connections/")
}

/// The kind of secret in a file, if any.
pub(super) fn secret(path: &str, text: &str, mode: u32) -> Option<&'static str> {
    let by_name = |(name, sign, what): &(&str, &str, &'static str)| {
        let is_named = path.ends_with(name) && (name.contains('/') || path.rsplit('/').next() == Some(*name));
        (is_named && text.contains(sign) && !text.is_empty()).then_some(*what)
    };
    let has_line = |fits: fn(&str) -> bool| text.lines().any(fits);
    if has_line(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with("PRIVATE KEY-----")) {
        return Some("a private key");
    }
    if has_line(|line| line.starts_with("-----BEGIN PGP PRIVATE KEY BLOCK-----")) {
        return Some("a private key");
    }
    if has_line(|line| line.starts_with("AGE-SECRET-KEY-1") || line.starts_with("PuTTY-User-Key-File-")) {
        return Some("a private key");
    }
    if is_registry_login(path, text) {
        return Some("a login for a registry");
    }
    if is_kubeconfig(text) {
        return Some("a login for a cluster");
    }
    if mode & READABLE_BY_ALL != 0 && is_open_connection(path, text) {
        return Some("a password of a connection, readable by all users: mode 0600 is right");
    }
    NAMES.iter().find_map(by_name)
}

/// Whether a file is a `containers-auth.json(5)` or a `config.json` of Docker with a login, by its content:
/// it has many names, such as `/etc/ostree/auth.json` and `/var/lib/kubelet/config.json`.
fn is_registry_login(path: &str, text: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_old = name == ".dockercfg";
    if !is_old && !text.contains("\"auths\"") {
        return false;
    }
    let Ok(document) = serde_json::from_str::<serde_json::Value>(text) else {
        // Not a document that a tool reads, but perhaps one with a comment or a comma too many.
        return text.contains("\"auth\"");
    };
    let logins = if is_old { Some(&document) } else { document.get("auths") };
    let has_secret = |login: &serde_json::Value| {
        ["auth", "identitytoken", "password", "registrytoken"].iter().any(|field| {
            login.get(field).and_then(serde_json::Value::as_str).is_some_and(|value| !value.is_empty())
        })
    };
    logins.and_then(serde_json::Value::as_object).is_some_and(|logins| logins.values().any(has_secret))
}

/// Whether a text is a kubeconfig with a key, a token or a password.
fn is_kubeconfig(text: &str) -> bool {
    let has = |key: &str| {
        text.lines().any(|line| {
            let line = line.trim_start_matches([' ', '-', '{', '"']);
            let value = line.strip_prefix(key).map(|rest| rest.trim_start_matches('"'));
            value.and_then(|rest| rest.strip_prefix(':')).is_some_and(|value| !value.trim().is_empty())
        })
    };
    let is_config = text.contains("kind: Config") || text.contains("\"kind\": \"Config\"");
    is_config && text.contains("users") && ["client-key-data", "token", "password"].into_iter().any(has)
}

/// Whether a file of a network connection holds a password: a `key=value` or `key: value` line.
fn is_open_connection(path: &str, text: &str) -> bool {
    const KEYS: [&str; 8] = [
        "psk",
        "password",
        "private-key-password",
        "wep-key0",
        "leap-password",
        "pin",
        "private-key",
        "privatekey",
    ];
    let is_there =
        CONNECTIONS.iter().any(|folder| path.contains(folder)) || path.starts_with("etc/wireguard/");
    let holds = |line: &str| {
        let Some((key, value)) = line.split_once(['=', ':']) else { return false };
        let key = key.trim().trim_matches('"').to_ascii_lowercase();
        let is_path = value.trim().starts_with('/') || value.trim().starts_with("file:");
        KEYS.contains(&key.as_str()) && !value.trim().is_empty() && !is_path
    };
    is_there && text.lines().any(holds)
}

#[cfg(test)]
mod tests {
    use super::super::testing::rootfs;
    use super::*;

    const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";

    #[test]
    fn a_key_leaks_even_if_a_later_layer_deletes_it() {
        let rootfs = rootfs(&[
            &[
                ("etc/ssh/ssh_host_key", KEY),
                ("usr/share/doc/example.key", KEY),
                ("etc/ssl/cert.pem", "-----BEGIN CERTIFICATE-----"),
            ],
            &[("etc/ssh/.wh.ssh_host_key", "")],
        ]);
        let found: Vec<&str> = rootfs.secrets().iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(found, ["etc/ssh/ssh_host_key"]);
        assert!(rootfs.resolve("etc/ssh/ssh_host_key").is_none());
    }

    #[test]
    fn secrets_by_form_and_by_name() {
        for (path, text, is_secret) in [
            ("etc/ssl/private/a.key", "-----BEGIN RSA PRIVATE KEY-----", true),
            ("etc/a", "x\n-----BEGIN PGP PRIVATE KEY BLOCK-----\n", true),
            ("root/key.txt", "# created\nAGE-SECRET-KEY-1QQ", true),
            ("etc/a", "see -----BEGIN PRIVATE KEY----- in the manual", false),
            ("root/.netrc", "machine h login u password p", true),
            ("root/.netrc", "", false),
            ("root/not.netrc", "password", false),
            ("root/.docker/config.json", r#"{"auths":{"h":{"auth":"eA=="}}}"#, true),
            ("root/.docker/config.json", r#"{"credHelpers":{}}"#, false),
            ("etc/containers/auth.json", r#"{"auths":{"h":{"auth":"eA=="}}}"#, true),
            ("etc/containers/auth.json", r#"{"auths":{"h":{"auth":""}}}"#, false),
            ("etc/containers/auth.json", r#"{"auths":{}}"#, false),
            ("etc/ostree/auth.json", r#"{"auths":{"h":{"identitytoken":"t"}}}"#, true),
            ("usr/lib/ostree/auth.json", r#"{"auths":{"h":{"auth":"eA=="}}}"#, true),
            ("run/ostree/auth.json", r#"{"auths":{"h":{"auth":"eA=="},}}"#, true),
            ("run/containers/0/auth.json", r#"{"auths":{"h":{"auth":"eA=="}}}"#, true),
            ("home/ann/.config/containers/auth.json", r#"{"auths":{"h":{"auth":"eA=="}}}"#, true),
            ("var/lib/kubelet/config.json", r#"{"auths":{"h":{"auth":"eA=="}}}"#, true),
            ("root/.dockercfg", r#"{"h":{"auth":"eA=="}}"#, true),
            ("root/.npmrc", "//r/:_authToken=x", true),
            ("root/.kube/config", "kind: Config\nusers:\n- name: a\n  user:\n    token: abc\n", true),
            (
                "etc/kubernetes/admin.conf",
                "kind: Config\nusers:\n- user: {}\n  client-key-data: QQ==\n",
                true,
            ),
            ("root/.kube/config", "kind: Config\nusers:\n- name: a\n  user:\n    tokenFile: /run/t\n", false),
            ("etc/kubernetes/kubelet.conf", "kind: Config\nusers: []\n", false),
            (
                "etc/NetworkManager/system-connections/wifi.nmconnection",
                "[wifi-security]\npsk=secret\n",
                true,
            ),
            ("usr/lib/NetworkManager/system-connections/a", "psk=secret\n", true),
            ("etc/NetworkManager/system-connections/eth", "[ipv4]\nmethod=auto\n", false),
            ("etc/netplan/50.yaml", "  password: \"secret\"\n", true),
        ] {
            assert!(!is_secret || is_searched(path), "{path}");
            assert_eq!(secret(path, text, 0o644).is_some(), is_secret, "{path} {text}");
        }
        let path = "etc/NetworkManager/system-connections/wifi.nmconnection";
        assert_eq!(secret(path, "psk=secret\n", 0o600), None, "only NetworkManager reads it");
    }
}

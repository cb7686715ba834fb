//! Detection of secrets in files.

/// Folders whose files belong to one machine; test keys of packages under `usr/share` are not secret.
const FOLDERS: [&str; 9] =
    ["etc/", "usr/etc/", "usr/local/", "root/", "home/", "var/", "srv/", "opt/", "run/"];
/// Files whose name shows that they hold passwords: a text without which they hold none, and what they are.
const NAMES: [(&str, &str, &str); 6] = [
    (".netrc", "password", "passwords for servers"),
    (".git-credentials", "://", "passwords for git"),
    (".pgpass", ":", "passwords for databases"),
    (".docker/config.json", "\"auth\"", "a login for a registry"),
    ("containers/auth.json", "\"auth\"", "a login for a registry"),
    (".aws/credentials", "aws_secret_access_key", "a key for a cloud"),
];

/// Whether the content of a file is searched.
pub(super) fn is_searched(path: &str) -> bool {
    FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// The kind of secret in a file, if any.
pub(super) fn secret(path: &str, text: &str) -> Option<&'static str> {
    let by_name = |(name, sign, what): &(&str, &str, &'static str)| {
        let is_named = path.ends_with(name) && (name.contains('/') || path.rsplit('/').next() == Some(*name));
        (is_named && text.contains(sign)).then_some(*what)
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
    NAMES.iter().find_map(by_name)
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
        ] {
            assert_eq!(secret(path, text).is_some(), is_secret, "{path} {text}");
        }
    }
}

//! The sample source that `init` writes, embedded. A test compares the list with `sample/` in the repository.

/// One file of the sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampleFile {
    /// Its path, relative.
    pub(crate) path: &'static str,
    /// Its bytes.
    pub(crate) bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal,)+) => {
        &[$(SampleFile {
            path: $path,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../sample/", $path)),
        },)+]
    };
}

/// Every file of the sample, in path order. Those that start with `#!` are executable.
pub(crate) const FILES: &[SampleFile] = files![
    "README.md",
    "edgewright.yaml",
    "images/base/files/etc/motd",
    "images/base/files/etc/ssh/sshd_config.d/50-plant.conf",
    "images/base/files/usr/lib/systemd/system/sshd-keygen.service.d/plant.conf",
    "images/base/files/usr/lib/sysusers.d/plant.conf",
    "images/base/image.yaml",
    "images/gateway/files/etc/plant/gateway.env.j2",
    "images/gateway/image.yaml",
    "images/gateway/service/Containerfile",
    "images/gateway/service/gateway.service",
    "images/hmi/files/etc/plant/hmi.env",
    "images/hmi/files/srv/hmi/healthz",
    "images/hmi/files/srv/hmi/index.html.j2",
    "images/hmi/files/srv/hmi/notice.txt",
    "images/hmi/image.yaml",
    "images/hmi/service/Containerfile",
    "images/hmi/service/hmi.service",
    "sites/plant-a/files/etc/plant/site.conf",
    "sites/plant-a/images/hmi/files/srv/hmi/notice.txt",
    "sites/plant-a/site.yaml",
    "sites/plant-b/files/etc/plant/site.conf",
    "sites/plant-b/site.yaml",
];

impl SampleFile {
    /// Whether it is a script.
    pub(crate) fn is_executable(&self) -> bool {
        self.bytes.starts_with(b"#!")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn walk(folder: &Path, root: &Path, found: &mut Vec<(String, bool)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let executable = path.metadata().unwrap().permissions().mode() & 0o100 != 0;
                found.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), executable));
            }
        }
    }

    #[test]
    fn the_list_is_the_folder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sample");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        let embedded: Vec<(String, bool)> =
            FILES.iter().map(|file| (file.path.to_owned(), file.is_executable())).collect();
        assert_eq!(embedded, found, "write the files of sample/ into FILES");
    }
}

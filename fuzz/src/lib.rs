//! Fuzz targets: functions that read untrusted bytes and panic if a property does not hold.
//!
//! | target | reads | asserts |
//! |---|---|---|
//! | [`tree`] | git's trees, commits and refs | both readers of trees agree; paths and texts are safe |
//! | [`containerfile`] | Containerfiles and ignore files | lines are within the file; buildah sees known images only |
//! | [`definition`] | the files of a source | places are within their files; the graph can be made |
//! | [`registry`] | paths, headers and manifests of requests, names | what is accepted prints to itself |
//! | [`layer`] | tars, compressed or not | canonical layers are fixed points; no file is written through a link |
//!
//! `cargo xtask fuzz` runs them with libFuzzer. The inputs in `corpus/TARGET` are kept: fuzzing starts from
//! them, and the tests here read them without it.

mod containerfile;
mod definition;
mod layer;
mod registry;
mod tree;

pub use containerfile::containerfile;
pub use definition::definition;
pub use layer::layer;
pub use registry::registry;
pub use tree::tree;

/// The first byte of an input, which selects what is read, and the rest.
fn selected(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs a target with its kept corpus. A panic is preceded by the name of the file.
    fn replay(name: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 10, "the corpus of {name} has {} files", files.len());
        for file in files {
            println!("{}", file.display());
            target(&std::fs::read(&file).unwrap());
        }
    }

    #[test]
    fn kept_containerfiles_are_read() {
        replay("containerfile", crate::containerfile);
    }

    #[test]
    fn kept_definitions_are_read() {
        replay("definition", crate::definition);
    }

    #[test]
    fn kept_layers_are_read() {
        replay("layer", crate::layer);
    }

    #[test]
    fn kept_requests_are_read() {
        replay("registry", crate::registry);
    }

    #[test]
    fn kept_trees_are_read() {
        replay("tree", crate::tree);
    }
}

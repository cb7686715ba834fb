//! Checks of kind `size`: compares an image with its limits and names the largest layers.

use edgewright_model::size::{ByteSize, rounded};

use super::Finding;
use super::layers::Contents;

/// The number of layers that a message names.
const NAMED: usize = 3;

/// Compares the sizes with the limits.
pub(super) fn judge(contents: &Contents, download: Option<ByteSize>, unpacked: Option<ByteSize>) -> Finding {
    let downloads: Vec<u64> = contents.layers.iter().map(|layer| layer.download).collect();
    let on_disk = contents.rootfs.sizes(contents.layers.len());
    let sides = [("to download", download, downloads), ("unpacked", unpacked, on_disk)];
    let (mut notes, mut faults, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for (what, limit, sizes) in sides {
        let total: u64 = sizes.iter().sum();
        let Some(limit) = limit else { continue };
        let Some(excess) = total.checked_sub(limit.bytes()).filter(|excess| *excess > 0) else {
            notes.push(format!("{} {what}, of at most {limit}", rounded(total)));
            continue;
        };
        let mut largest: Vec<(u64, &str)> = sizes
            .into_iter()
            .zip(&contents.layers)
            .map(|(size, layer)| (size, layer.title.as_str()))
            .collect();
        // Of two equal ones, the lower.
        largest.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        let line = |(size, title): &(u64, &str)| format!("{title} ({})", rounded(*size));
        let shown: Vec<String> = largest.iter().take(NAMED).map(line).collect();
        faults.push(format!(
            "{} {what}, {} more than {limit}; largest layers: {}",
            rounded(total),
            rounded(excess),
            shown.join(", ")
        ));
        lines.extend(largest.iter().map(|(size, title)| format!("{what}: {:>12}  {title}", rounded(*size))));
    }
    if faults.is_empty() {
        return Finding::Passed(notes);
    }
    Finding::Failed(format!("the image has {}", faults.join("; and ")), lines)
}

#[cfg(test)]
mod tests {
    use super::super::layers::LayerFacts;
    use super::super::rootfs::testing::rootfs;
    use super::*;

    fn size(text: &str) -> Option<ByteSize> {
        text.parse().ok()
    }

    #[test]
    fn an_image_over_its_limit_names_its_largest_layers() {
        let facts = |title: &str, download| LayerFacts { title: title.to_owned(), download };
        let contents = Contents {
            architecture: "amd64".to_owned(),
            rootfs: rootfs(&[&[("a", &"x".repeat(3000)), ("b", &"x".repeat(1024))], &[("a", "small")]]),
            layers: vec![facts("bootstrap trixie", 2048), facts("files", 1024)],
        };
        // A replaced file takes no space on disk, but is downloaded.
        let passed = judge(&contents, size("3KiB"), size("2KiB"));
        let notes = ["3.0 KiB to download, of at most 3KiB", "1.0 KiB unpacked, of at most 2KiB"];
        assert_eq!(passed, Finding::Passed(notes.map(str::to_owned).to_vec()));
        let Finding::Failed(message, lines) = judge(&contents, size("2KiB"), None) else { panic!() };
        assert_eq!(
            message,
            "the image has 3.0 KiB to download, 1.0 KiB more than 2KiB; largest layers: bootstrap trixie (2.0 KiB), files (1.0 KiB)"
        );
        assert_eq!(lines.len(), 2);
        let Finding::Failed(message, _) = judge(&contents, size("1B"), size("1B")) else { panic!() };
        assert!(message.contains("; and 1.0 KiB unpacked, 1.0 KiB more than 1B"), "{message}");
    }
}

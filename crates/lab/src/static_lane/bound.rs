//! Logically bound images: `/usr/lib/bootc/bound-images.d` names quadlets whose images bootc pulls together
//! with the operating system. An image that is not named by digest may change after the test.

use edgewright_model::reference::ImageReference;

use super::Finding;
use super::rootfs::RootFs;

const FOLDER: &str = "usr/lib/bootc/bound-images.d";
/// The quadlets that bootc knows, with the section that names the image.
const KINDS: [(&str, &str); 2] = [(".image", "Image"), (".container", "Container")];

/// Every bound image must be named by its digest.
pub(super) fn judge(rootfs: &RootFs) -> Finding {
    let names = rootfs.children(FOLDER);
    let (mut notes, mut faults) = (Vec::new(), Vec::new());
    for name in names {
        match image(rootfs, name) {
            Ok(image) => notes.push(format!("bound: {image}")),
            Err(fault) => faults.push(format!("{FOLDER}/{name} {fault}")),
        }
    }
    match faults.as_slice() {
        [] => Finding::Passed(notes),
        [only] => Finding::Failed(only.clone(), Vec::new()),
        [first, more @ ..] => Finding::Failed(format!("{first} (and {} more)", more.len()), faults),
    }
}

/// The pinned image that an entry of the folder binds, or why it is invalid.
fn image(rootfs: &RootFs, name: &str) -> Result<String, String> {
    let section = KINDS.iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, section)| *section);
    let section = section.ok_or("is neither a .image nor a .container: bootc rejects it")?;
    let path = format!("{FOLDER}/{name}");
    if !rootfs.is_link(&path) {
        let folder = "usr/share/containers/systemd";
        return Err(format!("is not a link: bootc requires a link to the quadlet, such as /{folder}/{name}"));
    }
    let text = rootfs.text(&path).ok_or("is a dangling link, or links to a file of more than 64 KiB")?;
    let image = value(text, section, "Image");
    let image =
        image.ok_or_else(|| format!("links to a quadlet without `Image=` in its section [{section}]"))?;
    let named = || format!("binds `{image}`");
    if image.contains('%') {
        return Err(format!("{}, with a specifier of systemd: bootc does not support them", named()));
    }
    match image.parse::<ImageReference>() {
        Ok(reference) if reference.digest.is_some() => Ok(image.to_owned()),
        Ok(_) => Err(format!("{}, not by its digest: write NAME@sha256:…", named())),
        Err(_) => Err(format!("{}, which is not a full image reference: write HOST/NAME@sha256:…", named())),
    }
}

/// A value of systemd's unit syntax: the last one counts, comments and other sections do not.
fn value<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut is_inside = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_inside = name == section;
        } else if is_inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            found = Some(value.trim());
        }
    }
    found.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::rootfs::testing::rootfs;
    use super::*;

    #[test]
    fn bound_images_are_named_by_digest() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let pinned = format!("[Container]\nImage=quay.io/x/web@{digest}\n");
        let tagged = "# Image=no\n[Unit]\nImage=no\n[Image]\n Image = quay.io/x/db:1 \n";
        let link = |name: &str| format!("-> /usr/share/containers/systemd/{name}");
        let (web, db, gone) = (link("web.container"), link("db.image"), link("gone.image"));
        let quadlets = [
            ("usr/share/containers/systemd/web.container", pinned.as_str()),
            ("usr/share/containers/systemd/db.image", tagged),
            ("usr/share/containers/systemd/empty.image", "[Image]\n"),
            ("usr/share/containers/systemd/odd.image", "[Image]\nImage=x/%i\n"),
        ];
        let bound = |name: &str| format!("{FOLDER}/{name}");
        let judge =
            |name: &str, target: &str| judge(&rootfs(&[&quadlets, &[(bound(name).as_str(), target)]]));
        assert_eq!(
            judge("web.container", &web),
            Finding::Passed(vec![format!("bound: quay.io/x/web@{digest}")])
        );
        for (name, target, want) in [
            ("db.image", db.as_str(), "binds `quay.io/x/db:1`, not by its digest"),
            ("db.image", tagged, "is not a link"),
            ("gone.image", &gone, "is a dangling link"),
            ("empty.image", &link("empty.image"), "without `Image=` in its section [Image]"),
            ("odd.image", &link("odd.image"), "with a specifier of systemd"),
            ("README", "x", "is neither a .image nor a .container"),
        ] {
            let Finding::Failed(message, _) = judge(name, target) else { panic!("{name} passed") };
            assert!(message.starts_with(&bound(name)) && message.contains(want), "{message}");
        }
        assert_eq!(super::judge(&RootFs::default()), Finding::Passed(Vec::new()));
    }
}

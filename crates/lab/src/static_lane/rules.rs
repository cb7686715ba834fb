//! The rules for every image. Each rule is a pure function of the tree; its message includes the next action.

use super::Finding;
use super::rootfs::RootFs;

/// The folder of kernels in a bootable container, with a subfolder for each version.
const MODULES: &str = "usr/lib/modules";
/// The permitted contents of `etc/machine-id` in an image: the first boot sets it.
const UNSET_MACHINE_IDS: [&str; 2] = ["", "uninitialized"];
/// Ids that are generated once and would be shared by all copies.
const MACHINE_IDS: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];
/// Secrets that must differ between machines, but whose content has no recognizable form.
const SEEDS: [&str; 6] = [
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/urandom/random-seed",
    "boot/loader/random-seed",
    "etc/nvme/hostid",
    "etc/nvme/hostnqn",
];
/// The folder of a server's keys, and how their names begin.
const SSH: &str = "etc/ssh";
const HOST_KEY: &str = "ssh_host_";
/// The folders of unit files.
const UNIT_FOLDERS: [&str; 3] = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// Exactly one kernel with its initramfs, in the folder that updaters of bootable containers use.
pub(super) fn kernel(rootfs: &RootFs) -> Finding {
    let versions = rootfs.children(MODULES);
    let has = |version: &str, file: &str| rootfs.resolve(&format!("{MODULES}/{version}/{file}")).is_some();
    let is_whole = |version: &&str| has(version, "vmlinuz") && has(version, "initramfs.img");
    let (whole, partial): (Vec<&str>, Vec<&str>) = versions.into_iter().partition(is_whole);
    let failed = |message: String| Finding::Failed(message, Vec::new());
    match (whole.as_slice(), partial.as_slice()) {
        ([version], []) => Finding::Passed(vec![format!("kernel {version}")]),
        ([], []) => failed(format!("no kernel in /{MODULES}: the image cannot boot a machine")),
        (_, [version, ..]) => {
            let is_missing = |file: &&str| !has(version, file);
            let files: Vec<&str> = ["vmlinuz", "initramfs.img"].into_iter().filter(is_missing).collect();
            let advice: Vec<String> = files.iter().map(|file| advice(rootfs, version, file)).collect();
            let missing = files.join(" and no ");
            failed(format!("/{MODULES}/{version} has no {missing}: {}", advice.join("; ")))
        }
        (several, []) => {
            let names = several.join(", ");
            failed(format!(
                "more than one kernel ({names}): a bootable image has exactly one; remove the others"
            ))
        }
    }
}

/// How to get a file into the kernel's folder: distributions often put it in `/boot`, which updates do not
/// change.
fn advice(rootfs: &RootFs, version: &str, file: &str) -> String {
    let elsewhere = match file {
        "vmlinuz" => vec![format!("boot/vmlinuz-{version}")],
        _ => vec![format!("boot/initrd.img-{version}"), format!("boot/initramfs-{version}.img")],
    };
    let found = elsewhere.into_iter().find(|path| rootfs.resolve(path).is_some());
    match (found, file) {
        (Some(path), _) => {
            format!(
                "it is in /{path}, which updates do not change; move it: mv /{path} /{MODULES}/{version}/{file}"
            )
        }
        (None, "vmlinuz") => "install a kernel package, or remove the leftover modules".to_owned(),
        (None, _) => format!("create it: dracut --kver {version} /{MODULES}/{version}/{file}"),
    }
}

/// No private keys and passwords in any layer: every client that pulls the image gets them, even if a later
/// layer deletes them.
pub(super) fn secrets(rootfs: &RootFs) -> Finding {
    let leaks = rootfs.secrets().iter().map(|(path, what)| format!("/{path} ({what})")).collect();
    let advice = "generate them at the first boot, or pass them as systemd credentials; deleting them in a later layer does not help";
    Finding::of_offenders("secrets in the image's layers", leaks, advice)
}

/// No ids and seeds that every machine would share.
pub(super) fn machine_id(rootfs: &RootFs) -> Finding {
    let is_set =
        |path: &&str| rootfs.text(path).is_some_and(|text| !UNSET_MACHINE_IDS.contains(&text.trim()));
    let is_there = |path: &&str| rootfs.resolve(path).is_some();
    // A link to the other one is the same id.
    let is_own = |path: &&str| !rootfs.is_link(path);
    let ids = MACHINE_IDS.into_iter().filter(is_own).filter(is_set);
    let is_key = |name: &&str| name.starts_with(HOST_KEY) && name.contains("_key");
    let keys = rootfs.children(SSH).into_iter().filter(is_key).map(|name| format!("/{SSH}/{name}"));
    let others = ids.chain(SEEDS.into_iter().filter(is_there)).map(|path| format!("/{path}"));
    let shared = others.chain(keys).collect();
    Finding::of_offenders("every machine would have the same id", shared, "empty or remove these files")
}

/// The links of the merged `/usr` that a lower layer has are still links to folders: with a file or another
/// folder in the place of `/lib`, nothing in the image starts.
pub(super) fn usr_merge(rootfs: &RootFs) -> Finding {
    let broken = rootfs.broken_links().into_iter();
    let broken = broken.map(|(path, target, now)| format!("/{path} (was a link to {target}, is {now})"));
    let advice = "copy into the folder that the link leads to, such as /usr/lib instead of /lib";
    Finding::of_offenders("links of the merged /usr are replaced", broken.collect(), advice)
}

/// No layer deletes a folder that every system needs, or hides what lower layers have in a top-level folder.
pub(super) fn whiteouts(rootfs: &RootFs, titles: &[&str]) -> Finding {
    let hidden = rootfs.hidden().iter();
    let hidden = hidden.map(|(layer, what)| match titles.get(*layer) {
        Some(title) => format!("{what} (in `{title}`)"),
        None => what.clone(),
    });
    let advice = "delete single files and folders below them, and check mounts of the build";
    Finding::of_offenders("a layer hides whole folders of the layers below", hidden.collect(), advice)
}

/// Programs and libraries can be executed on the image's architecture.
pub(super) fn architecture(rootfs: &RootFs, architecture: &str) -> Finding {
    let foreign = rootfs.foreign_programs(architecture).into_iter();
    let foreign = foreign.map(|(path, theirs)| format!("/{path} ({theirs})")).collect();
    let what = format!("programs and libraries of another architecture than {architecture}");
    let advice = "copy those of the image's platform; stages that build them need `--platform` of the image, not of the host";
    Finding::of_offenders(&what, foreign, advice)
}

/// Enabled units (`*.wants/`, `*.requires/`) exist.
pub(super) fn units(rootfs: &RootFs) -> Finding {
    const FOLDER: &str = "etc/systemd/system/";
    let dangling = |(path, target): &(&str, &str)| {
        let Some((wants, name)) = path[FOLDER.len()..].split_once('/') else { return false };
        let is_enabling = matches!(wants.rsplit_once('.'), Some((_, "wants" | "requires")));
        is_enabling && *target != "/dev/null" && rootfs.resolve(path).is_none() && !has_unit(rootfs, name)
    };
    let gone = rootfs.links_below(FOLDER).filter(dangling).map(|(path, _)| format!("/{path}")).collect();
    let advice = "install the packages that have them, or remove the links";
    Finding::of_offenders("enabled units that the image does not have", gone, advice)
}

/// Whether there is a unit of this name, or its template: systemd uses the link's name, not its target.
fn has_unit(rootfs: &RootFs, name: &str) -> bool {
    let template = name
        .split_once('@')
        .and_then(|(unit, rest)| rest.rsplit_once('.').map(|(_, suffix)| format!("{unit}@.{suffix}")));
    let names = std::iter::once(name.to_owned()).chain(template);
    names
        .into_iter()
        .any(|name| UNIT_FOLDERS.iter().any(|folder| rootfs.resolve(&format!("{folder}/{name}")).is_some()))
}

#[cfg(test)]
mod tests {
    use super::super::rootfs::testing::{program, rootfs};
    use super::*;

    fn failure(finding: Finding) -> String {
        match finding {
            Finding::Failed(message, _) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_kernel_with_its_initramfs() {
        let whole = [
            ("./usr/lib/modules/6.12/vmlinuz", "k"),
            ("usr/lib/modules/6.12/initramfs.img", "-> /boot/initrd"),
            ("boot/initrd", "i"),
        ];
        assert_eq!(kernel(&rootfs(&[&whole])), Finding::Passed(vec!["kernel 6.12".to_owned()]));
        assert!(failure(kernel(&RootFs::default())).starts_with("no kernel in /usr/lib/modules"));
        let debian = [
            ("usr/lib/modules/6.13/modules.dep", ""),
            ("boot/vmlinuz-6.13", "k"),
            ("usr/lib/modules/6.13/initramfs.img", "-> nowhere"),
        ];
        assert_eq!(
            failure(kernel(&rootfs(&[&whole, &debian]))),
            "/usr/lib/modules/6.13 has no vmlinuz and no initramfs.img: it is in /boot/vmlinuz-6.13, which updates do not change; \
             move it: mv /boot/vmlinuz-6.13 /usr/lib/modules/6.13/vmlinuz; create it: dracut --kver 6.13 /usr/lib/modules/6.13/initramfs.img"
        );
        let second = [("usr/lib/modules/6.13/vmlinuz", "k"), ("usr/lib/modules/6.13/initramfs.img", "i")];
        assert!(
            failure(kernel(&rootfs(&[&whole, &second]))).starts_with("more than one kernel (6.12, 6.13)")
        );
    }

    #[test]
    fn machine_ids_are_set_at_first_boot() {
        let id = "b08dfa6083e7567a1921a715000001fb\n";
        for (text, passes) in [("", true), ("uninitialized\n", true), (id, false)] {
            let finding = machine_id(&rootfs(&[&[("etc/machine-id", text)]]));
            assert_eq!(finding == Finding::Passed(Vec::new()), passes, "{text}");
        }
        let link = ("var/lib/dbus/machine-id", "-> /etc/machine-id");
        let emptied = rootfs(&[&[("etc/machine-id", id)], &[("etc/machine-id", ""), link]]);
        assert_eq!(machine_id(&emptied), Finding::Passed(Vec::new()));
        let message = failure(machine_id(&rootfs(&[&[("etc/machine-id", id), link]])));
        assert!(message.contains(": /etc/machine-id; empty"), "{message}");
        let message = failure(machine_id(&rootfs(&[&[("var/lib/systemd/random-seed", "x")]])));
        assert!(message.contains("random-seed; empty"), "{message}");
    }

    #[test]
    fn host_keys_are_made_at_first_boot() {
        let message =
            failure(machine_id(&rootfs(&[&[("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 A")]])));
        assert!(message.contains(": /etc/ssh/ssh_host_ed25519_key.pub; empty"), "{message}");
        let config = rootfs(&[&[("etc/ssh/sshd_config", "x")]]);
        assert_eq!(machine_id(&config), Finding::Passed(Vec::new()));
    }

    #[test]
    fn links_of_the_merged_usr_stay() {
        let base =
            [("usr/lib/libc.so.6", "x"), ("lib", "-> usr/lib"), ("lib64", "-> usr/lib64"), ("sbin/", "")];
        assert_eq!(usr_merge(&rootfs(&[&base])), Finding::Passed(Vec::new()));
        let again = rootfs(&[&base, &[("lib", "-> ./usr/lib")]]);
        assert_eq!(usr_merge(&again), Finding::Passed(Vec::new()));
        for (layer, now) in [
            (&[("lib/", ""), ("lib/x", "x")][..], "a folder"),
            (&[("lib/x", "x")][..], "a folder"),
            (&[("lib", "x")][..], "a file"),
            (&[("lib", "-> gone")][..], "a link to no folder"),
            (&[(".wh.lib", "")][..], "gone"),
        ] {
            let message = failure(usr_merge(&rootfs(&[&base, layer])));
            assert!(message.contains(&format!("/lib (was a link to usr/lib, is {now}); copy")), "{message}");
        }
    }

    #[test]
    fn no_layer_hides_whole_folders() {
        let base = [
            ("usr/bin/sh", "x"),
            ("etc/motd", "x"),
            ("var/cache/x", "x"),
            ("tmp/", ""),
            ("srv/a", "x"),
            ("boot/x", "x"),
        ];
        let titles = ["base", "RUN true"];
        let passes = |layer: &[(&str, &str)]| whiteouts(&rootfs(&[&base, layer]), &titles);
        for fine in [
            &[("srv/.wh.a", ""), ("var/.wh.cache", "")][..],
            &[(".wh.srv", "")][..],
            &[("boot/.wh..wh..opq", "")][..],
            &[("opt/.wh..wh..opq", ""), (".wh.sys", "")][..],
            &[(".wh.tmp", ""), ("tmp", "-> var/tmp")][..],
        ] {
            assert_eq!(passes(fine), Finding::Passed(Vec::new()), "{fine:?}");
        }
        for (layer, want) in [
            (&[(".wh.tmp", "")][..], "/tmp is deleted (in `RUN true`)"),
            (&[(".wh.usr", "")][..], "/usr is deleted"),
            (&[("usr/.wh.bin", "")][..], "/usr/bin is deleted"),
            (&[("etc/.wh..wh..opq", ""), ("etc/new", "x")][..], "/etc hides what lower layers have in it"),
            (&[("srv/.wh..wh..opq", "")][..], "/srv hides what lower layers have in it"),
            (&[(".wh..wh..opq", "")][..], "/ hides what lower layers have in it"),
        ] {
            let message = failure(passes(layer));
            assert!(message.contains(want), "{message}");
        }
    }

    #[test]
    fn programs_are_of_the_images_architecture() {
        // No machine that has a name.
        let (amd64, other) = (program(62), program(123));
        let base = [
            ("usr/bin/sh", amd64.as_str()),
            ("opt/app/tool", other.as_str()),
            ("usr/bin/script", "#!/bin/sh"),
        ];
        assert_eq!(architecture(&rootfs(&[&base[..1]]), "amd64"), Finding::Passed(Vec::new()));
        let message = failure(architecture(&rootfs(&[&base]), "amd64"));
        assert!(message.contains("than amd64: /opt/app/tool (machine 123); copy"), "{message}");
        let deleted = rootfs(&[&base, &[("opt/app/.wh.tool", "")]]);
        assert_eq!(architecture(&deleted, "amd64"), Finding::Passed(Vec::new()));
        assert_eq!(architecture(&rootfs(&[&base]), ""), Finding::Passed(Vec::new()));
    }

    #[test]
    fn enabled_units_must_exist() {
        let wants = |name: &str| format!("etc/systemd/system/multi-user.target.wants/{name}");
        let (there, by_name, instance, masked, gone) = (
            wants("there.service"),
            wants("by-name.service"),
            wants("web@80.service"),
            wants("masked.service"),
            wants("gone.service"),
        );
        let rootfs = rootfs(&[&[
            ("lib", "-> usr/lib"),
            ("usr/lib/systemd/system/there.service", "x"),
            ("usr/lib/systemd/system/web@.service", "x"),
            ("etc/systemd/system/by-name.service", "x"),
            (&there, "-> /lib/systemd/system/there.service"),
            (&by_name, "-> /moved/by-name.service"),
            (&instance, "-> ../web@.service"),
            (&masked, "-> /dev/null"),
            (&gone, "-> /lib/systemd/system/gone.service"),
        ]]);
        let message = failure(units(&rootfs));
        assert!(message.contains(&format!(": /{gone}; install")), "{message}");
    }
}

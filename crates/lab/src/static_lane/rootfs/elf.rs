//! The architecture of programs and libraries, from the first bytes of their files.

/// The number of bytes of a file that decide it.
pub(super) const HEAD: usize = 20;

/// `e_machine` of an ELF file: the name that OCI gives the architecture, and those that others use in paths.
const MACHINES: [(u16, &str, &[&str]); 10] = [
    (62, "amd64", &["amd64", "x86_64", "x64", "x86-64"]),
    (3, "386", &["386", "i386", "i486", "i586", "i686", "ia32", "x86"]),
    (183, "arm64", &["arm64", "aarch64", "armv8"]),
    (40, "arm", &["arm", "armhf", "armel", "armv6", "armv7", "armv6l", "armv7l", "arm32"]),
    (243, "riscv64", &["riscv64", "riscv"]),
    (21, "ppc64le", &["ppc64le", "ppc64el", "powerpc64le", "ppc64"]),
    (22, "s390x", &["s390x"]),
    (258, "loong64", &["loong64", "loongarch64"]),
    (8, "mips64le", &["mips64le", "mips64el", "mips", "mipsel", "mips64"]),
    (247, "bpf", &["bpf"]),
];
/// Folders with files for other machines: firmware, emulators' images, kernel modules, debug symbols.
const OF_OTHERS: [&str; 6] =
    ["usr/share/", "usr/lib/firmware/", "usr/lib/modules/", "usr/lib/debug/", "boot/", "lib/firmware/"];

/// Whether a file can be a program or a library of this system.
pub(super) fn is_candidate(path: &str, mode: u32) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_library = name.ends_with(".so") || name.contains(".so.");
    (mode & 0o111 != 0 || is_library) && !OF_OTHERS.iter().any(|folder| path.starts_with(folder))
}

/// The machine of a program or library whose file begins with these bytes; none if it is no ELF file that a
/// system executes or loads.
pub(super) fn machine(head: &[u8]) -> Option<u16> {
    if head.len() < HEAD || !head.starts_with(b"\x7fELF") {
        return None;
    }
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1]];
        if head[5] == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    };
    // `e_type`: 2 is a program, 3 a library or a program.
    matches!(number(16), 2 | 3).then(|| number(18))
}

/// The name of a machine, if a system of `architecture` does not execute it. 64-bit systems execute the
/// programs of their 32-bit ancestors. A file whose path names the other architecture is there for it.
pub(super) fn foreign(path: &str, machine: u16, architecture: &str) -> Option<String> {
    if !MACHINES.iter().any(|(_, name, _)| *name == architecture) {
        return None;
    }
    let known = MACHINES.iter().find(|(number, ..)| *number == machine);
    let (name, in_paths) =
        known.map_or_else(|| (format!("machine {machine}"), [].as_slice()), |it| (it.1.to_owned(), it.2));
    let runs = name == architecture
        || matches!((architecture, name.as_str()), ("amd64", "386") | ("arm64", "arm") | (_, "bpf"));
    let words = |part: &str| {
        let is_other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        part.split(is_other).any(|word| in_paths.contains(&word.to_ascii_lowercase().as_str()))
    };
    (!runs && !path.split('/').any(words)).then_some(name)
}

#[cfg(test)]
pub(in crate::static_lane) mod testing {
    /// The first bytes of a program for a machine, as text: all of them are ASCII.
    pub(in crate::static_lane) fn program(machine: u8) -> String {
        let mut head = vec![0_u8; super::HEAD];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        (head[16], head[18]) = (3, machine);
        String::from_utf8(head).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::program;
    use super::*;

    #[test]
    fn programs_have_the_architecture_of_their_system_or_of_its_ancestor() {
        assert_eq!(machine(program(62).as_bytes()), Some(62));
        assert_eq!(machine(b"#!/bin/sh\necho a long script\n"), None);
        assert_eq!(machine(b"\x7fELF"), None);
        for (path, machine, architecture, want) in [
            ("usr/bin/a", 62, "amd64", None),
            ("usr/bin/a", 183, "amd64", Some("arm64")),
            ("usr/bin/a", 3, "amd64", None),
            ("usr/bin/a", 62, "386", Some("amd64")),
            ("usr/bin/a", 40, "arm64", None),
            ("opt/app/prebuilds/linux-arm64/x.node", 183, "amd64", None),
            ("usr/lib/aarch64-linux-gnu/libc.so.6", 183, "amd64", None),
            ("usr/lib/alarm/libc.so.6", 40, "amd64", Some("arm")),
            ("usr/bin/a", 999, "amd64", Some("machine 999")),
            ("usr/bin/a", 62, "vax", None),
        ] {
            assert_eq!(foreign(path, machine, architecture).as_deref(), want, "{path} {machine}");
        }
        assert!(is_candidate("usr/lib/libc.so.6", 0o644));
        assert!(is_candidate("opt/app/server", 0o755));
        assert!(!is_candidate("usr/share/qemu/opensbi.elf", 0o755));
        assert!(!is_candidate("etc/motd", 0o644));
    }
}

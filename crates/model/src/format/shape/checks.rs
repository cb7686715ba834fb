//! Records of `checks:`.

use super::{Kind, LANES, Shape, TEXTS, may, need, record};

pub(in crate::format) const CHECK: Shape = Shape {
    what: "a check",
    keys: &[
        need("id", Kind::Text, "Its id; the same id replaces an ancestor's check."),
        may(
            "systemd",
            Kind::Either(&[Kind::Word(&["running"]), Kind::Record(&SYSTEMD)]),
            "The service manager has started everything.",
        ),
        may("unit", Kind::Text, "A unit is active: its full name."),
        may(
            "port",
            Kind::Either(&[Kind::Integer(1, 65535), Kind::Record(&PORT)]),
            "Something listens on a TCP port.",
        ),
        may("http", Kind::Either(&[Kind::Text, Kind::Record(&HTTP)]), "A URL answers."),
        may("command", Kind::Either(&[TEXTS, Kind::Record(&COMMAND)]), "A command ends with an exit code."),
        may("file", Kind::Either(&[Kind::Text, Kind::Record(&FILE)]), "A file is as described."),
        may("process", Kind::Either(&[Kind::Text, Kind::Record(&PROCESS)]), "A process runs."),
        may("package", Kind::Either(&[Kind::Text, Kind::Record(&PACKAGE)]), "A package is installed."),
        may("mount", Kind::Either(&[Kind::Text, Kind::Record(&MOUNT)]), "A path is a mount point."),
        may(
            "karg",
            Kind::Either(&[Kind::Text, Kind::Record(&KARG)]),
            "The kernel has an argument, NAME or NAME=VALUE.",
        ),
        may("script", Kind::Text, "A script below this folder's checks/ ends with 0."),
        may("greenboot", Kind::Record(&GREENBOOT), "The image's own greenboot checks pass."),
        may(
            "size",
            Kind::Record(&SIZE),
            "The image is not larger than a limit; only in the lane `static`, which is its default.",
        ),
        may("off", Kind::Text, "Disables an ancestor's check: the reason."),
        may("within", Kind::Span, "How long it may take until it holds; 30s where absent."),
        may("lanes", LANES, "The lanes it runs in; all where absent."),
    ],
    one_of: CHECK_KINDS,
};
pub(in crate::format) const CHECK_KINDS: &[&str] = &[
    "systemd",
    "unit",
    "port",
    "http",
    "command",
    "file",
    "process",
    "package",
    "mount",
    "karg",
    "script",
    "greenboot",
    "size",
    "off",
];
pub(in crate::format) const SYSTEMD: Shape =
    record("a systemd check", &[need("allow_failed", TEXTS, "Units that may have failed.")]);
pub(in crate::format) const PORT: Shape = record(
    "a port check",
    &[
        need("port", Kind::Integer(1, 65535), "The TCP port."),
        may("host", Kind::Text, "Host or address; 127.0.0.1 where absent."),
    ],
);
pub(in crate::format) const HTTP: Shape = record(
    "an http check",
    &[
        need("url", Kind::Text, "A plain http:// URL."),
        may("status", Kind::Integer(100, 599), "Expected status; 200 where absent."),
        may("body", Kind::Text, "A text that the body must contain."),
    ],
);
pub(in crate::format) const COMMAND: Shape = record(
    "a command check",
    &[
        need("argv", TEXTS, "Program and arguments, run without a shell."),
        may("exit", Kind::Integer(0, 255), "Expected exit code; 0 where absent."),
        may("stdout", Kind::Text, "A text that standard output must contain."),
    ],
);
pub(in crate::format) const FILE: Shape = record(
    "a file check",
    &[
        need("path", Kind::Text, "Absolute path."),
        may("exists", Kind::Boolean, "Whether it must exist; true where absent."),
        may("contains", Kind::Text, "A text that it must contain."),
        may("mode", Kind::Text, "Its permission bits, such as \"0644\"."),
        may("owner", Kind::Text, "Its numeric owner, USER:GROUP."),
    ],
);
pub(in crate::format) const PROCESS: Shape = Shape {
    what: "a process check",
    keys: &[
        may("name", Kind::Text, "The executable's name."),
        may("command", Kind::Text, "A text in the command line."),
        may("user", Kind::Text, "The user that it runs as, by name or number."),
        may("count", Kind::Integer(1, 10_000), "How many there must be at least; 1 where absent."),
    ],
    one_of: &["name", "command"],
};
pub(in crate::format) const PACKAGE: Shape = record(
    "a package check",
    &[
        need("name", Kind::Text, "The package's name."),
        may("version", Kind::Text, "Its version; a `*` at the end stands for any rest."),
    ],
);
pub(in crate::format) const MOUNT: Shape = record(
    "a mount check",
    &[
        need("path", Kind::Text, "Absolute path."),
        may("fstype", Kind::Text, "The file system's type."),
        may("options", TEXTS, "Options that it must have, such as ro."),
    ],
);
pub(in crate::format) const KARG: Shape = record(
    "a karg check",
    &[
        need("name", Kind::Text, "The argument's name."),
        may("value", Kind::Text, "Its value; any or none where absent."),
    ],
);
pub(in crate::format) const GREENBOOT: Shape = record("a greenboot check", &[]);

pub(in crate::format) const SIZE: Shape = record(
    "a size check",
    &[
        may("download", Kind::Size, "Most bytes of all layers in the registry, such as 800MiB."),
        may("unpacked", Kind::Size, "Most bytes of the finished image's files, such as 2GiB."),
    ],
);

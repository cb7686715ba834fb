//! Records of `checks:`.

use super::{Kind, LANES, Shape, TEXTS, may, need, record};

pub(in crate::format) const CHECK: Shape = Shape {
    what: "a check",
    keys: &[
        need("id", Kind::Text, "Its id; the same id replaces an ancestor's check."),
        may(
            "systemd",
            Kind::Either(&[Kind::Word(&["running"]), Kind::Record(&SYSTEMD)]),
            "systemd has started all units (`systemctl is-system-running`).",
        ),
        may("unit", Kind::Text, "A unit is active. Write its full name."),
        may(
            "port",
            Kind::Either(&[Kind::Integer(1, 65535), Kind::Record(&PORT)]),
            "Something listens on a TCP port.",
        ),
        may(
            "http",
            Kind::Either(&[Kind::Text, Kind::Record(&HTTP)]),
            "A URL responds with the expected status.",
        ),
        may(
            "command",
            Kind::Either(&[TEXTS, Kind::Record(&COMMAND)]),
            "A command exits with the expected code.",
        ),
        may("file", Kind::Either(&[Kind::Text, Kind::Record(&FILE)]), "A file has the given properties."),
        may("process", Kind::Either(&[Kind::Text, Kind::Record(&PROCESS)]), "A process runs."),
        may("package", Kind::Either(&[Kind::Text, Kind::Record(&PACKAGE)]), "A package is installed."),
        may("mount", Kind::Either(&[Kind::Text, Kind::Record(&MOUNT)]), "A path is a mount point."),
        may(
            "karg",
            Kind::Either(&[Kind::Text, Kind::Record(&KARG)]),
            "The kernel has an argument, NAME or NAME=VALUE.",
        ),
        may("script", Kind::Text, "A script in this folder's checks/ exits with 0."),
        may("greenboot", Kind::Record(&GREENBOOT), "The image's own greenboot checks pass."),
        may(
            "size",
            Kind::Record(&SIZE),
            "The image is not larger than a limit. Runs in the lane `static` only, which is its default.",
        ),
        may("off", Kind::Text, "Disables an ancestor's check. Write the reason."),
        may("timeout", Kind::Span, "Time limit until it holds; it is retried until then. Default: 30s.")
            .formerly("within"),
        may("lanes", LANES, "The lanes it runs in. Default: all lanes of the image."),
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
    record("a systemd check", &[need("allow_failed", TEXTS, "Units that may be in the state `failed`.")]);
pub(in crate::format) const PORT: Shape = record(
    "a port check",
    &[
        need("port", Kind::Integer(1, 65535), "The TCP port."),
        may("host", Kind::Text, "`localhost` or an IP address. Default: 127.0.0.1."),
    ],
);
pub(in crate::format) const HTTP: Shape = record(
    "an http check",
    &[
        need("url", Kind::Text, "A plain http:// URL."),
        may("status", Kind::Integer(100, 599), "Expected status. Default: 200."),
        may("body", Kind::Text, "A text that the body must contain."),
    ],
);
pub(in crate::format) const COMMAND: Shape = record(
    "a command check",
    &[
        need("argv", TEXTS, "Program and arguments, run without a shell."),
        may("exit", Kind::Integer(0, 255), "Expected exit code. Default: 0."),
        may("stdout", Kind::Text, "A text that standard output must contain."),
    ],
);
pub(in crate::format) const FILE: Shape = record(
    "a file check",
    &[
        need("path", Kind::Text, "Absolute path."),
        may("exists", Kind::Boolean, "Whether it must exist. Default: true."),
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
        may("count", Kind::Integer(1, 10_000), "Minimum number of processes. Default: 1."),
    ],
    one_of: &["name", "command"],
};
pub(in crate::format) const PACKAGE: Shape = record(
    "a package check",
    &[
        need("name", Kind::Text, "The package's name."),
        may("version", Kind::Text, "Its version. A `*` at the end matches any suffix. Default: any version."),
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
        may("value", Kind::Text, "Its value. Default: with any value or without one."),
    ],
);
pub(in crate::format) const GREENBOOT: Shape = record("a greenboot check", &[]);

pub(in crate::format) const SIZE: Shape = record(
    "a size check",
    &[
        may("download", Kind::Size, "Maximum size of all layers in the registry, such as 800MiB."),
        may("unpacked", Kind::Size, "Maximum size of the finished image's files, such as 2GiB."),
    ],
);

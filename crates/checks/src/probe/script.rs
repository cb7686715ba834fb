//! A script of the check: written to a private folder of the machine, run by the program in its first line.
//!
//! The program is started directly, without the script's executable bit, so it works on a machine whose
//! `/run` and `/tmp` are mounted `noexec`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Budget, Finding};
use crate::exec;

/// The places for the private folder, in order: the first is a tmpfs on every system with systemd.
const FOLDERS: [&str; 4] = ["/run", "/tmp", "/var/tmp", "/dev/shm"];

pub(crate) fn look(name: &str, content: &str, budget: Budget) -> Finding {
    let Some(mut argv) = interpreter(content) else {
        return Finding::check(format!("script `{name}` does not start with a line such as #!/bin/sh"));
    };
    let folder = match Private::new() {
        Ok(folder) => folder,
        Err(error) => {
            return Finding::image(format!("cannot create a folder for the script: {error}"), Vec::new());
        }
    };
    let file = folder.0.join(name);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&file);
    if let Err(error) = written.and_then(|mut file| file.write_all(content.as_bytes())) {
        return Finding::image(format!("cannot write the script to {}: {error}", file.display()), Vec::new());
    }
    argv.push(file.display().to_string());
    match exec::run(&argv, budget.whole()) {
        Err(error) => Finding::not_started(&argv[0], &error),
        Ok(ended) => match ended.code() {
            None => Finding::image(format!("script `{name}` did not end in time and was killed"), ended.tail),
            Some(0) => Finding::HoldsWith(ended.tail),
            Some(code) => {
                Finding::image(format!("script `{name}` exited with {code}, expected 0"), ended.tail)
            }
        },
    }
}

/// The program of the first line and, as in the kernel, the rest of the line as one argument.
fn interpreter(content: &str) -> Option<Vec<String>> {
    let line = content.lines().next()?.strip_prefix("#!")?.trim();
    let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let mut argv = vec![program.to_owned()];
    argv.extend(Some(argument.trim()).filter(|argument| !argument.is_empty()).map(str::to_owned));
    program.starts_with('/').then_some(argv)
}

/// A new folder that only this user can read; removed on drop.
struct Private(PathBuf);

impl Private {
    fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for folder in FOLDERS {
            // An existing name was left by an earlier process with the same process number.
            for _ in 0..16 {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let path =
                    Path::new(folder).join(format!("edgewright-check-{}-{number}", std::process::id()));
                match DirBuilder::new().mode(0o700).create(&path) {
                    Ok(()) => return Ok(Self(path)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
        }
        Err(last)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Best effort: the folder is in memory or in a machine that is deleted.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run(content: &str, seconds: u64) -> Finding {
        look("smoke", content, Budget::new(Duration::from_secs(seconds), 1.0))
    }

    #[test]
    fn cases() {
        assert_eq!(run("#!/bin/sh\necho fine\n", 60), Finding::HoldsWith(vec!["fine".to_owned()]));
        assert_eq!(run("#! /usr/bin/env sh\n", 60), Finding::HoldsWith(Vec::new()));
        let private = "#!/bin/sh -e\n[ \"$(stat -c %a \"$(dirname \"$0\")\")\" = 700 ]\necho \"$0\"\n";
        let Finding::HoldsWith(output) = run(private, 60) else { panic!("{:?}", run(private, 60)) };
        assert!(!Path::new(&output[0]).exists(), "the folder is removed after the attempt: {output:?}");
        for (content, seconds, want) in [
            ("#!/bin/sh\necho no; exit 3\n", 60, "exited with 3, expected 0"),
            ("#!/bin/sh\nsleep 60\n", 0, "did not end in time"),
            ("#!/no/such/program\n", 60, "`/no/such/program` is not in the image"),
            ("echo\n", 60, "does not start with"),
            ("#!sh\n", 60, "does not start with"),
        ] {
            let found = run(content, seconds);
            assert!(matches!(&found, Finding::Misses(miss) if miss.message.contains(want)), "{found:?}");
        }
        let Finding::Misses(miss) = run("#!/bin/sh\necho no; exit 3\n", 60) else { panic!("it fails") };
        assert_eq!(miss.output, ["no"]);
    }
}

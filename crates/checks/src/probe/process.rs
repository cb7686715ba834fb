//! Processes run: read from `/proc`, without NSS and without the image's own tools.

use std::fs;
use std::path::Path;

use edgewright_model::spec::ProcessMatch;

use super::Finding;

/// Maximum length of the kernel's name of a process, in bytes.
const KEPT_NAME: usize = 15;

/// The properties of a process that checks use.
#[derive(Debug, Default)]
struct Process {
    /// The last component of its executable's path.
    executable: String,
    /// The kernel's name of it: for a script the script's name, not its interpreter's.
    name: String,
    /// Its command line, arguments joined by spaces.
    command: String,
    /// Its effective user.
    user: u32,
}

pub(crate) fn look(which: &ProcessMatch, user: Option<&str>, count: u32) -> Finding {
    let id = match user.map(|user| (user, user_id(user))) {
        None => None,
        Some((_, Some(id))) => Some(id),
        Some((user, None)) => {
            return Finding::image(format!("no user `{user}` in /etc/passwd"), Vec::new());
        }
    };
    let found: Vec<Process> = processes().into_iter().filter(|process| is_meant(process, which)).collect();
    let fitting = found.iter().filter(|process| id.is_none_or(|id| process.user == id)).count();
    if fitting >= usize::try_from(count).unwrap_or(usize::MAX) {
        return Finding::Holds;
    }
    let what = match which {
        ProcessMatch::Name(name) => format!("process `{name}`"),
        ProcessMatch::Command(text) => format!("process with {text:?} in its command line"),
    };
    let whose = user.map_or_else(String::new, |user| format!(" of user `{user}`"));
    let others = found.iter().map(|process| format!("user {}: {}", process.user, process.command));
    let message = match (fitting, count) {
        (0, 1) => format!("no {what}{whose} runs"),
        (running, count) => format!("{running} running, expected {count}: {what}{whose}"),
    };
    Finding::image(message, others.map(|line| line.chars().take(200).collect()).take(20).collect())
}

fn is_meant(process: &Process, which: &ProcessMatch) -> bool {
    match which {
        ProcessMatch::Name(name) => {
            let cut = name.as_bytes().get(..KEPT_NAME).unwrap_or(name.as_bytes());
            process.executable == *name || process.name.as_bytes() == cut
        }
        ProcessMatch::Command(text) => process.command.contains(text.as_str()),
    }
}

/// All processes except this one. A process that ended while it was read is left out.
fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id().to_string();
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name != own && name.bytes().all(|b| b.is_ascii_digit()))
        })
        .filter_map(|entry| read(&entry.path()))
        .collect()
}

fn read(folder: &Path) -> Option<Process> {
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return None;
    }
    let command = fs::read(folder.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
    // Kernel threads have no executable.
    let executable = fs::read_link(folder.join("exe")).unwrap_or_default();
    let executable = executable.file_name().unwrap_or_default().to_string_lossy();
    Some(Process {
        // An update replaced the file of a process that still runs.
        executable: executable.trim_end_matches(" (deleted)").to_owned(),
        name: fs::read_to_string(folder.join("comm")).unwrap_or_default().trim_end().to_owned(),
        command: words.join(" ").trim_end().to_owned(),
        user: field("Uid:").and_then(|ids| ids.split_whitespace().nth(1)).and_then(|id| id.parse().ok())?,
    })
}

/// The number of a user, by the machine's own list.
fn user_id(user: &str) -> Option<u32> {
    if let Ok(id) = user.parse() {
        return Some(id);
    }
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines.find_map(|mut line| (line.next() == Some(user)).then(|| line.nth(1)?.parse().ok()).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the process ends within seconds, and the thread with it")]
    fn processes_are_found_by_name_command_and_user() {
        // A unique name, so that no other process of this machine matches.
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("ew-long-process-name");
        fs::copy("/bin/sleep", &tool).unwrap();
        let argv = [tool.display().to_string(), "20.0815".to_owned()];
        let running = std::thread::spawn(move || crate::exec::run(&argv, std::time::Duration::from_secs(20)));
        let name = || ProcessMatch::Name("ew-long-process-name".to_owned());
        let command = ProcessMatch::Command("process-name 20.0815".to_owned());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
        while look(&name(), None, 1) != Finding::Holds {
            assert!(std::time::Instant::now() < deadline, "{:?}", look(&name(), None, 1));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let me = rustix::process::geteuid().as_raw();
        assert_eq!(look(&command, Some(&me.to_string()), 1), Finding::Holds);
        if me == 0 {
            assert_eq!(look(&command, Some("root"), 1), Finding::Holds);
        }
        for (found, want) in [
            (look(&command, Some(&(me + 1).to_string()), 1), "of user"),
            (look(&name(), None, 2), "1 running, expected 2: process `ew-long-process-name`"),
            (look(&name(), Some("no-such-user"), 1), "no user `no-such-user`"),
            (look(&ProcessMatch::Name("ew-nothing".to_owned()), None, 1), "no process `ew-nothing` runs"),
        ] {
            assert!(matches!(&found, Finding::Misses(miss) if miss.message.contains(want)), "{found:?}");
        }
        drop(running);
    }
}

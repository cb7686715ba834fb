//! The end of what a guest printed, and the lines that say why it failed.

use edgewright_guest::FATAL;

/// How much of the end is kept, in bytes.
pub(crate) const MAX_CONSOLE_BYTES: usize = 1024 * 1024;
/// The longest reason in a message, in bytes.
const MAX_REASON_BYTES: usize = 300;
const PANIC: &str = "Kernel panic - not syncing: ";
const OUT_OF_MEMORY: [&str; 2] =
    ["Out of memory: Killed process", "Memory cgroup out of memory: Killed process"];
/// What systemd prints, and then waits for a person.
const FROZEN: [&str; 3] = [
    "Freezing execution",
    "You are in emergency mode",
    "Cannot open access to console, the root account is locked",
];

/// What a guest printed on its serial console.
#[derive(Debug, Clone, Default)]
pub struct Console {
    text: Vec<u8>,
    /// Why its kernel panicked.
    pub panic: Option<String>,
    /// The last process that the kernel killed because memory ran out.
    pub out_of_memory: Option<String>,
    /// Why our first process could not start the image.
    pub fatal: Option<String>,
    /// That it waits for a person.
    pub frozen: Option<String>,
}

impl Console {
    /// Adds a line.
    pub fn push(&mut self, line: &str) {
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
        // Cut rarely.
        if self.text.len() > 2 * MAX_CONSOLE_BYTES {
            let excess = self.text.len() - MAX_CONSOLE_BYTES;
            let rest = self.text[excess..].iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            self.text.drain(..excess + rest);
        }
        if let Some((_, reason)) = line.split_once(PANIC) {
            self.panic.get_or_insert_with(|| cut(reason));
        }
        if let Some((_, reason)) = line.split_once(FATAL) {
            self.fatal.get_or_insert_with(|| cut(reason));
        }
        if let Some(at) = OUT_OF_MEMORY.iter().find_map(|words| line.find(words)) {
            self.out_of_memory = Some(cut(&line[at..]));
        }
        if FROZEN.iter().any(|words| line.contains(words)) {
            self.frozen.get_or_insert_with(|| cut(line));
        }
    }

    /// All that is kept.
    pub fn text(&self) -> &[u8] {
        &self.text[self.text.len().saturating_sub(MAX_CONSOLE_BYTES)..]
    }

    /// The last lines, for messages.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(self.text());
        let mut tail: Vec<String> = text.lines().rev().take(lines).map(str::to_owned).collect();
        tail.reverse();
        tail
    }
}

fn cut(text: &str) -> String {
    let text: String = text.trim().chars().filter(|character| !character.is_control()).collect();
    text[..text.floor_char_boundary(MAX_REASON_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_reasons_are_found() {
        let mut console = Console::default();
        for number in 0..200_000 {
            console.push(&format!("line {number}"));
        }
        console.push("[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100");
        console.push("[    4.0] Out of memory: Killed process 77 (eater) total-vm:1kB");
        console.push("[    5.0] Kernel panic - not syncing: another");
        console.push("edgewright-guest: cannot start the image: find the root: no disk");
        assert!(console.text().len() <= MAX_CONSOLE_BYTES && console.text().len() > MAX_CONSOLE_BYTES / 2);
        assert_eq!(console.panic.as_deref(), Some("Attempted to kill init! exitcode=0x00000100"));
        assert!(console.out_of_memory.unwrap().starts_with("Out of memory: Killed process 77 (eater)"));
        assert_eq!(console.fatal.as_deref(), Some("find the root: no disk"));
        assert_eq!(Console::default().tail(3), [""; 0]);
    }
}

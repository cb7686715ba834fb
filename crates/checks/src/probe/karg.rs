//! The kernel was started with an argument (`/proc/cmdline`).

use super::Finding;

const LINE: &str = "/proc/cmdline";

pub(crate) fn look(name: &str, value: Option<&str>) -> Finding {
    match std::fs::read_to_string(LINE) {
        Ok(line) => judge(&line, name, value),
        Err(error) => Finding::image(format!("cannot read {LINE}: {error}"), Vec::new()),
    }
}

fn judge(line: &str, name: &str, value: Option<&str>) -> Finding {
    let arguments = arguments(line);
    let same = |text: &str| text.replace('-', "_") == name.replace('-', "_");
    let found: Vec<Option<&str>> = arguments
        .iter()
        .map(|argument| {
            argument.split_once('=').map_or((argument.as_str(), None), |(name, value)| (name, Some(value)))
        })
        .filter(|(name, _)| same(name))
        .map(|(_, value)| value)
        .collect();
    let shown = || vec![line.trim_end().chars().take(2000).collect()];
    match value {
        None if !found.is_empty() => Finding::Holds,
        Some(want) if found.contains(&Some(want)) => Finding::Holds,
        Some(want) if !found.is_empty() => {
            let values: Vec<&str> =
                found.into_iter().map(|value| value.unwrap_or("without a value")).collect();
            Finding::image(
                format!("kernel argument `{name}` is {}, expected {want}", values.join(" and ")),
                shown(),
            )
        }
        _ => Finding::image(format!("the kernel command line has no argument `{name}`"), shown()),
    }
}

/// The arguments as the kernel splits them: at spaces outside of double quotes, which are removed.
fn arguments(line: &str) -> Vec<String> {
    let mut arguments = vec![String::new()];
    let mut quoted = false;
    for c in line.trim_end().chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => arguments.push(String::new()),
            c => {
                if let Some(last) = arguments.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    arguments.retain(|argument| !argument.is_empty());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        let line =
            "BOOT_IMAGE=/vmlinuz root=UUID=1-2 ro console=tty0 console=ttyS0,115200 opts=\"a b\" my-mod.x=\n";
        let cases = [
            ("ro", None, None),
            ("root", Some("UUID=1-2"), None),
            ("console", Some("ttyS0,115200"), None),
            ("console", Some("tty0"), None),
            ("opts", Some("a b"), None),
            ("my_mod.x", Some(""), None),
            ("console", Some("tty1"), Some("is tty0 and ttyS0,115200, expected tty1")),
            ("ro", Some("1"), Some("is without a value, expected 1")),
            ("quiet", None, Some("no argument `quiet`")),
            ("b", None, Some("no argument `b`")),
        ];
        for (name, value, want) in cases {
            match (judge(line, name, value), want) {
                (Finding::Holds, None) => {}
                (Finding::Misses(miss), Some(want)) => {
                    assert!(miss.message.contains(want), "{}", miss.message);
                }
                (found, want) => panic!("{name} {value:?}: {found:?}, want {want:?}"),
            }
        }
    }
}

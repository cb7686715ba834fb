//! `edgewright-guest`: the first process of a virtual machine under test, or the guest's end of its channel.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let mode = words.next();
    match mode.as_deref() {
        Some("agent") => edgewright_guest::agent(),
        Some("listen") => edgewright_guest::forward::listen(words.next().as_deref()),
        Some("take") => edgewright_guest::forward::take(),
        Some("terminal") => edgewright_guest::in_terminal(words),
        Some("checks") => edgewright_guest::checks(words.next().as_deref()),
        // The kernel passes words of its command line that it does not know to its first process.
        _ if std::process::id() == 1 && name.ends_with("/entry") => edgewright_guest::entry(false),
        _ if std::process::id() == 1 && name.ends_with("/entry-order") => edgewright_guest::entry(true),
        _ if std::process::id() == 1 => edgewright_guest::boot(),
        _ => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "usage: edgewright-guest agent");
            ExitCode::from(2)
        }
    }
}

//! Why a `RUN` failed, from its output: the line that names the cause, and whether the network failed.
//!
//! A failure counts as one of the network only if all of this holds; everything else is the image's fault:
//!
//! | condition | so that it is not |
//! |---|---|
//! | a line is a tool's report of a failed server, name or connection | a program that prints such words |
//! | after it come only lines of the same tool, or of what reads its output | a later command that failed |
//! | the tool reports no lasting error beside it, such as 404 or a wrong hash | a misspelt package |
//! | the step ended with an exit status of this tool | `echo` and `false` |
//!
//! Pure: the output is that of an image's own commands, and may be anything.

mod tools;

use tools::{Meaning, TOOLS, Tool, consumes};

/// Maximum length of a cause or a command in a message, in characters.
const MAX_SHOWN: usize = 300;
/// A line that looks like an error is the cause only if at most so many lines follow it.
const MAX_AFTER: usize = 8;
/// The lines of one report may have so many other lines between them.
const MAX_BETWEEN: usize = 3;

/// What the output of a failed Containerfile reports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The line that names the cause.
    pub(crate) cause: Option<String>,
    /// The tool whose network access failed; none if something else failed.
    pub(crate) network: Option<&'static str>,
    /// The instruction that failed.
    pub(crate) step: Option<String>,
    /// Its exit status.
    pub(crate) exit: Option<i32>,
}

/// Reads the output of buildah, of which the beginning may be missing.
pub(crate) fn read(output: &[String]) -> Report {
    let start = output.iter().rposition(|line| step(line).is_some());
    let lines: Vec<&str> =
        output[start.map_or(0, |at| at + 1)..].iter().map(|line| line.trim_end()).collect();
    let exit = lines.iter().rev().find_map(|line| exit_status(line));
    let own: Vec<&str> = lines.into_iter().filter(|line| !is_of_buildah(line)).collect();
    let instruction = start.and_then(|at| step(&output[at]));
    let failed = network(&own, exit).filter(|(_, line)| !is_printed(instruction, line));
    let cause = failed.as_ref().map_or_else(|| cause(&own), |(_, line)| Some((*line).to_owned()));
    Report {
        cause: cause.map(|line| shown(&line)),
        network: failed.map(|(tool, _)| tool.name),
        step: instruction.map(shown),
        exit,
    }
}

/// Whether an instruction has a line in its own text: `RUN echo 'curl: (6) …'; exit 6`.
fn is_printed(instruction: Option<&str>, line: &str) -> bool {
    let beginning: String = line.trim().chars().take(24).collect();
    instruction.is_some_and(|instruction| instruction.contains(&beginning))
}

fn shown(line: &str) -> String {
    let text: String = line.trim().chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    if line.trim().chars().count() > MAX_SHOWN { text + "…" } else { text }
}

/// The instruction in a line such as `STEP 3/5: RUN make`, or `[2/3] STEP 1/1: RUN make`.
fn step(line: &str) -> Option<&str> {
    let rest = match line.strip_prefix('[') {
        Some(stage) => stage.split_once("] ")?.1,
        None => line,
    };
    let (number, instruction) = rest.strip_prefix("STEP ")?.split_once(": ")?;
    number.chars().all(|c| c.is_ascii_digit() || c == '/').then_some(instruction)
}

/// The exit status in buildah's own last line.
fn exit_status(line: &str) -> Option<i32> {
    if !is_of_buildah(line) {
        return None;
    }
    let (_, number) = line.rsplit_once("exit status ").or_else(|| line.rsplit_once("exited with status "))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn is_of_buildah(line: &str) -> bool {
    let is_of_step = line.contains("building at STEP \"") && line.to_ascii_lowercase().starts_with("error");
    is_of_step
        || line.starts_with("subprocess exited with status ")
        || line.starts_with("exit status ")
        || line.starts_with("time=\"")
        || ["ERRO[", "WARN[", "INFO["].iter().any(|mark| line.starts_with(mark))
}

/// The tool whose network access failed last, and its first line about that.
fn network<'a>(lines: &[&'a str], exit: Option<i32>) -> Option<(&'static Tool, &'a str)> {
    /// What the lines so far end with.
    struct Open<'a> {
        tool: &'static Tool,
        line: &'a str,
        lasting: bool,
        /// The number of its lines.
        count: usize,
        exits: Exits,
    }
    #[derive(PartialEq, Eq)]
    enum Exits {
        OfTool,
        Any,
        /// `make` reports it.
        Of(i32),
    }
    let mut open: Option<Open<'a>> = None;
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let found = TOOLS.iter().find_map(|tool| match (tool.meaning)(line) {
            Meaning::Transient => Some((tool, false)),
            Meaning::Lasting => Some((tool, true)),
            Meaning::Other | Meaning::Follows => None,
        });
        open = match (open, found) {
            (Some(open), Some((tool, lasting))) if open.tool.name == tool.name => {
                // curl and wget are called once for each file: the last one decides.
                let line = if tool.is_single { line } else { open.line };
                let lasting = lasting || (open.lasting && !tool.is_single);
                Some(Open { line, lasting, count: open.count + 1, ..open })
            }
            (_, Some((tool, lasting))) => Some(Open { tool, line, lasting, count: 1, exits: Exits::OfTool }),
            (Some(open), None) if (open.tool.meaning)(line) == Meaning::Follows => {
                Some(Open { count: open.count + 1, ..open })
            }
            (Some(open), None) if open.tool.is_single && consumes(line) => {
                Some(Open { exits: Exits::Any, ..open })
            }
            (Some(open), None) => made_exit(line).map(|code| Open {
                exits: if open.exits == Exits::Any { Exits::Any } else { Exits::Of(code) },
                ..open
            }),
            (None, None) => None,
        };
    }
    let open = open.filter(|open| !open.lasting && open.count >= open.tool.lines)?;
    let is_its = match open.exits {
        Exits::OfTool => (open.tool.exits)(open.line, exit?),
        Exits::Of(code) => (open.tool.exits)(open.line, code),
        Exits::Any => exit.is_some(),
    };
    is_its.then_some((open.tool, open.line))
}

/// The exit status that `make` reports of its command: `make: *** [Makefile:2: all] Error 6`.
fn made_exit(line: &str) -> Option<i32> {
    let rest = line.strip_prefix("make")?;
    rest.split_once(": *** [")?.1.rsplit_once("] Error ")?.1.trim().parse().ok()
}

/// The line that names the cause: the first one of the last error report, else the last line.
fn cause(lines: &[&str]) -> Option<String> {
    let rest: Vec<&str> = lines.iter().map(|line| line.trim_end()).filter(|line| !is_noise(line)).collect();
    let Some(last) = rest.last() else {
        return lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| (*line).to_owned());
    };
    let Some(mut at) = rest.iter().rposition(|line| is_error(line)).filter(|at| rest.len() - at <= MAX_AFTER)
    else {
        return Some((*last).to_owned());
    };
    // What an exception of Python reports is in its last line.
    if rest[at..].iter().any(|line| line.starts_with("Traceback (most recent call last)")) {
        return Some((*last).to_owned());
    }
    while let Some(before) =
        rest[at.saturating_sub(MAX_BETWEEN + 1)..at].iter().position(|line| is_error(line))
    {
        at = at.saturating_sub(MAX_BETWEEN + 1) + before;
    }
    Some(rest[at].to_owned())
}

/// Lines that only repeat that something failed.
fn is_noise(line: &str) -> bool {
    let trimmed = line.trim_start();
    trimmed.is_empty()
        || trimmed.starts_with("+ ")
        || trimmed.starts_with("[notice]")
        || trimmed.starts_with("ninja: build stopped")
        || made_exit(trimmed).is_some()
        || trimmed.starts_with("make: Target ")
        || trimmed.starts_with("N: See apt-secure")
        || ["npm error", "npm ERR!"].iter().any(|mark| {
            trimmed.strip_prefix(mark).is_some_and(|rest| {
                let rest = rest.trim_start();
                rest.is_empty()
                    || ["code ", "errno ", "syscall ", "A complete log"]
                        .iter()
                        .any(|word| rest.starts_with(word))
            })
        })
}

fn is_error(line: &str) -> bool {
    const STARTS: [&str; 16] = [
        "E: ",
        "Error: ",
        "ERROR: ",
        "ERROR ",
        "error: ",
        "error[",
        "fatal: ",
        "FATAL",
        "curl: (",
        "wget: ",
        "npm error ",
        "npm ERR! ",
        "dpkg: error",
        "Problem: ",
        "tar: ",
        "cp: ",
    ];
    let line = line.trim_start();
    STARTS.iter().any(|start| line.starts_with(start))
        || [
            ": error: ",
            ": fatal error: ",
            ": command not found",
            "No such file or directory",
            "Permission denied",
        ]
        .iter()
        .any(|text| line.contains(text))
        || (line.ends_with(": not found") && line.contains("sh: "))
}

#[cfg(test)]
mod tests;

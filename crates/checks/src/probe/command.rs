//! A command exits with the expected code.

use super::{Budget, Finding, contains};
use crate::exec;

pub(crate) fn look(argv: &[String], exit: i32, stdout: Option<&str>, budget: Budget) -> Finding {
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        return Finding::check("invalid command: empty");
    };
    let ended = match exec::run(argv, budget.whole()) {
        Ok(ended) => ended,
        Err(error) => return Finding::not_started(program, &error),
    };
    match ended.code() {
        None => Finding::image(format!("`{program}` did not end in time and was killed"), ended.tail),
        Some(code) if code != exit => {
            Finding::image(format!("`{program}` exited with {code}, expected {exit}"), ended.tail)
        }
        Some(_) => match stdout.filter(|text| !contains(&ended.stdout, text)) {
            Some(text) => Finding::image(format!("`{program}` does not print {text:?}"), ended.tail),
            None => Finding::Holds,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edgewright_model::outcome::FailureKind;

    use super::*;

    /// Program and arguments, expected code, expected output, and what is wrong.
    type Case<'a> = (&'a [&'a str], i32, Option<&'a str>, Option<&'a str>);

    #[test]
    fn cases() {
        let cases: [Case<'_>; 8] = [
            (&["true"], 0, None, None),
            (&["sh", "-c", "exit 3"], 3, None, None),
            (&["sh", "-c", "echo one two"], 0, Some("e t"), None),
            (&["sh", "-c", "echo one; exit 1"], 0, None, Some("`sh` exited with 1, expected 0")),
            (&["echo", "one"], 0, Some("two"), Some("`echo` does not print \"two\"")),
            (&["/no/such"], 0, None, Some("`/no/such` is not in the image")),
            (&["/etc/passwd"], 0, None, Some("`/etc/passwd` is not executable")),
            (&["sleep", "60"], 0, None, Some("`sleep` did not end in time and was killed")),
        ];
        for (argv, exit, stdout, want) in cases {
            let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
            let budget = Budget::new(Duration::from_secs(if argv[0] == "sleep" { 0 } else { 60 }), 1.0);
            match (look(&argv, exit, stdout, budget), want) {
                (Finding::Holds, None) => {}
                (Finding::Misses(miss), Some(want)) => {
                    assert!(miss.message.starts_with(want), "{argv:?}: {}", miss.message);
                    assert_eq!((miss.kind, miss.is_final), (FailureKind::Image, false), "{argv:?}");
                }
                (found, want) => panic!("{argv:?}: {found:?}, want {want:?}"),
            }
        }
        for bad in [vec![], vec![String::new()], vec!["a\0b".to_owned()]] {
            let found = look(&bad, 0, None, Budget::new(Duration::from_secs(1), 1.0));
            assert!(matches!(&found, Finding::Misses(miss) if miss.is_final), "{found:?}");
        }
    }
}

//! Logs on a terminal: what other programs wrote must not steer it.

/// Maximum characters of a terminal sequence that is left out; a longer one is shown.
const MAX_SEQUENCE: usize = 64;

/// Makes bytes that arrive in pieces safe to show: colours and cursor movements are left out, all other
/// control characters but line feeds and tabs are shown as `�`. Nothing that follows is swallowed.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// The beginning of a character of which the rest is to come.
    partial: Vec<u8>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    /// After the escape character.
    Escape,
    /// In a control sequence, after so many characters.
    Sequence(usize),
}

impl Visible {
    /// The text of the next piece.
    pub(crate) fn next(&mut self, piece: &[u8]) -> String {
        self.partial.extend_from_slice(piece);
        let bytes = std::mem::take(&mut self.partial);
        let mut shown = String::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (valid, error) = match std::str::from_utf8(rest) {
                Ok(text) => (text.len(), None),
                Err(error) => (error.valid_up_to(), Some(error.error_len())),
            };
            for letter in String::from_utf8_lossy(&rest[..valid]).chars() {
                self.letter(letter, &mut shown);
            }
            rest = &rest[valid..];
            match error {
                None => {}
                Some(None) => {
                    self.partial = rest.to_vec();
                    break;
                }
                Some(Some(length)) => {
                    self.letter(char::REPLACEMENT_CHARACTER, &mut shown);
                    rest = &rest[length..];
                }
            }
        }
        shown
    }

    fn letter(&mut self, letter: char, shown: &mut String) {
        match (self.state, letter) {
            (State::Escape, '[') => self.state = State::Sequence(0),
            (State::Sequence(length), ' '..='?') if length < MAX_SEQUENCE => {
                self.state = State::Sequence(length + 1);
            }
            (State::Sequence(_), '@'..='~') => self.state = State::Text,
            (State::Text, '\u{1b}') => self.state = State::Escape,
            (State::Text, '\n' | '\t') => shown.push(letter),
            // Of line ends; alone it would go back to overwrite the line.
            (State::Text, '\r') => {}
            (State::Text, letter) if letter.is_control() => shown.push(char::REPLACEMENT_CHARACTER),
            (State::Text, letter) => shown.push(letter),
            (State::Escape | State::Sequence(_), letter) => {
                shown.push(char::REPLACEMENT_CHARACTER);
                self.state = State::Text;
                self.letter(letter, shown);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered() {
        let cases: [(&[u8], &str); 9] = [
            (b"plain\ttext\n", "plain\ttext\n"),
            (b"\x1b[1;31mred\x1b[0m\r\n", "red\n"),
            (b"\x1b[2J\x1b[H\x1b[?1049hx", "x"),
            (b"\x1b]0;title\x07after\n", "\u{fffd}]0;title\u{fffd}after\n"),
            (b"\x1b]52;c;cm0gLXJm\x1b\\y", "\u{fffd}]52;c;cm0gLXJm\u{fffd}\\y"),
            ("a\u{9b}31mb".as_bytes(), "a\u{fffd}31mb"),
            (b"a\x9b31m\xffb", "a\u{fffd}31m\u{fffd}b"),
            (b"a\x1b\x1b[0mb\x1b[\nc", "a\u{fffd}b\u{fffd}\nc"),
            ("gr\u{fc}n \u{1f600}".as_bytes(), "gr\u{fc}n \u{1f600}"),
        ];
        for (log, want) in cases {
            assert_eq!(Visible::default().next(log), want);
            // In pieces of any size, too.
            let mut visible = Visible::default();
            let pieces: String = log.iter().map(|byte| visible.next(&[*byte])).collect();
            assert_eq!(pieces, want);
        }
        let long = format!("\x1b[{}mx", "1".repeat(1000));
        assert!(Visible::default().next(long.as_bytes()).ends_with("1mx"));
    }
}

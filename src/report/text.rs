//! Foreign text made safe to show: no control characters, no invisible direction marks, no more
//! characters than there is room for. Escaping for a format is that format's own business.

/// One line of foreign text: control characters and runs of spaces become one space, direction
/// marks are dropped, and what is longer than `most` characters ends in `…`.
pub(super) fn line(text: &str, most: usize) -> String {
    let visible: String = text
        .chars()
        .filter(|c| !is_invisible(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    cut(&visible.split_whitespace().collect::<Vec<_>>().join(" "), most)
}

/// Many lines of foreign text, tabs and line ends kept.
pub(super) fn block(text: &str) -> String {
    text.replace("\r\n", "\n")
        .chars()
        .filter(|c| !is_invisible(*c))
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// Characters that reorder or hide the text around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Lines of at most `width` characters, broken between words (in a word only when it must).
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut current = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + rest.len() <= width {
            current.push(' ');
            used += 1;
        } else if used > 0 {
            lines.push(std::mem::take(&mut current));
            used = 0;
        }
        while rest.len() > width {
            lines.push(rest.drain(..width).collect());
        }
        used += rest.len();
        current.extend(rest);
    }
    if used > 0 {
        lines.push(current);
    }
    lines
}

/// Cuts to `most` characters, with `…` as the last where something is missing.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.into();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    if most > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_becomes_one_harmless_line() {
        assert_eq!(line("a\x1b[31mred\r\nb\u{202e}c\0d", 80), "a [31mred bc d");
        assert_eq!(line("  two   words ", 80), "two words");
        assert_eq!(line("abcdefgh", 4), "abc…");
        assert_eq!(line("abcd", 4), "abcd");
        assert_eq!(block("a\tb\r\nc\x07"), "a\tb\nc\u{fffd}");
    }

    #[test]
    fn wraps_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert!(wrap("", 10).is_empty());
    }

    proptest! {
        #[test]
        fn lines_hold_their_promise(text in any::<String>(), most in 1usize..40) {
            let clean = line(&text, most);
            prop_assert!(clean.chars().count() <= most, "{clean:?}");
            prop_assert!(!clean.chars().any(|c| c.is_control() || is_invisible(c)));
        }

        #[test]
        fn wrapped_lines_fit(text in ".{0,200}", width in 1usize..40) {
            for line in wrap(&text, width) {
                prop_assert!(line.chars().count() <= width && !line.is_empty());
            }
        }
    }
}

//! Text in pieces about the size of a model's tokens. An estimate, not a real vocabulary.

/// Letters of a word that still make one piece; longer words are split evenly.
const WORD: usize = 9;

/// Splits text into pieces; together they are the text again.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let mut found = Vec::with_capacity(text.len() / 4);
    let mut rest = text;
    while !rest.is_empty() {
        let end = piece_end(rest);
        let (piece, after) = rest.split_at(end);
        found.push(piece);
        rest = after;
    }
    found
}

/// How many pieces a text has.
pub(super) fn count(text: &str) -> usize {
    let mut number = 0;
    let mut rest = text;
    while !rest.is_empty() {
        rest = &rest[piece_end(rest)..];
        number += 1;
    }
    number
}

/// Where the first piece ends. A single space belongs to the word after it.
fn piece_end(text: &str) -> usize {
    let body = match text.strip_prefix(' ') {
        Some(after) if after.starts_with(char::is_alphanumeric) => after,
        _ => text,
    };
    let space = text.len() - body.len();
    let Some(first) = body.chars().next() else { return text.len() };
    let run = |wanted: fn(char) -> bool| body.find(|c| !wanted(c)).unwrap_or(body.len());
    space
        + if first.is_ascii_alphabetic() {
            word_end(run(|c| c.is_ascii_alphabetic()))
        } else if first.is_ascii_digit() {
            run(|c| c.is_ascii_digit()).min(3)
        } else if first.is_whitespace() {
            blank_end(body)
        } else {
            first.len_utf8()
        }
}

fn word_end(letters: usize) -> usize {
    letters.div_ceil(letters.div_ceil(WORD))
}

/// A run of blanks, without its last space when a word follows.
fn blank_end(text: &str) -> usize {
    let run = text.find(|c: char| !c.is_whitespace()).unwrap_or(text.len());
    if run > 1 && run < text.len() && text[..run].ends_with(' ') { run - 1 } else { run }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_word_is_one_piece() {
        let text = "Open the settings, then choose authentication (2048 keys).";
        let expected = [
            "Open",
            " the",
            " settings",
            ",",
            " then",
            " choose",
            " authent",
            "ication",
            " ",
            "(",
            "204",
            "8",
            " keys",
            ")",
            ".",
        ];
        assert_eq!(pieces(text), expected);
    }

    proptest::proptest! {
        #[test]
        fn pieces_make_up_the_text(text in "(\\PC|[ \n\t]){0,80}") {
            let found = pieces(&text);
            proptest::prop_assert_eq!(found.concat(), text.as_str());
            proptest::prop_assert_eq!(found.len(), count(&text));
            proptest::prop_assert!(found.iter().all(|piece| !piece.is_empty()));
        }
    }
}

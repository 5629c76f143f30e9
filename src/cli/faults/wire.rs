//! What an app gets of an answer with and without a fault: the sheets that the matrix of effects and
//! dialects is held to.

use std::fmt::Write as _;

/// What an upstream answers, and what becomes of it.
struct Sheet {
    about: &'static str,
    /// The exchange as recorded.
    before: &'static str,
    /// For each effect, what the app gets.
    after: &'static str,
}

macro_rules! sheet {
    ($about:literal, $name:literal) => {
        Sheet {
            about: $about,
            before: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/matrix/recordings/",
                $name,
                ".http"
            )),
            after: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/matrix/wire/",
                $name,
                ".txt"
            )),
        }
    };
}

/// The first one on which an effect acts is shown.
const SHEETS: &[Sheet] = &[
    sheet!("a stream of OpenAI", "openai-chat.stream"),
    sheet!("JSON in a stream of OpenAI", "openai-json.stream"),
    sheet!("a tool call in a stream of OpenAI", "openai-tools.stream"),
    sheet!("a batch of vectors", "openai-embeddings.whole"),
    sheet!("a search in Qdrant", "qdrant-query.whole"),
];

/// Options that are shown for an effect.
const MOST: usize = 3;
/// Characters of a line.
const WIDTH: usize = 240;

/// What an effect does on the wire; None where it acts below HTTP.
pub(super) fn shown(effect: &str) -> Option<String> {
    SHEETS.iter().find_map(|sheet| {
        let acted: Vec<&str> = sections(sheet.after, effect).filter(|it| acts(it)).collect();
        if acted.is_empty() {
            return None;
        }
        let mut text = format!("\nOn the wire: {}\n", sheet.about);
        for line in sheet.before.rsplit("\n\n200\n").next()?.lines().skip(1) {
            if !line.is_empty() {
                push(&mut text, 2, line);
            }
        }
        for section in acted.iter().take(MOST) {
            let mut lines = section.lines();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "with {}", lines.next()?);
            for line in lines {
                push(&mut text, 0, line);
            }
        }
        Some(text)
    })
}

/// The parts of a sheet about an effect.
fn sections<'s>(sheet: &'s str, effect: &str) -> impl Iterator<Item = &'s str> {
    let begin = format!("{effect}: ");
    sheet.split("\n\n").map(str::trim_end).filter(move |part| part.starts_with(&begin))
}

fn acts(section: &str) -> bool {
    !section.contains("\n  impossible: ") && !section.contains("\n  let go: ")
}

fn push(text: &mut String, indent: usize, line: &str) {
    let end = line.char_indices().nth(WIDTH).map_or(line.len(), |(at, _)| at);
    let more = if end < line.len() { "…" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{:indent$}{}{more}", "", &line[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::KINDS;

    #[test]
    fn each_effect_is_shown_before_and_after() {
        for kind in KINDS {
            // It acts before there is HTTP.
            assert_eq!(shown(kind.name).is_none(), kind.name == "tls", "{}", kind.name);
        }
        let text = shown("truncate").unwrap();
        assert!(text.contains("\n  data: {") && text.contains("\nwith truncate: {"), "{text}");
    }
}

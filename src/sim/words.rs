//! Words and sentences of a text: what the simulated model and its vectors look at.

/// Words that say little about what a text is about; sorted.
const COMMON: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "answer", "any", "are", "as", "at", "be",
    "been", "before", "but", "by", "can", "context", "could", "did", "do", "does", "each", "for",
    "from", "get", "give", "had", "has", "have", "help", "her", "his", "how", "i", "if", "in",
    "into", "is", "it", "its", "just", "like", "may", "me", "my", "need", "no", "not", "of", "on",
    "one", "only", "or", "other", "our", "please", "question", "say", "should", "so", "some",
    "tell", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "to",
    "use", "using", "want", "was", "we", "were", "what", "when", "where", "which", "who", "why",
    "will", "with", "would", "write", "you", "your",
];

/// The words of a text, in its own case.
pub(super) fn of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Whether a lower-case word says little.
pub(super) fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word).is_ok()
}

/// A lower-case word without its usual English endings, so that `resetting` meets `reset`.
pub(super) fn stem(word: &str) -> &str {
    for ending in ["ting", "ing", "ed", "es", "s"] {
        if let Some(stem) = word.strip_suffix(ending)
            && stem.len() >= 4
        {
            return stem;
        }
    }
    word
}

/// The words of a text that say something, lower case, each once, in order.
pub(super) fn keywords(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in of(text).map(str::to_lowercase) {
        if word.chars().count() > 2 && !is_common(&word) && !found.contains(&word) {
            found.push(word);
        }
        if found.len() == 200 {
            break;
        }
    }
    found
}

/// The sentences of a text, trimmed, with their end marks.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let mut rest = line;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = sentence_end(rest);
            let (sentence, after) = rest.split_at(end);
            rest = after;
            Some(sentence.trim())
        })
        .filter(|sentence| !sentence.is_empty())
    })
}

/// A sentence ends at `.`, `!` or `?` before a blank.
fn sentence_end(line: &str) -> usize {
    line.match_indices(['.', '!', '?'])
        .map(|(index, mark)| index + mark.len())
        .find(|end| line[*end..].starts_with(char::is_whitespace))
        .unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_are_sorted() {
        assert!(COMMON.is_sorted());
    }

    #[test]
    fn sentences_end_at_marks_and_lines() {
        let text = "Open v1.2 now. Is it there?  Yes!\nNext line";
        let found: Vec<_> = sentences(text).collect();
        assert_eq!(found, ["Open v1.2 now.", "Is it there?", "Yes!", "Next line"]);
    }
}

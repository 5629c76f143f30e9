//! Cuts the text of a whole answer short: no other byte changes but those that must agree with it.

use std::ops::Range;

use bytes::Bytes;

use super::{Outline, Slot, Spot};
use crate::wire::json::Edits;

/// A whole answer with the texts of each of its choices cut to a share, ended for `reason`, the
/// provider's own word. What a model had not begun to write by then is gone. None where it has no
/// text.
pub(super) fn shorten(body: &[u8], outline: &Outline, share: f64, reason: &str) -> Option<Bytes> {
    let share = share.clamp(0.0, 1.0);
    let texts = texts(body, outline);
    let choices = choices(outline);
    let mut edits = Edits::default();
    let mut had_text = false;
    for choice in &choices {
        let within = |span: &Range<usize>| choice.start <= span.start && span.end <= choice.end;
        let texts: Vec<&Text<'_>> = texts.iter().filter(|text| within(&text.spot.span)).collect();
        let length: usize = texts.iter().map(|text| text.length).sum();
        if length == 0 {
            continue;
        }
        had_text = true;
        cut(body, &texts, (length as f64 * share).floor() as usize, outline, &mut edits);
        for finish in outline.each(Slot::Finish).filter(|spot| within(&spot.span)) {
            edits.set_text(finish.span.clone(), reason);
        }
    }
    if !had_text {
        return None;
    }
    count(body, outline, share, &mut edits);
    Some(edits.apply(body))
}

/// Something that a model has written.
struct Text<'a> {
    spot: &'a Spot,
    /// None where it is an object: arguments that are no text.
    words: Option<String>,
    /// In characters.
    length: usize,
}

fn texts<'a>(body: &[u8], outline: &'a Outline) -> Vec<Text<'a>> {
    let written = [Slot::Arguments, Slot::Reasoning, Slot::Refusal, Slot::Text];
    let spots = outline.spots.iter().filter(|spot| written.contains(&spot.what));
    spots
        .filter_map(|spot| {
            let words = spot.text(body);
            let length = match &words {
                Some(words) => words.chars().count(),
                None if spot.of(body).starts_with(b"{") => spot.span.len(),
                None => return None,
            };
            Some(Text { spot, words, length })
        })
        .collect()
}

/// Where the choices stand; the whole answer where it has but one.
fn choices(outline: &Outline) -> Vec<Range<usize>> {
    let choices: Vec<_> = outline.each(Slot::Choice).map(|spot| spot.span.clone()).collect();
    if choices.is_empty() { std::iter::once(0..usize::MAX).collect() } else { choices }
}

/// Keeps the first characters, `keep` in all.
fn cut(body: &[u8], texts: &[&Text<'_>], keep: usize, outline: &Outline, edits: &mut Edits) {
    let mut left = keep;
    for text in texts {
        let kept = text.length.min(left);
        left -= kept;
        let span = &text.spot.span;
        let call = outline
            .each(Slot::Call)
            .find(|call| call.span.start <= span.start && span.end <= call.span.end);
        let begun = kept > 0 || (text.length == 0 && left > 0);
        match (&text.words, call) {
            (_, Some(call)) if !begun => remove(call, body, edits),
            _ if kept == text.length => {}
            (Some(words), _) => {
                let end = words.char_indices().nth(kept).map_or(words.len(), |(at, _)| at);
                edits.set_text(span.clone(), &words[..end]);
            }
            // Arguments that are an object come whole or not at all.
            (None, Some(call)) => remove(call, body, edits),
            (None, None) => edits.replace(span.clone(), "{}"),
        }
    }
}

/// Takes a call away, with the object that holds nothing else.
fn remove(call: &Spot, body: &[u8], edits: &mut Edits) {
    let before = body[..call.start].trim_ascii_end().strip_suffix(b"{");
    let behind = body[call.span.end..].trim_ascii_start().strip_prefix(b"}");
    match (before, behind) {
        (Some(before), Some(behind)) => {
            edits.remove(before.len(), before.len()..body.len() - behind.len());
        }
        _ => edits.remove(call.start, call.span.clone()),
    }
}

/// Lets the provider's counts agree with the text that is left.
fn count(body: &[u8], outline: &Outline, share: f64, edits: &mut Edits) {
    let number = |spot: &Spot| serde_json::from_slice::<u64>(spot.of(body)).ok();
    let mut gone = 0;
    for spot in outline.each(Slot::CompletionTokens) {
        if let Some(count) = number(spot) {
            let kept = (count as f64 * share).floor() as u64;
            gone = count - kept;
            edits.replace(spot.span.clone(), kept.to_string());
        }
    }
    for spot in outline.each(Slot::TotalTokens).filter(|_| gone > 0) {
        if let Some(count) = number(spot) {
            edits.replace(spot.span.clone(), count.saturating_sub(gone).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::by_kind;
    use crate::exchange::Operation;

    fn short(body: &str, share: f64, reason: &str) -> Option<String> {
        let openai = by_kind("openai").unwrap();
        let short = openai.shorten(Operation::Chat, body.as_bytes(), share, reason)?;
        Some(String::from_utf8(short.to_vec()).unwrap())
    }

    #[test]
    fn a_short_answer_agrees_with_itself_and_keeps_its_bytes() {
        let body = r#"{ "id":"c1", "choices":[{"index":0,"message":{"role":"assistant","content":"ééééé12345"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":10,"total_tokens":18}}"#;
        assert_eq!(
            short(body, 0.5, "length").unwrap(),
            r#"{ "id":"c1", "choices":[{"index":0,"message":{"role":"assistant","content":"ééééé"},"finish_reason":"length"}],"usage":{"prompt_tokens":8,"completion_tokens":5,"total_tokens":13}}"#
        );
        assert_eq!(short(body, 1.0, "stop").unwrap(), body);
    }

    #[test]
    fn each_choice_is_cut_for_itself() {
        let body = r#"{"choices":[{"message":{"content":"1234"},"finish_reason":"stop"},{"message":{"content":"12345678"},"finish_reason":"stop"},{"message":{"content":""},"finish_reason":"stop"}]}"#;
        assert_eq!(
            short(body, 0.5, "length").unwrap(),
            r#"{"choices":[{"message":{"content":"12"},"finish_reason":"length"},{"message":{"content":"1234"},"finish_reason":"length"},{"message":{"content":""},"finish_reason":"stop"}]}"#
        );
    }

    #[test]
    fn tool_calls_are_cut_too() {
        let body = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"2","function":{"name":"g","arguments":"{\"b\":2}"}}]},"finish_reason":"tool_calls"}]}"#;
        assert_eq!(
            short(body, 0.25, "tool_calls").unwrap(),
            r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a"}}]},"finish_reason":"tool_calls"}]}"#
        );
    }

    #[test]
    fn an_answer_without_text_cannot_be_shortened() {
        for body in [r#"{"data":[{"embedding":[1]}]}"#, r#"{"error":{"message":"x"}}"#, "nope", ""]
        {
            assert_eq!(short(body, 0.5, "length"), None);
        }
    }
}

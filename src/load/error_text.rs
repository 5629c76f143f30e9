//! An error as the user saw it: the app's own words where it gave some, short, on one line, and
//! with nothing in it that looks like a key.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

const MAX_CHARS: usize = 200;

/// Cuts a message to one short line without secrets.
pub(crate) fn shown(text: &str) -> Arc<str> {
    // Only as much is looked at as can be shown, words that vanish allowed for.
    let words = text.split_whitespace().take(MAX_CHARS);
    let mut line = String::new();
    let mut after_secret_name = false;
    for word in words {
        if line.len() > MAX_CHARS * 4 {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        redact_word(word, after_secret_name, is_opaque, &mut line);
        after_secret_name = names_a_secret(word);
    }
    if line.chars().count() > MAX_CHARS {
        line = line.chars().take(MAX_CHARS - 1).chain(['…']).collect();
    }
    line.into()
}

/// The same text, with nothing in it that is surely a key: `sk-…`, `api_key=…`, `//user:word@`.
pub fn without_keys(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut after_secret_name = false;
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        let (start, rest) = match user_info(word) {
            Some((from, to)) => (format!("{}…", &word[..from]), &word[to..]),
            None => (String::new(), word),
        };
        shown.push_str(&start);
        redact_word(rest, after_secret_name, |_| false, &mut shown);
        shown.push_str(&piece[word.len()..]);
        after_secret_name = names_a_secret(word);
    }
    shown
}

/// Where `user:password` stands in a URL.
fn user_info(word: &str) -> Option<(usize, usize)> {
    let from = word.find("://")? + 3;
    let authority = word[from..].split(['/', '?', '#']).next()?;
    Some((from, from + authority.rfind('@')?))
}

/// The message of an error body: the usual JSON fields, a page's title, or the text itself.
pub(crate) fn of_body(status: StatusCode, body: &[u8]) -> Arc<str> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if let Ok(value) = serde_json::from_str::<Value>(text)
        && let Some(message) = message(&value)
    {
        return shown(&message);
    }
    if text.starts_with('<') {
        let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
        if let Some((title, _)) = title {
            return shown(title);
        }
    } else if !text.is_empty() {
        return shown(text);
    }
    match status.canonical_reason() {
        Some(reason) => reason.into(),
        None => format!("status {}", status.as_u16()).into(),
    }
}

/// The words of a JSON error: `error.message`, `error`, `message`, `detail`, …
pub(crate) fn message(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Object(fields) => {
            let named =
                ["error", "message", "detail", "msg", "title", "errors", "response", "type"]
                    .iter()
                    .find_map(|name| fields.get(*name).and_then(message));
            named.or_else(|| (!fields.is_empty()).then(|| value.to_string()))
        }
        Value::Array(items) => items.first().and_then(message),
        _ => None,
    }
}

/// Whether the next word is a secret: `Bearer …`, `api_key: …`.
fn names_a_secret(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
    matches!(word.as_str(), "bearer" | "basic") || is_secret_name(&word)
}

fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    ["apikey", "token", "secret", "password", "authorization", "accesskey", "xapikey"]
        .iter()
        .any(|secret| name.ends_with(secret) && !name.ends_with("firsttoken"))
}

/// Beginnings of keys, whatever follows.
const KEY_STARTS: &[&str] = &[
    "sk-",
    "sk_",
    "pk-",
    "pk_",
    "rk_",
    "xai-",
    "gsk_",
    "hf_",
    "r8_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "pcsk_",
    "xoxb-",
    "xoxp-",
];

/// Shorter runs of letters and digits are words, codes and dates.
const OPAQUE_LENGTH: usize = 24;

/// Writes a word, with what looks like a key left out.
fn redact_word(word: &str, secret: bool, is_opaque: fn(&str) -> bool, out: &mut String) {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '~' | '*');
    let mut rest = word;
    let mut secret = secret;
    while !rest.is_empty() {
        let start = rest.find(is_part).unwrap_or(rest.len());
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        let part = &rest[..end];
        rest = &rest[end..];
        if part.is_empty() {
            continue;
        }
        if let Some(start) = KEY_STARTS.iter().find(|start| part.starts_with(**start))
            && part.len() >= start.len() + 4
        {
            out.push_str(start);
            out.push('…');
        } else if is_opaque(part) || secret && part.len() >= 4 && !is_scheme(part) {
            out.push('…');
        } else {
            out.push_str(part);
        }
        // `key=value`, `"token":"value"` within one word.
        secret = is_secret_name(part) && rest.starts_with([':', '=', '"', '\'']);
    }
}

fn is_scheme(part: &str) -> bool {
    part.eq_ignore_ascii_case("bearer") || part.eq_ignore_ascii_case("basic")
}

/// Long mixtures of letters and digits: keys, hashes, ids.
fn is_opaque(part: &str) -> bool {
    part.len() >= OPAQUE_LENGTH
        && !part.contains('.')
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_left_out() {
        for (text, expected) in [
            ("Incorrect API key provided: sk-proj-abc123XYZ.", "Incorrect API key provided: sk-…"),
            ("Authorization: Bearer abcdef123", "Authorization: Bearer …"),
            ("{\"api_key\":\"hunter22\"}", "{\"api_key\":\"…\"}"),
            ("token=abcd1234&x=1", "token=…&x=1"),
            ("request 4bf92f3577b34da6a3ce929d0e0e4736 failed", "request … failed"),
            ("the model is overloaded", "the model is overloaded"),
            (
                "https://api.example.com/v1/chat-completions-endpoint-2",
                "https://api.example.com/v1/…",
            ),
            ("maximum 8192 tokens, got 9000", "maximum 8192 tokens, got 9000"),
        ] {
            assert_eq!(&*shown(text), expected);
        }
    }

    #[test]
    fn commands_are_kept_but_for_keys() {
        for (text, expected) in [
            (
                "OPENAI_API_KEY=sk-abc123XYZ  uvicorn app:app",
                "OPENAI_API_KEY=sk-…  uvicorn app:app",
            ),
            ("MY_TOKEN=abcd1234 ./start --db x://u:pw@h/db", "MY_TOKEN=… ./start --db x://…@h/db"),
            ("curl -H 'authorization: Bearer abcd1234'", "curl -H 'authorization: Bearer …'"),
            ("python3 my_long_application_module_2.py", "python3 my_long_application_module_2.py"),
        ] {
            assert_eq!(without_keys(text), expected);
        }
    }

    #[test]
    fn messages_are_short_lines() {
        let text = shown(&"über \n\t alles ".repeat(100));
        assert_eq!(text.chars().count(), MAX_CHARS);
        assert!(text.ends_with('…') && !text.contains('\n'));
    }

    #[test]
    fn bodies_give_the_words_of_the_app() {
        let of = |body: &str| of_body(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes()).to_string();
        assert_eq!(of(r#"{"error":{"message":"overloaded","type":"x"}}"#), "overloaded");
        assert_eq!(of(r#"{"detail":[{"msg":"field required"}]}"#), "field required");
        assert_eq!(of(r#"{"error":"busy"}"#), "busy");
        assert_eq!(of("<html><head><title>502 Bad Gateway</title>"), "502 Bad Gateway");
        assert_eq!(of("plain words\n"), "plain words");
        assert_eq!(of(""), "Service Unavailable");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_or_leaks(before in ".{0,40}", key in "[a-zA-Z0-9]{20,40}") {
            let text = shown(&format!("{before} sk-{key}"));
            proptest::prop_assert!(!text.contains(&key), "{text}");
            proptest::prop_assert!(text.chars().count() <= MAX_CHARS);
        }
    }
}

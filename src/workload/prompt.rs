//! What is asked: built-in sets of prompts, or those of a JSONL file.
//!
//! A prompt has a number; the same number is the same text in every run.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::preset::Preset;
use super::{Prompt, Prompts};

pub use super::preset::PRESETS;

/// The prompts of a run, to be looked up by number.
#[derive(Clone, Debug)]
pub enum Source {
    List(Arc<[Prompt]>),
    Preset(Preset),
}

impl Source {
    /// None when there is no preset of this name, or the list is empty.
    pub fn new(prompts: &Prompts) -> Option<Self> {
        match prompts {
            Prompts::List(list) if list.is_empty() => None,
            Prompts::List(list) => Some(Self::List(list.clone())),
            Prompts::Preset(name) => Preset::named(name).map(Self::Preset),
        }
    }

    /// How many prompts there are.
    pub fn count(&self) -> u64 {
        match self {
            Self::List(list) => list.len() as u64,
            Self::Preset(_) => Preset::COUNT,
        }
    }

    /// The prompt with this number (counted round the list).
    pub fn get(&self, number: u64) -> Cow<'_, Prompt> {
        match self {
            Self::List(list) => Cow::Borrowed(&list[(number % list.len() as u64) as usize]),
            Self::Preset(preset) => Cow::Owned(preset.prompt(number)),
        }
    }

    /// The names that `${prompt.NAME}` may use: those every prompt has.
    pub(crate) fn fields(&self) -> Vec<String> {
        let first = self.get(0);
        let mut names: Vec<String> = vec!["text".to_owned()];
        let candidates = first.fields.keys().filter(|name| *name != "text");
        names.extend(candidates.filter(|name| self.lacking(name) == 0).cloned());
        names
    }

    /// How many prompts lack this field.
    pub(crate) fn lacking(&self, name: &str) -> usize {
        match self {
            Self::List(list) => {
                list.iter().filter(|prompt| !prompt.fields.contains_key(name)).count()
            }
            Self::Preset(preset) => usize::from(!preset.prompt(0).fields.contains_key(name)),
        }
    }
}

/// A line of a JSONL file that is no prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadLine {
    /// From 1; 0 for the file as a whole.
    pub line: usize,
    pub reason: String,
}

/// After this many, more of the same teach nothing.
const MAX_BAD_LINES: usize = 10;

/// Reads a JSONL file: one string, or one object with a `text`, a line. Blank lines are passed over.
pub fn read_jsonl(bytes: &[u8]) -> Result<Arc<[Prompt]>, Vec<BadLine>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut prompts, mut bad) = (Vec::new(), Vec::new());
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if bad.len() == MAX_BAD_LINES {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_line(line) {
            Ok(prompt) => prompts.push(prompt),
            Err(reason) => bad.push(BadLine { line: index + 1, reason }),
        }
    }
    if bad.is_empty() && prompts.is_empty() {
        let reason = "the file holds no prompt; write one JSON string, or one object with a \
                      `text`, a line"
            .to_owned();
        bad.push(BadLine { line: 0, reason });
    }
    if bad.is_empty() { Ok(prompts.into()) } else { Err(bad) }
}

fn read_line(line: &[u8]) -> Result<Prompt, String> {
    let text = std::str::from_utf8(line).map_err(|error| {
        format!("not UTF-8 at byte {} of the line; save the file as UTF-8", error.valid_up_to() + 1)
    })?;
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Eof => "the JSON ends too early",
            _ => "not JSON",
        };
        format!(
            "{kind} at column {}; write a JSON string such as \"How do I …?\", or an object such as \
             {{\"text\": \"How do I …?\"}}",
            error.column()
        )
    })?;
    let (text, fields) = match value {
        Value::String(text) => {
            let fields = Map::from_iter([("text".to_owned(), Value::String(text.clone()))]);
            (text, fields)
        }
        Value::Object(fields) => match fields.get("text") {
            Some(Value::String(text)) => (text.clone(), fields),
            Some(_) => return Err("`text` is no string".to_owned()),
            None => return Err(no_text(&fields)),
        },
        _ => return Err("a prompt is a JSON string, or an object with a `text`".to_owned()),
    };
    if text.trim().is_empty() {
        return Err("the `text` is empty".to_owned());
    }
    Ok(Prompt { text, fields })
}

fn no_text(fields: &Map<String, Value>) -> String {
    let likely = fields.iter().find(|(name, value)| {
        value.is_string()
            && matches!(name.as_str(), "prompt" | "question" | "query" | "input" | "message")
    });
    match likely {
        Some((name, _)) => format!("the object has no `text`; rename `{name}` to `text`"),
        None => "the object has no `text`; the prompt goes there".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(text: &str) -> Vec<String> {
        read_jsonl(text.as_bytes()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn strings_and_objects_are_prompts() {
        let text = "\u{feff}\"one\"\n\n{\"text\": \"two\", \"lang\": \"de\", \"k\": 3}\r\n";
        let prompts = read_jsonl(text.as_bytes()).unwrap();
        assert_eq!(prompts.len(), 2);
        assert_eq!((prompts[0].text.as_str(), prompts[1].text.as_str()), ("one", "two"));
        assert_eq!(prompts[1].fields["k"], 3);
        assert_eq!(prompts[0].fields["text"], "one");
    }

    #[test]
    fn mistakes_name_their_line() {
        let found =
            reasons("\"fine\"\n{\"text\": \n[1]\n{\"question\": \"why\"}\n{\"text\": 3}\n\" \"");
        let starts: Vec<&str> = found.iter().map(|text| &text[..6]).collect();
        assert_eq!(starts, ["line 2", "line 3", "line 4", "line 5", "line 6"]);
        assert!(found[0].contains("ends too early at column"), "{}", found[0]);
        assert!(found[2].contains("rename `question` to `text`"), "{}", found[2]);
        assert!(reasons("\n\n")[0].contains("holds no prompt"));
    }

    #[test]
    fn bad_bytes_are_told() {
        let bad = read_jsonl(b"\"ok\"\n\"\xff\"").unwrap_err();
        assert_eq!(bad[0].line, 2);
        assert!(bad[0].reason.contains("byte 2"));
        let many = "{\n".repeat(1000);
        assert_eq!(read_jsonl(many.as_bytes()).unwrap_err().len(), MAX_BAD_LINES);
    }

    #[test]
    fn fields_are_those_all_prompts_have() {
        let prompts =
            read_jsonl(b"{\"text\":\"a\",\"x\":1,\"y\":2}\n{\"text\":\"b\",\"x\":1}").unwrap();
        let source = Source::new(&Prompts::List(prompts)).unwrap();
        assert_eq!(source.fields(), ["text", "x"]);
        assert_eq!(source.lacking("y"), 1);
        assert_eq!(source.get(2).text, "a");
    }

    #[test]
    fn unknown_presets_are_none() {
        assert!(Source::new(&Prompts::Preset("chatt")).is_none());
        assert!(Source::new(&Prompts::List(Arc::from([]))).is_none());
        assert!(PRESETS.iter().all(|name| Source::new(&Prompts::Preset(name)).is_some()));
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = read_jsonl(&bytes);
        }
    }
}

//! The file as a tree in which every node knows its place: the form in which overlays, settings,
//! variables and profiles are put together before anything is typed.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::diagnostic::Mistake;
use super::place::{Place, Sources};

/// A node of the tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// How a scalar is written, for text options that are given a number.
    pub(super) spelled: String,
    /// Written without quotes, so that it may be a number once its variables are filled in.
    pub(super) plain: bool,
    /// Holds something from the environment, which no message may show.
    pub(super) secret: bool,
    /// Its value was refused; it is passed over from then on.
    pub(super) refused: bool,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Float(f64),
    /// Below zero.
    Int(i64),
    List(Vec<Node>),
    Map(Vec<Entry>),
    Null,
    Text(String),
    /// Zero or above.
    Uint(u64),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Limits that stop hostile files early; a real experiment has a few hundred nodes.
const MAX_NODES: usize = 50_000;
const MAX_DEPTH: usize = 40;
const MAX_SCALARS: usize = 8 * 1024 * 1024;

/// Reads a source into a tree; an error is the first mistake in its YAML.
pub(super) fn parse(sources: &Sources, source: u16, text: &str) -> Result<Node, Box<Mistake>> {
    let options = serde_yaml::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: MAX_NODES },
        budget: serde_yaml::budget! {
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 1,
            max_anchors: 1000,
            max_aliases: 5000,
            max_merge_keys: 1000,
            max_recorded_anchor_events: 4 * MAX_NODES,
            max_recorded_anchor_bytes: MAX_SCALARS,
            max_total_scalar_bytes: MAX_SCALARS,
        },
    };
    match serde_yaml::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(build(raw, sources, source)),
        Err(error) => {
            let place = error
                .location()
                .map_or_else(|| sources.at_offset(source, 0), |at| place(at, sources, source));
            let text = UserMessageFormatter.format_message(&error).into_owned();
            Err(Box::new(explain_syntax(&text, sources, place)))
        }
    }
}

/// Puts a mistake in the YAML itself into words that say what to do.
fn explain_syntax(text: &str, sources: &Sources, place: Place) -> Mistake {
    let line = sources.line(place);
    let mistake = |message: String| Mistake::at(place, message);
    if text.contains("duplicate mapping key") {
        let key = text.rsplit(": ").next().unwrap_or("").trim();
        return mistake(format!("the key `{key}` stands twice in one map"))
            .hint("remove one of them; nothing is ever overwritten silently");
    }
    if text.contains("budget") || text.contains("too large or too complex") {
        return mistake("the file is too large or too deeply nested for an experiment".into())
            .hint(format!("a file may hold {MAX_NODES} values, nested {MAX_DEPTH} deep"));
    }
    let text = text.trim_end_matches('.').to_owned();
    let lead: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    let mut mistake = mistake(format!("this is no valid YAML: {text}"));
    if lead.contains('\t') {
        mistake = mistake.hint("indent with spaces; YAML forbids tabs");
    } else if line.contains("${") && line.contains(['{', '[']) && !line.contains("\"${") {
        mistake = mistake.hint("inside `{ }` and `[ ]`, put `${NAME}` in quotes");
    } else if text.contains("multiple") {
        mistake = mistake.hint("a file holds one experiment; remove the `---` in its middle");
    } else if line.contains(": ") && line.matches(": ").count() > 1 && !line.contains('{') {
        mistake = mistake.hint("put text that contains `: ` in quotes");
    } else if text.contains("indent") || text.contains("did not find expected") {
        mistake = mistake.hint("check the indentation of this line and the one before");
    }
    mistake
}

impl Node {
    pub(super) fn new(value: Value, place: Place) -> Self {
        Self { value, place, spelled: String::new(), plain: false, secret: false, refused: false }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key of this map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => {
                entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
            }
            _ => None,
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a text node.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this or anything in it comes from the environment.
    pub(super) fn holds_secret(&self) -> bool {
        self.secret
            || self.items().iter().any(Self::holds_secret)
            || self.entries().iter().any(|entry| entry.value.holds_secret())
    }

    /// Where this ends, in bytes.
    pub(super) fn last_byte(&self) -> u32 {
        let own = self.place.start + self.place.len;
        let items = self.items().iter();
        let values = self.entries().iter().map(|entry| &entry.value);
        let inner = items.chain(values).filter(|node| node.place.source == self.place.source);
        inner.map(Self::last_byte).fold(own, u32::max)
    }

    /// This in YAML flow form, as written; what comes from the environment as its `${NAME}`.
    pub(super) fn flow(&self, sources: &Sources) -> String {
        match &self.value {
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.flow(sources)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{}: {}", entry.key, entry.value.flow(sources)))
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
            _ if self.secret => clip(sources.slice(self.place)),
            Value::Text(text) => clip(text),
            _ => self.spelled.clone(),
        }
    }

    /// What this is, for messages: "a list", "the text `often`".
    pub(super) fn described(&self) -> String {
        let quoted = |what: &str, text: &str| {
            if self.secret { what.to_owned() } else { format!("{what} `{}`", clip(text)) }
        };
        match &self.value {
            Value::Bool(value) => format!("`{value}`"),
            Value::Float(_) | Value::Int(_) | Value::Uint(_) => quoted("the number", &self.spelled),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Null => "nothing".into(),
            Value::Text(text) => quoted("the text", text),
        }
    }
}

/// Shortens a long text for a message.
pub(super) fn clip(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or("");
    if line.chars().count() > LONGEST || line.len() < text.len() {
        format!("{}…", line.chars().take(LONGEST).collect::<String>())
    } else {
        text.to_owned()
    }
}

/// What a plain scalar means once its variables are filled in.
pub(super) fn resolve_plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') => {
            if let Ok(number) = text.parse() {
                Value::Uint(number)
            } else if let Ok(number) = text.parse() {
                Value::Int(number)
            } else {
                match text.parse::<f64>() {
                    Ok(number) if number.is_finite() => Value::Float(number),
                    _ => Value::Text(text.to_owned()),
                }
            }
        }
        _ => Value::Text(text.to_owned()),
    }
}

/// A node as the YAML library gives it.
enum Raw {
    Bool(bool),
    Float(f64),
    Int(i64),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
    Null,
    Text(String),
    Uint(u64),
}

fn place(at: Location, sources: &Sources, source: u16) -> Place {
    let span = at.span();
    match span.byte_offset() {
        Some(offset) => Place {
            source,
            line: at.line() as u32,
            column: at.column() as u32,
            start: offset as u32,
            len: span.byte_len().unwrap_or(1) as u32,
        },
        None => sources.at_line(source, at.line() as u32, at.column() as u32),
    }
}

fn build(raw: Spanned<Raw>, sources: &Sources, source: u16) -> Node {
    let place = place(raw.referenced, sources, source);
    let written = sources.slice(place);
    let plain = !written.starts_with(['"', '\'', '|', '>', '!', '*']);
    let value = match raw.value {
        Raw::Bool(value) => Value::Bool(value),
        Raw::Float(value) => Value::Float(value),
        Raw::Int(value) => Value::Int(value),
        Raw::Null => Value::Null,
        Raw::Text(text) => Value::Text(text),
        Raw::Uint(value) => Value::Uint(value),
        Raw::List(items) => {
            Value::List(items.into_iter().map(|item| build(item, sources, source)).collect())
        }
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    key_place: self::place(key.referenced, sources, source),
                    key: key.value,
                    value: build(value, sources, source),
                })
                .collect(),
        ),
    };
    let spelled = match &value {
        Value::List(_) | Value::Map(_) | Value::Text(_) => String::new(),
        Value::Bool(value) if !plain => value.to_string(),
        Value::Float(value) if !plain => value.to_string(),
        Value::Int(value) if !plain => value.to_string(),
        Value::Uint(value) if !plain => value.to_string(),
        _ => written.trim().to_owned(),
    };
    Node { value, place, spelled, plain, secret: false, refused: false }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Raw, E> {
        Ok(u64::try_from(value).map_or(Raw::Int(value), Raw::Uint))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Uint(value))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Float(value as f64))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Float(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

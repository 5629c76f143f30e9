//! Placeholders in request templates: `${prompt.text}` and its like, read once, written often.

use serde_json::{Map, Value};

use super::Prompt;
use super::prompt::Source;

/// What every placeholder is drawn from, for one request.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    pub prompt: &'a Prompt,
    pub user: u64,
    pub session: u64,
    /// From 0; `${turn}` counts from 1.
    pub turn: u32,
    pub request: u128,
    /// What was said before in this session.
    pub history: &'a [Said],
}

/// A turn that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub question: String,
    pub answer: String,
}

/// Names besides `prompt.FIELD`.
const NAMES: &[&str] = &["history", "request.id", "session.id", "turn", "user.id"];

/// Whether `${NAME}` is filled in per request (and so is no variable of the file).
pub fn is_placeholder(name: &str) -> bool {
    name.starts_with("prompt.") || NAMES.contains(&name)
}

/// A piece of a template's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    Slot(Slot),
}

/// A placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Field(String),
    History,
    Prompt,
    Request,
    Session,
    Turn,
    User,
}

/// Reads a text with placeholders; `$${` stands for `${` itself.
pub(crate) fn parse(text: &str, prompts: &Source) -> Result<Vec<Segment>, String> {
    let (mut segments, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(found) = rest.find("${") {
        if rest[..found].ends_with('$') {
            literal.push_str(&rest[..found - 1]);
            literal.push_str("${");
            rest = &rest[found + 2..];
            continue;
        }
        literal.push_str(&rest[..found]);
        let inner = &rest[found + 2..];
        let Some(end) = inner.find('}') else {
            return Err("`${` has no `}`; write `$${` for a plain `${`".to_owned());
        };
        let slot = slot(inner[..end].trim(), prompts)?;
        if !literal.is_empty() {
            segments.push(Segment::Literal(std::mem::take(&mut literal)));
        }
        segments.push(Segment::Slot(slot));
        rest = &inner[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        segments.push(Segment::Literal(literal));
    }
    Ok(segments)
}

fn slot(name: &str, prompts: &Source) -> Result<Slot, String> {
    Ok(match name {
        "history" => Slot::History,
        "prompt.text" => Slot::Prompt,
        "request.id" => Slot::Request,
        "session.id" => Slot::Session,
        "turn" => Slot::Turn,
        "user.id" => Slot::User,
        _ => {
            let fields = prompts.fields();
            if let Some(field) = name.strip_prefix("prompt.") {
                if fields.iter().any(|known| known == field) {
                    return Ok(Slot::Field(field.to_owned()));
                }
                let (lacking, all) = (prompts.lacking(field), prompts.count() as usize);
                if matches!(prompts, Source::List(_)) && lacking < all {
                    return Err(format!(
                        "`${{{name}}}`: {lacking} of {all} prompts have no field `{field}`"
                    ));
                }
            }
            return Err(unknown(name, &fields));
        }
    })
}

fn unknown(name: &str, fields: &[String]) -> String {
    let mut known: Vec<String> = fields.iter().map(|field| format!("prompt.{field}")).collect();
    known.extend(NAMES.iter().map(|name| (*name).to_owned()));
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(candidate, name), candidate))
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .filter(|(likeness, _)| *likeness > 0.8);
    match nearest {
        Some((_, candidate)) => {
            format!("unknown placeholder `${{{name}}}`; did you mean `${{{candidate}}}`?")
        }
        None => format!(
            "unknown placeholder `${{{name}}}`; there are {}",
            known.iter().map(|name| format!("`${{{name}}}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}

impl Slot {
    /// Writes the plain text of this placeholder.
    pub(crate) fn write_text(&self, out: &mut String, filling: &Filling<'_>) {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Prompt => out.write_str(&filling.prompt.text),
            Self::Field(name) => match filling.prompt.fields.get(name) {
                Some(Value::String(text)) => out.write_str(text),
                Some(value) => write!(out, "{value}"),
                None => Ok(()),
            },
            Self::History => filling.history.iter().try_for_each(|said| {
                writeln!(out, "user: {}\nassistant: {}", said.question, said.answer)
            }),
            Self::Request => write!(out, "{:032x}", filling.request),
            Self::Session => write!(out, "session-{}", filling.session),
            Self::Turn => write!(out, "{}", u64::from(filling.turn) + 1),
            Self::User => write!(out, "user-{}", filling.user),
        };
    }

    /// The JSON value of a string that is this placeholder and nothing else.
    pub(crate) fn value(&self, filling: &Filling<'_>) -> Value {
        match self {
            Self::Field(name) => filling.prompt.fields.get(name).cloned().unwrap_or(Value::Null),
            Self::History => Value::Array(messages(filling.history).collect()),
            Self::Turn => Value::from(u64::from(filling.turn) + 1),
            Self::Prompt | Self::Request | Self::Session | Self::User => {
                let mut text = String::new();
                self.write_text(&mut text, filling);
                Value::String(text)
            }
        }
    }
}

/// What was said before as chat messages, `role` and `content`.
pub(crate) fn messages(history: &[Said]) -> impl Iterator<Item = Value> {
    let message = |role: &str, content: &str| {
        Value::Object(Map::from_iter([
            ("role".to_owned(), Value::from(role)),
            ("content".to_owned(), Value::from(content)),
        ]))
    };
    history
        .iter()
        .flat_map(move |said| [message("user", &said.question), message("assistant", &said.answer)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Prompts;
    use crate::workload::prompt::read_jsonl;

    fn source(text: &str) -> Source {
        Source::new(&Prompts::List(read_jsonl(text.as_bytes()).unwrap())).unwrap()
    }

    #[test]
    fn texts_split_at_placeholders() {
        let source = source("{\"text\": \"a\", \"lang\": \"de\"}");
        let segments = parse("ask ${prompt.text} in ${ prompt.lang }!", &source).unwrap();
        assert_eq!(
            segments,
            [
                Segment::Literal("ask ".into()),
                Segment::Slot(Slot::Prompt),
                Segment::Literal(" in ".into()),
                Segment::Slot(Slot::Field("lang".into())),
                Segment::Literal("!".into()),
            ]
        );
        assert_eq!(parse("$${turn}", &source).unwrap(), [Segment::Literal("${turn}".into())]);
        assert_eq!(parse("", &source).unwrap(), []);
    }

    #[test]
    fn unknown_names_get_a_hint() {
        let source = source("{\"text\": \"a\", \"lang\": \"de\"}\n\"b\"");
        let error = |text| parse(text, &source).unwrap_err();
        assert!(error("${promt.text}").ends_with("did you mean `${prompt.text}`?"));
        assert!(error("${user_id}").ends_with("did you mean `${user.id}`?"));
        assert!(error("${zzz}").contains("there are `${prompt.text}`"));
        assert_eq!(
            error("${prompt.lang}"),
            "`${prompt.lang}`: 1 of 2 prompts have no field `lang`"
        );
        assert!(error("${turn").contains("has no `}`"));
    }

    #[test]
    fn names_are_told_from_variables() {
        assert!(is_placeholder("prompt.anything") && is_placeholder("user.id"));
        assert!(!is_placeholder("APP_URL") && !is_placeholder("user"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\$|\\{|\\}|[a-zé.]){0,30}") {
            let _ = parse(&text, &source("\"a\""));
        }
    }
}

//! Calls that nobody asked for: of a tool that the request offers, with arguments that fit.

use serde_json::{Map, Value, json};

use crate::dialect::{Called, Offered, Slot};
use crate::exchange::{Event, Item};
use crate::fault::answer::{Opened, Reader};
use crate::fault::{Draw, Orders};

/// Schemas may refer to themselves; this deep arguments go.
const DEPTH: usize = 8;

/// A call that is made up.
pub(super) struct Made {
    id: String,
    name: String,
    arguments: String,
    /// The last event of the answer with content.
    like: Option<Event>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    /// The provider's form for it is not known.
    Unknown,
    Waiting,
}

impl Made {
    /// A call of the tool with this name, or of one that is drawn. None where none is offered.
    pub(super) fn of(offered: &[Offered], name: Option<&str>, draw: &mut Draw) -> Option<Self> {
        let tool = match name {
            Some(name) => offered.iter().find(|tool| tool.name == name)?,
            None => offered.get((draw.unit("tool") * offered.len() as f64) as usize)?,
        };
        let mut dice = draw.fork("id");
        Some(Self {
            id: format!("call_{:016x}{:08x}", dice.bits(), dice.bits() as u32),
            name: tool.name.clone(),
            arguments: fill(&tool.schema, 0).to_string(),
            like: None,
            state: State::Waiting,
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn why_not(&self) -> &'static str {
        match self.state {
            State::Unknown => "this provider's calls cannot be made up",
            State::Done | State::Waiting => "the answer ended without a word that says so",
        }
    }

    /// Adds the call: before an event that ends the answer, or to a whole one, which is given back.
    pub(super) fn add(
        &mut self,
        reader: Reader,
        opened: &Opened,
        item: &Item,
        index: u64,
        out: &mut Orders,
    ) -> Option<Item> {
        if self.state != State::Waiting {
            return None;
        }
        let (dialect, operation) = (reader.dialect, reader.operation);
        let call =
            Called { id: &self.id, name: &self.name, arguments: &self.arguments, index };
        match item {
            Item::Message(body) => {
                let with = dialect.with_call(operation, body, &call);
                self.state = if with.is_some() { State::Done } else { State::Unknown };
                with.map(Item::Message)
            }
            Item::Event(event) if opened.full(Slot::Finish).next().is_some() => {
                let like = self.like.as_ref().unwrap_or(event);
                let Some(events) = dialect.call_events(operation, like, &call) else {
                    self.state = State::Unknown;
                    return None;
                };
                for event in events {
                    out.send(Item::Event(event));
                }
                self.state = State::Done;
                Some(item.clone())
            }
            Item::Event(event) => {
                let content = [Slot::Text, Slot::Arguments, Slot::Choice];
                if content.iter().any(|slot| opened.outline.has(*slot)) {
                    self.like = Some(event.clone());
                }
                None
            }
            Item::Bytes(_) => None,
        }
    }
}

/// A value that fits a schema, as far as its types say.
fn fill(schema: &Value, depth: usize) -> Value {
    if let Some(given) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return given.clone();
    }
    if depth > DEPTH {
        return Value::Null;
    }
    if let Some(one) = schema["anyOf"].get(0).or_else(|| schema["oneOf"].get(0)) {
        return fill(one, depth + 1);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("string") => json!("example"),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("null") => Value::Null,
        _ => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let filled = properties.map(|(name, inner)| (name.clone(), fill(inner, depth + 1)));
            Value::Object(filled.collect::<Map<_, _>>())
        }
    }
}

//! Reads what a request asks for, out of a body that may be cut off anywhere. Which member means
//! what is a dialect's own to say.
//!
//! The JSON is walked once with no tree built; what stood before the cut (or before the first
//! mistake) is kept.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::dialect::class::short;
use crate::exchange::{Facts, Operation};

/// Names of tools that are kept.
const TOOLS: usize = 256;

/// What a member of a request means.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// Messages with roles, or one text that the user says.
    Conversation,
    /// How long the answer may be.
    MaxTokens,
    Model,
    Nothing,
    Stream,
    /// Text of the prompt that the user does not say.
    Text,
    Tools,
    /// An object whose members mean something themselves.
    Within(Members),
}

/// What the members of an object mean, by their names.
pub(super) type Members = fn(&str) -> What;

/// What a request's body says.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) model: Option<String>,
    /// None where the request does not say.
    pub(super) stream: Option<bool>,
    pub(super) max_tokens: Option<u32>,
    /// Bytes of text in the prompt; a token given by number counts as four.
    pub(super) text: u64,
    pub(super) tools: Vec<String>,
    /// Messages of the user.
    pub(super) turn: u32,
    /// The body was read to its end.
    pub(super) whole: bool,
}

impl Asked {
    pub(super) fn read(members: Members, body: &[u8]) -> Self {
        let mut asked = Self::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        asked.whole = Body(&mut asked, members).deserialize(&mut json).is_ok();
        asked
    }

    /// The facts of a request; one that was not read to its end has the length it gives as the
    /// measure of its prompt.
    pub(super) fn facts(self, operation: Operation, headers: &HeaderMap, body: &[u8]) -> Facts {
        let text = if self.whole { self.text } else { self.text.max(declared(headers)) };
        let prompt_tokens = u32::try_from(text / 4).unwrap_or(u32::MAX);
        Facts {
            operation,
            model: self.model,
            stream: self.stream.unwrap_or(false),
            prompt_tokens: if body.is_empty() { 0 } else { prompt_tokens.max(1) },
            max_tokens: self.max_tokens,
            tools: self.tools,
            turn: if operation == Operation::Chat { self.turn } else { 0 },
            ..Facts::default()
        }
    }
}

fn declared(headers: &HeaderMap) -> u64 {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Fills in what was asked while walking an object.
struct Body<'a>(&'a mut Asked, Members);

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(asked, members) = self;
        while let Some(Key(key)) = map.next_key()? {
            match members(&key) {
                What::Conversation => {
                    let mut heard = Heard::default();
                    let read = map.next_value_seed(Text(&mut heard));
                    asked.text += heard.text;
                    asked.turn += heard.turns;
                    read?;
                }
                What::MaxTokens => {
                    let limit: Option<u64> = map.next_value()?;
                    let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
                    asked.max_tokens = limit.or(asked.max_tokens);
                }
                What::Model => {
                    asked.model = map.next_value()?;
                    if let Some(model) = &mut asked.model {
                        model.truncate(short(model).len());
                    }
                }
                What::Nothing => drop(map.next_value::<IgnoredAny>()?),
                What::Stream => asked.stream = map.next_value()?,
                What::Text => {
                    let mut heard = Heard::default();
                    let read = map.next_value_seed(Text(&mut heard));
                    asked.text += heard.text;
                    read?;
                }
                What::Tools => {
                    let mut heard = Heard::default();
                    let read = map.next_value_seed(Tools(&mut heard, &mut asked.tools));
                    asked.text += heard.text;
                    read?;
                }
                What::Within(members) => map.next_value_seed(Nested(asked, members))?,
            }
        }
        Ok(())
    }
}

/// An object within a request; anything else in its place says nothing.
struct Nested<'a>(&'a mut Asked, Members);

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Body(self.0, self.1).visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Nested(&mut *self.0, self.1))?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The name of a member.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// What was found in a conversation.
#[derive(Default)]
struct Heard {
    text: u64,
    turns: u32,
    depth: u32,
    /// Of the message at hand.
    role: Role,
    /// It gives back what a tool has said.
    tool_result: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Role {
    Other,
    #[default]
    Unsaid,
    User,
}

/// What a part of a message is by its name.
enum Part {
    /// A file, a picture, a signature: no text.
    Attachment,
    /// The role of a message, the type of a part.
    Kind,
    Other,
    Result,
}

impl Part {
    fn named(key: &str) -> Self {
        match key {
            "role" | "type" => Self::Kind,
            "file" | "fileData" | "file_data" | "image_url" | "images" | "inlineData"
            | "inline_data" | "input_audio" | "source" | "signature" | "thoughtSignature"
            | "thought_signature" | "cache_control" | "id" | "tool_call_id" | "tool_use_id" => {
                Self::Attachment
            }
            "functionResponse" | "function_response" => Self::Result,
            _ => Self::Other,
        }
    }
}

/// Adds up the text in a value, whatever its shape; attachments and labels are no text. Counts the
/// messages that the user says.
struct Text<'a>(&'a mut Heard);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.text += text.len() as u64;
        // Alone, in place of messages.
        self.0.turns += u32::from(self.0.depth == 0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.depth += 1;
        while seq.next_element_seed(Text(&mut *self.0))?.is_some() {}
        self.0.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let heard = self.0;
        let message = heard.depth <= 1;
        heard.depth += 1;
        if message {
            (heard.role, heard.tool_result) = (Role::Unsaid, false);
        }
        let mut parts = false;
        while let Some(Key(key)) = map.next_key()? {
            parts |= key == "parts";
            match Part::named(&key) {
                Part::Attachment => drop(map.next_value::<IgnoredAny>()?),
                Part::Kind => {
                    let kind: Option<Cow<'_, str>> = map.next_value::<Loose<'_>>()?.0;
                    match kind.as_deref() {
                        Some("user") if message => heard.role = Role::User,
                        Some("tool_result" | "function_call_output") => heard.tool_result = true,
                        _ if message && key == "role" => heard.role = Role::Other,
                        _ => {}
                    }
                }
                Part::Result => {
                    heard.tool_result = true;
                    map.next_value_seed(Text(heard))?;
                }
                Part::Other => map.next_value_seed(Text(heard))?,
            }
        }
        heard.depth -= 1;
        if message && !heard.tool_result {
            // Gemini takes what has no role for the user's.
            let said = heard.role == Role::User || (heard.role == Role::Unsaid && parts);
            heard.turns += u32::from(said);
        }
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.0.text += 4;
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A string, or None in place of anything else.
struct Loose<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let words = super::words::Words::deserialize(json)?;
        Ok(Self((!words.0.is_empty()).then_some(words.0)))
    }
}

/// Takes the names of the tools out of whatever shape they are offered in; their descriptions and
/// schemas are text of the prompt.
struct Tools<'a>(&'a mut Heard, &'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for Tools<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tools<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tools")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Tools(&mut *self.0, &mut *self.1))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(heard, names) = self;
        // A schema within a tool is neither a message nor what somebody says.
        heard.depth = 2;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "name" => {
                    if let Some(name) = map.next_value::<Loose<'_>>()?.0
                        && names.len() < TOOLS
                    {
                        heard.text += name.len() as u64;
                        names.push(short(&name).to_owned());
                    }
                }
                "cache_control" | "type" => drop(map.next_value::<IgnoredAny>()?),
                "custom" | "function" | "functionDeclarations" | "function_declarations" => {
                    map.next_value_seed(Tools(heard, names))?;
                }
                _ => map.next_value_seed(Text(heard))?,
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Reads what a request asks for, out of a body that may be cut off anywhere.
//!
//! The JSON is walked once with no tree built; what stood before the cut (or before the first
//! mistake) is kept.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::dialect::class::short;

/// What a request's body says.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    pub(super) max_tokens: Option<u32>,
    /// Bytes of text in the prompt; a token given by number counts as four.
    pub(super) text: u64,
    /// The body was read to its end.
    pub(super) whole: bool,
}

impl Asked {
    pub(super) fn read(body: &[u8]) -> Self {
        let mut asked = Self::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        asked.whole = Body(&mut asked).deserialize(&mut json).is_ok();
        asked
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Input,
    Instructions,
    MaxCompletionTokens,
    MaxOutputTokens,
    MaxTokens,
    Messages,
    Model,
    Prompt,
    Stream,
    Tools,
    #[serde(other)]
    Other,
}

/// Fills in what was asked while walking the body.
struct Body<'a>(&'a mut Asked);

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
        let asked = self.0;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Input | Key::Instructions | Key::Messages | Key::Prompt | Key::Tools => {
                    map.next_value_seed(Text(&mut asked.text))?;
                }
                Key::MaxCompletionTokens | Key::MaxOutputTokens | Key::MaxTokens => {
                    let limit: Option<u64> = map.next_value()?;
                    let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
                    asked.max_tokens = limit.or(asked.max_tokens);
                }
                Key::Model => {
                    asked.model = map.next_value()?;
                    if let Some(model) = &mut asked.model {
                        model.truncate(short(model).len());
                    }
                }
                Key::Stream => asked.stream = map.next_value::<Option<bool>>()?.unwrap_or(false),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Part {
    #[serde(rename = "file", alias = "image_url", alias = "input_audio")]
    Attachment,
    #[serde(rename = "id", alias = "role", alias = "tool_call_id", alias = "type")]
    Label,
    #[serde(other)]
    Other,
}

/// Adds up the text in a value, whatever its shape; attachments and labels are no text.
struct Text<'a>(&'a mut u64);

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
        *self.0 += text.len() as u64;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Text(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key::<Part>()? {
            match part {
                Part::Attachment | Part::Label => drop(map.next_value::<IgnoredAny>()?),
                Part::Other => map.next_value_seed(Text(&mut *self.0))?,
            }
        }
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        *self.0 += 4;
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
mod tests {
    use super::*;

    #[test]
    fn everything_before_a_cut_is_kept() {
        let body = br#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"12345678"},{"content":"abc"#;
        let asked = Asked::read(body);
        assert_eq!(asked.model.as_deref(), Some("gpt-4o"));
        assert!(asked.stream && !asked.whole);
        assert_eq!(asked.text, 8);
    }

    #[test]
    fn text_is_counted_in_all_shapes() {
        let count = |body: &str| Asked::read(body.as_bytes()).text;
        assert_eq!(count(r#"{"input":"12345678"}"#), 8);
        assert_eq!(count(r#"{"input":["1234","12\n4"]}"#), 8);
        assert_eq!(count(r#"{"input":[[1,2],[3]]}"#), 12);
        let parts = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"data:xxxxxxxx"}}]}]}"#;
        assert_eq!(count(parts), 4);
    }

    #[test]
    fn nulls_mean_unset() {
        let asked = Asked::read(br#"{"model":null,"stream":null,"max_tokens":null}"#);
        assert!(asked.whole && !asked.stream && asked.model.is_none());
        let asked = Asked::read(br#"{"max_completion_tokens":99999999999}"#);
        assert_eq!(asked.max_tokens, Some(u32::MAX));
    }
}

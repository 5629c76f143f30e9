//! Structured answers that break their schema: keys missing or too many, values of the wrong type,
//! JSON that is none. A stream is changed as it passes; only a key that is just being said is kept
//! back until it is whole.

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{self, Lanes, Opened, Reader};
use super::breach::{Breach, How, Key, Told};
use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::{Slot, Spot};
use crate::exchange::{Grain, Item, Level, Operation};

/// An answer in JSON that does not fit what was asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Structured {
    /// How the JSON in the answer's text is broken. Default missing_key.
    #[serde(rename = "break")]
    pub how: Option<Break>,
    /// Which key: a name (`city`: the first key of this name, however deep) or a path from the top
    /// (`$.stops[*].city`). With `extra_key` the name of the key that is added. Default: drawn
    /// among the keys of the schema that the request sent and that fit (required ones, ones with an
    /// `enum`); where none can be read, the first key.
    pub key: Option<String>,
}

/// How JSON is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    /// There is a key that the schema does not have.
    ExtraKey,
    /// A value that is none of those the schema lists.
    InvalidEnum,
    /// The JSON is fenced as Markdown: "```json" before it, "```" behind it.
    MarkdownFence,
    /// A key and its value are not there.
    #[default]
    MissingKey,
    /// A sentence in place of the JSON.
    NotJson,
    /// A value is null.
    NullValue,
    /// A sentence before the JSON.
    Preamble,
    /// A comma before the last bracket.
    TrailingComma,
    /// It ends in the middle of a value, though the answer says that it is complete.
    TruncatedJson,
    /// A number for a text, a text for a number or a boolean, an object for an array, an array for
    /// an object.
    WrongType,
}

impl From<Break> for How {
    fn from(how: Break) -> Self {
        match how {
            Break::ExtraKey => Self::ExtraKey,
            Break::InvalidEnum => Self::InvalidEnum,
            Break::MarkdownFence => Self::Fence,
            Break::MissingKey => Self::MissingKey,
            Break::NotJson => Self::NotJson,
            Break::NullValue => Self::Null,
            Break::Preamble => Self::Preamble,
            Break::TrailingComma => Self::TrailingComma,
            Break::TruncatedJson => Self::Truncated,
            Break::WrongType => Self::WrongType,
        }
    }
}

impl Spec for Structured {
    const NAME: &'static str = "structured";
    const SUMMARY: &'static str =
        "structured output that breaks its schema: missing keys, wrong types, no JSON";
    const EXAMPLE: &'static str = "{ break: wrong_type, key: total }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let how = How::from(self.how.unwrap_or_default());
        let key = checked_key(self.key.as_deref(), how.needs_key() || how == How::ExtraKey)?;
        Ok(Box::new(Loaded { how, key }))
    }
}

/// The key that an option names.
pub(super) fn checked_key(key: Option<&str>, used: bool) -> Result<Option<Key>, Invalid> {
    match key {
        Some(_) if !used => Err(Invalid::new("key", "this way to break it is about no key")),
        Some(key) if key.is_empty() || key.len() > 256 => {
            Err(Invalid::new("key", "write a key or a path of 1 to 256 bytes"))
        }
        key => Ok(key.map(Key::read)),
    }
}

#[derive(Debug)]
struct Loaded {
    how: How,
    key: Option<Key>,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        true
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let exchange = arming.exchange;
        if exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        if exchange.facts.operation != Operation::Chat {
            return Err(Impossible("the request asks for no text of a model"));
        }
        let key = match &self.key {
            Some(key) => key.clone(),
            None if self.how.needs_key() => {
                let schema = arming.dialect.schema(&exchange.body);
                Key::draw(self.how, schema.as_ref(), arming.draw.unit("key"))
                    .ok_or(Impossible("the schema of the request has no such key"))?
            }
            None => Key::First,
        };
        let reader = Reader { dialect: arming.dialect, operation: exchange.facts.operation };
        let lanes = Lanes::new(Slot::Text);
        Ok(Box::new(Breaking { how: self.how, key, reader, lanes, on: true }))
    }
}

struct Breaking {
    how: How,
    key: Key,
    reader: Reader,
    lanes: Lanes<Breach>,
    on: bool,
}

impl Effect for Breaking {
    fn grain(&self) -> Grain {
        Grain::Event
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if let Some(reason) = unreadable(head) {
            out.impossible(reason);
            self.on = false;
        }
    }

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        let opened = if self.on { self.reader.open(&item) } else { None };
        let Some(mut opened) = opened else { return out.send(item) };
        let (how, key) = (self.how, &self.key);
        let mut make = |_: &Opened, _: &Spot| Some(Breach::new(how, key.clone()));
        let mut gone = false;
        if let Item::Event(event) = &item {
            let lanes = &mut self.lanes;
            let passed = lanes.event(at, &mut opened, event, &mut make, &answer::put, &|_| ());
            out.send_all(passed.before);
            gone = passed.gone;
        } else {
            self.lanes.message(&mut opened, &mut make, &answer::put);
        }
        if self.is_broken() {
            out.hit();
        }
        if !gone {
            out.send(opened.close(item));
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if !self.on {
            return;
        }
        out.send_all(self.lanes.end(self.reader, &answer::put, &|_| ()));
        if !self.is_broken() {
            let told = self.lanes.rewrites().next().map(|breach| breach.told);
            let reason = told.and_then(Told::reason);
            out.impossible(reason.unwrap_or("the answer has no text"));
        }
    }
}

impl Breaking {
    fn is_broken(&self) -> bool {
        self.lanes.rewrites().any(|breach| breach.told == Told::Broken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::recorded::{Heard, asked, message, openai, played, streamed, whole};
    use super::super::testing::{arm, build, exchange, invalid, ms};
    use super::*;
    use crate::exchange::Exchange;

    const JSON: &str = r#"{"city":"Oslo","days":3,"unit":"celsius"}"#;
    const PIECES: &[&str] = &["{\"", "city", "\":", "\"Os", "lo\",", "\"days\":3", ",\"unit\":\"cel", "sius\"}"];

    fn request() -> Exchange {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": { "type": "string" },
                "days": { "type": "integer" },
                "unit": { "enum": ["celsius", "kelvin"] },
            },
            "required": ["city", "days", "unit"],
        });
        asked(&json!({ "model": "gpt-4o", "messages": [], "stream": true, "response_format": {
            "type": "json_schema", "json_schema": { "name": "x", "schema": schema },
        } }))
    }

    #[test]
    fn a_stream_breaks_as_a_whole_answer_does() {
        for (yaml, wanted) in [
            ("{ break: missing_key, key: city }", r#"{"days":3,"unit":"celsius"}"#),
            ("{ break: wrong_type, key: days }", r#"{"city":"Oslo","days":"3","unit":"celsius"}"#),
            ("{ break: invalid_enum }", r#"{"city":"Oslo","days":3,"unit":"unlisted_value"}"#),
            ("{ break: null_value, key: $.unit }", r#"{"city":"Oslo","days":3,"unit":null}"#),
            ("{ break: extra_key }", r#"{"additional_info":"none","city":"Oslo","days":3,"unit":"celsius"}"#),
            ("{ break: trailing_comma }", r#"{"city":"Oslo","days":3,"unit":"celsius",}"#),
            ("{ break: truncated_json, key: unit }", r#"{"city":"Oslo","days":3,"unit":"ce"#),
            ("{ break: markdown_fence }", "```json\n{\"city\":\"Oslo\",\"days\":3,\"unit\":\"celsius\"}\n```"),
        ] {
            for upstream in [streamed(PIECES), whole(JSON, 9)] {
                let got = played::<Structured>(openai(), yaml, &request(), &upstream);
                let heard = Heard::of(&got);
                assert_eq!((heard.text.as_str(), got.hit()), (wanted, true), "{yaml}");
                assert_eq!(heard.finish.as_deref(), Some("stop"), "{yaml}");
                assert!(heard.usage.is_some());
            }
        }
        for yaml in ["{ break: not_json }", "{ break: preamble }"] {
            for upstream in [streamed(PIECES), whole(JSON, 9)] {
                let got = played::<Structured>(openai(), yaml, &request(), &upstream);
                let text = Heard::of(&got).text;
                assert!(serde_json::from_str::<Value>(&text).is_err() && text.len() > 30, "{text}");
            }
        }
    }

    #[test]
    fn a_key_of_the_schema_is_drawn() {
        let missing: std::collections::BTreeSet<String> = (0..40)
            .map(|key| {
                let request = Exchange { key: crate::exchange::ExchangeKey(key), ..request() };
                let got = played::<Structured>(openai(), "{}", &request, &whole(JSON, 9));
                Heard::of(&got).text
            })
            .collect();
        assert_eq!(missing.len(), 3, "{missing:?}");
    }

    #[test]
    fn what_cannot_be_broken_says_why() {
        let impossible = |yaml: &str, upstream| {
            played::<Structured>(openai(), yaml, &exchange(1), &upstream).impossible()
        };
        assert_eq!(impossible("{}", whole("Hello.", 2)), Some("the text is no JSON"));
        assert_eq!(
            impossible("{ key: none }", whole(JSON, 2)),
            Some("the JSON has no such key")
        );
        assert_eq!(impossible("{}", message("{}")), Some("the answer has no text"));
        let fault = build::<Structured>("{ break: invalid_enum }");
        let armed = arm(fault.as_ref(), ms(0), &exchange(1));
        assert_eq!(armed.err().unwrap().0, "the schema of the request has no such key");
        assert_eq!(invalid::<Structured>("{ break: not_json, key: a }").field, "key");
        assert_eq!(invalid::<Structured>("{ key: '' }").field, "key");
    }

    proptest! {
        #[test]
        fn events_make_no_difference(cuts in prop::collection::vec(0usize..JSON.len(), 0..8), way in 0usize..4) {
            let mut places = cuts;
            places.extend([0, JSON.len()]);
            places.sort_unstable();
            let pieces: Vec<&str> = places.windows(2).map(|pair| &JSON[pair[0]..pair[1]]).collect();
            let yaml = ["{ key: days }", "{ break: wrong_type, key: city }", "{ break: markdown_fence }", "{ break: truncated_json, key: unit }"][way];
            let text = |upstream| Heard::of(&played::<Structured>(openai(), yaml, &exchange(1), &upstream)).text;
            prop_assert_eq!(text(streamed(&pieces)), text(whole(JSON, 9)));
        }
    }
}

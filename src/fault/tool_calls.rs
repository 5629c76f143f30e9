//! Tool calls that an app cannot carry out: cut or invalid arguments, unknown tools, calls that are
//! there twice, not at all or though nobody asked, numbers that mix them up, a wrong end.

mod calls;
mod made;
mod names;

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use self::calls::Calls;
use self::made::Made;
use self::names::Names;
use super::answer::{self, Lanes, Opened, Reader};
use super::breach::{Breach, How, Key, Told};
use super::place::unreadable;
use super::structured::checked_key;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::{Offered, Reason, Slot, Spot};
use crate::exchange::{Grain, Item, Level, Operation};

/// Tool calls in an answer that are broken, wrong, too many or too few.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCalls {
    /// What is wrong with the calls. Default cut_arguments, or with `finish` alone nothing.
    #[serde(rename = "break")]
    pub how: Option<Break>,
    /// With `unknown_tool`: the name that is called; default the tool's own with `_v2` behind it. With
    /// `spurious`: which of the tools offered is called; default drawn.
    pub name: Option<String>,
    /// Which key of the arguments is meant: a name, or a path from the top (`$.stops[*].city`). Default:
    /// drawn among the keys of the tool's schema that fit; the first key, where the request was too long
    /// to be read.
    pub key: Option<String>,
    /// Which call of the answer, from 1 on. Default: each of them.
    pub call: Option<u64>,
    /// Why the answer ended, where it calls tools: `stop`, `length`, `content_filter` or `tool_calls`.
    /// Default: as the upstream said, even of cut arguments; `tool_calls` with `spurious`.
    pub finish: Option<Reason>,
}

/// What is wrong with calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    /// The arguments end in the middle of a value.
    CutArguments,
    /// The call is there twice, with an id of its own.
    Duplicate,
    /// There is an argument that the schema does not have.
    ExtraKey,
    /// An argument that is none of those the schema lists.
    InvalidEnum,
    /// The arguments are no JSON: there is a comma before the last bracket.
    InvalidJson,
    /// The provider could not read the call itself (Gemini's `MALFORMED_FUNCTION_CALL`): there is
    /// none, and the answer's end says so.
    Malformed,
    /// The call is not there, though the answer says that it ended for one.
    Missing,
    /// An argument is not there.
    MissingKey,
    /// Streams: the deltas do not say which call they belong to.
    NoIndex,
    /// An argument is null.
    NullValue,
    /// An argument has another name.
    RenamedKey,
    /// Streams: all deltas say that they belong to the first call.
    SameIndex,
    /// A call that nobody asked for, with arguments that fit its schema.
    Spurious,
    /// A tool is called that was not offered.
    UnknownTool,
    /// An argument has another type.
    WrongType,
}

impl Break {
    /// How the arguments are broken, where it is about them.
    fn of_arguments(self) -> Option<How> {
        Some(match self {
            Self::CutArguments => How::Truncated,
            Self::ExtraKey => How::ExtraKey,
            Self::InvalidEnum => How::InvalidEnum,
            Self::InvalidJson => How::TrailingComma,
            Self::MissingKey => How::MissingKey,
            Self::NullValue => How::Null,
            Self::RenamedKey => How::RenamedKey,
            Self::WrongType => How::WrongType,
            _ => return None,
        })
    }
}

impl Spec for ToolCalls {
    const NAME: &'static str = "tool_calls";
    const SUMMARY: &'static str =
        "tool calls with cut or wrong arguments, of unknown tools, twice, missing or made up";
    const EXAMPLE: &'static str = "{ break: unknown_tool }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let how = self.how.or_else(|| self.finish.is_none().then_some(Break::CutArguments));
        if self.name.is_some() && !matches!(how, Some(Break::UnknownTool | Break::Spurious)) {
            let reason = "`name` goes with `break: unknown_tool` or `break: spurious`";
            return Err(Invalid::new("name", reason));
        }
        if self.name.as_deref().is_some_and(|name| name.is_empty() || name.len() > 256) {
            return Err(Invalid::new("name", "write a name of 1 to 256 bytes"));
        }
        if self.call == Some(0) {
            return Err(Invalid::new("call", "calls are counted from 1"));
        }
        if self.call.is_some() && how == Some(Break::Spurious) {
            return Err(Invalid::new("call", "`spurious` adds a call; it changes none"));
        }
        if how == Some(Break::Malformed) && self.finish.is_some() {
            let reason = "with `break: malformed` the answer ends in the provider's own word";
            return Err(Invalid::new("finish", reason));
        }
        let arguments = how.and_then(Break::of_arguments);
        let used = arguments.is_some_and(|how| how.needs_key() || how == How::ExtraKey);
        let key = checked_key(self.key.as_deref(), used)?;
        let (name, call, finish) = (self.name.clone(), self.call, self.finish);
        Ok(Box::new(Loaded { how, name, key, call, finish }))
    }
}

#[derive(Debug)]
struct Loaded {
    how: Option<Break>,
    name: Option<String>,
    key: Option<Key>,
    call: Option<u64>,
    finish: Option<Reason>,
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
        let operation = exchange.facts.operation;
        if operation != Operation::Chat {
            return Err(Impossible("the request asks no model that could call tools"));
        }
        let reader = Reader { dialect: arming.dialect, operation };
        let offered = arming.dialect.offered(&exchange.body);
        let word = |reason| {
            let none = Impossible("this provider has no word for such an end");
            arming.dialect.reason(operation, reason).ok_or(none)
        };
        let mut finish = self.finish.map(word).transpose()?;
        let mut made = None;
        match self.how {
            Some(Break::Malformed) => {
                let none = Impossible("this provider passes calls on as the model wrote them");
                finish = Some(arming.dialect.malformed_call(operation).ok_or(none)?);
            }
            Some(Break::Spurious) => {
                finish = Some(finish.map_or_else(|| word(Reason::ToolCalls), Ok)?);
                let call = Made::of(&offered, self.name.as_deref(), arming.draw);
                made = Some(call.ok_or(Impossible("the request does not offer the tool"))?);
            }
            _ => {}
        }
        Ok(Box::new(Calling {
            reader,
            how: self.how,
            arguments: self.how.and_then(Break::of_arguments).map(|how| Arguments {
                how,
                key: self.key.clone(),
                drawn: arming.draw.unit("key"),
                offered: offered.clone(),
            }),
            names: Names::new(self.name.clone(), &offered),
            finish,
            made,
            calls: Calls::new(self.call),
            lanes: Lanes::new(Slot::Arguments),
            on: true,
            hit: false,
            told: None,
        }))
    }
}

/// How the arguments of each call are broken.
struct Arguments {
    how: How,
    key: Option<Key>,
    drawn: f64,
    offered: Vec<Offered>,
}

impl Arguments {
    /// The break of a call of this tool; None where its schema has no key that fits.
    fn breach(&self, tool: &str) -> Option<Breach> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None if self.how.needs_key() => {
                let tool = self.offered.iter().find(|offered| offered.name == tool);
                Key::draw(self.how, tool.map(|tool| &tool.schema), self.drawn)?
            }
            None => Key::First,
        };
        Some(Breach::new(self.how, key))
    }
}

struct Calling {
    reader: Reader,
    how: Option<Break>,
    arguments: Option<Arguments>,
    names: Names,
    /// The word for the answer's end.
    finish: Option<&'static str>,
    /// A call that nobody asked for.
    made: Option<Made>,
    calls: Calls,
    lanes: Lanes<Breach>,
    on: bool,
    hit: bool,
    /// Why nothing was done, where it is known.
    told: Option<&'static str>,
}

impl Effect for Calling {
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
        self.calls.see(&opened);
        let mut item = item;
        let mut gone = false;
        if let Some(made) = &mut self.made {
            let index = self.calls.next_index();
            if let Some(with) = made.add(self.reader, &opened, &item, index, out) {
                self.hit = true;
                item = with;
                match self.reader.open(&item) {
                    Some(with) => opened = with,
                    None => return out.send(item),
                }
            }
        }
        if self.arguments.is_some() {
            gone = self.change_arguments(at, &mut opened, &item, out);
        }
        match self.how {
            Some(Break::UnknownTool) => self.hit |= self.names.change(&mut opened, &self.calls),
            Some(Break::Missing | Break::Malformed) => {
                let (some, all) = self.calls.remove(&mut opened, matches!(item, Item::Event(_)));
                self.hit |= some;
                gone |= all;
            }
            Some(Break::Duplicate) => {
                self.hit |= self.calls.double(&mut opened, &item, self.reader, out);
            }
            Some(Break::NoIndex) => self.hit |= self.calls.without_index(&mut opened),
            Some(Break::SameIndex) => self.hit |= self.calls.at_one_index(&mut opened),
            _ => {}
        }
        let calls = self.calls.any() || self.made.as_ref().is_some_and(Made::is_done);
        if let Some(word) = self.finish.filter(|_| calls) {
            self.hit |= opened.end_for(word);
        }
        if self.hit {
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
        if self.hit {
            return;
        }
        let made = self.made.as_ref().map(Made::why_not);
        let breach = self.lanes.rewrites().find_map(|breach| breach.told.reason());
        match (made, self.how) {
            (Some(reason), _) => out.impossible(reason),
            _ if !self.calls.any() => out.impossible("the answer calls no tool"),
            _ if self.calls.lacks_chosen() => out.impossible("the answer has not so many calls"),
            _ if self.lanes.refused => {
                out.impossible("the arguments are an object of the answer's own JSON");
            }
            (_, Some(Break::NoIndex | Break::SameIndex)) if !self.calls.has_index() => {
                out.impossible("the calls have no numbers");
            }
            (_, Some(Break::SameIndex)) => out.let_go("there is one call alone"),
            _ => match breach.or(self.told) {
                Some(reason) => out.impossible(reason),
                None => out.let_go("the answer said so already"),
            },
        }
    }
}

impl Calling {
    /// Breaks the arguments in a piece; whether nothing is left of it.
    fn change_arguments(
        &mut self,
        at: Duration,
        opened: &mut Opened,
        item: &Item,
        out: &mut Orders,
    ) -> bool {
        let Some(arguments) = &self.arguments else { return false };
        let (calls, told) = (&self.calls, &mut self.told);
        let mut make = |opened: &Opened, spot: &Spot| {
            let call = calls.of(opened, spot)?;
            if !calls.is_chosen(call) {
                return None;
            }
            let breach = arguments.breach(calls.name(call));
            if breach.is_none() {
                *told = Some("the tool's schema has no such key");
            }
            breach
        };
        let mut gone = false;
        if let Item::Event(event) = item {
            let lanes = &mut self.lanes;
            let passed = lanes.event(at, opened, event, &mut make, &answer::put, &|_| ());
            out.send_all(passed.before);
            gone = passed.gone;
        } else {
            self.lanes.message(opened, &mut make, &answer::put);
        }
        // Of an object that would be none any more nothing was changed.
        let broken = |breach: &Breach| breach.told == Told::Broken;
        self.hit |= self.lanes.changed && self.lanes.rewrites().any(broken);
        gone
    }
}

#[cfg(test)]
mod tests;

//! An error that breaks into a running stream: as the provider's own event, with or without its
//! terminal event behind it, or as text of the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::response;

use crate::dialect::{Dialect, Failure, Slot, SoFar, inband_message};
use crate::exchange::{Event, Grain, Item, Level, Operation, Transport};
use crate::fault::lengths::Lengths;
use crate::fault::place::{Follower, Found, unreadable};
use crate::fault::{Arming, Effect, Ending, Fault, Impossible, NO_REQUESTS, Orders, Place};
use crate::wire::json::Edits;

/// What a gateway says that could not finish.
const ERROR_FINISH: &str = "error_finish";

/// Breaks into a running stream.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) place: Place,
    pub(super) class: Arc<str>,
    pub(super) message: Option<Arc<str>>,
    /// The end of a gRPC call.
    pub(super) status: Event,
    pub(super) then_done: bool,
    pub(super) as_content: bool,
    pub(super) lengths: Arc<Lengths>,
}

impl Fault for Inside {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let dialect: &'static dyn Dialect = arming.dialect;
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        let words = || self.message.as_deref().unwrap_or_else(|| inband_message(&self.class));
        let said = Said {
            class: Arc::clone(&self.class),
            message: self.message.clone(),
            model: arming.exchange.facts.model.clone(),
            request: arming.exchange.body.clone(),
            id: arming.draw.fork("id").bits(),
            dialect,
        };
        let transport = arming.exchange.transport;
        let http = !matches!(transport, Transport::Grpc | Transport::WebSocket);
        if !http && (self.then_done || self.as_content) {
            return Err(Impossible("streams of this kind have no terminal event, and no other text"));
        }
        let events = match transport {
            Transport::Grpc => vec![self.status.clone()],
            Transport::WebSocket => dialect.socket_error(words()).into_iter().collect(),
            _ => said.behind(&SoFar::default()),
        };
        if events.is_empty() {
            return Err(Impossible("this kind of dependency reports no errors inside a stream"));
        }
        Ok(Box::new(Breaking {
            events,
            said: http.then_some(said),
            so_far: SoFar::default(),
            then_done: self.then_done,
            as_content: self.as_content,
            follower: Some(Follower::new(self.place, &self.lengths, arming)),
            dialect,
            operation: arming.exchange.facts.operation,
        }))
    }
}

/// A failure that is said inside a stream of events.
struct Said {
    class: Arc<str>,
    message: Option<Arc<str>>,
    model: Option<String>,
    request: Bytes,
    id: u64,
    dialect: &'static dyn Dialect,
}

impl Said {
    /// The events, as they follow on what has passed.
    fn behind(&self, so_far: &SoFar) -> Vec<Event> {
        let (class, message) = (Some(&*self.class), self.message.as_deref());
        let model = self.model.as_deref();
        let request = &self.request[..];
        let failure = Failure { class, message, model, request, id: self.id, ..Failure::default() };
        self.dialect.failing(&failure, so_far)
    }
}

struct Breaking {
    events: Vec<Event>,
    /// Where the events depend on those before them.
    said: Option<Said>,
    so_far: SoFar,
    /// The terminal event follows.
    then_done: bool,
    /// The error stands in the text of the answer.
    as_content: bool,
    /// None when there is nothing to look for.
    follower: Option<Follower>,
    dialect: &'static dyn Dialect,
    operation: Operation,
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
            self.follower = None;
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        let Some(follower) = &mut self.follower else { return out.send(item) };
        if matches!(item, Item::Message(_)) {
            out.impossible("the answer is no stream");
            self.follower = None;
            return out.send(item);
        }
        if follower.step(&item) != Found::Before {
            if let (true, Item::Event(event)) = (self.said.is_some(), &item) {
                self.so_far.add(self.dialect, self.operation, event);
            }
            return out.send(item);
        }
        let tokens = follower.seen.tokens;
        match self.events_at(&item) {
            Ok(events) => {
                out.note("reached_tokens", tokens as f64);
                events.into_iter().for_each(|event| out.send(Item::Event(event)));
                out.end(Ending::Clean);
            }
            Err(reason) => {
                out.impossible(reason);
                self.follower = None;
                out.send(item);
            }
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if self.follower.is_some() {
            out.impossible("the answer ended before the error");
        }
    }
}

impl Breaking {
    /// What is said in the place of this piece and all behind it.
    fn events_at(&mut self, item: &Item) -> Result<Vec<Event>, &'static str> {
        let mut events = match &self.said {
            Some(said) => said.behind(&self.so_far),
            None => std::mem::take(&mut self.events),
        };
        if self.as_content {
            let here = match item {
                Item::Event(event) => Some(event),
                _ => None,
            };
            let error = events.iter().map(|event| &event.data[..]).collect::<Vec<_>>().concat();
            let shapes = [here, self.so_far.last.as_ref()].into_iter().flatten();
            let said = shapes.map(|like| self.content(like, &error)).find(|said| !said.is_empty());
            return said.ok_or("the stream has no text in which the error could stand");
        }
        if self.then_done {
            let done = self.dialect.terminal_event(self.operation, &self.so_far);
            events.push(done.ok_or("streams of this kind have no terminal event")?);
        }
        Ok(events)
    }

    /// The error as text of an answer, in an event shaped like this one, and the end behind it; empty
    /// where it has no text.
    fn content(&self, like: &Event, error: &[u8]) -> Vec<Event> {
        let payload = self.dialect.payload(like);
        let outline = self.dialect.outline(self.operation, &payload);
        let Some(spot) = outline.each(Slot::Text).find(|spot| spot.text(&payload).is_some()) else {
            return Vec::new();
        };
        let mut edits = Edits::default();
        edits.set_text(spot.span.clone(), &String::from_utf8_lossy(error));
        let said = self.dialect.with_payload(like, &edits.apply(&payload));
        let mut so_far = self.so_far.clone();
        so_far.add(self.dialect, self.operation, &said);
        let end = self.dialect.ending(self.operation, &so_far, ERROR_FINISH);
        std::iter::once(said).chain(end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use crate::dialect::by_kind;
    use crate::fault::testing::{Played, Upstream, build, invalid, ms, play_one};

    const STREAM: &[&str] = &[
        r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]}"#,
        "[DONE]",
    ];

    fn broken(yaml: &str) -> Played {
        let upstream = Upstream::sse(STREAM, ms(1));
        play_one(by_kind("openai").unwrap(), build::<Error>(yaml).as_ref(), &upstream)
    }

    #[test]
    fn the_terminal_event_may_follow_the_error() {
        let error = r#"{"error":{"code":null,"message":"gone","param":null,"type":"server_error"}}"#;
        let plain = broken("{ after: 1 token, message: gone }");
        let done = broken("{ after: 1 token, message: gone, then_done: true }");
        let got: serde_json::Value =
            serde_json::from_str(plain.text().strip_prefix(STREAM[0]).unwrap()).unwrap();
        assert_eq!(got, serde_json::from_str::<serde_json::Value>(error).unwrap());
        assert_eq!(done.text(), format!("{} [DONE]", plain.text()));
    }

    #[test]
    fn a_gateway_says_it_as_content() {
        let played = broken("{ after: 1 token, message: gone, as_content: true }");
        let events: Vec<serde_json::Value> = played.sent[1..3]
            .iter()
            .map(|(_, item)| {
                let text = String::from_utf8(item.raw().to_vec()).unwrap();
                serde_json::from_str(text.trim().strip_prefix("data: ").unwrap()).unwrap()
            })
            .collect();
        let content = events[0]["choices"][0]["delta"]["content"].as_str().unwrap();
        assert!(content.contains(r#""message":"gone""#), "{content}");
        assert_eq!(events[1]["choices"][0]["finish_reason"], "error_finish");
        assert!(played.text().ends_with("[DONE]") && played.sent.len() == 4);
    }

    #[test]
    fn both_are_about_streams() {
        assert_eq!(invalid::<Error>("{ status: 500, then_done: true }").field, "then_done");
        assert_eq!(invalid::<Error>("{ status: 500, as_content: true }").field, "as_content");
    }
}

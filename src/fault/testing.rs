//! What the tests of faults share: a small dialect, exchanges, and a pump in virtual time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, request, response};

use super::{Arming, Chain, Draw, Ending, Fault, Fired, Impossible, Invalid, Order, Spec};
use crate::dialect::{Answer, Dialect, Failure, Finish, Quota, Reading};
use crate::dice::Dice;
use crate::exchange::{
    Event, Exchange, ExchangeKey, Facts, Grain, Item, Level, Operation, Transport,
};

/// A provider whose events are `t…` (a token), `role`, `finish:WHY`, `usage:P,C` and `[DONE]`;
/// its whole answers are words, each a token.
#[derive(Debug)]
pub(super) struct Toy;

impl Dialect for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn facts(&self, _: &Method, _: &Uri, _: &HeaderMap, _: &[u8]) -> Facts {
        Facts::default()
    }

    fn read_event(&self, _: Operation, event: &Event) -> Reading {
        let data = String::from_utf8_lossy(&event.data).into_owned();
        let usage = data.strip_prefix("usage:").and_then(|rest| {
            let (prompt, completion) = rest.split_once(',')?;
            Some((prompt.parse().ok()?, completion.parse().ok()?))
        });
        Reading {
            tokens: u32::from(data.starts_with('t')),
            finish: data.strip_prefix("finish:").map(str::to_owned),
            done: data == "[DONE]",
            usage,
            text: data,
            error: None,
        }
    }

    fn read_message(&self, _: Operation, body: &[u8]) -> Reading {
        let text = String::from_utf8_lossy(body).into_owned();
        let tokens = text.split_whitespace().count() as u32;
        Reading { tokens, usage: Some((7, tokens)), text, ..Reading::default() }
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let status = failure.status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        if let Some(time) = failure.retry_after {
            headers.push(("Retry-After".to_owned(), time.as_secs_f64().ceil().to_string()));
            headers.push(("Retry-After-Ms".to_owned(), time.as_millis().to_string()));
        }
        if let Some(quota) = &failure.quota {
            headers.extend(self.quota_headers(quota).into_iter().map(|(k, v)| (k.to_owned(), v)));
        }
        let body = format!(
            "{} {}",
            failure.class.unwrap_or("plain"),
            failure.message.unwrap_or("no message")
        );
        Answer { status, headers, body: body.into() }
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if let Some(gauge) = quota.requests {
            headers.push(("x-toy-limit", gauge.limit.to_string()));
            headers.push(("x-toy-left", gauge.remaining.to_string()));
            headers.push(("x-toy-reset", gauge.reset.as_millis().to_string()));
        }
        if let Some(gauge) = quota.tokens {
            headers.push(("x-toy-left-tokens", gauge.remaining.to_string()));
        }
        headers
    }

    fn finish_events(&self, _: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        vec![like.with_data(format!("finish:{}", finish.reason)), like.with_data("[DONE]")]
    }

    fn shorten(&self, _: Operation, body: &[u8], share: f64, reason: &str) -> Option<Bytes> {
        let text = std::str::from_utf8(body).ok()?;
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() {
            return None;
        }
        let kept = (words.len() as f64 * share).round() as usize;
        Some(Bytes::from(format!("{} ({reason})", words[..kept].join(" "))))
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        Some(Event::sse(format!("error:{message}")))
    }
}

/// An exchange with this key and model `m`, as a streamed chat.
pub(super) fn exchange(key: u64) -> Exchange {
    Exchange {
        dependency: Arc::from("llm"),
        level: Default::default(),
        transport: Default::default(),
        key: ExchangeKey(key),
        ordinal: 0,
        method: Method::POST,
        uri: Uri::from_static("/v1/chat/completions"),
        headers: HeaderMap::new(),
        facts: Facts {
            operation: Operation::Chat,
            model: Some("m".to_owned()),
            stream: true,
            prompt_tokens: 10,
            max_tokens: Some(100),
            ..Facts::default()
        },
        body: Bytes::new(),
        user: None,
        session: None,
        api_key: Some(1),
    }
}

/// A handshake for a WebSocket with this key.
pub(super) fn socket(key: u64) -> Exchange {
    Exchange { transport: Transport::WebSocket, ..exchange(key) }
}

/// A raw connection with this key.
pub(super) fn connection(key: u64) -> Exchange {
    let (level, transport) = (Level::Connection, Transport::Tcp);
    let facts = Facts::default();
    Exchange { level, transport, facts, method: Method::CONNECT, ..exchange(key) }
}

/// Reads the options of a kind from YAML flow form.
pub(super) fn spec<S: Spec>(yaml: &str) -> S {
    serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

/// A loaded fault.
pub(super) fn build<S: Spec>(yaml: &str) -> Arc<dyn Fault> {
    Arc::from(spec::<S>(yaml).build().unwrap_or_else(|error| panic!("{yaml}: {error}")))
}

/// Why options do not fit together.
pub(super) fn invalid<S: Spec>(yaml: &str) -> Invalid {
    spec::<S>(yaml).build().expect_err(yaml)
}

/// What an upstream answers, and when.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    /// From the call to the head.
    pub(super) took: Duration,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Pieces and their times since the head.
    pub(super) items: Vec<(Duration, Item)>,
}

impl Upstream {
    /// A stream with a role event, this many tokens, a finish event and `[DONE]`.
    pub(super) fn stream(tokens: usize, gap: Duration) -> Self {
        let mut data = vec!["role".to_owned()];
        data.extend((0..tokens).map(|i| format!("t{i}")));
        data.extend(["finish:stop".to_owned(), "[DONE]".to_owned()]);
        let items = data
            .into_iter()
            .enumerate()
            .map(|(i, data)| (gap * i as u32, Item::Event(Event::sse(data))))
            .collect();
        Self::events(items)
    }

    /// A stream of SSE events with these payloads, so long after each other.
    pub(super) fn sse(data: &[&str], gap: Duration) -> Self {
        let item = |(i, data): (usize, &&str)| (gap * i as u32, Item::Event(Event::sse(data)));
        Self::events(data.iter().enumerate().map(item).collect())
    }

    pub(super) fn events(items: Vec<(Duration, Item)>) -> Self {
        Self { took: ms(10), status: StatusCode::OK, headers: HeaderMap::new(), items }
    }

    /// The same with the content type of SSE in its head.
    pub(super) fn typed(mut self) -> Self {
        let kind = http::HeaderValue::from_static("text/event-stream");
        self.headers.insert("content-type", kind);
        self
    }

    /// A whole answer of this many tokens.
    pub(super) fn message(tokens: usize) -> Self {
        let body = vec!["word"; tokens].join(" ");
        let mut headers = HeaderMap::new();
        headers.insert("content-length", body.len().into());
        let items = vec![(Duration::ZERO, Item::Message(body.into()))];
        Self { took: ms(10), status: StatusCode::OK, headers, items }
    }
}

/// What the client and the upstream saw of an exchange.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// When the upstream was called.
    pub(super) called: Option<Duration>,
    /// When the head was passed on.
    pub(super) head: Option<(Duration, response::Parts)>,
    pub(super) answer: Option<(Duration, Answer)>,
    pub(super) sent: Vec<(Duration, Item)>,
    pub(super) ending: Option<(Duration, Ending)>,
    /// It ended with keep-alives for ever, of which three were sent.
    pub(super) endless: bool,
    /// How many pieces were sent before each order to join the next one to them.
    pub(super) joins: Vec<usize>,
    pub(super) end: Duration,
    pub(super) fired: Vec<Fired>,
    pub(super) grain: Grain,
}

impl Played {
    /// The text of what was sent: event payloads joined by spaces, or the bytes.
    pub(super) fn text(&self) -> String {
        let text = |item: &Item| match item {
            Item::Event(event) if event.data.is_empty() => ":".to_owned(),
            Item::Event(event) => String::from_utf8_lossy(&event.data).into_owned(),
            other => String::from_utf8_lossy(other.raw()).into_owned(),
        };
        self.sent.iter().map(|(_, item)| text(item)).collect::<Vec<_>>().join(" ")
    }

    /// When the first piece came whose text begins so.
    pub(super) fn time_of(&self, start: &str) -> Duration {
        let found = self.sent.iter().find(|(_, item)| match item {
            Item::Event(event) => event.data.starts_with(start.as_bytes()),
            other => other.raw().starts_with(start.as_bytes()),
        });
        found.unwrap_or_else(|| panic!("no `{start}` in {:?}", self.text())).0
    }

    pub(super) fn ended(&self) -> Option<Ending> {
        self.ending.map(|(_, ending)| ending)
    }

    pub(super) fn hit(&self) -> bool {
        self.fired.iter().any(|fired| fired.hit)
    }

    pub(super) fn impossible(&self) -> Option<&'static str> {
        self.fired.iter().find_map(|fired| fired.impossible)
    }

    pub(super) fn let_go(&self) -> Option<&'static str> {
        self.fired.iter().find_map(|fired| fired.let_go)
    }

    pub(super) fn note(&self, name: &str) -> Option<f64> {
        let notes = self.fired.iter().flat_map(|fired| &fired.notes);
        notes.filter(|(noted, _)| *noted == name).map(|(_, value)| *value).next_back()
    }
}

/// The draw of an exchange under seed 42.
pub(super) fn draw(exchange: &Exchange) -> Draw {
    let dice = Dice::from_seed(42).fork("fault").fork_number(exchange.key.0);
    Draw::new(dice.fork_number(exchange.ordinal.into()))
}

/// Arms a fault for an exchange.
pub(super) fn arm(
    fault: &dyn Fault,
    at: Duration,
    exchange: &Exchange,
) -> Result<(Box<dyn super::Effect>, Draw), Impossible> {
    arm_with(fault, at, exchange, &Toy)
}

/// Arms a fault for an exchange of a dialect.
pub(super) fn arm_with(
    fault: &dyn Fault,
    at: Duration,
    exchange: &Exchange,
    dialect: &'static dyn Dialect,
) -> Result<(Box<dyn super::Effect>, Draw), Impossible> {
    let mut draw = draw(exchange);
    let (epoch, draw_from) = (Duration::ZERO, &mut draw);
    let mut arming = Arming { at, epoch, exchange, dialect, draw: draw_from };
    let effect = fault.arm(&mut arming)?;
    Ok((effect, draw))
}

/// Plays one exchange of this dialect through one fault.
pub(super) fn play_one(
    dialect: &'static dyn Dialect,
    fault: &dyn Fault,
    upstream: &Upstream,
) -> Played {
    let mut chain = Chain::default();
    chain.push(0, arm_with(fault, Duration::ZERO, &exchange(1), dialect).unwrap().0);
    finish(chain, Duration::ZERO, upstream)
}

/// Plays one exchange through faults, in order.
pub(super) fn play(faults: &[&dyn Fault], exchange: &Exchange, upstream: &Upstream) -> Played {
    play_at(Duration::ZERO, faults, exchange, upstream)
}

/// Plays one exchange that begins at this time; the chain is dropped at its end.
pub(super) fn play_at(
    at: Duration,
    faults: &[&dyn Fault],
    exchange: &Exchange,
    upstream: &Upstream,
) -> Played {
    play_as(&Toy, at, faults, exchange, upstream).unwrap()
}

/// The same for a dependency of this dialect.
pub(super) fn play_in(
    dialect: &'static dyn Dialect,
    at: Duration,
    faults: &[&dyn Fault],
    exchange: &Exchange,
    upstream: &Upstream,
) -> Played {
    play_as(dialect, at, faults, exchange, upstream).unwrap()
}

/// The same; an error where a fault cannot be armed.
pub(super) fn play_as(
    dialect: &'static dyn Dialect,
    at: Duration,
    faults: &[&dyn Fault],
    exchange: &Exchange,
    upstream: &Upstream,
) -> Result<Played, Impossible> {
    let mut chain = Chain::default();
    for (index, fault) in faults.iter().enumerate() {
        chain.push(index, arm_with(*fault, at, exchange, dialect)?.0);
    }
    Ok(finish(chain, at, upstream))
}

fn finish(mut chain: Chain, at: Duration, upstream: &Upstream) -> Played {
    let mut pump = Pump { now: at, played: Played { grain: chain.grain(), ..Played::default() } };
    pump.run(&mut chain, upstream);
    pump.played.end = pump.now;
    pump.played.fired = chain.fired().cloned().collect();
    pump.played
}

struct Pump {
    now: Duration,
    played: Played,
}

impl Pump {
    fn run(&mut self, chain: &mut Chain, upstream: &Upstream) {
        let (mut request, ()) = request::Request::new(()).into_parts();
        let mut asked = (0..chain.len()).collect::<VecDeque<_>>();
        let mut rounds = 0;
        while let Some(index) = asked.pop_front() {
            let orders = chain.on_request(index, self.now, &mut request);
            if orders.iter().any(|order| matches!(order, Order::Again(_))) {
                asked.push_front(index);
                rounds += 1;
                assert!(rounds < 100_000, "a busy spin");
            }
            if self.carry_out(orders) {
                return;
            }
        }
        self.played.called = Some(self.now);
        let (mut head, ()) = response::Response::new(()).into_parts();
        head.status = upstream.status;
        head.headers = upstream.headers.clone();
        let came = self.now + upstream.took;
        self.now = came;
        for index in 0..chain.len() {
            let orders = chain.on_response(index, self.now, upstream.took, &mut head);
            if self.carry_out(orders) {
                return;
            }
        }
        self.played.head = Some((self.now, head));
        for (after, item) in &upstream.items {
            if self.ring(chain, came + *after) {
                return;
            }
            self.now = self.now.max(came + *after);
            let orders = chain.on_item(self.now, item.clone());
            if self.carry_out(orders) {
                return;
            }
        }
        let orders = chain.on_end(self.now);
        self.carry_out(orders);
    }

    /// Tells the effects of the times that lie before this one. Whether the exchange is over.
    fn ring(&mut self, chain: &mut Chain, until: Duration) -> bool {
        while let Some(due) = chain.due().filter(|due| *due < until) {
            self.now = self.now.max(due);
            let orders = chain.on_due(self.now);
            assert_ne!(chain.due(), Some(due), "a busy spin");
            if self.carry_out(orders) {
                return true;
            }
        }
        false
    }

    /// Whether the exchange is over.
    fn carry_out(&mut self, orders: Vec<Order>) -> bool {
        for order in orders {
            match order {
                Order::Again(time) => {
                    assert!(!time.is_zero(), "a busy spin");
                    self.now += time;
                }
                Order::Answer(answer) => {
                    self.played.answer = Some((self.now, answer));
                    return true;
                }
                Order::Certificate(_) => unreachable!("no handshake is played"),
                Order::End(ending) => {
                    self.played.ending = Some((self.now, ending));
                    return true;
                }
                Order::Join => self.played.joins.push(self.played.sent.len()),
                Order::Pulse(mut pulse) => {
                    if pulse.time.is_none() {
                        self.played.endless = true;
                        // Three are as good as all.
                        pulse.time = Some(pulse.every * 3 + pulse.every / 2);
                    }
                    while let Some((wait, beats)) = pulse.step() {
                        self.now += wait;
                        if beats {
                            self.played.sent.push((self.now, pulse.item.clone()));
                        }
                    }
                    if self.played.endless {
                        return true;
                    }
                }
                Order::Send(item) => self.played.sent.push((self.now, item)),
                Order::Wait(time) => self.now += time,
            }
        }
        false
    }
}

/// Milliseconds.
pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

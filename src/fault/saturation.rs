//! A finite machine in front of the upstream: slots, a line, prefill and decoding at limited
//! speed, cold starts. Waiting grows with the load, and a line that is full refuses.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, request, response};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::machine::{Capacity, Machine, Number, Turn};
use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::{Answer, Dialect, Failure};
use crate::exchange::{Grain, Item, Level, Operation};
use crate::units::Span;

/// How far a stream may fall behind its schedule and still catch up (timers are late).
const SLACK: Duration = Duration::from_millis(100);

/// A GPU with a queue in front of it. Who waits how long depends on who else is there, so on the
/// order in which requests come. A client that goes away frees its slot or leaves the line. Where
/// the upstream is slower than the machine, nothing is added.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Saturation {
    /// Requests worked on at once (continuous batching). From 1.
    pub slots: u32,
    /// Prompt tokens read per second, one prompt after another. Above 0. Default: no limit.
    pub prefill_tokens_per_second: Option<f64>,
    /// Answer tokens made per second, shared evenly by the busy slots. Above 0. Default: no limit.
    pub decode_tokens_per_second: Option<f64>,
    /// Requests that may wait in line. Default: no limit, as inference servers have it.
    pub queue_limit: Option<u32>,
    /// How long a request waits in line before it is refused. Default: for ever.
    pub queue_timeout: Option<Span>,
    /// What a refused request is told. Default 503 without retry-after, in the provider's words.
    pub when_full: Option<WhenFull>,
    /// A machine that is switched off when idle. It is on when the fault is armed.
    pub cold_start: Option<ColdStart>,
}

/// The answer to a request that finds no room.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenFull {
    /// The status, from 400 to 599. Default 503.
    pub status: Option<u16>,
    /// What `retry-after` says. Default: none.
    pub retry_after: Option<Span>,
}

/// A machine that is switched off when nobody needs it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColdStart {
    /// It is switched off when nobody has used it for this long.
    pub after_idle: Span,
    /// How long it takes to start: requests wait in line meanwhile.
    pub duration: Span,
}

impl Spec for Saturation {
    const NAME: &'static str = "saturation";
    const SUMMARY: &'static str = "a GPU with a queue: waiting grows with the load";
    const EXAMPLE: &'static str = "{ slots: 8, prefill_tokens_per_second: 6000, decode_tokens_per_second: 400, queue_limit: 32, when_full: { status: 503, retry_after: 2s }, cold_start: { after_idle: 30s, duration: 12s } }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        if self.slots == 0 {
            return Err(Invalid::new("slots", "a machine without slots serves nobody; write 1 or more, or use `outage`"));
        }
        for (field, speed) in [
            ("prefill_tokens_per_second", self.prefill_tokens_per_second),
            ("decode_tokens_per_second", self.decode_tokens_per_second),
        ] {
            if let Some(speed) = speed
                && !(speed > 0.0 && speed.is_finite())
            {
                return Err(Invalid::new(field, format!("{speed} is no speed; write a number above 0")));
            }
        }
        let full = self.when_full.clone().unwrap_or_default();
        let status = full.status.unwrap_or(503);
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|_| (400..=599).contains(&status))
            .ok_or_else(|| {
                Invalid::new(
                    "when_full",
                    format!("{status} is no status of a refusal; write one from 400 to 599"),
                )
            })?;
        let capacity = Capacity {
            slots: self.slots as usize,
            prefill: self.prefill_tokens_per_second,
            decode: self.decode_tokens_per_second,
            queue_limit: self.queue_limit.map_or(usize::MAX, |limit| limit as usize),
            cold_start: self.cold_start.as_ref().map(|cold| super::machine::ColdStart {
                after_idle: cold.after_idle.0,
                duration: cold.duration.0,
            }),
        };
        Ok(Box::new(Loaded {
            capacity,
            queue_timeout: self.queue_timeout.map(|span| span.0),
            status,
            retry_after: full.retry_after.map(|span| span.0),
            machine: Mutex::new(Arc::new(Mutex::new(Machine::new(capacity)))),
        }))
    }
}

#[derive(Debug)]
struct Loaded {
    capacity: Capacity,
    queue_timeout: Option<Duration>,
    status: StatusCode,
    retry_after: Option<Duration>,
    /// A new one for each arming; exchanges keep the one that they have entered.
    machine: Mutex<Arc<Mutex<Machine>>>,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        self.capacity.prefill.is_some()
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        arming.before_answer()?;
        let facts = &arming.exchange.facts;
        let refusal = arming.dialect.failure(&Failure {
            status: Some(self.status),
            class: Some("overloaded"),
            model: facts.model.as_deref(),
            retry_after: self.retry_after,
            id: arming.draw.fork("id").bits(),
            ..Failure::default()
        });
        Ok(Box::new(Served {
            machine: Arc::clone(&self.machine.lock()),
            dialect: arming.dialect,
            operation: facts.operation,
            prompt: facts.prompt_tokens,
            queue_timeout: self.queue_timeout,
            refusal,
            stage: Stage::Outside,
            acted: false,
            reads_prompt: self.capacity.prefill.is_some(),
            reads_tokens: self.capacity.decode.is_some(),
        }))
    }

    fn reset(&self) {
        *self.machine.lock() = Arc::new(Mutex::new(Machine::new(self.capacity)));
    }
}

/// A request at the machine.
struct Served {
    machine: Arc<Mutex<Machine>>,
    dialect: &'static dyn Dialect,
    operation: Operation,
    prompt: u32,
    queue_timeout: Option<Duration>,
    refusal: Answer,
    stage: Stage,
    /// It had to wait.
    acted: bool,
    /// Its first piece waits for the prefill.
    reads_prompt: bool,
    /// The pace of its tokens is the machine's.
    reads_tokens: bool,
}

enum Stage {
    Outside,
    InLine { number: Number, since: Duration },
    /// `due`: when its last token was due; at first, when its prompt is read.
    AtWork { due: Duration, begun: bool },
    Gone,
}

impl Effect for Served {
    fn grain(&self) -> Grain {
        match (self.reads_tokens, self.reads_prompt) {
            (true, _) => Grain::Event,
            (false, true) => Grain::Bytes,
            (false, false) => Grain::Head,
        }
    }

    fn on_request(&mut self, at: Duration, _: &mut request::Parts, out: &mut Orders) {
        let (turn, since) = match self.stage {
            Stage::Outside => (self.machine.lock().enter(at, self.prompt), at),
            Stage::InLine { number, since } if self.given_up(at, since) => {
                self.machine.lock().leave(number);
                (Turn::Full, since)
            }
            Stage::InLine { number, since } => {
                (self.machine.lock().ask(at, number, self.prompt), since)
            }
            Stage::AtWork { .. } | Stage::Gone => return,
        };
        match turn {
            Turn::Full => {
                self.stage = Stage::Gone;
                out.note("queued", (at - since).as_secs_f64());
                out.answer(self.refusal.clone());
            }
            Turn::Later(number, wait) => {
                self.stage = Stage::InLine { number, since };
                self.acted = true;
                out.again(wait);
            }
            Turn::Slot { prefilled } => {
                self.stage = Stage::AtWork { due: prefilled, begun: false };
                if !self.acted {
                    out.let_go("the machine had room");
                }
                out.note("queued", (at - since).as_secs_f64());
            }
        }
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if let Some(reason) = unreadable(head) {
            let paced = std::mem::take(&mut self.reads_tokens);
            if paced && !self.acted {
                out.impossible(reason);
            }
        }
    }

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        if let Stage::AtWork { due, begun } = self.stage {
            let (tokens, whole) = self.tokens_of(&item);
            let made = match (begun, whole) {
                // The first token comes with the end of the prefill.
                (false, false) => tokens.saturating_sub(1),
                _ => tokens,
            };
            let next = if made > 0 { due + self.machine.lock().decoding(at, made) } else { due };
            if tokens > 0 || whole || !begun {
                out.wait(next.saturating_sub(at));
            }
            let slack = if begun { SLACK } else { Duration::ZERO };
            let due = next.max(at.saturating_sub(slack));
            self.stage = Stage::AtWork { due, begun: begun || tokens > 0 };
        }
        out.send(item);
    }

    fn on_end(&mut self, at: Duration, _: &mut Orders) {
        // The last piece may be ordered to wait still: then the slot is given back when all is
        // done and this is dropped.
        if !matches!(self.stage, Stage::AtWork { due, .. } if due > at) {
            self.go(Some(at));
        }
    }
}

impl Served {
    fn given_up(&self, at: Duration, since: Duration) -> bool {
        self.queue_timeout.is_some_and(|longest| at.saturating_sub(since) >= longest)
    }

    /// How many tokens a piece carries, and whether it is the whole answer.
    fn tokens_of(&self, item: &Item) -> (u32, bool) {
        // Embeddings and searches make no tokens; their work is the prefill.
        let counts = self.reads_tokens && self.operation == Operation::Chat;
        let tokens = |tokens: u32| if counts { tokens } else { 0 };
        match item {
            Item::Bytes(_) => (0, false),
            Item::Event(event) => {
                (tokens(self.dialect.read_event(self.operation, event).tokens), false)
            }
            Item::Message(body) => {
                (tokens(self.dialect.read_message(self.operation, body).tokens), true)
            }
        }
    }

    fn go(&mut self, at: Option<Duration>) {
        match std::mem::replace(&mut self.stage, Stage::Gone) {
            Stage::AtWork { .. } => self.machine.lock().release(at),
            Stage::InLine { number, .. } => self.machine.lock().leave(number),
            Stage::Outside | Stage::Gone => {}
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.go(None);
    }
}

#[cfg(test)]
mod tests;

//! A finite machine in front of the upstream: slots, a line, prefill and decoding at limited
//! speed, cold starts. Waiting grows with the load, and a line that is full refuses.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, request, response};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::machine::{Capacity, Machine, Number, PrefixCache, Prompt, Seat, Turn};
use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::{Answer, Dialect, Failure};
use crate::exchange::{Grain, Item, Level, Operation};
use crate::units::{Percent, Span};

/// How far a stream may fall behind its schedule and still catch up (timers are late).
const SLACK: Duration = Duration::from_millis(100);
/// How often a request whose slot was taken away looks for room.
const LOOK: Duration = Duration::from_millis(50);

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
    /// Tokens of prompts and answers that the running requests of a machine can hold together (the KV
    /// cache), 1 or more. A request waits in line until its prompt fits. When what is being answered
    /// grows beyond it, the request that came last loses its slot: its stream stops, and when there
    /// is room again its prompt and all it has made are read anew before it goes on, as vLLM
    /// preempts. One request alone is worked on however long it is. Needs
    /// `prefill_tokens_per_second`. Default: no limit.
    pub kv_cache_tokens: Option<u64>,
    /// Prompts that need not be read anew. Needs `prefill_tokens_per_second`. Default: none.
    pub prefix_cache: Option<PrefixReuse>,
    /// Replicas of this machine that are added when the line stays. Default: one machine, always.
    pub autoscale: Option<Autoscale>,
}

/// What of a prompt the machine still knows. One of the two.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixReuse {
    /// This share of every prompt, from 0% to 100%.
    pub share: Option<Percent>,
    /// What was really read before: the beginning that a request's body shares with earlier ones, in
    /// blocks of 64 bytes (about 16 tokens), as far as the body is read. So many tokens are kept, the
    /// ones used least lately are forgotten; from 16 to 100 million.
    pub tokens: Option<u64>,
}

/// Replicas that come and go. Work is spread evenly over all of them.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Autoscale {
    /// The most there are, 2 to 1000.
    pub max_replicas: u32,
    /// One more is ordered when there has been a line for this long. Default 15s, the period of
    /// Kubernetes' autoscaler.
    pub after: Option<Span>,
    /// How long it takes until it serves. Default 60s.
    pub start: Option<Span>,
    /// One goes when one less would have done for this long. Default 5m, as Kubernetes' autoscaler
    /// waits before it scales down.
    pub idle: Option<Span>,
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
        self.check_memory()?;
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
            cache: self.kv_cache_tokens,
            autoscale: self.autoscale.map(Autoscale::check).transpose()?,
        };
        let prefixes = self.prefix_cache.and_then(PrefixReuse::cache);
        Ok(Box::new(Loaded {
            capacity,
            queue_timeout: self.queue_timeout.map(|span| span.0),
            status,
            retry_after: full.retry_after.map(|span| span.0),
            machine: Mutex::new(Arc::new(Mutex::new(Machine::new(capacity, prefixes.clone())))),
            prefixes,
        }))
    }
}

impl Saturation {
    fn check_memory(&self) -> Result<(), Invalid> {
        let without_prefill = self.prefill_tokens_per_second.is_none();
        let needs = |field| {
            let reason = format!("`{field}` needs `prefill_tokens_per_second`: it is about what is read");
            Err(Invalid::new(field, reason))
        };
        if self.kv_cache_tokens == Some(0) {
            return Err(Invalid::new("kv_cache_tokens", "a cache for no tokens holds no request; write 1 or more"));
        }
        if self.kv_cache_tokens.is_some() && without_prefill {
            return needs("kv_cache_tokens");
        }
        match self.prefix_cache {
            None => Ok(()),
            Some(_) if without_prefill => needs("prefix_cache"),
            Some(PrefixReuse { share: Some(_), tokens: None }) => Ok(()),
            Some(PrefixReuse { share: None, tokens: Some(16..=100_000_000) }) => Ok(()),
            Some(PrefixReuse { share: None, tokens: Some(tokens) }) => Err(Invalid::new(
                "prefix_cache",
                format!("`tokens: {tokens}` is not from 16 to 100 million"),
            )),
            Some(_) => Err(Invalid::new(
                "prefix_cache",
                "write either `share: 60%` or `tokens: 200000`",
            )),
        }
    }
}

impl PrefixReuse {
    fn cache(self) -> Option<PrefixCache> {
        let share = self.share.map(|share| PrefixCache::Share(share.share()));
        share.or_else(|| self.tokens.map(PrefixCache::of_tokens))
    }
}

impl Autoscale {
    fn check(self) -> Result<super::machine::Autoscale, Invalid> {
        if !(2..=1000).contains(&self.max_replicas) {
            return Err(Invalid::new(
                "autoscale",
                format!("`max_replicas: {}` is not from 2 to 1000", self.max_replicas),
            ));
        }
        let time = |span: Option<Span>, usual| span.map_or(Duration::from_secs(usual), |span| span.0);
        Ok(super::machine::Autoscale {
            most: self.max_replicas as usize,
            after: time(self.after, 15),
            start: time(self.start, 60),
            idle: time(self.idle, 300),
        })
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
    /// What a new one remembers of prompts: nothing yet.
    prefixes: Option<PrefixCache>,
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
            prompt: Prompt { tokens: facts.prompt_tokens, blocks: self.blocks(arming) },
            queue_timeout: self.queue_timeout,
            refusal,
            stage: Stage::Outside,
            acted: false,
            reads_prompt: self.capacity.prefill.is_some(),
            reads_tokens: self.capacity.decode.is_some() || self.capacity.cache.is_some(),
            pending: VecDeque::new(),
            preemptions: 0,
        }))
    }

    fn reset(&self) {
        *self.machine.lock() = Arc::new(Mutex::new(Machine::new(self.capacity, self.prefixes.clone())));
    }
}

impl Loaded {
    fn blocks(&self, arming: &Arming<'_>) -> Arc<[u64]> {
        match self.prefixes {
            Some(PrefixCache::Blocks(_)) => Prompt::blocks_of(&arming.exchange.body),
            _ => Arc::default(),
        }
    }
}

/// A request at the machine.
struct Served {
    machine: Arc<Mutex<Machine>>,
    dialect: &'static dyn Dialect,
    operation: Operation,
    prompt: Prompt,
    queue_timeout: Option<Duration>,
    refusal: Answer,
    stage: Stage,
    /// It had to wait.
    acted: bool,
    /// Its first piece waits for the prefill.
    reads_prompt: bool,
    /// The pace of its tokens is the machine's.
    reads_tokens: bool,
    /// What has come while its slot was taken away.
    pending: VecDeque<Item>,
    /// How often its slot was taken away.
    preemptions: u32,
}

enum Stage {
    Outside,
    InLine { number: Number, since: Duration },
    /// `due`: when its last token was due; at first, when its prompt is read.
    AtWork { seat: Seat, due: Duration, begun: bool },
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
            Stage::Outside => (self.machine.lock().enter(at, &self.prompt), at),
            Stage::InLine { number, since } if self.given_up(at, since) => {
                self.machine.lock().leave(number);
                (Turn::Full, since)
            }
            Stage::InLine { number, since } => {
                (self.machine.lock().ask(at, number, &self.prompt), since)
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
            Turn::Slot { seat, prefilled } => {
                self.stage = Stage::AtWork { seat, due: prefilled, begun: false };
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
        self.pending.push_back(item);
        self.work_off(at, false, out);
    }

    fn on_end(&mut self, at: Duration, out: &mut Orders) {
        self.work_off(at, true, out);
        if self.preemptions > 0 {
            out.note("preempted", self.preemptions.into());
        }
        // The last piece may be ordered to wait still: then the slot is given back when all is
        // done and this is dropped.
        if !matches!(self.stage, Stage::AtWork { due, .. } if due > at) {
            self.go(Some(at));
        }
    }
}

impl Served {
    /// Sends what has come as fast as the machine makes it. Without a slot it stays here, as long as
    /// more is to come: only then is it asked again.
    fn work_off(&mut self, at: Duration, over: bool, out: &mut Orders) {
        let mut now = at;
        while !self.pending.is_empty() {
            if let Stage::AtWork { seat, due, begun } = self.stage
                && self.machine.lock().is_preempted(seat)
            {
                let mut machine = self.machine.lock();
                let resumed = machine.resume(now, seat);
                let resumed = resumed.or_else(|| over.then(|| machine.resume_now(now, seat)));
                drop(machine);
                let Some(read) = resumed else { return out.wait(LOOK) };
                self.preemptions += 1;
                self.stage = Stage::AtWork { seat, due: due.max(read), begun };
                // It goes on when all is read again, as a first token does.
                out.wait(read.saturating_sub(now));
                now = now.max(read);
            }
            let Some(item) = self.pending.pop_front() else { return };
            let wait = self.pace(now, &item);
            out.wait(wait);
            now += wait;
            out.send(item);
        }
    }

    /// How long a piece waits until the machine has made it.
    fn pace(&mut self, at: Duration, item: &Item) -> Duration {
        let Stage::AtWork { seat, due, begun } = self.stage else { return Duration::ZERO };
        let (tokens, whole) = self.tokens_of(item);
        let made = match (begun, whole) {
            // The first token comes with the end of the prefill.
            (false, false) => tokens.saturating_sub(1),
            _ => tokens,
        };
        let mut next = due;
        if made > 0 {
            let mut machine = self.machine.lock();
            next += machine.decode(at, seat, made);
            if whole && machine.is_preempted(seat) {
                // Nothing of it has been sent that could stop: what it lost is read again first.
                next = machine.resume_now(next, seat);
                self.preemptions += 1;
            }
        }
        let wait = if tokens > 0 || whole || !begun { next.saturating_sub(at) } else { Duration::ZERO };
        let slack = if begun { SLACK } else { Duration::ZERO };
        let due = next.max(at.saturating_sub(slack));
        self.stage = Stage::AtWork { seat, due, begun: begun || tokens > 0 };
        wait
    }

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
            Stage::AtWork { seat, .. } => self.machine.lock().release(at, seat),
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
#[cfg(test)]
mod theory;

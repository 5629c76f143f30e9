//! A raw connection as the engine sees it: what is decided on it, anew whenever something else is
//! armed, and its books.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Raw, Way};
use crate::dialect::{self, Dialect};
use crate::engine::{Decision, Demand};
use crate::exchange::{Exchange, Item, Level};
use crate::fault::{Ending, Order};
use crate::measure::{Call, CallEnd, Observation};

/// The shortest time after which an effect is asked again.
const AGAIN: Duration = Duration::from_millis(1);

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) dependency: Arc<Raw>,
    dialect: &'static dyn Dialect,
    /// Which connection it is, for its key.
    label: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What was armed when it was judged last; None: it was not.
    judged: Option<u64>,
    /// Made when something is armed for the first time, so that its key is counted once.
    exchange: Option<Exchange>,
    decision: Decision,
    /// None when its requests have books of their own.
    call: Option<Box<Call>>,
    /// Faults that acted and were disarmed since.
    acted: Vec<Arc<str>>,
}

/// What becomes of a connection that has come.
#[derive(Debug)]
pub(super) enum Greeting {
    Answer(dialect::Answer),
    End(Ending),
    Go,
}

impl Line {
    /// A connection that is one call as a whole.
    pub(super) fn open(dependency: &Arc<Raw>, dialect: &'static dyn Dialect, label: &str) -> Self {
        let at = dependency.clock.now();
        let call = Some(Box::new(Call::begun(&dependency.name, at)));
        Self::with(dependency, dialect, label, call)
    }

    /// A connection whose requests are calls.
    pub(super) fn of_requests(dependency: &Arc<Raw>, label: &str) -> Self {
        Self::with(dependency, dependency.dialect, label, None)
    }

    fn with(
        dependency: &Arc<Raw>,
        dialect: &'static dyn Dialect,
        label: &str,
        call: Option<Box<Call>>,
    ) -> Self {
        let state = State {
            judged: None,
            exchange: None,
            decision: Decision::default(),
            call,
            acted: Vec::new(),
        };
        let dependency = Arc::clone(dependency);
        Self { dependency, dialect, label: label.to_owned(), state: Mutex::new(state) }
    }

    pub(super) fn now(&self) -> Duration {
        self.dependency.clock.now()
    }

    pub(super) fn demand(&self) -> Demand {
        self.dependency.engine.demand_at(self.dependency.gate)
    }

    /// Counts up whenever something else is armed.
    pub(super) fn version(&self) -> u64 {
        self.dependency.engine.version_at(self.dependency.gate)
    }

    /// Asks the effects about a connection that has come.
    pub(super) async fn greet(&self) -> Greeting {
        self.touched();
        let count = self.state.lock().decision.chain.len();
        for index in 0..count {
            loop {
                let (now, mut again) = (self.now(), false);
                let orders = self.state.lock().decision.chain.on_connect(index, now);
                for order in orders {
                    match order {
                        Order::Wait(time) => self.hold(time).await,
                        Order::Again(time) => {
                            self.hold(time.max(AGAIN)).await;
                            again = true;
                        }
                        Order::Answer(answer) => return Greeting::Answer(answer),
                        Order::End(ending) => return Greeting::End(ending),
                        Order::Certificate(_) | Order::Join | Order::Pulse(_) | Order::Send(_) => {}
                    }
                }
                if !again {
                    break;
                }
            }
        }
        Greeting::Go
    }

    async fn hold(&self, time: Duration) {
        self.dependency.clock.sleep(time).await;
        self.held(time);
    }

    /// A fault has held bytes back for this long.
    pub(super) fn held(&self, time: Duration) {
        let mut state = self.state.lock();
        state.decision.held(time);
        if let Some(call) = &mut state.call {
            call.injected_delay += time;
        }
    }

    /// Whether an effect is at work on its bytes. Looks first whether something else is armed now than
    /// when that was decided.
    pub(super) fn touched(&self) -> bool {
        let version = self.version();
        let mut state = self.state.lock();
        if state.judged != Some(version) {
            self.judge(&mut state, version);
        }
        !state.decision.chain.is_empty()
    }

    fn judge(&self, state: &mut State, version: u64) {
        let live = state.judged.replace(version).is_some();
        let acted = state.decision.acted();
        state.acted.extend(acted);
        state.decision = Decision::default();
        if self.demand().any {
            let Raw { engine, name, .. } = &*self.dependency;
            let exchange = state
                .exchange
                .get_or_insert_with(|| engine.connection(name, Level::Connection, &self.label));
            if let Some(call) = &mut state.call {
                call.key = Some(exchange.key.0);
            }
            let now = self.now();
            state.decision = match live {
                true => engine.decide_anew(now, exchange, self.dialect),
                false => engine.decide(now, exchange, self.dialect),
            };
        }
    }

    /// Shows a piece to the effects.
    pub(super) fn show(&self, way: Way, at: Duration, item: Item) -> Vec<Order> {
        let chain = &mut self.state.lock().decision.chain;
        match way {
            Way::Down => chain.on_item(at, item),
            Way::Up => chain.on_upload(at, item),
        }
    }

    /// Tells the effects that a side sends no more.
    pub(super) fn show_end(&self, way: Way) -> Vec<Order> {
        let now = self.now();
        let chain = &mut self.state.lock().decision.chain;
        match way {
            Way::Down => chain.on_end(now),
            Way::Up => chain.on_upload_end(now),
        }
    }

    /// The faults that have acted on the connection as a whole.
    pub(super) fn acted(&self) -> Vec<Arc<str>> {
        self.state.lock().decision.acted()
    }

    pub(super) fn connected(&self) {
        if let Some(call) = &mut self.state.lock().call {
            call.upstream = true;
        }
    }

    /// Bytes have gone to the app.
    pub(super) fn sent(&self, bytes: usize) {
        if let Some(call) = &mut self.state.lock().call {
            if call.first_byte.is_none() {
                call.first_byte = Some(self.now());
                call.head = call.first_byte;
            }
            call.bytes += bytes as u64;
        }
    }

    /// How it ended.
    pub(super) fn ended(&self, ended: CallEnd) {
        if let Some(call) = &mut self.state.lock().call {
            call.ended = ended;
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let now = self.now();
        let state = self.state.get_mut();
        let mut faults = std::mem::take(&mut state.acted);
        faults.extend(state.decision.acted());
        faults.sort_unstable();
        faults.dedup();
        if let Some(mut call) = state.call.take() {
            call.end = now;
            call.faults = faults;
            self.dependency.recorder.record(Observation::Call(call));
        }
    }
}

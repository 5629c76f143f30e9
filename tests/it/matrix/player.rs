//! Plays a recording through an effect and writes down what the app gets, and when.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use brownout::dice::Dice;
use brownout::exchange::{Exchange, ExchangeKey, Item};
use brownout::fault::{Arming, Chain, Draw, Ending, Fault, Impossible, KINDS, Order};
use brownout::wire::Cutter;
use bytes::Bytes;
use http::{request, response};

use super::recording::Recording;
use super::variants;

/// The upstream's own time to its head, and between two pieces of its body.
const HEAD: Duration = Duration::from_millis(200);
/// The wall clock at the start.
const EPOCH: Duration = Duration::from_secs(1_763_980_000);
const GAP: Duration = Duration::from_millis(50);

/// What became of an effect, the best last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Outcome {
    Impossible(&'static str),
    LetGo,
    Hit,
}

#[derive(Debug)]
pub(super) struct Played {
    /// One step a line.
    pub(super) wire: String,
    /// All that was sent, and how it ended.
    pub(super) sent: (Vec<u8>, Option<Ending>),
    pub(super) outcome: Outcome,
}

fn fault(effect: &str, options: &str) -> Box<dyn Fault> {
    let kind = KINDS.iter().find(|kind| kind.name == effect);
    let kind = kind.unwrap_or_else(|| panic!("there is no effect `{effect}`"));
    let options =
        serde_yaml::from_str(options).unwrap_or_else(|error| panic!("{options}: {error}"));
    (kind.try_build)(options).unwrap_or_else(|error| panic!("{effect}: {error}"))
}

/// Plays it; the body comes in pieces of these lengths, over and over, or in one.
pub(super) fn play(recording: &Recording, effect: &str, options: &str, cuts: &[usize]) -> Played {
    let fault = fault(effect, options);
    // What acts on the second call alone gets a first one, which is not over yet.
    let mut before = Chain::default();
    if variants::needs_another(effect, options)
        && arm(&*fault, effect, recording, &mut before).is_ok()
    {
        Stage::default().run(&mut before, recording, &[]);
    }
    let mut chain = Chain::default();
    if let Err(impossible) = arm(&*fault, effect, recording, &mut chain) {
        let wire = format!("  impossible: {}\n", impossible.0);
        let outcome = Outcome::Impossible(impossible.0);
        return Played { wire, sent: (Vec::new(), None), outcome };
    }
    let mut stage = Stage { counts: variants::minds_pieces(effect, options), ..Stage::default() };
    stage.run(&mut chain, recording, cuts);
    stage.flush();
    let fired = chain.fired().next().unwrap().clone();
    let mut wire = stage.text;
    let outcome = match (fired.hit, fired.impossible) {
        (true, _) => Outcome::Hit,
        (false, Some(reason)) => Outcome::Impossible(reason),
        (false, None) => Outcome::LetGo,
    };
    // Writing to a String cannot fail.
    let _ = match &outcome {
        Outcome::Hit => Ok(()),
        Outcome::Impossible(reason) => writeln!(wire, "  impossible: {reason}"),
        Outcome::LetGo => writeln!(wire, "  let go: {}", fired.let_go.unwrap_or("no reason given")),
    };
    Played { wire, sent: (stage.sent, stage.ending), outcome }
}

fn arm(
    fault: &dyn Fault,
    effect: &str,
    recording: &Recording,
    chain: &mut Chain,
) -> Result<(), Impossible> {
    let exchange = exchange(recording);
    let mut draw = Draw::new(Dice::from_seed(42).fork(effect));
    let dialect = recording.dialect();
    let mut arming =
        Arming { at: Duration::ZERO, epoch: EPOCH, exchange: &exchange, dialect, draw: &mut draw };
    chain.push(0, fault.arm(&mut arming)?);
    Ok(())
}

fn exchange(recording: &Recording) -> Exchange {
    Exchange {
        dependency: Arc::from("dependency"),
        level: Default::default(),
        transport: Default::default(),
        key: ExchangeKey(1),
        ordinal: 0,
        method: recording.method.clone(),
        uri: recording.path.parse().unwrap(),
        headers: recording.request.clone(),
        facts: recording.facts(),
        body: recording.asked.clone(),
        user: Some("ann".into()),
        session: Some("s1".into()),
        api_key: Some(1),
    }
}

/// Carries orders out, in virtual time.
#[derive(Default)]
struct Stage {
    text: String,
    now: Duration,
    /// Pieces that passed unchanged, not written down yet.
    passed: usize,
    /// The pieces that the upstream sent and that have not passed.
    expected: VecDeque<Item>,
    sent: Vec<u8>,
    ending: Option<Ending>,
    /// Pieces are counted and not shown.
    counts: bool,
    pieces: usize,
    waited: Duration,
}

impl Stage {
    fn run(&mut self, chain: &mut Chain, recording: &Recording, cuts: &[usize]) {
        let (mut head, ()) = request::Request::new(()).into_parts();
        head.headers = recording.request.clone();
        loop {
            let orders = chain.on_request(0, self.now, &mut head);
            let again = orders.iter().any(|order| matches!(order, Order::Again(_)));
            if self.carry_out(orders) {
                return;
            }
            if !again {
                break;
            }
        }
        self.now += HEAD;
        let (mut head, ()) = response::Response::new(()).into_parts();
        head.status = recording.status;
        head.headers = recording.headers.clone();
        if recording.content_type() == Some("application/json") {
            head.headers.insert("content-length", recording.body.len().into());
        }
        let orders = chain.on_response(0, self.now, HEAD, &mut head);
        for (name, value) in &head.headers {
            if recording.headers.get(name) != Some(value) && name != "content-length" {
                self.say(&format!("head {name}: {}", String::from_utf8_lossy(value.as_bytes())));
            }
        }
        if self.carry_out(orders) {
            return;
        }
        let items = pieces(chain, recording, cuts);
        self.expected = items.iter().cloned().collect();
        for item in items {
            while let Some(due) = chain.due().filter(|due| *due <= self.now) {
                self.say(&format!("at {due:?}:"));
                let orders = chain.on_due(due);
                if self.carry_out(orders) {
                    return;
                }
            }
            let orders = chain.on_item(self.now, item);
            if self.carry_out(orders) {
                return;
            }
            self.now += GAP;
        }
        let orders = chain.on_end(self.now);
        self.carry_out(orders);
    }

    /// Whether the exchange is over.
    fn carry_out(&mut self, orders: Vec<Order>) -> bool {
        for order in orders {
            match order {
                Order::Again(time) => {
                    self.say(&format!("asked again after {time:?}"));
                    self.now += time;
                }
                Order::Answer(answer) => {
                    self.say(&format!("answer {}", answer.status.as_u16()));
                    for (name, value) in &answer.headers {
                        self.say(&format!("  {name}: {value}"));
                    }
                    self.say(&format!("  {}", shown(&answer.body)));
                    self.sent.extend_from_slice(&answer.body);
                    return true;
                }
                Order::End(ending) => {
                    self.ending = Some(ending);
                    self.say(&format!("end {}", named(ending)));
                    return true;
                }
                Order::Send(item) => self.send(&item),
                Order::Wait(time) => {
                    self.waited += time;
                    if !self.counts {
                        self.say(&format!("wait {time:?}"));
                    }
                    self.now += time;
                }
                Order::Join => self.say("joined with"),
                Order::Pulse(pulse) => {
                    let piece = shown(pulse.item.raw());
                    let Some(time) = pulse.time else {
                        self.say(&format!("for ever, each {:?}: {piece}", pulse.every));
                        return true;
                    };
                    self.say(&format!("for {time:?}, each {:?}: {piece}", pulse.every));
                    self.now += time;
                }
                Order::Certificate(_) => self.say("something else"),
            }
        }
        false
    }

    fn send(&mut self, item: &Item) {
        self.sent.extend_from_slice(item.raw());
        if self.counts {
            self.pieces += 1;
            return;
        }
        let found = self.expected.iter().position(|expected| expected.raw() == item.raw());
        match found {
            Some(0) => {
                self.expected.pop_front();
                self.passed += 1;
            }
            _ => self.say(&format!("send {}", shown(item.raw()))),
        }
    }

    fn flush(&mut self) {
        if self.passed > 0 {
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "  pass {}", self.passed);
            self.passed = 0;
        }
        if self.pieces > 0 {
            let (pieces, bytes, waited) = (self.pieces, self.sent.len(), self.waited);
            let _ = writeln!(self.text, "  {pieces} pieces, {bytes} bytes, {waited:?} of waiting");
            self.pieces = 0;
        }
    }

    fn say(&mut self, what: &str) {
        self.flush();
        let _ = writeln!(self.text, "  {what}");
    }
}

/// The recorded body as the pump cuts it.
fn pieces(chain: &Chain, recording: &Recording, cuts: &[usize]) -> Vec<Item> {
    let mut cutter = Cutter::new(chain.grain(), recording.content_type());
    let mut items = Vec::new();
    let mut rest = recording.body.clone();
    let mut lengths = cuts.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |length| (*length).min(rest.len()));
        items.extend(cutter.push(rest.split_to(length)));
    }
    items.extend(cutter.finish());
    items
}

fn named(ending: Ending) -> String {
    format!("{ending:?}").to_lowercase()
}

/// Bytes as one line of text.
pub(super) fn shown(bytes: &Bytes) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n"),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

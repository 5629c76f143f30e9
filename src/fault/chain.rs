//! Several effects in a row on one exchange: what one sends, the next receives.

use std::fmt;
use std::time::Duration;

use http::{request, response};

use super::changes::{Changed, Changes};
use super::{Effect, Order, Orders};
use crate::exchange::{Grain, Item};

/// The effects at work on one exchange, in the file's order.
#[derive(Default)]
pub struct Chain {
    links: Vec<Link>,
}

struct Link {
    effect: Box<dyn Effect>,
    fired: Fired,
    /// By the way that the body goes: down, up.
    changes: [Changes; 2],
}

/// What became of one effect on one exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fired {
    /// The place of its fault in the decision.
    pub fault: usize,
    pub hit: bool,
    pub impossible: Option<&'static str>,
    /// Why it had no cause to act.
    pub let_go: Option<&'static str>,
    pub notes: Vec<(&'static str, f64)>,
    /// How long it wished to hold the exchange, all in all.
    pub wait: Duration,
    /// What it changed of the bodies.
    pub changed: Changed,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.links.iter().map(|link| &link.fired)).finish()
    }
}

impl Chain {
    /// Puts an effect at the end; `fault` says which of the decision's faults it belongs to.
    pub fn push(&mut self, fault: usize, effect: Box<dyn Effect>) {
        let fired = Fired { fault, ..Fired::default() };
        self.links.push(Link { effect, fired, changes: Default::default() });
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The finest grain that any effect asks for.
    pub fn grain(&self) -> Grain {
        self.links.iter().map(|link| link.effect.grain()).max().unwrap_or_default()
    }

    /// What became of each effect so far.
    pub fn fired(&self) -> impl Iterator<Item = &Fired> {
        self.links.iter().map(|link| &link.fired)
    }

    /// How many effects there are.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Asks the effect at `index` about a connection that has come.
    pub fn on_connect(&mut self, index: usize, at: Duration) -> Vec<Order> {
        self.links[index].ask(|effect, out| effect.on_connect(at, out))
    }

    /// Asks the effect at `index` about the request. The pump carries the orders out before it
    /// asks the next, and asks the same one again where they say so.
    pub fn on_request(
        &mut self,
        index: usize,
        at: Duration,
        head: &mut request::Parts,
    ) -> Vec<Order> {
        self.links[index].ask(|effect, out| effect.on_request(at, head, out))
    }

    /// Shows the upstream's head to the effect at `index`.
    pub fn on_response(
        &mut self,
        index: usize,
        at: Duration,
        took: Duration,
        head: &mut response::Parts,
    ) -> Vec<Order> {
        self.links[index].ask(|effect, out| effect.on_response(at, took, head, out))
    }

    /// Tells all effects when the piece that they will be shown next has come.
    pub fn on_arrival(&mut self, at: Duration) {
        for link in &mut self.links {
            link.effect.on_arrival(at);
        }
    }

    /// Passes a piece through all effects.
    pub fn on_item(&mut self, at: Duration, item: Item) -> Vec<Order> {
        self.run(Way::Down, 0, at, vec![Order::Send(item)])
    }

    /// Passes a piece that the app sends through all effects.
    pub fn on_upload(&mut self, at: Duration, item: Item) -> Vec<Order> {
        self.run(Way::Up, 0, at, vec![Order::Send(item)])
    }

    /// The next time at which an effect wants to be told.
    pub fn due(&self) -> Option<Duration> {
        self.links.iter().filter_map(|link| link.effect.due()).min()
    }

    /// Tells the effects that are due; what they send passes those behind them.
    pub fn on_due(&mut self, at: Duration) -> Vec<Order> {
        let mut orders = Vec::new();
        for index in 0..self.links.len() {
            if self.links[index].effect.due().is_none_or(|due| due > at) {
                continue;
            }
            let now = at + held(&orders);
            let sent = self.links[index].due(now);
            orders.extend(self.run(Way::Down, index + 1, now, sent));
            if ends(&orders) {
                break;
            }
        }
        orders
    }

    /// Lets go of all that effects hold, since none of them acts any longer.
    pub fn release(&mut self, at: Duration) -> Vec<Item> {
        let mut orders = Vec::new();
        for index in 0..self.links.len() {
            let sent = self.links[index].stop(at);
            orders.extend(self.run(Way::Down, index + 1, at, sent));
        }
        let sent = orders.into_iter().filter_map(|order| match order {
            Order::Send(item) => Some(item),
            _ => None,
        });
        sent.collect()
    }

    /// Tells all effects that the body has ended; what one still sends passes those behind it.
    pub fn on_end(&mut self, at: Duration) -> Vec<Order> {
        self.end(Way::Down, at)
    }

    /// Tells all effects that the app sends no more.
    pub fn on_upload_end(&mut self, at: Duration) -> Vec<Order> {
        self.end(Way::Up, at)
    }

    fn end(&mut self, way: Way, at: Duration) -> Vec<Order> {
        let mut orders = Vec::new();
        for index in 0..self.links.len() {
            let now = at + held(&orders);
            let sent = self.links[index].end(way, now);
            orders.extend(self.run(way, index + 1, now, sent));
            if ends(&orders) {
                break;
            }
        }
        orders
    }

    /// Passes orders through the effects from `first` on: pieces are shown to them, the rest stays.
    /// Each effect is told the time at which a piece will be due, not when it came: what was
    /// ordered to wait before it has passed by then.
    fn run(&mut self, way: Way, first: usize, at: Duration, orders: Vec<Order>) -> Vec<Order> {
        let mut orders = orders;
        for link in self.links.iter_mut().skip(first) {
            let mut passed = Vec::with_capacity(orders.len());
            let mut now = at;
            for order in orders {
                let answer = match order {
                    Order::Send(item) => link.pass(way, now, item),
                    Order::Wait(time) if way == Way::Down => link.wait(now, time),
                    stop if way == Way::Down && stops(&stop) => {
                        let mut sent = link.stop(now);
                        sent.push(stop);
                        sent
                    }
                    other => vec![other],
                };
                now += held(&answer);
                passed.extend(answer);
                if ends(&passed) {
                    break;
                }
            }
            orders = passed;
        }
        orders
    }
}

/// Where a piece goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// To the app.
    Down,
    /// To the upstream.
    Up,
}

/// How long these orders hold what follows them.
fn held(orders: &[Order]) -> Duration {
    let wait = |order: &Order| match order {
        Order::Again(time) | Order::Wait(time) => *time,
        Order::Pulse(pulse) => pulse.time.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    orders.iter().map(wait).sum()
}

/// Whether nothing may follow these orders.
fn ends(orders: &[Order]) -> bool {
    match orders.last() {
        Some(Order::End(_)) => true,
        Some(Order::Pulse(pulse)) => pulse.time.is_none(),
        _ => false,
    }
}

/// Whether an answer stops here, for good or for as long as keep-alives come.
fn stops(order: &Order) -> bool {
    matches!(order, Order::End(_) | Order::Pulse(_))
}

impl Link {
    /// Shows the effect a piece, and counts what it makes of it.
    fn pass(&mut self, way: Way, now: Duration, item: Item) -> Vec<Order> {
        self.changes[way as usize].went_in(&item);
        let orders = self.ask(|effect, out| match way {
            Way::Down => effect.on_item(now, item, out),
            Way::Up => effect.on_upload(now, item, out),
        });
        self.count(way, &orders, ends(&orders));
        orders
    }

    /// Tells the effect that the body has ended.
    fn end(&mut self, way: Way, now: Duration) -> Vec<Order> {
        let orders = self.ask(|effect, out| match way {
            Way::Down => effect.on_end(now, out),
            Way::Up => effect.on_upload_end(now, out),
        });
        self.count(way, &orders, true);
        orders
    }

    fn count(&mut self, way: Way, orders: &[Order], is_end: bool) {
        let changes = &mut self.changes[way as usize];
        for order in orders {
            if let Order::Send(item) = order {
                changes.came_out(item);
            }
        }
        if is_end {
            changes.ends();
        }
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let [down, up] = [self.changes[0].so_far(), self.changes[1].so_far()];
        let (bytes, events) = (down.bytes + up.bytes, down.events + up.events);
        self.fired.changed = Changed { bytes, events };
    }

    /// Tells the effect that its time has come.
    fn due(&mut self, now: Duration) -> Vec<Order> {
        let orders = self.ask(|effect, out| effect.on_due(now, out));
        self.count(Way::Down, &orders, ends(&orders));
        orders
    }

    /// Tells the effect that the answer stops before it.
    fn stop(&mut self, now: Duration) -> Vec<Order> {
        let orders = self.ask(|effect, out| effect.on_stop(now, out));
        self.count(Way::Down, &orders, false);
        orders
    }

    /// A wait that was ordered before this effect; it may have to act meanwhile.
    fn wait(&mut self, at: Duration, time: Duration) -> Vec<Order> {
        let mut orders = Vec::new();
        let (mut now, until) = (at, at + time);
        while let Some(due) = self.effect.due().filter(|due| *due < until) {
            if due > now {
                orders.push(Order::Wait(due - now));
                now = due;
            }
            let sent = self.due(now);
            now += held(&sent);
            orders.extend(sent);
            if now >= until || self.effect.due().is_some_and(|next| next <= due) {
                break;
            }
        }
        if now < until {
            orders.push(Order::Wait(until - now));
        }
        orders
    }

    fn ask(&mut self, hook: impl FnOnce(&mut dyn Effect, &mut Orders)) -> Vec<Order> {
        let mut out = Orders::default();
        hook(self.effect.as_mut(), &mut out);
        self.fired.hit |= out.hit;
        self.fired.impossible = self.fired.impossible.or(out.impossible);
        self.fired.let_go = self.fired.let_go.or(out.let_go);
        self.fired.notes.append(&mut out.notes);
        self.fired.wait += held(&out.list);
        let answered = out.list.iter().find_map(|order| match order {
            Order::Answer(answer) => Some(answer.body.len() as u64),
            _ => None,
        });
        // An answer of our own is all changed.
        let told = out.changed.or(answered.map(|bytes| Changed { bytes, events: 1 }));
        if let Some(changed) = told {
            self.changes[Way::Down as usize].tell(changed);
            self.sum_up();
        }
        out.list
    }
}

//! Several effects in a row on one exchange: what one sends, the next receives.

use std::fmt;
use std::time::Duration;

use http::{request, response};

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
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.links.iter().map(|link| &link.fired)).finish()
    }
}

impl Chain {
    /// Puts an effect at the end; `fault` says which of the decision's faults it belongs to.
    pub fn push(&mut self, fault: usize, effect: Box<dyn Effect>) {
        self.links.push(Link { effect, fired: Fired { fault, ..Fired::default() } });
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
            let sent = self.links[index].ask(|effect, out| match way {
                Way::Down => effect.on_end(now, out),
                Way::Up => effect.on_upload_end(now, out),
            });
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
                    Order::Send(item) => link.ask(|effect, out| match way {
                        Way::Down => effect.on_item(now, item, out),
                        Way::Up => effect.on_upload(now, item, out),
                    }),
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
        Order::Wait(time) => *time,
        _ => Duration::ZERO,
    };
    orders.iter().map(wait).sum()
}

/// Whether nothing may follow these orders.
fn ends(orders: &[Order]) -> bool {
    matches!(orders.last(), Some(Order::End(_)))
}

impl Link {
    fn ask(&mut self, hook: impl FnOnce(&mut dyn Effect, &mut Orders)) -> Vec<Order> {
        let mut out = Orders::default();
        hook(self.effect.as_mut(), &mut out);
        self.fired.hit |= out.hit;
        self.fired.impossible = self.fired.impossible.or(out.impossible);
        self.fired.let_go = self.fired.let_go.or(out.let_go);
        self.fired.notes.append(&mut out.notes);
        out.list
    }
}

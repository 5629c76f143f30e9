//! One direction of a raw connection. While an effect is at work each piece has a time at which it is
//! due, counted from when it came; up to a limit the next ones are read meanwhile, so that a delay
//! delays and does not throttle. Beyond the limit the sender has to wait.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::line::Line;
use super::pipe::{Came, Pipe};
use super::{Over, Way};
use crate::exchange::Item;
use crate::fault::{Ending, Order};

/// Bytes that are read ahead while others are held.
const AHEAD: usize = 256 << 10;

/// Passes one direction until its end or that of the connection.
pub(super) async fn run(way: Way, pipe: &mut Pipe, line: &Line, early: Bytes) -> Over {
    let mut lane = Lane {
        way,
        pipe,
        line,
        queue: VecDeque::new(),
        queued: 0,
        due: Duration::ZERO,
        read: false,
        changes: None,
        version: 0,
    };
    if !early.is_empty() {
        lane.take(early);
    }
    loop {
        let over = if lane.queue.is_empty() { lane.pass().await } else { lane.carry_out().await };
        if let Some(over) = over {
            return over;
        }
    }
}

struct Lane<'a> {
    way: Way,
    pipe: &'a mut Pipe,
    line: &'a Line,
    /// What is still to be done, and when.
    queue: VecDeque<(Duration, Due)>,
    /// Bytes in the queue.
    queued: usize,
    /// When the last of the queue is due.
    due: Duration,
    /// The sender has sent its end.
    read: bool,
    changes: Option<watch::Receiver<u64>>,
    /// What was armed when the queue was made.
    version: u64,
}

enum Due {
    Bytes(Bytes),
    /// A fault ends the connection.
    End(Ending),
    /// The sender has sent its end.
    Fin,
}

impl Lane<'_> {
    /// Passes what no effect touches.
    async fn pass(&mut self) -> Option<Over> {
        let (way, line) = (self.way, self.line);
        let judge = |bytes: &[u8]| {
            if line.touched() {
                return 0;
            }
            if way == Way::Down {
                line.sent(bytes.len());
            }
            bytes.len()
        };
        match self.pipe.pass(judge).await {
            Ok(Came::Held(bytes)) => self.take(bytes),
            Ok(Came::End) => self.take_end(),
            Err(broken) => return Some(Over::Broken(way, broken)),
        }
        None
    }

    /// Shows a piece to the effects and notes when it is due.
    fn take(&mut self, bytes: Bytes) {
        self.judge();
        let now = self.line.now();
        let orders = self.line.show(self.way, now, Item::Bytes(bytes));
        self.plan(now, orders);
    }

    fn judge(&mut self) {
        let before = self.version;
        self.line.touched();
        self.version = self.line.version();
        if before != self.version {
            self.let_go();
        }
    }

    fn take_end(&mut self) {
        self.read = true;
        self.judge();
        let now = self.line.now();
        let orders = self.line.show_end(self.way);
        let at = self.plan(now, orders);
        self.push(at, Due::Fin);
    }

    /// Orders count from when their piece came, and keep their order.
    fn plan(&mut self, came: Duration, orders: Vec<Order>) -> Duration {
        let mut at = came;
        for order in orders {
            match order {
                Order::Wait(time) => at = at.saturating_add(time),
                Order::Send(item) => self.push(at, Due::Bytes(item.raw().clone())),
                Order::End(ending) => self.push(at, Due::End(ending)),
                // Raw bytes have no keep-alives.
                Order::Pulse(pulse) => match pulse.time {
                    Some(time) => at = at.saturating_add(time),
                    None => self.push(at, Due::End(Ending::Hang)),
                },
                Order::Again(_) | Order::Answer(_) | Order::Certificate(_) | Order::Join => {}
            }
        }
        at
    }

    fn push(&mut self, at: Duration, due: Due) {
        let begun = self.due.max(self.line.now());
        self.due = self.due.max(at);
        self.line.held(self.due.saturating_sub(begun));
        if let Due::Bytes(bytes) = &due {
            self.queued += bytes.len();
        }
        self.queue.push_back((self.due, due));
    }

    /// Does what is due, or waits and reads on.
    async fn carry_out(&mut self) -> Option<Over> {
        let (at, _) = self.queue.front()?;
        let at = *at;
        if at > self.line.now() {
            return self.wait(at).await;
        }
        let (_, due) = self.queue.pop_front()?;
        match due {
            Due::Bytes(bytes) => {
                self.queued -= bytes.len();
                if let Err(broken) = self.pipe.write(&bytes).await {
                    return Some(Over::Broken(self.way, broken));
                }
                if self.way == Way::Down {
                    self.line.sent(bytes.len());
                }
                None
            }
            Due::End(ending) => Some(Over::Ending(ending)),
            Due::Fin => match self.pipe.end().await {
                Ok(()) => Some(Over::Half),
                Err(broken) => Some(Over::Broken(self.way, broken)),
            },
        }
    }

    /// Waits until something is due. What others disarm meanwhile lets go at once of what it holds.
    async fn wait(&mut self, at: Duration) -> Option<Over> {
        let Self { line, pipe, .. } = self;
        let dependency = &line.dependency;
        let changes = self.changes.get_or_insert_with(|| dependency.engine.changes());
        if line.version() != self.version {
            self.let_go();
            return None;
        }
        let reads = !self.read && self.queued < AHEAD;
        let came = tokio::select! {
            biased;
            _ = changes.changed() => return None,
            came = pipe.read(), if reads => came,
            () = dependency.clock.sleep_until(at) => return None,
        };
        match came {
            Ok(Came::Held(bytes)) => self.take(bytes),
            Ok(Came::End) => self.take_end(),
            Err(broken) => return Some(Over::Broken(self.way, broken)),
        }
        None
    }

    fn let_go(&mut self) {
        let now = self.line.now();
        self.version = self.line.version();
        self.due = now;
        self.queue.iter_mut().for_each(|(at, _)| *at = now);
    }
}

//! One direction of a socket: bytes as they come, or messages through the effects. While messages
//! are held, those behind them are read on, so that each is known by the time it came.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::super::due::Due;
use super::Books;
use crate::dice::Dice;
use crate::exchange::{Event, Framing, Item};
use crate::fault::{Ending, Order};
use crate::net::{Sleep, Stream};
use crate::wire::websocket::{Kind, Splitter, Tracker, frame};

/// How much is read on behind a message that is held; then its sender is held up too.
const AHEAD: usize = 256 << 10;
/// What is read at a time, into a place that all sockets of a thread share.
const SCRATCH: usize = 64 << 10;
/// What a control frame carries at most.
const CONTROL: usize = 125;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// Where a lane goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// To the app.
    Down,
    /// To the upstream.
    Up,
}

/// Why a lane stops early.
#[derive(Debug)]
pub(super) enum Stop {
    Ordered(Ending),
    Read(io::Error),
    /// Its receiver is gone.
    Write,
}

#[derive(Debug)]
pub(super) struct Lane {
    way: Way,
    sight: Sight,
    /// Where the frames stand that were sent on, while they are read.
    sent: Tracker,
    /// Of an app's frames that we make.
    masks: Option<Dice>,
    /// To be written before anything else.
    out: VecDeque<Bytes>,
    /// To be carried out at the next border of frames.
    at_border: VecDeque<Order>,
    orders: VecDeque<Order>,
    holding: Option<Holding>,
    due: Due,
    /// Messages that no effect has seen yet, and when they came.
    queue: VecDeque<(Duration, Item)>,
    /// Bytes in the queue.
    ahead: usize,
    /// Something was written and not flushed.
    dirty: bool,
    source: Source,
    done: bool,
}

#[derive(Debug)]
enum Sight {
    Blind(Tracker),
    Reading(Box<Splitter>),
}

#[derive(Debug)]
enum Source {
    Open,
    /// It has ended; `told`: the effects know.
    Ended {
        told: bool,
    },
    Failed(io::Error),
}

struct Holding(Sleep);

impl Lane {
    pub(super) fn new(way: Way, tracker: Tracker, masks: Option<Dice>) -> Self {
        Self {
            way,
            sent: tracker.clone(),
            sight: Sight::Blind(tracker),
            masks,
            out: VecDeque::new(),
            at_border: VecDeque::new(),
            orders: VecDeque::new(),
            holding: None,
            due: Due::default(),
            queue: VecDeque::new(),
            ahead: 0,
            dirty: false,
            source: Source::Open,
            done: false,
        }
    }

    /// Whether its end has been passed on.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn is_holding(&self) -> bool {
        self.holding.is_some()
    }

    /// Whether a close frame has come.
    pub(super) fn is_closed(&self) -> bool {
        self.came().is_closed()
    }

    /// Whether a close frame can be sent now: between frames, and once.
    pub(super) fn can_close(&self) -> bool {
        let sent = self.position();
        self.out.is_empty() && sent.at_boundary() && !sent.is_closed()
    }

    /// Where the frames stand that have come.
    fn came(&self) -> &Tracker {
        match &self.sight {
            Sight::Blind(tracker) => tracker,
            Sight::Reading(splitter) => splitter.tracker(),
        }
    }

    /// Where the frames stand that were sent on.
    fn position(&self) -> &Tracker {
        match &self.sight {
            Sight::Blind(tracker) => tracker,
            Sight::Reading(_) => &self.sent,
        }
    }

    /// Reads messages from here on, or leaves that off.
    pub(super) fn watch(&mut self, reads: bool, books: &mut Books) {
        match &self.sight {
            Sight::Blind(tracker) if reads => {
                self.sent = tracker.clone();
                self.sight = Sight::Reading(Box::new(Splitter::from(tracker.clone())));
            }
            Sight::Reading(_) if !reads => {
                while let Some((_, item)) = self.queue.pop_front() {
                    self.send(item, books);
                }
                self.ahead = 0;
                let left = self.leave_off();
                self.send(Item::Bytes(left), books);
            }
            _ => {}
        }
    }

    /// Takes what is left of a begun message; from here on nothing is read.
    fn leave_off(&mut self) -> Bytes {
        let blind = Sight::Blind(self.sent.clone());
        match std::mem::replace(&mut self.sight, blind) {
            Sight::Reading(splitter) => {
                let (left, tracker) = splitter.finish();
                self.sight = Sight::Blind(tracker);
                left
            }
            Sight::Blind(tracker) => {
                self.sight = Sight::Blind(tracker);
                Bytes::new()
            }
        }
    }

    /// To be carried out as soon as no frame is under way.
    pub(super) fn order(&mut self, orders: VecDeque<Order>) {
        self.at_border.extend(orders);
    }

    /// Holds nothing any more; what was to be sent is sent, what was to end goes on.
    pub(super) fn relent(&mut self, books: &mut Books) {
        self.holding = None;
        self.at_border.clear();
        for order in std::mem::take(&mut self.orders) {
            if let Order::Send(item) = order {
                self.send(item, books);
            }
        }
    }

    /// Its receiver is gone: nothing of it matters any more.
    pub(super) fn give_up(&mut self) {
        self.done = true;
    }

    /// Ready when the sender's end has been passed on.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        books: &mut Books,
    ) -> Poll<Result<(), Stop>> {
        loop {
            let empty = self.poll_empty(cx, to, books)?.is_ready();
            if !matches!(self.source, Source::Open) {
                if !empty {
                    return Poll::Pending;
                }
                if let Source::Failed(error) =
                    std::mem::replace(&mut self.source, Source::Ended { told: true })
                {
                    return Poll::Ready(Err(Stop::Read(error)));
                }
                // An end that cannot be told is told by the other lane.
                let _ = ready!(Pin::new(to).poll_shutdown(cx));
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            let room = match self.sight {
                Sight::Blind(_) => empty,
                Sight::Reading(_) => self.ahead < AHEAD,
            };
            if !room {
                return Poll::Pending;
            }
            ready!(self.poll_fill(cx, from, to, books))?;
        }
    }

    /// Reads once.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        books: &mut Books,
    ) -> Poll<Result<(), Stop>> {
        BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(from).poll_read(cx, &mut buffer)) {
                Err(error) => self.source = Source::Failed(error),
                Ok(()) if buffer.filled().is_empty() => self.source = Source::Ended { told: false },
                Ok(()) => match &mut self.sight {
                    Sight::Blind(tracker) => {
                        let bytes = buffer.filled();
                        tracker.skip(bytes);
                        self.count(bytes.len(), books);
                        return self.pass(cx, bytes, to);
                    }
                    Sight::Reading(_) => self.take(Bytes::copy_from_slice(buffer.filled()), books),
                },
            }
            if !matches!(self.source, Source::Open) && matches!(self.sight, Sight::Reading(_)) {
                // What is left behind it is no message any more.
                let left = self.leave_off();
                self.sight = Sight::Reading(Box::new(Splitter::from(self.came().clone())));
                if !left.is_empty() {
                    self.queue.push_back((books.now(), Item::Bytes(left)));
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Writes bytes that no effect sees; what the receiver does not take now is kept.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: &mut Stream,
    ) -> Poll<Result<(), Stop>> {
        let mut written = 0;
        while written < bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &bytes[written..]) {
                Poll::Ready(Ok(count @ 1..)) => written += count,
                Poll::Ready(_) => return Poll::Ready(Err(Stop::Write)),
                Poll::Pending => {
                    self.out.push_back(Bytes::copy_from_slice(&bytes[written..]));
                    break;
                }
            }
        }
        self.dirty = true;
        Poll::Ready(Ok(()))
    }

    /// Takes in what has come.
    pub(super) fn take(&mut self, bytes: Bytes, books: &mut Books) {
        if bytes.is_empty() {
            return;
        }
        match &mut self.sight {
            Sight::Blind(tracker) => {
                tracker.skip(&bytes);
                self.count(bytes.len(), books);
                self.out.push_back(bytes);
            }
            Sight::Reading(splitter) => {
                let now = books.now();
                for item in splitter.push(bytes) {
                    self.ahead += item.raw().len();
                    self.queue.push_back((now, item));
                }
            }
        }
    }

    fn count(&self, bytes: usize, books: &mut Books) {
        if self.way == Way::Down {
            books.sent(bytes);
        }
    }

    /// Writes and carries out what there is; ready when nothing is left.
    fn poll_empty(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
        books: &mut Books,
    ) -> Poll<Result<(), Stop>> {
        loop {
            ready!(self.poll_out(cx, to))?;
            if let Some(Holding(sleep)) = &mut self.holding {
                if sleep.as_mut().poll(cx).is_pending() {
                    let _ = self.poll_flush(cx, to)?;
                    return Poll::Pending;
                }
                self.holding = None;
                if self.way == Way::Down {
                    books.release();
                }
            }
            if !self.at_border.is_empty() && self.position().at_boundary() {
                let mut orders = std::mem::take(&mut self.at_border);
                orders.append(&mut self.orders);
                self.orders = orders;
            }
            match self.orders.pop_front() {
                Some(Order::Send(item)) => {
                    self.send(item, books);
                }
                Some(Order::Wait(time)) => {
                    if self.way == Way::Down {
                        books.hold();
                    }
                    let clock = &books.connection().dependency.clock;
                    self.holding = Some(Holding(clock.sleep(time)));
                }
                Some(Order::End(ending)) => {
                    if self.poll_flush(cx, to)?.is_pending() {
                        self.orders.push_front(Order::End(ending));
                        return Poll::Pending;
                    }
                    return Poll::Ready(Err(Stop::Ordered(ending)));
                }
                Some(Order::Pulse(mut pulse)) => {
                    // While it lasts, the orders behind it wait, and messages that come are kept.
                    let Some((wait, beats)) = pulse.step() else { continue };
                    let piece = beats.then(|| Order::Send(pulse.item.clone()));
                    self.orders.push_front(Order::Pulse(pulse));
                    if let Some(piece) = piece {
                        self.orders.push_front(piece);
                    }
                    self.orders.push_front(Order::Wait(wait));
                }
                Some(Order::Again(_) | Order::Answer(_) | Order::Certificate(_) | Order::Join) => {}
                None if self.poll_due(cx, books) => {}
                None if self.show_next(books) => {}
                None => return self.poll_flush(cx, to),
            }
        }
    }

    /// Tells the effects of the time, where one of them waits for it; false when none does.
    fn poll_due(&mut self, cx: &mut Context<'_>, books: &mut Books) -> bool {
        if self.way == Way::Up || !self.queue.is_empty() {
            return false;
        }
        let due = books.decision.chain.due();
        if self.due.poll(cx, due, books.connection().dependency.clock.as_ref()).is_pending() {
            return false;
        }
        let now = books.now();
        self.orders.extend(books.decision.chain.on_due(now));
        true
    }

    /// Shows the next message to the effects; false when there is none.
    fn show_next(&mut self, books: &mut Books) -> bool {
        let now = books.now();
        let chain = &mut books.decision.chain;
        let Some((came, item)) = self.queue.pop_front() else {
            let Source::Ended { told: told @ false } = &mut self.source else { return false };
            *told = true;
            if self.way == Way::Down {
                self.orders.extend(chain.on_end(now));
            }
            return true;
        };
        self.ahead = self.ahead.saturating_sub(item.raw().len());
        // Pings, pongs and closes keep their place, but no effect takes them for an answer.
        if matches!(&item, Item::Event(event) if event.is_control()) {
            self.orders.push_back(Order::Send(item));
            return true;
        }
        chain.on_arrival(came);
        self.orders.extend(match self.way {
            Way::Down => chain.on_item(now, item),
            Way::Up => chain.on_upload(now, item),
        });
        true
    }

    /// Puts a piece on its way.
    pub(super) fn send(&mut self, item: Item, books: &mut Books) {
        let bytes = match item {
            Item::Event(event) if event.framing != Framing::WebSocket || event.raw.is_empty() => {
                self.framed(&event)
            }
            other => other.raw().clone(),
        };
        if !bytes.is_empty() {
            self.sent.skip(&bytes);
            self.count(bytes.len(), books);
            self.out.push_back(bytes);
        }
    }

    /// A message that an effect has made or changed, in one frame. Empty where none can stand.
    fn framed(&mut self, event: &Event) -> Bytes {
        let kind = match event.framing {
            Framing::WebSocket => Kind::named(event.name.as_deref()),
            // The comments of other streams are not for a socket.
            _ if event.data.is_empty() => return Bytes::new(),
            _ => Kind::Text,
        };
        let inside = self.sent.is_inside_message() && !kind.is_control();
        if !self.sent.at_boundary() || inside || self.sent.is_closed() {
            return Bytes::new();
        }
        let most = if kind.is_control() { CONTROL } else { usize::MAX };
        let data = &event.data[..event.data.len().min(most)];
        let mask = self.masks.as_mut().map(|dice| {
            let [a, b, c, d, ..] = dice.bits().to_be_bytes();
            [a, b, c, d]
        });
        frame(kind, data, mask)
    }

    fn poll_out(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), Stop>> {
        while let Some(first) = self.out.front_mut() {
            match ready!(Pin::new(&mut *to).poll_write(cx, first)) {
                Ok(count @ 1..) => first.advance(count),
                _ => return Poll::Ready(Err(Stop::Write)),
            }
            self.dirty = true;
            if first.is_empty() {
                self.out.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), Stop>> {
        if self.dirty {
            ready!(Pin::new(to).poll_flush(cx)).map_err(|_| Stop::Write)?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Holding")
    }
}

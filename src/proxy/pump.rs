//! Carries out what faults order, in the order they order it. It holds pieces back, sends, ends;
//! it decides nothing itself. While it holds, the upstream is not read, as with a slow reader.

mod pulse;
mod reading;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::answer::AnswerBody;
use super::call::Books;
use super::connection::{Connection, Killed};
use super::due::Due;
use super::headers;
use super::packing::Packing;
use super::rehearsal::rehearse;
use super::request::RequestBody;
use super::reverse::{self, Answered, Outcome, Passing, Sent};
use crate::dialect::{self, grpc};
use crate::engine::Demand;
use crate::exchange::{Event, Grain, Item};
use crate::fault::{Ending, Order};
use crate::measure::CallEnd;
use crate::net::Sleep;
use crate::net::pool::Answering;
use crate::wire::Cutter;
use crate::wire::coding::{Coding, can_unpack};

/// The shortest time after which an effect is asked again.
const AGAIN: Duration = Duration::from_millis(1);

/// Serves one request while a fault is armed for its dependency.
pub(super) async fn exchange(
    connection: Arc<Connection>,
    mut passing: Passing,
    demand: Demand,
) -> Outcome {
    if !demand.any {
        passing.strip();
        return reverse::pass(connection, passing).await;
    }
    if demand.body && poll_fn(|cx| passing.body.poll_peek(cx)).await.is_err() {
        return Err(connection.give_up());
    }
    decide(&connection, &mut passing, demand);
    if passing.books.decision.chain.is_empty() {
        return reverse::pass(connection, passing).await;
    }
    match ask_about_request(&connection, &mut passing).await {
        Ask::Go => call(connection, passing).await,
        Ask::Answer(answer) => Ok(answered(&connection, answer, passing.books)),
        Ask::End(ending) => Err(ended(&connection, ending, passing.books).await),
    }
}

fn decide(connection: &Connection, passing: &mut Passing, demand: Demand) {
    let dependency = &connection.dependency;
    let body = if demand.body { passing.body.prefix() } else { Bytes::new() };
    let head = &passing.parts;
    let dialect = dependency.dialect_of((&head.method, &head.uri, &head.headers), &body);
    let dialect = if connection.line.is_grpc() { dialect.over_grpc() } else { dialect };
    let exchange = dependency.engine.exchange(
        &dependency.name,
        &passing.parts,
        &body,
        dialect,
        &dependency.identify,
    );
    if demand.steered {
        passing.strip();
    }
    passing.books.identify(&exchange);
    passing.books.decision = dependency.engine.decide(dependency.clock.now(), &exchange, dialect);
    if let Some(handshake) = &mut passing.handshake {
        handshake.decided(exchange);
    }
}

/// What the effects want before the upstream is called.
enum Ask {
    Go,
    Answer(dialect::Answer),
    End(Ending),
}

async fn ask_about_request(connection: &Connection, passing: &mut Passing) -> Ask {
    for index in 0..passing.books.decision.chain.len() {
        loop {
            let now = passing.books.now();
            let chain = &mut passing.books.decision.chain;
            let mut again = false;
            for order in chain.on_request(index, now, &mut passing.parts) {
                match order {
                    Order::Wait(time) => hold_request(connection, passing, time).await,
                    Order::Again(time) => {
                        hold_request(connection, passing, time.max(AGAIN)).await;
                        again = true;
                    }
                    Order::Answer(answer) => return Ask::Answer(answer),
                    Order::End(ending) => return Ask::End(ending),
                    // There is no answer yet that a piece could belong to, no handshake any more.
                    Order::Certificate(_) | Order::Join | Order::Pulse(_) | Order::Send(_) => {}
                }
            }
            if !again {
                break;
            }
        }
    }
    Ask::Go
}

/// Holds a request back. Its body is read meanwhile, since an app that goes away is noticed only
/// behind it.
async fn hold_request(connection: &Connection, passing: &mut Passing, time: Duration) {
    // Before the clock runs: what it measures is never shorter than the wait.
    passing.books.hold();
    let mut sleep = connection.dependency.clock.hold(time, Some(rehearse));
    let mut peeked = false;
    poll_fn(|cx| {
        if !peeked {
            peeked = passing.body.poll_peek(cx).is_ready();
        }
        sleep.as_mut().poll(cx)
    })
    .await;
    passing.books.release();
}

/// Calls the upstream and shows its head to the effects.
async fn call(connection: Arc<Connection>, mut passing: Passing) -> Outcome {
    let grain = passing.books.decision.chain.grain();
    if grain == Grain::Event {
        // Events can be seen only in an answer that can be unpacked.
        if !passing.parts.headers.get_all(header::ACCEPT_ENCODING).iter().all(can_unpack) {
            passing.parts.headers.remove(header::ACCEPT_ENCODING);
        }
        if passing.handshake.is_some() {
            passing.parts.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        }
    }
    passing.raw = headers::reconcile(&passing.raw, &passing.parts.headers);
    passing.books.upstream_called();
    let bodyless = passing.parts.method == Method::HEAD;
    let called_at = passing.books.now();
    let (mut sent, answer) = passing.send(&connection.dependency).await;
    let took = sent.books.now().saturating_sub(called_at);
    let (response, raw) = match answer {
        Ok(answered) => answered,
        Err(error) => return reverse::failed(&connection, &error, sent.books),
    };
    let (mut head, body) = response.into_parts();
    let coding = (grain == Grain::Event).then(|| Coding::of(head.status, &head.headers)).flatten();
    // Effects see what is in it.
    let packed = coding.and_then(|_| head.headers.remove(header::CONTENT_ENCODING));
    let mut orders = VecDeque::new();
    for index in 0..sent.books.decision.chain.len() {
        let now = sent.books.now();
        let chain = &mut sent.books.decision.chain;
        for order in chain.on_response(index, now, took, &mut head) {
            match order {
                // Behind a piece that is sent before the body, or a clean end, comes the head first.
                order if !orders.is_empty() => orders.push_back(order),
                Order::Pulse(_)
                | Order::Send(_)
                | Order::End(Ending::Clean | Ending::CloseFrame(_)) => orders.push_back(order),
                Order::Wait(time) => hold(&connection, &mut sent.books, time).await,
                Order::Answer(answer) => return Ok(answered(&connection, answer, sent.books)),
                Order::End(ending) => {
                    drop(body);
                    return Err(ended(&connection, ending, sent.books).await);
                }
                Order::Again(_) | Order::Certificate(_) | Order::Join => {}
            }
        }
    }
    if let Some(packed) = packed {
        head.headers.insert(header::CONTENT_ENCODING, packed);
    }
    let raw = headers::reconcile(&raw, &head.headers);
    let response = http::Response::from_parts(head, body);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(handshake) = &mut sent.handshake
    {
        handshake.orders = std::mem::take(&mut orders);
    }
    let whole = bodyless || response.body().is_end_stream();
    if whole || orders.is_empty() && grain == Grain::Head {
        return reverse::pass_on(&connection, sent, (response, raw));
    }
    pump_on(connection, sent, (response, raw), orders, (grain, coding)).await
}

async fn hold(connection: &Connection, books: &mut Books, time: Duration) {
    books.hold();
    connection.dependency.clock.hold(time, Some(rehearse)).await;
    books.release();
}

/// Hands the answer to the app through the effects.
async fn pump_on(
    connection: Arc<Connection>,
    sent: Sent,
    (response, raw): Answered,
    orders: VecDeque<Order>,
    (grain, coding): (Grain, Option<Coding>),
) -> Outcome {
    let (mut head, body) = response.into_parts();
    let announced = body.size_hint().exact().filter(|_| coding.is_none());
    if coding.is_some() {
        // Packed anew it has another length, which nobody knows before its end.
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let mut pump = Pump {
        cutter: match coding {
            Some(_) => Cutter::unpacked(grain, &head.headers),
            None => Cutter::for_answer(grain, &head.headers),
        },
        packing: coding.map(Packing::new),
        upstream: Some(body),
        items: VecDeque::new(),
        orders,
        trailers: None,
        status: None,
        stage: Stage::Reading,
        cut: false,
        holding: None,
        hanging: None,
        due: Due::default(),
        endless: false,
        length: None,
        passed: 0,
        books: sent.books,
    };
    if let Some(announced) = announced {
        pump.length = pump.look_ahead(announced).await;
        head.headers.remove(header::CONTENT_LENGTH);
        if let Some(length) = pump.length {
            head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
    }
    let raw = headers::reconcile(&raw, &head.headers);
    let (lines, framed) =
        reverse::lines_of(&connection, &raw, &mut head.headers, sent.old_client, false);
    let response = reverse::opened(&connection, head, lines, framed, &mut pump.books);
    Ok(response.map(|()| AnswerBody::Pumped(Box::new(pump))))
}

/// An answer that a fault made up.
fn answered(
    connection: &Connection,
    answer: dialect::Answer,
    mut books: Books,
) -> http::Response<AnswerBody> {
    books.ended(CallEnd::Injected);
    let faults = books.decision.acted();
    reverse::made(connection, answer, &faults, books)
}

/// A fault ends the exchange before its head.
async fn ended(connection: &Connection, ending: Ending, mut books: Books) -> Killed {
    books.ended(CallEnd::Injected);
    match ending {
        Ending::Hang => {
            books.hold();
            connection.hang().await
        }
        ending => connection.kill(ending),
    }
}

/// The body of an answer on its way through the effects.
#[derive(Debug)]
pub(super) struct Pump {
    /// None once it is read or given up.
    upstream: Option<Answering<RequestBody>>,
    cutter: Cutter,
    /// Of an answer that is compressed.
    packing: Option<Packing>,
    /// Items that the effects have not seen yet, before those of the cutter.
    items: VecDeque<Item>,
    /// What is still to be carried out.
    orders: VecDeque<Order>,
    trailers: Option<HeaderMap>,
    /// What a gRPC client is told of an upstream that broke off.
    status: Option<Event>,
    stage: Stage,
    /// The last order stands for the end of an upstream that broke off.
    cut: bool,
    holding: Option<Holding>,
    hanging: Option<Hanging>,
    due: Due,
    /// Keep-alives alone follow.
    endless: bool,
    /// The length that was announced to the app.
    length: Option<u64>,
    passed: u64,
    books: Books,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Reading,
    /// The upstream's body is over; what is left of it goes through the effects.
    Emptying(End),
    /// Nothing more comes than the orders that are there.
    Over,
    /// This end has been reached.
    Ended(Ending),
}

/// How the upstream's body ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Whole,
    Cut(Ending),
}

struct Holding(Sleep);
struct Hanging(Pin<Box<WaitForCancellationFutureOwned>>);

impl Pump {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Killed>>> {
        loop {
            if self.endless && self.poll_drained(cx).is_ready() {
                return Poll::Ready(Some(Err(self.books.connection().give_up())));
            }
            if let Some(Holding(sleep)) = &mut self.holding {
                ready!(sleep.as_mut().poll(cx));
                self.holding = None;
                self.books.release();
            }
            if let Some(tail) = self.tail() {
                return Poll::Ready(Some(Ok(self.sent(tail))));
            }
            if let Stage::Ended(ending) = self.stage {
                return self.poll_ended(cx, ending).map(|killed| killed.map(Err));
            }
            match self.orders.pop_front() {
                Some(Order::Send(item)) if item.raw().is_empty() => {}
                Some(Order::Send(item)) => {
                    let item = self.joined(item);
                    return Poll::Ready(Some(Ok(self.send(&item))));
                }
                Some(Order::Pulse(pulse)) => self.pulse(pulse),
                Some(Order::Wait(time)) => {
                    self.books.hold();
                    self.holding =
                        Some(Holding(self.books.connection().dependency.clock.hold(time, None)));
                }
                Some(Order::End(ending)) => self.end(ending),
                // What it would join to was not sent.
                Some(Order::Join) => {}
                // Too late for these: the head has gone out.
                Some(Order::Again(_) | Order::Answer(_) | Order::Certificate(_)) => {}
                None if self.stage == Stage::Over => {
                    self.books.ended(CallEnd::Complete);
                    let trailers = self.trailers.take().inspect(|it| self.books.said(it));
                    return Poll::Ready(trailers.map(|it| Ok(Frame::trailers(it))));
                }
                None => ready!(self.poll_more(cx)),
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.length == Some(self.passed)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length - self.passed),
            None => SizeHint::default(),
        }
    }

    fn send(&mut self, item: &Item) -> Frame<Bytes> {
        if let Item::Event(event) = item
            && let Some(trailers) = grpc::trailers_of(event)
        {
            // A fault ends the call: nothing can follow.
            self.end(Ending::Clean);
            self.books.said(&trailers);
            return Frame::trailers(trailers);
        }
        if matches!(item, Item::Event(event) if !event.is_control()) {
            self.books.sent_event();
        }
        let bytes = match &mut self.packing {
            Some(packing) => packing.packer.push(item.raw()),
            None => item.raw().clone(),
        };
        self.sent(bytes)
    }

    fn sent(&mut self, bytes: Bytes) -> Frame<Bytes> {
        self.books.sent(bytes.len());
        self.passed += bytes.len() as u64;
        if self.is_end_stream() {
            // Hyper will not ask again.
            let injected = self.orders.iter().any(|order| matches!(order, Order::End(_)));
            self.books.ended(if injected { CallEnd::Injected } else { CallEnd::Complete });
        }
        self.books.connection().line.wire.mark_dirty();
        Frame::data(bytes)
    }

    /// What stands behind the last piece of a body that is compressed and ends in good order.
    fn tail(&mut self) -> Option<Bytes> {
        let over = matches!(self.stage, Stage::Over | Stage::Ended(Ending::Clean));
        if !over || !self.orders.is_empty() {
            return None;
        }
        self.packing.take()?.tail()
    }

    fn end(&mut self, ending: Ending) {
        let cut = self.cut && self.orders.is_empty();
        self.books.ended(if cut { CallEnd::UpstreamCut } else { CallEnd::Injected });
        self.stage = Stage::Ended(ending);
        if ending == Ending::Hang {
            self.books.hold();
        }
        self.orders.clear();
        // An upstream that is not read to its end is told so at once.
        self.upstream = None;
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>, ending: Ending) -> Poll<Option<Killed>> {
        match ending {
            Ending::Clean => Poll::Ready(None),
            Ending::Hang => {
                ready!(self.poll_drained(cx));
                Poll::Ready(Some(self.books.connection().give_up()))
            }
            ending => self.books.connection().poll_killed(cx, ending).map(Some),
        }
    }

    /// Ready when what hangs is to end.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let drain = &self.books.connection().dependency.drain;
        let Hanging(drained) =
            self.hanging.get_or_insert_with(|| Hanging(Box::pin(drain.clone().cancelled_owned())));
        drained.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Holding")
    }
}

impl std::fmt::Debug for Hanging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hanging")
    }
}

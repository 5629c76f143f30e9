//! A raw connection whose protocol is read: each request is an exchange, decided on by itself, also on
//! a connection that the app has kept for long. While nothing is armed its bytes are followed, not
//! held.

mod down;
mod flight;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Request;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::flight::Flight;
use super::line::{Greeting, Line};
use super::pipe::{Broken, Came, Pipe};
use super::{Over, Raw, Way, both, end_app, finish};
use crate::dialect::{Answer, Asked, Reply, Session, Up};
use crate::exchange::{Exchange, Facts, Item};
use crate::fault::{Ending, Order};
use crate::measure::CallEnd;
use crate::net::Stream;

/// The shortest time after which an effect is asked again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(1);

/// Serves a connection of which the app has said what it is; `early` is what it has sent so far.
pub(super) async fn serve(
    mut app: Stream,
    dependency: Arc<Raw>,
    session: Box<dyn Session>,
    mut early: BytesMut,
    (label, introduction): (&str, usize),
) {
    let line = Line::of_requests(&dependency, label);
    let mut opening = Flight::begun(&dependency);
    match line.greet().await {
        Greeting::Go => {}
        Greeting::Answer(answer) => {
            let told = session.refuse_connection(&answer);
            opening.injected(answer.status.as_u16(), line.acted());
            if tokio::io::AsyncWriteExt::write_all(&mut app, &told).await.is_ok() {
                app.close().await;
            }
            return;
        }
        Greeting::End(ending) => {
            opening.injected(0, line.acted());
            return end_app(app, ending, &line).await;
        }
    }
    let upstream = match dependency.connector.connect_for(&[]).await {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::debug!(dependency = %dependency.name, %error, "upstream failed");
            opening.ended(CallEnd::UpstreamFailed);
            return app.reset().await;
        }
    };
    let introduction = early.split_to(introduction).freeze();
    let (mut up, mut down) = Pipe::both(app, upstream);
    let shared = Shared { session, flights: VecDeque::new(), opaque: false };
    let talk = Talk { line, shared: Mutex::new(shared), stirred: Notify::new() };
    opening.upstream_called();
    if !introduction.is_empty() {
        talk.shared.lock().flights.push_back(opening);
    } else {
        opening.forget();
    }
    let over =
        both(talk.up(&mut up, introduction, early), talk.down(&mut down), talk.drained()).await;
    let injected = matches!(over, Over::Ending(_));
    let flights = std::mem::take(&mut talk.shared.lock().flights);
    for flight in flights {
        flight.cut(match &over {
            _ if injected => CallEnd::Injected,
            Over::Broken(Way::Up, Broken::From) | Over::Broken(Way::Down, Broken::To) => {
                CallEnd::ClientGone
            }
            Over::Drained => CallEnd::ClientGone,
            _ => CallEnd::UpstreamCut,
        });
    }
    finish(up, down, over, &talk.line).await;
}

/// What both directions share.
#[derive(Debug)]
struct Talk {
    line: Line,
    shared: Mutex<Shared>,
    /// There is something to send to the app that the upstream did not send.
    stirred: Notify,
}

#[derive(Debug)]
struct Shared {
    session: Box<dyn Session>,
    /// Requests whose answers are not over, in order.
    flights: VecDeque<Flight>,
    /// Nothing can be told apart any more.
    opaque: bool,
}

/// What is done with the front of the app's bytes.
enum Front {
    Ask(Asked),
    More,
    Pass(usize),
    Skip(usize),
}

impl Talk {
    fn dependency(&self) -> &Arc<Raw> {
        &self.line.dependency
    }

    /// Waits until the proxy is drained and nothing is under way.
    async fn drained(&self) {
        self.dependency().drain.cancelled().await;
        while !self.shared.lock().flights.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    // From the app to the upstream.

    async fn up(&self, pipe: &mut Pipe, introduction: Bytes, early: BytesMut) -> Over {
        match self.carry_up(pipe, introduction, early).await {
            Ok(over) | Err(over) => over,
        }
    }

    async fn carry_up(
        &self,
        pipe: &mut Pipe,
        introduction: Bytes,
        early: BytesMut,
    ) -> Result<Over, Over> {
        let broken = |broken| Over::Broken(Way::Up, broken);
        let mut buffer = early;
        self.send(Way::Up, pipe, introduction).await?;
        loop {
            while !buffer.is_empty() {
                match self.front(&buffer) {
                    Front::Ask(asked) => {
                        let bytes = buffer.split_to(asked.len).freeze();
                        self.ask(pipe, &asked, bytes).await?;
                    }
                    Front::More => break,
                    Front::Pass(len) => {
                        let bytes = buffer.split_to(len).freeze();
                        self.send(Way::Up, pipe, bytes).await?;
                    }
                    Front::Skip(len) => {
                        let _ = buffer.split_to(len);
                    }
                }
            }
            let came = if buffer.is_empty() {
                buffer = BytesMut::new();
                pipe.pass(|bytes| self.pass_up(bytes)).await
            } else {
                pipe.read().await
            };
            match came.map_err(broken)? {
                Came::Held(bytes) => buffer.extend_from_slice(&bytes),
                Came::End => {
                    let rest = buffer.split().freeze();
                    self.send(Way::Up, pipe, rest).await?;
                    let orders =
                        if self.line.touched() { self.line.show_end(Way::Up) } else { Vec::new() };
                    self.carry_out(Way::Up, pipe, orders).await?;
                    pipe.end().await.map_err(broken)?;
                    return Ok(Over::Half);
                }
            }
        }
    }

    /// How many of these bytes pass without being held.
    fn pass_up(&self, bytes: &[u8]) -> usize {
        if self.line.touched() || self.line.demand().any {
            return 0;
        }
        let mut at = 0;
        while at < bytes.len() {
            let mut shared = self.shared.lock();
            if shared.opaque {
                return bytes.len();
            }
            match shared.session.up(&bytes[at..], false) {
                Up::Pass { len, begins } => {
                    at += len;
                    if begins {
                        shared.flights.push_back(Flight::passing(self.dependency()));
                    }
                }
                Up::Opaque => shared.give_up(),
                Up::Skip { len, reply, over } => {
                    // These do not pass: what came before them does.
                    if at > 0 {
                        return at;
                    }
                    shared.reply(&reply, over);
                    self.stirred.notify_one();
                    let _ = len;
                    return at;
                }
                Up::Ask { .. } | Up::More | Up::Opening { .. } => return at,
            }
        }
        at
    }

    fn front(&self, bytes: &[u8]) -> Front {
        let whole = self.line.demand().any;
        let mut shared = self.shared.lock();
        if shared.opaque {
            return Front::Pass(bytes.len());
        }
        match shared.session.up(bytes, whole) {
            Up::Ask { asked, .. } => Front::Ask(asked),
            Up::More => Front::More,
            Up::Opaque => {
                shared.give_up();
                Front::Pass(bytes.len())
            }
            Up::Opening { len, .. } => Front::Pass(len),
            Up::Pass { len, begins } => {
                if begins {
                    shared.flights.push_back(Flight::passing(self.dependency()));
                }
                Front::Pass(len)
            }
            Up::Skip { len, reply, over } => {
                shared.reply(&reply, over);
                self.stirred.notify_one();
                Front::Skip(len)
            }
        }
    }

    /// Decides on a request, and does what the effects want before the upstream sees it.
    async fn ask(&self, pipe: &mut Pipe, asked: &Asked, bytes: Bytes) -> Result<(), Over> {
        let dependency = self.dependency();
        let mut flight = Flight::begun(dependency);
        let exchange = self.exchange(asked);
        flight.decide(dependency, &exchange);
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = exchange.method.clone();
        head.uri = exchange.uri.clone();
        for index in 0..flight.decision.chain.len() {
            loop {
                let mut again = false;
                for order in flight.decision.chain.on_request(index, self.line.now(), &mut head) {
                    match order {
                        Order::Wait(time) => flight.hold(dependency, time).await,
                        Order::Again(time) => {
                            flight.hold(dependency, time.max(AGAIN)).await;
                            again = true;
                        }
                        Order::Answer(answer) => return self.refuse(pipe, flight, &answer).await,
                        Order::End(ending) => {
                            self.shared.lock().flights.push_back(flight);
                            return Err(Over::Ending(ending));
                        }
                        Order::Certificate(_) | Order::Join | Order::Pulse(_) | Order::Send(_) => {}
                    }
                }
                if !again {
                    break;
                }
            }
        }
        flight.upstream_called();
        self.shared.lock().flights.push_back(flight);
        self.send(Way::Up, pipe, bytes).await
    }

    fn exchange(&self, asked: &Asked) -> Exchange {
        let Raw { engine, name, .. } = &**self.dependency();
        let facts = Facts {
            operation: asked.operation,
            collection: asked.collection.clone(),
            ..Facts::default()
        };
        engine.asked(name, &asked.path, facts, asked.hash)
    }

    /// Answers a request in the server's place.
    async fn refuse(
        &self,
        pipe: &mut Pipe,
        mut flight: Flight,
        answer: &Answer,
    ) -> Result<(), Over> {
        let upstream = {
            let mut shared = self.shared.lock();
            let idle = shared.flights.is_empty();
            let refusal = shared.session.refuse(answer, idle);
            flight.refused(answer.status.as_u16(), &refusal);
            shared.flights.push_back(flight);
            refusal.upstream
        };
        self.stirred.notify_one();
        if upstream.is_empty() { Ok(()) } else { self.send(Way::Up, pipe, upstream).await }
    }

    // Both ways.

    /// Sends bytes, past the effects on the connection as a whole if there are any.
    async fn send(&self, way: Way, pipe: &mut Pipe, bytes: Bytes) -> Result<(), Over> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.line.touched() {
            return pipe.write(&bytes).await.map_err(|broken| Over::Broken(way, broken));
        }
        let orders = self.line.show(way, self.line.now(), Item::Bytes(bytes));
        self.carry_out(way, pipe, orders).await
    }

    async fn carry_out(&self, way: Way, pipe: &mut Pipe, orders: Vec<Order>) -> Result<(), Over> {
        for order in orders {
            match order {
                Order::Send(item) => {
                    let written = pipe.write(item.raw()).await;
                    written.map_err(|broken| Over::Broken(way, broken))?;
                }
                Order::Wait(time) => self.dependency().clock.sleep(time).await,
                Order::End(ending) => return Err(Over::Ending(ending)),
                // A protocol of this kind has no keep-alives.
                Order::Pulse(pulse) => match pulse.time {
                    Some(time) => self.dependency().clock.sleep(time).await,
                    None => return Err(Over::Ending(Ending::Hang)),
                },
                Order::Again(_) | Order::Answer(_) | Order::Certificate(_) | Order::Join => {}
            }
        }
        Ok(())
    }
}

impl Shared {
    /// From here on nothing is told apart.
    fn give_up(&mut self) {
        self.opaque = true;
        self.flights.drain(..).for_each(|flight| flight.ended(CallEnd::Complete));
    }

    /// Bytes of the answer under way have passed.
    fn passed(&mut self, bytes: usize) {
        if let Some(flight) = self.flights.front_mut() {
            flight.sent(bytes);
        }
    }

    /// An answer has ended, or none has.
    fn ends(&mut self, reply: Option<Reply>) {
        if let Some(reply) = reply
            && let Some(flight) = self.flights.pop_front()
        {
            flight.complete(reply.status);
        }
    }

    /// What the app is told behind a request that was refused; without one (it asks for TLS anew) it
    /// is told nothing.
    fn reply(&mut self, reply: &[u8], over: bool) {
        if let Some(flight) = self.flights.back_mut() {
            flight.add(reply, over);
        }
    }
}

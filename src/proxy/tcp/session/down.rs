//! From the upstream to the app: answers in the order of their requests, those of ours among them.

use bytes::BytesMut;

use super::flight::{Flight, Source};
use super::{Shared, Talk};
use crate::dialect::{Down, Reply};
use crate::exchange::Item;
use crate::fault::{Ending, Order};
use crate::proxy::tcp::pipe::{Came, Pipe};
use crate::proxy::tcp::{Over, Way};

impl Talk {
    pub(super) async fn down(&self, pipe: &mut Pipe) -> Over {
        match self.carry_down(pipe).await {
            Ok(over) | Err(over) => over,
        }
    }

    async fn carry_down(&self, pipe: &mut Pipe) -> Result<Over, Over> {
        let broken = |broken| Over::Broken(Way::Down, broken);
        let mut buffer = BytesMut::new();
        loop {
            loop {
                self.say_ours(pipe).await?;
                if buffer.is_empty() || !self.hear(pipe, &mut buffer).await? {
                    break;
                }
            }
            let came = if buffer.is_empty() {
                buffer = BytesMut::new();
                tokio::select! {
                    biased;
                    () = self.stirred.notified() => continue,
                    came = pipe.pass(|bytes| self.pass_down(bytes)) => came,
                }
            } else {
                pipe.read().await
            };
            match came.map_err(broken)? {
                Came::Held(bytes) => buffer.extend_from_slice(&bytes),
                Came::End => {
                    let rest = buffer.split().freeze();
                    self.send(Way::Down, pipe, rest).await?;
                    let orders = if self.line.touched() {
                        self.line.show_end(Way::Down)
                    } else {
                        Vec::new()
                    };
                    self.carry_out(Way::Down, pipe, orders).await?;
                    pipe.end().await.map_err(broken)?;
                    return Ok(Over::Half);
                }
            }
        }
    }

    fn pass_down(&self, bytes: &[u8]) -> usize {
        if self.line.touched() {
            return 0;
        }
        let mut shared = self.shared.lock();
        let mut at = 0;
        while at < bytes.len() {
            if shared.opaque {
                return bytes.len();
            }
            if shared.flights.front().is_some_and(Flight::is_touched) {
                return at;
            }
            match shared.session.down(&bytes[at..], false) {
                Down::Pass { len, ends } => {
                    shared.passed(len);
                    at += len;
                    shared.ends(ends);
                    if shared.flights.front().is_some_and(Flight::is_ours) {
                        self.stirred.notify_one();
                    }
                }
                Down::Opaque => shared.give_up(),
                Down::More | Down::Part { .. } => return at,
            }
        }
        at
    }

    /// Sends what is ours, while it is its turn.
    async fn say_ours(&self, pipe: &mut Pipe) -> Result<(), Over> {
        loop {
            let (bytes, close) = {
                let mut shared = self.shared.lock();
                let Some(flight) = shared.flights.front_mut() else { return Ok(()) };
                let Source::Ours { bytes, over, close } = &mut flight.source else { return Ok(()) };
                let (bytes, over, close) = (bytes.split().freeze(), *over, *close);
                flight.sent(bytes.len());
                if over {
                    shared.flights.pop_front();
                } else if bytes.is_empty() {
                    return Ok(());
                }
                (bytes, close)
            };
            self.send(Way::Down, pipe, bytes).await?;
            if close {
                return Err(Over::Ending(Ending::Close));
            }
        }
    }

    /// Takes the front of the server's bytes; false when more are needed.
    async fn hear(&self, pipe: &mut Pipe, buffer: &mut BytesMut) -> Result<bool, Over> {
        let (touched, front) = self.look(buffer);
        let (item, whole, said, ends) = match front {
            Down::More => return Ok(false),
            Down::Opaque => {
                self.shared.lock().give_up();
                return Ok(true);
            }
            Down::Pass { len, ends } => {
                (Item::Bytes(buffer.split_to(len).freeze()), false, false, ends)
            }
            Down::Part { event, said, ends } => {
                let _ = buffer.split_to(event.raw.len());
                (Item::Event(event), true, said, ends)
            }
        };
        if touched {
            self.show(pipe, item, whole, said, ends).await?;
        } else {
            let bytes = item.raw().clone();
            self.shared.lock().passed(bytes.len());
            self.send(Way::Down, pipe, bytes).await?;
        }
        self.shared.lock().ends(ends);
        Ok(true)
    }

    fn look(&self, bytes: &[u8]) -> (bool, Down) {
        let mut shared = self.shared.lock();
        if shared.opaque {
            return (false, Down::Pass { len: bytes.len(), ends: None });
        }
        let touched = shared.flights.front().is_some_and(Flight::is_touched);
        (touched, shared.session.down(bytes, touched))
    }

    /// Shows a piece of an answer to the effects, and sends what they leave of it.
    async fn show(
        &self,
        pipe: &mut Pipe,
        item: Item,
        whole: bool,
        said: bool,
        ends: Option<Reply>,
    ) -> Result<(), Over> {
        let orders = {
            let mut shared = self.shared.lock();
            let Shared { session, flights, .. } = &mut *shared;
            let Some(flight) = flights.front_mut() else { return Ok(()) };
            if let Some(left) = flight.stand_in(session.as_ref(), &item, said) {
                let orders = left.map(|bytes| Order::Send(Item::Bytes(bytes)));
                orders.into_iter().collect()
            } else {
                flight.show(self.line.now(), item, whole, ends.is_some())
            }
        };
        for order in orders {
            match order {
                Order::Send(item) => {
                    if let Some(flight) = self.shared.lock().flights.front_mut() {
                        flight.sends(&item);
                    }
                    self.send(Way::Down, pipe, item.raw().clone()).await?;
                }
                Order::Wait(time) => {
                    self.dependency().clock.sleep(time).await;
                    if let Some(flight) = self.shared.lock().flights.front_mut() {
                        flight.held(time);
                    }
                }
                Order::End(Ending::Clean) => {
                    let stays =
                        self.shared.lock().flights.front_mut().is_some_and(Flight::end_early);
                    if !stays {
                        return Err(Over::Ending(Ending::Close));
                    }
                    break;
                }
                Order::End(ending) => return Err(Over::Ending(ending)),
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

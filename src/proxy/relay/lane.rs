//! The upstream's side of an exchange: a kept connection or a new one.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::side::Side;
use crate::net::{self, Connecting, RawPool};

pub(super) enum Lane {
    Closed,
    /// On the way, with what is to be written first.
    Connecting(Connecting, Vec<u8>),
    Open(Side),
}

impl Lane {
    /// A kept connection if there is a sound one; what is written to it is remembered until the
    /// answer begins.
    pub(super) fn open(pool: &RawPool, first: Vec<u8>) -> Self {
        match pool.checkout() {
            Some(stream) => Self::Open(Side::sending(stream, first, true)),
            None => Self::Connecting(pool.connect(), first),
        }
    }

    pub(super) fn poll_connect(&mut self, cx: &mut Context<'_>) -> Result<(), net::Error> {
        if let Self::Connecting(connecting, first) = self
            && let Poll::Ready(connected) = connecting.as_mut().poll(cx)
        {
            *self = Self::Open(Side::sending(connected?, std::mem::take(first), false));
        }
        Ok(())
    }

    /// After a kept connection turned out to be dead before any byte of an answer: the request goes
    /// out once more, on a new one. False when it cannot.
    pub(super) fn start_over(&mut self, pool: &RawPool) -> bool {
        let Self::Open(side) = self else { return false };
        let Some(first) = side.take_kept() else { return false };
        tracing::debug!("a kept connection was closed; the request goes out on a new one");
        *self = Self::Connecting(pool.connect(), first);
        true
    }

    /// The exchange has ended on both sides: the connection waits for another.
    pub(super) fn release(&mut self, pool: &Arc<RawPool>) {
        if let Self::Open(side) = std::mem::replace(self, Self::Closed) {
            pool.give_back(side.stream);
        }
    }
}

//! Raw connections to an upstream, kept and used again by whoever frames messages on them itself.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::connect::{Connecting, Connector, Error};
use super::stream::Stream;
use super::tls;

/// A longer request is not kept, so it is not sent again.
pub const LONGEST_RESENT: usize = 64 << 10;

/// The raw connections to one upstream.
pub struct RawPool {
    connector: Arc<Connector>,
    /// An idle connection is closed after this long.
    idle: Duration,
    /// More idle connections than this are not kept.
    keep: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Used longest ago first.
    streams: VecDeque<(Instant, Stream)>,
    swept: bool,
}

impl RawPool {
    pub(super) fn new(connector: Arc<Connector>, idle: Duration, keep: usize) -> Arc<Self> {
        Arc::new(Self { connector, idle, keep, kept: Mutex::default() })
    }

    /// The idle connection that was used last, if there is a sound one.
    pub fn checkout(&self) -> Option<Stream> {
        loop {
            let (since, mut stream) = self.kept.lock().streams.pop_back()?;
            if since.elapsed() > self.idle {
                // All others are older.
                self.kept.lock().streams.clear();
                return None;
            }
            if is_sound(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// A new connection.
    pub fn connect(&self) -> Connecting {
        self.connector.connect()
    }

    /// Keeps a connection on which the last exchange has ended on both sides.
    pub fn give_back(self: &Arc<Self>, stream: Stream) {
        let mut kept = self.kept.lock();
        kept.streams.push_back((Instant::now(), stream));
        if kept.streams.len() > self.keep {
            kept.streams.pop_front();
        }
        if !std::mem::replace(&mut kept.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.idle));
        }
    }

    /// The upstream closed its connection before the end of a message.
    pub fn closed(&self) -> Error {
        Error::Closed { origin: self.origin() }
    }

    /// The upstream's answer is none.
    pub fn no_answer(&self, reason: &dyn fmt::Display) -> Error {
        Error::Protocol { origin: self.origin(), reason: reason.to_string() }
    }

    /// What a failure of a connection means.
    pub fn failure(&self, error: &io::Error) -> Error {
        // What the upstream thinks of our certificate may come after the handshake.
        if let Some(reason) = tls::reason(error) {
            return Error::Tls { origin: self.origin(), reason };
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Error::Reset { origin: self.origin() }
            }
            io::ErrorKind::UnexpectedEof => self.closed(),
            _ => self.no_answer(error),
        }
    }

    fn origin(&self) -> String {
        self.connector.origin().to_string()
    }
}

/// Whether an idle connection can take a request: nothing came, not even its end.
fn is_sound(stream: &mut Stream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let mut byte = [0];
    Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
}

/// Closes idle connections that are old or that the upstream has closed. Ends when none is left;
/// the next one that is given back starts it again.
async fn sweep(pool: Weak<RawPool>, idle: Duration) {
    loop {
        tokio::time::sleep((idle / 4).min(Duration::from_secs(5))).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = pool.kept.lock();
        kept.streams.retain_mut(|(since, stream)| since.elapsed() <= idle && is_sound(stream));
        if kept.streams.is_empty() {
            kept.swept = false;
            return;
        }
    }
}

impl fmt::Debug for RawPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawPool").field("connector", &self.connector).finish_non_exhaustive()
    }
}

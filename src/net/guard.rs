//! How connections to others are made: where they may lead, by which mark the kernel knows them, and
//! which were made a moment ago, so that one which is redirected back to us is recognised.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// A connection comes back at once, or never.
const RECENT: Duration = Duration::from_secs(10);

/// Which addresses may be connected to, and how. It is asked about the very address that is
/// connected to next, so that a name cannot mean something else by then; it gives the reason
/// against one.
#[derive(Clone)]
pub struct Guard {
    against: Arc<dyn Fn(SocketAddr) -> Option<String> + Send + Sync>,
    mark: Option<u32>,
    dialled: Option<Arc<Dialled>>,
}

impl Guard {
    pub fn new(against: impl Fn(SocketAddr) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { against: Arc::new(against), mark: None, dialled: None }
    }

    /// Any address.
    pub fn none() -> Self {
        Self::new(|_| None)
    }

    /// Connections get this mark (`SO_MARK`), by which rules of the kernel know them.
    pub fn marking(self, mark: Option<u32>) -> Self {
        Self { mark, ..self }
    }

    /// Connections are noted there.
    pub fn noting(self, dialled: Arc<Dialled>) -> Self {
        Self { dialled: Some(dialled), ..self }
    }

    /// The reason against an address.
    pub(super) fn against(&self, address: SocketAddr) -> Option<String> {
        (self.against)(address)
    }

    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        #[cfg(target_os = "linux")]
        if let Some(mark) = self.mark {
            socket2::SockRef::from(&socket).set_mark(mark)?;
        }
        let tcp = socket.connect(address).await?;
        if let Some(dialled) = &self.dialled {
            dialled.note(tcp.local_addr()?, address);
        }
        Ok(tcp)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

/// Local and remote ends, by when they were joined.
#[derive(Debug, Default)]
pub struct Dialled(Mutex<Ends>);

#[derive(Debug, Default)]
struct Ends {
    known: HashMap<(SocketAddr, SocketAddr), Instant>,
    order: VecDeque<(SocketAddr, SocketAddr)>,
}

impl Dialled {
    fn note(&self, local: SocketAddr, remote: SocketAddr) {
        let now = Instant::now();
        let mut ends = self.0.lock();
        while let Some(oldest) = ends.order.front().copied() {
            match ends.known.get(&oldest) {
                Some(at) if now.duration_since(*at) < RECENT => break,
                _ => {
                    ends.order.pop_front();
                    ends.known.remove(&oldest);
                }
            }
        }
        let pair = (canonical(local), canonical(remote));
        ends.known.insert(pair, now);
        ends.order.push_back(pair);
    }

    /// Whether a connection from here to there is one of ours.
    pub fn made(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let ends = self.0.lock();
        let at = ends.known.get(&(canonical(local), canonical(remote)));
        at.is_some_and(|at| at.elapsed() < RECENT)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_made_is_known_for_a_while() {
        let dialled = Dialled::default();
        let (local, remote) = ([127, 0, 0, 1], [10, 0, 0, 1]);
        dialled.note((local, 1).into(), (remote, 443).into());
        assert!(dialled.made((local, 1).into(), (remote, 443).into()));
        assert!(!dialled.made((local, 2).into(), (remote, 443).into()));
        assert!(!dialled.made((local, 1).into(), (remote, 80).into()));
        tokio::time::advance(RECENT).await;
        assert!(!dialled.made((local, 1).into(), (remote, 443).into()));
        dialled.note((local, 2).into(), (remote, 443).into());
        assert_eq!(dialled.0.lock().known.len(), 1, "what is old is forgotten");
    }
}

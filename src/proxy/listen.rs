//! Accepting connections. A dependency that a fault refuses has its listener closed, so that
//! connecting to it fails as it does when nothing runs there.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::entrance::Entrance;
use crate::engine::Engine;

const BACKLOG: u32 = 8192;
/// Between two tries when descriptors run out, or when a port is to be taken again.
const PAUSE: Duration = Duration::from_millis(20);

/// Listens; the address says which port it became.
pub(super) fn bind(
    name: &Arc<str>,
    address: SocketAddr,
    fallback_to_free: bool,
) -> Result<(TcpListener, SocketAddr), Error> {
    let free = SocketAddr::new(address.ip(), 0);
    let bound = match listen(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && fallback_to_free => listen(free),
        bound => bound,
    };
    bound.and_then(|listener| listener.local_addr().map(|local| (listener, local))).map_err(
        |source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::Taken { name: Arc::clone(name), address },
            _ => Error::Listen { name: Arc::clone(name), address, source },
        },
    )
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of an earlier run that linger do not hold the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket that was taken over from another process.
pub(super) fn inherit(socket: std::net::TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::from_std(socket)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A listening socket while there is one: none is there while connections are refused.
#[derive(Debug)]
pub(super) struct Held(Mutex<Option<Arc<TcpListener>>>);

impl Held {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self(Mutex::new(Some(Arc::new(listener))))
    }

    /// The socket once more, for another process.
    pub(super) fn share(&self) -> io::Result<Option<OwnedFd>> {
        self.get().map(|listener| listener.as_fd().try_clone_to_owned()).transpose()
    }

    fn get(&self) -> Option<Arc<TcpListener>> {
        self.0.lock().clone()
    }

    fn close(&self) -> bool {
        self.0.lock().take().is_some()
    }
}

/// Serves what stands behind a place until it is closed: then as long as its connections last.
pub(super) async fn accept(
    held: Arc<Held>,
    address: SocketAddr,
    entrances: Arc<ArcSwap<Entrance>>,
    engine: Arc<Engine>,
    closing: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut changes = engine.changes();
    let mut starved = false;
    loop {
        let entrance = entrances.load_full();
        let refusing = entrance.dependency().filter(|(gate, _)| engine.demand_at(*gate).refuse);
        if let Some((_, name)) = refusing
            && held.close()
        {
            engine.count_refused(name);
        }
        let refused = refusing.is_some();
        let mut listener = held.get();
        if !refused && listener.is_none() {
            listener = listen(address).ok().map(Arc::new);
            held.0.lock().clone_from(&listener);
        }
        tokio::select! {
            accepted = next(listener.as_deref(), refused) => match accepted {
                Ok(Some(stream)) => {
                    starved = false;
                    // As it is now: it may have been replaced while this one was awaited.
                    connections.spawn(entrances.load_full().serve(stream));
                }
                Ok(None) => {}
                Err(error) => {
                    // Once, not at every try.
                    if !std::mem::replace(&mut starved, true) {
                        tracing::warn!(listener = entrance.name(), %error, "cannot accept connections for now");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            },
            _ = changes.changed() => {}
            () = closing.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(listener = entrance.name(), "an exchange panicked");
                }
            }
        }
    }
    held.close();
    while connections.join_next().await.is_some() {}
}

/// The next connection. Without a listener: none, after a pause if the port is to be taken again.
async fn next(listener: Option<&TcpListener>, refused: bool) -> io::Result<Option<TcpStream>> {
    match listener {
        Some(listener) => {
            let (stream, _) = listener.accept().await?;
            let _ = stream.set_nodelay(true);
            Ok(Some(stream))
        }
        None if refused => std::future::pending().await,
        None => {
            tokio::time::sleep(PAUSE).await;
            Ok(None)
        }
    }
}

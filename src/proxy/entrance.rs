//! What a new connection is: plain HTTP, TLS, a raw protocol, a call to a forward proxy, or one that
//! was redirected here. Each kind has a file of its own; this one only tells them apart.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::connection::{self, Dependency};
use super::forward::{self, Forward};
use super::http2;
use super::relay::{self, Why};
use super::route::Route;
use super::secure::{self, Secure};
use super::tcp;
use super::transparent::{self, Transparent};
use crate::engine::Gate;
use crate::net::Stream;

/// A place to listen, and what is behind it.
#[derive(Debug)]
pub(super) enum Entrance {
    /// A forward proxy: any host, dependencies among them.
    Forward(Arc<Forward>),
    /// HTTP for one dependency.
    Http(Arc<Dependency>),
    /// The same over TLS.
    Https(Arc<Dependency>, Arc<Secure>),
    /// A dependency that speaks no HTTP.
    Raw(Arc<tcp::Raw>),
    /// HTTP for many.
    Shared(Arc<Route>),
    /// Connections that the kernel redirects.
    Transparent(Arc<Transparent>),
}

impl Entrance {
    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Forward(_) => "forward",
            Self::Http(dependency) | Self::Https(dependency, _) => &dependency.name,
            Self::Raw(dependency) => &dependency.name,
            Self::Shared(_) => "shared",
            Self::Transparent(_) => "transparent",
        }
    }

    /// The dependency that a fault may refuse connections of: its gate and its name.
    pub(super) fn dependency(&self) -> Option<(Gate, &Arc<str>)> {
        match self {
            Self::Forward(_) | Self::Shared(_) | Self::Transparent(_) => None,
            Self::Http(dependency) | Self::Https(dependency, _) => {
                Some((dependency.gate, &dependency.name))
            }
            Self::Raw(dependency) => Some((dependency.gate, &dependency.name)),
        }
    }

    /// Serves a connection until it ends.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream) {
        // A connection that is only relayed does not pay for what the others need: those have boxes
        // of their own.
        match &*self {
            Self::Forward(gateway) => {
                Box::pin(forward::serve(Arc::clone(gateway), stream)).await;
            }
            Self::Http(dependency) => {
                let route = Arc::new(Route::Fixed(Arc::clone(dependency)));
                http(Stream::Tcp(stream), route).await;
            }
            Self::Https(dependency, secure) => {
                let (dependency, secure) = (Arc::clone(dependency), Arc::clone(secure));
                Box::pin(secure::serve(stream, dependency, secure)).await;
            }
            Self::Transparent(gateway) => {
                Box::pin(transparent::serve(Arc::clone(gateway), stream)).await;
            }
            Self::Raw(dependency) => {
                Box::pin(tcp::serve(Stream::Tcp(stream), Arc::clone(dependency))).await;
            }
            Self::Shared(route) => http(Stream::Tcp(stream), Arc::clone(route)).await,
        }
    }
}

/// Serves HTTP on a connection, whichever version the app speaks: what was agreed on by ALPN, or
/// what its first bytes say.
pub(super) async fn http(stream: Stream, route: Arc<Route>) {
    let drain = route.drain().clone();
    let (stream, http2) = match stream.protocol() {
        Some(agreed) => {
            let http2 = agreed == b"h2";
            (stream, http2)
        }
        None => tokio::select! {
            sniffed = http2::sniff(stream) => match sniffed {
                Some(sniffed) => sniffed,
                None => return,
            },
            () = drain.cancelled() => return,
        },
    };
    if http2 {
        return Box::pin(http2::serve(stream, route, drain)).await;
    }
    let short = route.fixed().filter(|dependency| dependency.pool.speaks_http1());
    let Some(dependency) = short else {
        Box::pin(connection::serve(stream, route, drain, None)).await;
        return;
    };
    let mut next = Some(stream);
    while let Some(stream) = next {
        let Some((stream, why)) = relay::serve(stream, dependency).await else { return };
        let lent = (why == Why::Touched).then(|| Arc::clone(dependency));
        next = Box::pin(connection::serve(stream, Arc::clone(&route), drain.clone(), lent)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Engine;
    use crate::measure::Recorder;
    use crate::proxy::pump_tests::{dependency, upstream};

    #[tokio::test]
    async fn a_connection_that_is_only_relayed_takes_little_memory() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let engine = Engine::new(1, Vec::new(), Recorder::none());
        let pool = upstream(1, Duration::ZERO);
        let dependency = Arc::new(dependency(engine, Recorder::none(), pool));
        let entrance = Arc::new(Entrance::Http(dependency));
        let size = size_of_val(&entrance.serve(stream));
        assert!(size < 3 << 10, "{size} bytes for each connection");
    }
}

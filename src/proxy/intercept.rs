//! A connection that was meant for a dependency and ended up here: by CONNECT, or redirected. Its
//! first bytes say what it is; HTTP is served in the dependency's place, below TLS too.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use tokio::io::AsyncReadExt as _;

use super::connection::Dependency;
use super::entrance;
use super::route::Route;
use super::secure::{Secure, Stead};
use super::tcp::{self, Raw};
use crate::net::Stream;
use crate::net::secure::Hello;

/// What the first bytes of a client say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum First {
    /// A TLS handshake.
    Tls,
    /// A request line, or the preface of HTTP/2.
    Http,
    /// Something else, or an end before anything could be told.
    Other,
}

/// The longest method there is room for.
const LONGEST_METHOD: usize = 24;

impl First {
    /// None: more bytes are needed.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [] | [0x16] => None,
            // A handshake record of any version of TLS.
            [0x16, 3, ..] => Some(Self::Tls),
            _ => {
                let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
                match bytes.get(method) {
                    None if method <= LONGEST_METHOD => None,
                    Some(b' ') if (1..=LONGEST_METHOD).contains(&method) => Some(Self::Http),
                    _ => Some(Self::Other),
                }
            }
        }
    }

    /// Waits for as many bytes as are needed to tell; they are put back in front of the stream.
    pub(super) async fn read(mut stream: Stream) -> io::Result<(Self, Stream)> {
        let mut bytes = BytesMut::new();
        let first = loop {
            if let Some(first) = Self::of(&bytes) {
                break first;
            }
            // Idle connections are cheap: what is read here is short.
            bytes.reserve(64);
            if stream.read_buf(&mut bytes).await? == 0 {
                break Self::Other;
            }
        };
        Ok((first, stream.rewound(Bytes::from(bytes))))
    }
}

/// Where a connection was meant to go.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) dependency: Arc<Dependency>,
    /// The name or address that the client asked for, without brackets.
    pub(super) host: String,
}

impl Meant {
    /// How its requests find the dependency.
    fn route(&self) -> Arc<Route> {
        let dependency = Arc::clone(&self.dependency);
        let origin = dependency.pool.origin();
        let own = !origin.base().is_empty() && origin.host().eq_ignore_ascii_case(&self.host);
        // A client that calls the upstream by its own name writes the base itself.
        Arc::new(if own { Route::Whole(dependency) } else { Route::Fixed(dependency) })
    }
}

/// Serves a connection in the place of the dependency that it was meant for. What is no HTTP, and
/// no TLS that can be looked into, is given back as it came.
pub(super) async fn serve(stream: Stream, meant: Meant, secure: Option<&Secure>) -> Option<Stream> {
    let drain = meant.dependency.drain.clone();
    let (first, stream) = tokio::select! {
        read = First::read(stream) => read.ok()?,
        () = drain.cancelled() => return None,
    };
    let plain = match (first, secure) {
        (First::Http, _) => stream,
        (First::Tls, Some(secure)) => {
            let stead = meant.dependency.stead();
            tokio::select! {
                secured = Box::pin(secured(stream, &stead, &meant.host, secure)) => secured?,
                () = drain.cancelled() => return None,
            }
        }
        (First::Tls, None) | (First::Other, _) => return Some(stream),
    };
    Box::pin(entrance::http(plain, meant.route())).await;
    None
}

/// Serves a connection in the place of a dependency that speaks no HTTP. A client that speaks TLS to an
/// upstream that we speak TLS to is shown a certificate; any other TLS goes through to the upstream.
pub(super) async fn serve_raw(stream: Stream, raw: Arc<Raw>, host: &str, secure: Option<&Secure>) {
    if raw.engine.demand_at(raw.gate).refuse {
        raw.engine.count_refused(&raw.name);
        return stream.reset().await;
    }
    let ends_tls = raw.connector.origin().scheme() == Scheme::HTTPS;
    // Elsewhere the server may speak first.
    let client_first = ends_tls || raw.dialect.session(raw.tls_passes).is_some();
    if !client_first {
        return Box::pin(tcp::serve(stream, raw)).await;
    }
    let read = tokio::select! {
        read = First::read(stream) => read,
        () = raw.drain.cancelled() => return,
    };
    match (read, secure) {
        (Ok((First::Tls, stream)), Some(secure)) if ends_tls => {
            let stead = raw.stead();
            let plain = tokio::select! {
                plain = Box::pin(secured(stream, &stead, host, secure)) => plain,
                () = raw.drain.cancelled() => return,
            };
            if let Some(plain) = plain {
                Box::pin(tcp::serve(plain, raw)).await;
            }
        }
        (Ok((First::Tls, stream)), _) => Box::pin(tcp::serve_opaque(stream, raw)).await,
        (Ok((_, stream)), _) => Box::pin(tcp::serve(stream, raw)).await,
        (Err(_), _) => {}
    }
}

/// Ends the client's TLS here, with a certificate for the name that it asks for.
async fn secured(stream: Stream, stead: &Stead<'_>, host: &str, secure: &Secure) -> Option<Stream> {
    match Hello::read(stream).await {
        Ok(hello) => secure.handshake(hello, stead, host).await,
        Err(none) => {
            secure.complain(stead, host, &none.broken);
            none.close().await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_connection_is() {
        let of = First::of;
        assert_eq!(of(&[0x16, 3, 1, 0, 200]), Some(First::Tls));
        for http in ["GET / HTTP/1.1", "PRI * HTTP/2.0", "POST ", "OPTIONS *"] {
            assert_eq!(of(http.as_bytes()), Some(First::Http), "{http}");
        }
        for other in
            ["PING\r\n", "*1\r\n", "\0\0\0\u{8}", "SSH-2.0", "get / HTTP/1.1", " ", "\u{16}x"]
        {
            assert_eq!(of(other.as_bytes()), Some(First::Other), "{other:?}");
        }
        for short in ["", "G", "POST"] {
            assert_eq!(of(short.as_bytes()), None, "{short}");
        }
        assert_eq!(of(&[0x16]), None);
        assert_eq!(of(&[b'A'; 40]), Some(First::Other));
    }
}

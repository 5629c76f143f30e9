//! Connections that the kernel redirects here, so that an app needs no setting at all. What is for
//! a dependency is told by the name that the client gives, or by where it was going, and is served
//! as at the dependency's own listener. Everything else goes on to where it was going, untouched.

mod addresses;
mod original;
mod said;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::addresses::Addresses;
pub(super) use self::original::listen;
use self::said::Said;
use super::connection::Dependency;
use super::destination;
use super::intercept::{self, Meant};
use super::route::{Directory, Found};
use super::secure::Secure;
use super::{Redirection, Transparent as Settings};
use crate::net::{self, Dialled, Guard, Stream};

/// How long a client may be silent before it counts as one that waits for the server's word.
const PATIENCE: Duration = Duration::from_millis(200);
/// Where the server speaks first by the rules of the protocol: FTP, SSH, SMTP, POP, IMAP, MySQL.
const SERVER_FIRST: [u16; 8] = [21, 22, 25, 110, 143, 587, 3306, 33060];
/// On these ports one address serves many hosts: there a name decides, or nothing does.
const MANY_HOSTS: [u16; 2] = [80, 443];

/// The gateway.
#[derive(Debug)]
pub(super) struct Transparent {
    mode: Redirection,
    directory: Arc<Directory>,
    addresses: Addresses,
    /// Makes the certificates for dependencies that are called over TLS.
    secure: Option<Arc<Secure>>,
    /// Networks that it serves beside this machine.
    clients: Vec<(IpAddr, u8)>,
    /// Where this process listens.
    own: Vec<SocketAddr>,
    dialled: Arc<Dialled>,
    mark: Option<u32>,
    connect_timeout: Duration,
    drain: CancellationToken,
    told: Told,
}

/// What has been said once.
#[derive(Debug, Default)]
struct Told {
    direct: AtomicBool,
    looped: AtomicBool,
    stranger: AtomicBool,
}

/// What it is made of.
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) directory: Arc<Directory>,
    pub(super) secure: Option<Arc<Secure>>,
    pub(super) clients: Vec<(IpAddr, u8)>,
    pub(super) own: Vec<SocketAddr>,
    pub(super) dialled: Arc<Dialled>,
    pub(super) mark: Option<u32>,
    pub(super) connect_timeout: Duration,
    pub(super) drain: CancellationToken,
}

/// A connection that is not served.
enum Refused {
    /// Nothing was redirected: somebody called us.
    Direct,
    /// It is one of our own.
    Looped,
    Stranger(IpAddr),
    Forbidden(SocketAddr, String),
    Broken,
}

/// A connection that is.
#[derive(Clone, Copy)]
struct Call {
    /// Where it was going.
    place: SocketAddr,
    /// The client is of this machine.
    local: bool,
}

impl Transparent {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            mode: parts.settings.mode,
            addresses: Addresses::new(Arc::clone(&parts.directory)),
            directory: parts.directory,
            secure: parts.secure,
            clients: parts.clients,
            own: parts.own,
            dialled: parts.dialled,
            mark: parts.mark,
            connect_timeout: parts.connect_timeout,
            drain: parts.drain,
            told: Told::default(),
        }
    }

    fn admit(&self, stream: &TcpStream) -> Result<Call, Refused> {
        let (Ok(client), Ok(here)) = (stream.peer_addr(), stream.local_addr()) else {
            return Err(Refused::Broken);
        };
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let here = here.ip().to_canonical();
        let place = match original::destination(stream, self.mode) {
            Ok(Some(place)) if !self.is_own(place) => place,
            Ok(_) => return Err(Refused::Direct),
            Err(error) => {
                tracing::warn!(%error, "where a redirected connection was going cannot be told");
                return Err(Refused::Broken);
            }
        };
        if self.dialled.made(client, place) {
            return Err(Refused::Looped);
        }
        // What this machine sends itself by NAT arrives on loopback, from its outward address.
        let by_loopback = self.mode == Redirection::Redirect && here.is_loopback();
        let local = client.ip().is_loopback()
            || by_loopback
            || destination::is_of_this_machine(client.ip());
        if !local && !destination::serves(client.ip(), &self.clients) {
            return Err(Refused::Stranger(client.ip()));
        }
        match destination::against(place, local, &self.own) {
            Some(reason) => Err(Refused::Forbidden(place, reason)),
            None => Ok(Call { place, local }),
        }
    }

    fn is_own(&self, place: SocketAddr) -> bool {
        self.own.iter().any(|own| {
            own.port() == place.port()
                && (own.ip() == place.ip()
                    || own.ip().is_unspecified() && destination::is_of_this_machine(place.ip()))
        })
    }

    /// The dependency that a client means, as far as its first words tell.
    fn named(
        &self,
        said: &Said,
        call: Call,
        by_address: Option<Arc<Dependency>>,
    ) -> Option<(Found, String)> {
        let at_address = || Some((Found::Http(by_address?), call.place.ip().to_string()));
        let name = match said {
            Said::Tls(name) | Said::Http(name) | Said::Http2(name) => name.as_deref(),
            Said::Proxied => return None,
            Said::Other | Said::Silence => return at_address(),
        };
        let Some(name) = name else { return at_address() };
        if let Some(found) = self.directory.find(name, call.place.port()) {
            return Some((found, name.to_owned()));
        }
        let decides = MANY_HOSTS.contains(&call.place.port()) && name.parse::<IpAddr>().is_err();
        if decides { None } else { at_address() }
    }

    /// Goes on to where the connection was going.
    async fn pass(&self, stream: Stream, call: Call) {
        match self.reach(call).await {
            Some(upstream) => self.join(stream, upstream).await,
            // The app has been accepted already; this is the nearest to a refusal.
            None => stream.reset().await,
        }
    }

    async fn join(&self, stream: Stream, upstream: TcpStream) {
        tokio::select! {
            _ = net::join(stream, Stream::Tcp(upstream)) => {}
            () = self.drain.cancelled() => {}
        }
    }

    async fn reach(&self, call: Call) -> Option<TcpStream> {
        let (own, local) = (self.own.clone(), call.local);
        let guard = Guard::new(move |address| destination::against(address, local, &own))
            .marking(self.mark)
            .noting(Arc::clone(&self.dialled));
        let host = call.place.ip().to_string();
        let reached =
            net::connect_to(&host, call.place.port(), self.connect_timeout, Some(&guard)).await;
        reached.inspect_err(|error| tracing::info!(%error, "a redirected connection")).ok()
    }

    /// Serves a connection in the dependency's place.
    async fn stand_in(&self, stream: Stream, (found, host): (Found, String), call: Call) {
        let secure = self.secure.as_deref();
        let dependency = match found {
            Found::Raw(raw) => return intercept::serve_raw(stream, raw, &host, secure).await,
            Found::Http(dependency) => dependency,
        };
        if dependency.engine.demand_at(dependency.gate).refuse {
            dependency.engine.count_refused(&dependency.name);
            return stream.reset().await;
        }
        let meant = Meant { dependency, host };
        let rest = Box::pin(intercept::serve(stream, meant, secure)).await;
        // Neither HTTP nor TLS.
        if let Some(stream) = rest {
            self.pass(stream, call).await;
        }
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(gateway: Arc<Transparent>, stream: TcpStream) {
    match gateway.admit(&stream) {
        Ok(call) => handle(&gateway, stream, call).await,
        Err(refused) => refuse(&gateway, stream, refused).await,
    }
}

async fn handle(gateway: &Transparent, stream: TcpStream, call: Call) {
    let stream = Stream::Tcp(stream);
    let by_address = match gateway.addresses.find(call.place).await {
        // The server may speak first, and no name is given: the address is all there is.
        Some(raw @ Found::Raw(_)) => {
            return gateway.stand_in(stream, (raw, call.place.ip().to_string()), call).await;
        }
        Some(Found::Http(dependency)) => Some(dependency),
        None => None,
    };
    let (said, stream) = if SERVER_FIRST.contains(&call.place.port()) && by_address.is_none() {
        (Said::Silence, stream)
    } else {
        let patience = by_address.is_none().then_some(PATIENCE);
        tokio::select! {
            heard = said::listen(stream, patience) => heard,
            () = gateway.drain.cancelled() => return,
        }
    };
    match gateway.named(&said, call, by_address) {
        Some(meant) => gateway.stand_in(stream, meant, call).await,
        None if matches!(said, Said::Silence) => wait_for_a_word(gateway, stream, call).await,
        None => gateway.pass(stream, call).await,
    }
}

/// Nobody has spoken: the connection goes on, and whoever speaks first decides. A client that was
/// only slow is still served in a dependency's place.
async fn wait_for_a_word(gateway: &Transparent, stream: Stream, call: Call) {
    let Some(upstream) = gateway.reach(call).await else {
        return stream.reset().await;
    };
    let Some(app) = stream.tcp() else { return };
    let app_first = tokio::select! {
        biased;
        _ = upstream.readable() => false,
        _ = app.readable() => true,
        () = gateway.drain.cancelled() => return,
    };
    if !app_first {
        return gateway.join(stream, upstream).await;
    }
    let (said, stream) = said::listen(stream, Some(PATIENCE)).await;
    match gateway.named(&said, call, None) {
        Some(meant) => {
            drop(upstream);
            gateway.stand_in(stream, meant, call).await;
        }
        None => gateway.join(stream, upstream).await,
    }
}

async fn refuse(gateway: &Transparent, stream: TcpStream, refused: Refused) {
    let first = |told: &AtomicBool| !told.swap(true, Ordering::Relaxed);
    let told = &gateway.told;
    match refused {
        Refused::Direct => {
            if first(&told.direct) {
                tracing::warn!(
                    "somebody called the transparent gateway itself; it takes redirected \
                     connections alone (rules: `brownout redirect --print nft`)"
                );
            }
            return explain(stream).await;
        }
        Refused::Looped => {
            if first(&told.looped) {
                tracing::error!(
                    "brownout's own connections are redirected to it: the rules must leave out the \
                     user it runs as (`brownout redirect --uid`) or its mark (`--socket-mark`)"
                );
            }
        }
        Refused::Stranger(client) => {
            if first(&told.stranger) {
                tracing::warn!(
                    %client,
                    "a client of another machine was refused; name its network under \
                     `gateways.clients` if it may come in"
                );
            }
        }
        Refused::Forbidden(place, reason) => {
            tracing::warn!(%place, "a redirected connection was refused: {reason}");
        }
        Refused::Broken => {}
    }
    Stream::Tcp(stream).reset().await;
}

/// To a client that speaks HTTP; to any other it is bytes that end.
async fn explain(mut stream: TcpStream) {
    let body = "brownout: this is the transparent gateway, and it takes connections that the kernel \
                redirects to it; an app that can be told a URL calls a dependency's own port, or \
                `gateways.forward` as its proxy\n";
    let head = format!(
        "HTTP/1.1 421 Misdirected Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nX-Brownout: transparent\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if stream.write_all((head + body).as_bytes()).await.is_ok() {
        Stream::Tcp(stream).close().await;
    }
}

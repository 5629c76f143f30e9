//! The proxy at work: what listens, what stands behind it, and how both are replaced while it runs,
//! as a whole or not at all.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::behind::{Behind, Scene, intercepts};
use super::connection::Dependency;
use super::entrance::Entrance;
use super::keys::Keys;
use super::listen::Held;
use super::place::Place;
use super::route::{Directory, Host};
use super::served::{Served, Stand, connector_of, is_same, pool_of};
use super::tcp::Raw;
use super::{
    Error, Gateways, ListenTls, Listener, Options, Transparent, listen, rehearsal, transparent,
};
use crate::dialect::speaks_http;
use crate::engine::Engine;
use crate::measure::Recorder;
use crate::net::{Clock, Dialled};

const TRANSPARENT: &str = "transparent";

/// The proxy at work. Dropping it closes its listeners and connections at once.
#[derive(Debug)]
pub struct Running {
    site: Site,
    /// As the file has them, each with its dependency.
    dependencies: Vec<Served>,
    directory: Arc<Directory>,
    behind: Behind,
    listeners: Vec<Listening>,
    /// Those that take no more connections, while theirs last.
    leaving: Vec<JoinHandle<()>>,
    drain: CancellationToken,
}

/// What is the same for all listeners.
#[derive(Debug)]
pub(super) struct Site {
    keys: Keys,
    pub(super) engine: Arc<Engine>,
    recorder: Recorder,
    pub(super) clock: Arc<dyn Clock>,
    /// Connections of ours, which the transparent gateway must know when they come back to it.
    pub(super) dialled: Arc<Dialled>,
    pub(super) options: Options,
}

#[derive(Debug)]
struct Listening {
    place: Place,
    /// As it was asked for; port 0 asks for any.
    wanted: SocketAddr,
    address: SocketAddr,
    held: Arc<Held>,
    entrance: Arc<ArcSwap<Entrance>>,
    /// Cancelled when no more connections are taken.
    closing: CancellationToken,
    /// Cancelled when the connections of a gateway take no more requests.
    drain: CancellationToken,
    task: JoinHandle<()>,
}

/// What is to be served, ready to take the place of what is.
#[derive(Debug)]
pub struct Prepared {
    dependencies: Vec<Served>,
    behind: Behind,
    places: Vec<(Place, SocketAddr, Socket)>,
}

#[derive(Debug)]
enum Socket {
    /// The one that has this place among the listeners.
    Kept(usize),
    New(TcpListener, SocketAddr),
}

/// Whether a socket is what a place asks for.
type Fits = dyn Fn(&(Place, SocketAddr), &Listening) -> bool;

impl Running {
    pub(super) fn nowhere(
        engine: Arc<Engine>,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Self {
        Self {
            site: Site {
                keys: Keys::at(options.ca_dir.clone()),
                engine,
                recorder,
                clock,
                dialled: Arc::default(),
                options,
            },
            dependencies: Vec::new(),
            directory: Arc::default(),
            behind: Behind { gateways: Gateways::default(), intercept: None },
            listeners: Vec::new(),
            leaving: Vec::new(),
            drain: CancellationToken::new(),
        }
    }

    /// Makes other dependencies and gateways ready: new places are listened on, and nothing that runs
    /// is changed. An error leaves everything as it was, and so does dropping what is prepared.
    pub fn prepare(
        &self,
        listeners: Vec<Listener>,
        gateways: &Gateways,
    ) -> Result<Prepared, Error> {
        let mut places = Vec::new();
        for listener in &listeners {
            let place = Place::Dependency(Arc::clone(&listener.name));
            places.extend(listener.listen.map(|wanted| (place, wanted)));
        }
        for (name, wanted) in gateways.listening() {
            if name != TRANSPARENT {
                places.push((Place::Gateway(name), wanted));
            }
        }
        let kept = self.kept(&places);
        let sockets = places.into_iter().zip(&kept).map(|((place, wanted), kept)| {
            let socket = match kept {
                Some(index) => Socket::Kept(*index),
                None => self.bind(&place, wanted)?,
            };
            Ok((place, wanted, socket))
        });
        let mut places = sockets.collect::<Result<Vec<_>, Error>>()?;
        if let Some(settings) = gateways.transparent {
            let place = || Place::Gateway(TRANSPARENT);
            let sockets = self.transparent_sockets(settings)?.into_iter();
            places.extend(sockets.map(|socket| (place(), settings.listen, socket)));
        }
        let names: Vec<Arc<str>> =
            listeners.iter().map(|listener| Arc::clone(&listener.name)).collect();
        self.site.engine.know(&names);
        let stays = |name: &Arc<str>| {
            let whose = |listening: &Listening| listening.place == Place::Dependency(name.clone());
            let had = self.listeners.iter().position(whose);
            had.is_none_or(|index| {
                places.iter().any(|(place, _, socket)| {
                    *place == Place::Dependency(name.clone())
                        && matches!(socket, Socket::Kept(kept) if *kept == index)
                })
            })
        };
        let intercept = match intercepts(&listeners, gateways) {
            true => Some(Arc::new(self.site.keys.minted()?)),
            false => None,
        };
        let dependencies = listeners
            .into_iter()
            .map(|listener| {
                let stays = stays(&listener.name);
                if !speaks_http(listener.dialect) {
                    let raw = self.raw(&listener, stays, gateways)?;
                    return Ok((listener, Stand::Raw(raw)));
                }
                let tls = listener.tls.as_ref().filter(|tls| **tls != ListenTls::Passes);
                let tls = tls.filter(|_| listener.listen.is_some());
                let secure = tls.map(|tls| self.site.keys.secure(&listener.name, tls));
                let secure = secure.transpose()?.map(Arc::new);
                let dependency = self.dependency(&listener, stays, gateways)?;
                Ok((listener, Stand::Http(dependency, secure)))
            })
            .collect::<Result<_, Error>>()?;
        let behind = Behind { gateways: gateways.clone(), intercept };
        Ok(Prepared { dependencies, behind, places })
    }

    /// Which of the sockets each place keeps: the one that was asked for in the same words by the
    /// same name, else any that has its address.
    fn kept(&self, places: &[(Place, SocketAddr)]) -> Vec<Option<usize>> {
        let mut kept = vec![None; places.len()];
        let mut taken = vec![false; self.listeners.len()];
        let same = |place: &(Place, SocketAddr), had: &Listening| {
            place.0 == had.place && (place.1 == had.wanted || place.1 == had.address)
        };
        let here = |place: &(Place, SocketAddr), had: &Listening| {
            // Its sockets are of another kind.
            let usual = had.place != Place::Gateway(TRANSPARENT);
            usual && place.1.port() != 0 && place.1 == had.address
        };
        let rules: [&Fits; 2] = [&same, &here];
        for fits in rules {
            for (place, kept) in places.iter().zip(&mut kept).filter(|(_, kept)| kept.is_none()) {
                let mut all = self.listeners.iter().enumerate();
                *kept = all.find(|(at, had)| !taken[*at] && fits(place, had)).map(|(at, _)| at);
                if let Some(at) = *kept {
                    taken[at] = true;
                }
            }
        }
        kept
    }

    fn bind(&self, place: &Place, wanted: SocketAddr) -> Result<Socket, Error> {
        let name = place.name();
        if let Some(socket) = self.site.options.inherited.take(&place.title(), wanted) {
            let failed = |source| Error::Listen { name: place.name(), address: wanted, source };
            let (socket, address) = listen::inherit(socket).map_err(failed)?;
            return Ok(Socket::New(socket, address));
        }
        match listen::bind(&name, wanted, self.site.options.fallback_to_free) {
            Ok((socket, address)) => Ok(Socket::New(socket, address)),
            Err(error) => Err(self.held(error)),
        }
    }

    /// The same port with another address is ours until the old one is closed.
    fn held(&self, error: Error) -> Error {
        let Error::Taken { name, address } = error else { return error };
        let held = self.listeners.iter().map(|had| had.address);
        let mut held = held.filter(|had| had.port() == address.port());
        match held.next() {
            Some(held) => Error::Held { name, address, held },
            None => Error::Taken { name, address },
        }
    }

    /// The sockets for redirected connections: those that there are, where nothing has changed.
    fn transparent_sockets(&self, settings: Transparent) -> Result<Vec<Socket>, Error> {
        let place = Place::Gateway(TRANSPARENT);
        if self.behind.gateways.transparent == Some(settings) {
            let all = self.listeners.iter().enumerate();
            let kept = all.filter(|(_, had)| had.place == place);
            return Ok(kept.map(|(index, _)| Socket::Kept(index)).collect());
        }
        let (name, address) = (place.name(), settings.listen);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => {
                self.held(Error::Taken { name: Arc::clone(&name), address })
            }
            _ => Error::Listen { name: Arc::clone(&name), address, source },
        };
        let inherited = self.site.options.inherited.take_all(&place.title(), address.port());
        let sockets = match inherited.is_empty() {
            true => transparent::listen(address, settings.mode).map_err(failed)?,
            false => {
                let all = inherited.into_iter().map(listen::inherit);
                all.collect::<io::Result<Vec<_>>>().map_err(failed)?
            }
        };
        Ok(sockets.into_iter().map(|(socket, address)| Socket::New(socket, address)).collect())
    }

    /// The dependency of a listener: the one that there is, where nothing about it has changed.
    /// `stays` says that its connections go on.
    fn dependency(
        &self,
        listener: &Listener,
        stays: bool,
        gateways: &Gateways,
    ) -> Result<Arc<Dependency>, Error> {
        let noted = self.site.options.mark.is_some() || gateways.transparent.is_some();
        let was_noted = self.behind.gateways.transparent.is_some();
        let old = self.dependencies.iter().find(|(old, _)| old.name == listener.name);
        if let Some((known, Stand::Http(dependency, _))) = old
            && stays
            && was_noted == gateways.transparent.is_some()
            && is_same(known, listener)
        {
            return Ok(Arc::clone(dependency));
        }
        let old = old.and_then(|(_, stand)| stand.http());
        let drain = match old.filter(|_| stays) {
            Some(old) => old.drain.clone(),
            None => self.drain.child_token(),
        };
        Ok(Arc::new(Dependency {
            gate: self.site.engine.gate(&listener.name),
            hosts: listener.hosts.iter().map(|host| Host::of(host)).collect(),
            own_host: Some(Host::of_url(&listener.upstream)),
            path: listener.path.clone().unwrap_or_else(|| format!("/{}", listener.name)),
            name: Arc::clone(&listener.name),
            dialect: listener.dialect,
            identify: listener.identify.clone(),
            pool: pool_of(listener, &self.site, noted)?,
            engine: Arc::clone(&self.site.engine),
            recorder: self.site.recorder.clone(),
            clock: Arc::clone(&self.site.clock),
            drain,
            mark_faults: self.site.options.mark_faults,
            latest: old.map(|old| Arc::clone(&old.latest)).unwrap_or_default(),
            _keeps: listener.keeps.clone(),
        }))
    }

    /// The same for one that speaks no HTTP. Connections that there are keep the upstream that they
    /// have: it cannot be changed under a session.
    fn raw(
        &self,
        listener: &Listener,
        stays: bool,
        gateways: &Gateways,
    ) -> Result<Arc<Raw>, Error> {
        let noted = self.site.options.mark.is_some() || gateways.transparent.is_some();
        let old = self.dependencies.iter().find(|(old, _)| old.name == listener.name);
        if let Some((known, Stand::Raw(raw))) = old
            && stays
            && self.behind.gateways.transparent.is_some() == gateways.transparent.is_some()
            && is_same(known, listener)
        {
            return Ok(Arc::clone(raw));
        }
        let kept = old.and_then(|(_, stand)| stand.raw()).filter(|_| stays);
        let drain = kept.map_or_else(|| self.drain.child_token(), |old| old.drain.clone());
        let connector = Arc::new(connector_of(listener, &self.site, noted)?);
        Ok(Arc::new(Raw {
            gate: self.site.engine.gate(&listener.name),
            hosts: listener.hosts.iter().map(|host| Host::of(host)).collect(),
            own_host: Some(Host::of_origin(connector.origin())),
            name: Arc::clone(&listener.name),
            dialect: listener.dialect,
            tls_passes: listener.tls == Some(ListenTls::Passes),
            connector,
            engine: Arc::clone(&self.site.engine),
            recorder: self.site.recorder.clone(),
            clock: Arc::clone(&self.site.clock),
            drain,
        }))
    }

    /// Serves what was prepared from here on. Listeners that stay refuse nobody meanwhile; exchanges
    /// under way end as they began, the next one on each connection is the new.
    pub fn commit(&mut self, prepared: Prepared) {
        rehearsal::begin(&self.site.clock);
        let Prepared { dependencies, behind, places } = prepared;
        self.behind = behind;
        let all: Vec<Arc<Dependency>> =
            dependencies.iter().filter_map(|(_, stand)| stand.http().cloned()).collect();
        let raw = dependencies.iter().filter_map(|(_, stand)| stand.raw().cloned()).collect();
        self.directory.replace(all.clone(), raw);
        let before = std::mem::replace(&mut self.dependencies, dependencies);
        for old in before.iter().filter_map(|(_, stand)| stand.http()) {
            match all.iter().find(|new| new.name == old.name) {
                Some(new) if Arc::ptr_eq(new, old) => {}
                Some(new) => old.latest.set(Some(Arc::clone(new))),
                None => old.latest.set(None),
            }
        }
        let mut had: Vec<Option<Listening>> = self.listeners.drain(..).map(Some).collect();
        let address = |socket: &Socket| match socket {
            Socket::Kept(index) => had[*index].as_ref().map(|had| had.address),
            Socket::New(_, address) => Some(*address),
        };
        let (mut own, mut doors) = (Vec::new(), Vec::new());
        for (place, _, socket) in &places {
            own.extend(address(socket));
            if matches!(place, Place::Gateway(_)) {
                doors.extend(address(socket));
            }
        }
        let redirected = |had: &&Listening| had.place == Place::Gateway(TRANSPARENT);
        let redirected = had.iter().flatten().find(redirected).map(|had| had.drain.clone());
        let redirected = redirected.unwrap_or_else(|| self.drain.child_token());
        let mut scene = Scene {
            site: &self.site,
            behind: &self.behind,
            directory: &self.directory,
            dependencies: &self.dependencies,
            own,
            doors,
            transparent: None,
        };
        scene.transparent = scene.transparent(redirected.clone());
        for (place, wanted, socket) in places {
            let listening = match socket {
                Socket::Kept(index) => had[index].take(),
                Socket::New(..) => None,
            };
            let drain = match &listening {
                Some(listening) => listening.drain.clone(),
                None if place == Place::Gateway(TRANSPARENT) => redirected.clone(),
                None => self.drain.child_token(),
            };
            let entrance = |address| scene.entrance(&place, address, drain.clone());
            let listening = match (listening, socket) {
                (Some(listening), _) => {
                    listening.entrance.store(Arc::new(entrance(listening.address)));
                    Listening { place, wanted, ..listening }
                }
                (None, Socket::New(socket, address)) => {
                    let held = Arc::new(Held::new(socket));
                    let entrance = Arc::new(ArcSwap::from_pointee(entrance(address)));
                    let closing = self.drain.child_token();
                    let task = tokio::spawn(listen::accept(
                        Arc::clone(&held),
                        address,
                        Arc::clone(&entrance),
                        Arc::clone(&self.site.engine),
                        closing.clone(),
                    ));
                    Listening { place, wanted, address, held, entrance, closing, drain, task }
                }
                // Each kept socket is kept by one place.
                (None, Socket::Kept(_)) => continue,
            };
            self.listeners.push(listening);
        }
        // Their connections, once the new ones can be reached.
        for gone in had.into_iter().flatten() {
            gone.closing.cancel();
            gone.drain.cancel();
            self.leaving.push(gone.task);
        }
        for (listener, old) in before {
            let goes_on =
                |(new, stand): &Served| new.name == listener.name && stand.drain() == old.drain();
            if !self.dependencies.iter().any(goes_on) {
                old.drain().cancel();
            }
        }
        self.leaving.retain(|task| !task.is_finished());
    }

    /// Where a dependency's listener is.
    pub fn address(&self, dependency: &str) -> Option<SocketAddr> {
        self.addresses().find(|(name, _)| ***name == *dependency).map(|(_, address)| address)
    }

    /// The listeners of dependencies, in the order they were given.
    pub fn addresses(&self) -> impl Iterator<Item = (&Arc<str>, SocketAddr)> {
        self.listeners.iter().filter_map(|listening| match &listening.place {
            Place::Dependency(name) => Some((name, listening.address)),
            Place::Gateway(_) => None,
        })
    }

    /// The gateways: `shared`, `forward`, `transparent`.
    pub fn gateway_addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.listeners.iter().filter_map(|listening| match &listening.place {
            Place::Dependency(_) => None,
            Place::Gateway(name) => Some((*name, listening.address)),
        })
    }

    /// The first listener that has ended although nobody asked for it.
    pub fn ended(&self) -> Option<Arc<str>> {
        let unasked = |one: &&Listening| one.task.is_finished() && !one.closing.is_cancelled();
        self.listeners.iter().find(unasked).map(|listening| listening.place.name())
    }

    /// The listening sockets with their names, for another process that is to serve them.
    pub fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let mut sockets = Vec::new();
        for listening in &self.listeners {
            let socket = listening.held.share()?;
            sockets.extend(socket.map(|socket| (listening.place.title(), socket)));
        }
        Ok(sockets)
    }

    /// Takes no more connections; those that there are go on.
    pub fn stop_accepting(&self) {
        self.listeners.iter().for_each(|listening| listening.closing.cancel());
    }

    /// Takes no more requests and lets those under way end, for so long at most; whether all did.
    pub async fn drain(mut self, timeout: Duration) -> bool {
        self.drain.cancel();
        let listeners = self.listeners.iter_mut().map(|listening| &mut listening.task);
        let all = async {
            for task in listeners.chain(&mut self.leaving) {
                let _ = task.await;
            }
        };
        tokio::time::timeout(timeout, all).await.is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.cancel();
        for listening in &self.listeners {
            listening.task.abort();
        }
        for task in &self.leaving {
            task.abort();
        }
        for dependency in self.dependencies.iter().filter_map(|(_, stand)| stand.http()) {
            dependency.latest.set(None);
        }
    }
}

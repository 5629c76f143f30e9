//! Taking over from a running `serve`, and stepping aside for the next one: the listening sockets go
//! over a Unix socket that this user alone may use, so that no connection is refused.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::Failed;
use crate::admin::{Admin, Control};
use crate::engine::Arming;
use crate::experiment::World;
use crate::net::handover::{Inheritance, Inherited, receive, send};
use crate::units::Ramp;

/// How long the one that serves may take to hand its sockets over.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the next one may take to serve; then we go on as if it had never come.
const START: Duration = Duration::from_secs(60);
/// What the admin API's socket is called.
pub(super) const ADMIN: &str = "admin API";
/// What the next one says when it serves.
const TAKEN: &[u8] = b"taken\n";

/// What goes with the sockets.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Message {
    /// The name of each socket.
    sockets: Vec<String>,
    armed: Vec<Armed>,
    /// Whoever armed them must be heard again (`safety.heartbeat`).
    steered: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Armed {
    fault: String,
    /// In place of the fault's own: from and to, 0 to 100.
    percent: Option<(f64, f64)>,
    /// Until it ends by itself.
    left_s: Option<f64>,
}

/// What was taken over, until it is served here.
pub(crate) struct Taken {
    stream: UnixStream,
    pub(crate) sockets: Inheritance,
    admin: Option<TcpListener>,
    message: Message,
}

/// Asks the one that serves for its sockets; None when there is nobody.
pub(crate) fn take(path: &Path) -> Result<Option<Taken>, Failed> {
    let failed = |error: io::Error| {
        Failed::run(format!("cannot take over at `{}`: {error}", path.display()))
    };
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
    let (text, sockets) = receive(&stream).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            failed(io::Error::other("whoever listens there does not answer"))
        }
        _ => failed(error),
    })?;
    let message: Message =
        serde_json::from_str(&text).map_err(|error| failed(io::Error::other(error)))?;
    let mut admin = None;
    let mut rest = Vec::new();
    for (name, socket) in message.sockets.iter().zip(sockets) {
        let socket = TcpListener::from(socket);
        socket.set_nonblocking(true).map_err(failed)?;
        match name.as_str() {
            ADMIN => admin = Some(socket),
            _ => rest.push(Inherited { name: name.clone(), socket }),
        }
    }
    Ok(Some(Taken { stream, sockets: Inheritance::new(rest), admin, message }))
}

impl Taken {
    /// The admin API's socket, where it is the one for this address.
    pub(crate) fn admin_at(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let fits = |socket: &mut TcpListener| {
            let address = socket.local_addr().ok();
            address.is_some_and(|address| {
                address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip())
            })
        };
        self.admin.take_if(fits)
    }

    /// Arms what was armed there. Ramps go on from where they are.
    pub(crate) fn arm(&self, world: &World, control: &Control) -> Vec<String> {
        let from = world.clock.now();
        let mut told = Vec::new();
        for armed in &self.message.armed {
            let percent = armed.percent.map(|(from, to)| Ramp { from, to });
            let left = armed.left_s.and_then(|left| Duration::try_from_secs_f64(left).ok());
            let arming = Arming { percent, from, until: left.map(|left| from + left) };
            match world.engine.arm(&armed.fault, arming) {
                Ok(()) => told.push(format!("`{}` stays armed", armed.fault)),
                Err(_) => told.push(format!("`{}` was armed, and is no longer there", armed.fault)),
            }
        }
        if self.message.steered && !self.message.armed.is_empty() {
            *control.heard.lock() = Some(from);
        }
        told
    }

    /// Says that its sockets are served here: the one before steps aside.
    pub(crate) fn served(mut self) {
        self.sockets.close();
        let _ = self.stream.write_all(TAKEN);
    }
}

/// Where the next one asks.
pub(crate) struct Post {
    listener: UnixListener,
    /// The one that is about to take over.
    next: Option<oneshot::Receiver<bool>>,
}

impl Post {
    /// Takes the place of whoever was there.
    pub(crate) fn open(path: &Path) -> Result<Self, Failed> {
        let failed = |error: io::Error| {
            Failed::run(format!("cannot wait for a handover at `{}`: {error}", path.display()))
        };
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&beside, path))
            .map_err(failed)?;
        Ok(Self { listener, next: None })
    }

    /// The next one that may take over: a process of this user, or of root.
    async fn asked(&self) -> UnixStream {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let ours = rustix::process::getuid().as_raw();
            let theirs = stream.peer_cred().map(|cred| cred.uid());
            if theirs.is_ok_and(|uid| uid == ours || uid == 0)
                && let Ok(stream) = stream.into_std()
            {
                return stream;
            }
        }
    }
}

/// What comes of a handover.
pub(crate) enum Step {
    /// The next one asks for the sockets.
    Asked(UnixStream),
    /// It serves them.
    Served,
}

/// What happens next at the place where one asks; one at a time may take over.
pub(crate) async fn step(post: Option<&mut Post>) -> Step {
    let Some(post) = post else { return std::future::pending().await };
    loop {
        let Some(next) = &mut post.next else { return Step::Asked(post.asked().await) };
        let served = next.await.unwrap_or(false);
        post.next = None;
        if served {
            return Step::Served;
        }
        super::terminal::note("the process that was to take over does not serve; serving on");
    }
}

/// Gives the next one what it needs; the sockets stay ours as well until it serves them.
pub(crate) fn give(
    stream: UnixStream,
    post: Option<&mut Post>,
    world: &World,
    admin: &Admin,
    control: &Control,
) {
    let Some(post) = post else { return };
    let gift = match gift(world, admin, control) {
        Ok(gift) => gift,
        Err(error) => {
            return super::terminal::note(&format!("the listeners cannot be handed over: {error}"));
        }
    };
    let (served, next) = oneshot::channel();
    // A thread, since it waits, and since nobody waits for it when we end.
    std::thread::spawn(move || served.send(gift.send(stream)));
    post.next = Some(next);
}

/// What is given.
struct Gift {
    message: Message,
    sockets: Vec<OwnedFd>,
}

fn gift(world: &World, admin: &Admin, control: &Control) -> io::Result<Gift> {
    let now = world.clock.now();
    let mut message = Message { steered: control.heard.lock().is_some(), ..Message::default() };
    for (fault, Arming { percent, from, until }) in world.engine.armed() {
        let gone = |until: Duration| now.saturating_sub(from).div_duration_f64(until - from);
        let percent = percent.map(|ramp| {
            let share = until.filter(|until| *until > from).map_or(0.0, gone);
            (ramp.at(share), ramp.to)
        });
        let left_s = until.map(|until| until.saturating_sub(now).as_secs_f64());
        message.armed.push(Armed { fault: fault.to_string(), percent, left_s });
    }
    let mut sockets = Vec::new();
    for (name, socket) in world.sockets()? {
        message.sockets.push(name);
        sockets.push(socket);
    }
    message.sockets.push(ADMIN.to_owned());
    sockets.push(admin.socket()?);
    Ok(Gift { message, sockets })
}

impl Gift {
    /// Sends it, and waits until the next one serves; false when it does not come to that.
    fn send(&self, mut stream: UnixStream) -> bool {
        let text = serde_json::to_string(&self.message).unwrap_or_default();
        let sent = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_write_timeout(Some(ANSWER)))
            .and_then(|()| stream.set_read_timeout(Some(START)))
            .and_then(|()| send(&stream, &text, &self.sockets));
        let mut answer = [0; TAKEN.len()];
        sent.is_ok() && stream.read_exact(&mut answer).is_ok() && answer == TAKEN
    }
}

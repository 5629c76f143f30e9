//! Listening sockets that systemd has opened for us (sd_listen_fds(3)). Nothing else may take file
//! descriptors of ours: they are taken first thing, and only when they are meant for this process.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::Failed;
use super::handover::ADMIN;
use crate::config::plan::Plan;
use crate::net::handover::{Inheritance, Inherited};

/// More sockets than this are a mistake.
const MOST: usize = 250;

/// What was opened for us.
pub(crate) struct Activated {
    pub(crate) sockets: Inheritance,
    admin: Vec<TcpListener>,
}

/// Takes what was opened for this process; None when nothing was.
pub(crate) fn take(plan: &Plan) -> Result<Option<Activated>, Failed> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let ours = variable("LISTEN_PID").parse() == Ok(std::process::id());
    let count: usize = variable("LISTEN_FDS").parse().unwrap_or(0);
    if !ours || count == 0 {
        return Ok(None);
    }
    let failed = |reason: String| {
        Failed::run(format!("the sockets that systemd opened cannot be taken: {reason}"))
    };
    if count > MOST {
        return Err(failed(format!("`LISTEN_FDS` says {count}; {MOST} is the most")));
    }
    let names = variable("LISTEN_FDNAMES");
    let mut names = names.split(':');
    let mut opened = ListenFd::from_env();
    let (mut sockets, mut admin) = (Vec::new(), Vec::new());
    for index in 0..opened.len() {
        let name = names.next().unwrap_or_default();
        let socket = opened.take_tcp_listener(index).map_err(|error| failed(error.to_string()))?;
        let Some(socket) = socket else { continue };
        socket.set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
        match title(plan, name) {
            Some(title) if title == ADMIN => admin.push(socket),
            Some(name) => sockets.push(Inherited { name, socket }),
            // By its address alone.
            None => {
                admin.extend(socket.try_clone());
                sockets.push(Inherited { name: String::new(), socket });
            }
        }
    }
    Ok(Some(Activated { sockets: Inheritance::new(sockets), admin }))
}

/// What a name of `FileDescriptorName=` means.
fn title(plan: &Plan, name: &str) -> Option<String> {
    if plan.dependencies.iter().any(|one| *one.name == *name) {
        return Some(format!("dependency {name}"));
    }
    if plan.gateways.listening().any(|(gateway, _)| gateway == name) {
        return Some(format!("gateway {name}"));
    }
    (name == "admin").then(|| ADMIN.to_owned())
}

impl Activated {
    /// The admin API's socket: the one of its name, else the one for this address.
    pub(crate) fn admin_at(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let fits = |socket: &TcpListener| socket.local_addr().is_ok_and(|it| it == wanted);
        let at = self.admin.iter().position(fits)?;
        Some(self.admin.swap_remove(at))
    }

    /// Where sockets listen that nothing in the file wants; they are closed here, and whoever connects
    /// there waits for nobody.
    pub(crate) fn unwanted(self) -> Vec<SocketAddr> {
        self.sockets.left()
    }
}

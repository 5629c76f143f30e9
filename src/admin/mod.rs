//! Live control over HTTP: arm, disarm, stop, status, health and metrics. Loopback by default; it
//! changes armed state only, hands wishes for a reload on, and knows no key.

mod api;
pub mod client;
mod metrics;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::api::{ArmRequest, DependencyStatus, FaultStatus, HandshakeStatus, Status};
pub use self::metrics::Metrics;
use crate::engine::Engine;
use crate::net::Clock;

/// What the admin API controls and tells.
#[derive(Debug)]
pub struct Control {
    pub engine: Arc<Engine>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub file: ArcSwap<FileFacts>,
    /// How long a fault stays armed when the caller does not say; None: as long as `longest`.
    pub lease: Option<Duration>,
    /// Callers may arm and disarm; else they can only look.
    pub steering: bool,
    /// Where wishes to read the file anew go; unset where nobody does that.
    pub reload: OnceLock<mpsc::Sender<ReloadWish>>,
    /// When a caller of `/v1` was last heard; none while nobody has armed anything here.
    pub heard: Mutex<Option<Duration>>,
}

/// What the file says; a reload replaces it.
#[derive(Clone, Debug, Default)]
pub struct FileFacts {
    pub name: String,
    pub dependencies: Vec<DependencyStatus>,
    /// Gateways and their addresses: `shared`, `http://127.0.0.1:4000`.
    pub gateways: Vec<(String, String)>,
    /// Where apps find what they must trust.
    pub trust: Option<std::path::PathBuf>,
    /// The longest a caller may arm a fault for; None: until disarmed.
    pub longest: Option<Duration>,
    /// Whoever arms faults here must be heard again within this time, or everything is disarmed.
    pub heartbeat: Option<Duration>,
}

/// A wish to read the file anew, and where the answer goes: what has changed, or why the file is
/// refused.
pub type ReloadWish = oneshot::Sender<Result<Vec<String>, String>>;

impl Control {
    /// Disarms everything when the one who armed it has not been heard for too long; true then.
    pub fn watch_heartbeat(&self) -> bool {
        let (Some(heartbeat), Some(heard)) = (self.file.load().heartbeat, *self.heard.lock())
        else {
            return false;
        };
        if self.clock.now().saturating_sub(heard) < heartbeat || self.engine.armed().is_empty() {
            return false;
        }
        *self.heard.lock() = None;
        self.engine.disarm_all();
        true
    }

    /// A caller was heard; `arms` when this one arms a fault and must be heard again.
    fn hear(&self, arms: bool) {
        let mut heard = self.heard.lock();
        if arms || heard.is_some() {
            *heard = Some(self.clock.now());
        }
    }
}

/// The admin API at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Admin {
    pub address: SocketAddr,
    socket: OwnedFd,
    task: JoinHandle<()>,
}

impl Admin {
    /// Serves the API at this address (port 0 picks a free one).
    pub async fn start(address: SocketAddr, control: Arc<Control>) -> io::Result<Self> {
        Self::over(TcpListener::bind(address).await?, control)
    }

    /// The same on a socket that listens already.
    pub fn over(listener: TcpListener, control: Arc<Control>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let socket = listener.as_fd().try_clone_to_owned()?;
        let router = api::router(control);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin API ended");
            }
        });
        Ok(Self { address, socket, task })
    }

    /// Its listening socket once more, for another process.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Arming, Rule, Selector};
    use crate::measure::Recorder;
    use crate::net::PausedClock;
    use crate::units::Ramp;

    fn control(heartbeat: Duration) -> Control {
        let rule = Rule {
            name: "storm".into(),
            targets: vec!["llm".into()],
            target_text: "llm".into(),
            selector: Selector::default(),
            percent: Ramp { from: 100.0, to: 100.0 },
            effects: Vec::new(),
            ..Rule::default()
        };
        Control {
            engine: Arc::new(Engine::new(1, vec![rule], Recorder::none())),
            clock: Arc::new(PausedClock::new()),
            metrics: Arc::default(),
            file: ArcSwap::from_pointee(FileFacts {
                heartbeat: Some(heartbeat),
                ..FileFacts::default()
            }),
            lease: None,
            steering: true,
            reload: OnceLock::new(),
            heard: Mutex::new(None),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn faults_end_when_whoever_armed_them_falls_silent() {
        let control = control(Duration::from_secs(10));
        control.engine.arm("storm", Arming::default()).unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!control.watch_heartbeat(), "armed from the start, nobody steers");
        control.hear(true);
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(8)).await;
            assert!(!control.watch_heartbeat());
            control.hear(false);
        }
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(control.watch_heartbeat());
        assert!(control.engine.armed().is_empty());
        assert!(!control.watch_heartbeat(), "told once");
    }
}

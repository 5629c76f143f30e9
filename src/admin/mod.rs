//! Live control over HTTP: arm, disarm, stop, status, health and metrics. Loopback by default; it
//! changes armed state only, never rules, and knows no key.

mod api;
pub mod client;
mod metrics;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::api::{ArmRequest, DependencyStatus, FaultStatus, Status};
pub use self::metrics::Metrics;
use crate::engine::Engine;
use crate::net::Clock;

/// What the admin API controls and tells.
#[derive(Debug)]
pub struct Control {
    pub engine: Arc<Engine>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub name: String,
    pub dependencies: Vec<DependencyStatus>,
    /// How long a fault stays armed when the caller does not say; None: until disarmed.
    pub lease: Option<Duration>,
    /// The longest a caller may arm a fault for.
    pub longest: Option<Duration>,
}

/// The admin API at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Admin {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Admin {
    /// Serves the API at this address (port 0 picks a free one).
    pub async fn start(address: SocketAddr, control: Arc<Control>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = api::router(control);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin API ended");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

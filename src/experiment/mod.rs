//! Conducts an experiment: starts the parts, walks the phases, collects, judges, writes. It parses
//! no arguments and draws nothing on a terminal.

mod app;
mod book;
mod child;
mod conduct;
mod environment;
mod outputs;
mod progress;
mod record;
mod reload;
mod replay;
mod run;
mod safety;
mod site;
mod wait;
mod world;

use tokio::sync::watch;

pub use self::app::App;
pub use self::book::Book;
pub use self::environment::{Address, Environment, Trust, Variable, Wiring, own_environment};
pub use self::outputs::Written;
#[cfg(feature = "cli")]
pub(crate) use self::outputs::put;
pub use self::progress::{Event, Progress};
pub use self::replay::read_journal;
pub use self::run::{Finished, Options, run};
pub use self::wait::Target;
pub use self::world::{Endpoint, Ports, Setup, World, trust_for};

/// Why an experiment could not be conducted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener could not be opened.
    #[error("{0}")]
    Listen(String),
    /// The app could not be started, or did not answer in time.
    #[error("{0}")]
    App(String),
    /// It was to stop before there was anything to report.
    #[error("{0}")]
    Interrupted(String),
    /// The decision journal is not whole.
    #[error("{0}")]
    Journal(String),
    /// A result could not be written.
    #[error("`{path}` cannot be written: {source}")]
    Write { path: String, source: std::io::Error },
    /// The plan lacks something that a run needs.
    #[error("{0}")]
    Plan(String),
}

/// What the person at the keyboard asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Stop {
    #[default]
    No,
    /// Disarm, finish, write the report.
    Soon,
    /// Write what there is, now.
    Now,
}

impl Stop {
    /// Waits until at least this is wished; for ever when nobody can wish any more.
    pub(crate) async fn wished(self, by: &mut watch::Receiver<Self>) {
        if by.wait_for(|wish| *wish >= self).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

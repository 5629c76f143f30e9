//! Where the app under test comes from.

use std::time::Duration;

use tokio::sync::watch;

use super::child::Child;
use super::{Endpoint, Error, Stop, World};
use crate::demo::{DemoApp, Upstreams};

/// How the app is started.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum App {
    /// The demo's own, in this process.
    Demo { fixed: bool },
    /// It runs already, or somebody else starts it.
    #[default]
    Elsewhere,
    /// By this command, ended with the run.
    Exec(String),
}

/// The app while the run lasts.
#[derive(Debug)]
pub(super) enum Running {
    Child(Child),
    Demo(DemoApp),
    Elsewhere,
}

impl Running {
    /// Starts the app against the world's proxy.
    pub(super) async fn start(app: &App, world: &World) -> Result<Self, Error> {
        match app {
            App::Elsewhere => Ok(Self::Elsewhere),
            App::Exec(command) => Child::start(command, &world.variables_for_child())
                .map(Self::Child)
                .map_err(|error| Error::App(format!("`{command}` cannot be started: {error}"))),
            App::Demo { fixed } => {
                let upstreams = Upstreams {
                    llm: url_of(&world.endpoints, "llm")?,
                    embeddings: url_of(&world.endpoints, "embeddings")?,
                    vectors: url_of(&world.endpoints, "vectors")?,
                };
                let free = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
                DemoApp::start(free, upstreams, *fixed)
                    .await
                    .map(Self::Demo)
                    .map_err(|error| Error::App(format!("the demo app cannot listen: {error}")))
            }
        }
    }

    /// The app's URL where it differs from the file's.
    pub(super) fn url(&self) -> Option<url::Url> {
        match self {
            Self::Demo(app) => format!("http://{}/chat", app.address()).parse().ok(),
            Self::Child(_) | Self::Elsewhere => None,
        }
    }

    /// Waits until the app ends by itself, and says how; for ever where that is not ours to know.
    pub(super) async fn ended(&mut self) -> String {
        match self {
            Self::Child(child) => match child.ended().await {
                Ok(status) if status.success() => format!(
                    "the app ended by itself ({status}); --exec needs a command that stays in the foreground"
                ),
                Ok(status) => format!("the app ended by itself ({status})"),
                Err(error) => format!("the app cannot be watched: {error}"),
            },
            Self::Demo(_) | Self::Elsewhere => std::future::pending().await,
        }
    }

    /// Ends what we started, at once when that is wished.
    pub(super) async fn stop(self, stop: &mut watch::Receiver<Stop>) {
        match self {
            Self::Child(child) => child.stop(stop).await,
            Self::Demo(app) => {
                drop(app);
                tokio::time::sleep(Duration::ZERO).await;
            }
            Self::Elsewhere => {}
        }
    }
}

fn url_of(endpoints: &[Endpoint], name: &str) -> Result<url::Url, Error> {
    endpoints
        .iter()
        .find(|end| &*end.name == name)
        .and_then(|end| end.url.as_ref()?.parse().ok())
        .ok_or_else(|| Error::Plan(format!("the demo's file has no dependency `{name}`")))
}

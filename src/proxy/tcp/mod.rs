//! Raw TCP dependencies: the app's connection and one of ours to the upstream, joined for as long as
//! both last. What is untouched passes from one socket to the other without being kept.

mod lane;
mod line;
mod pipe;
mod session;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use self::line::{Greeting, Line};
use self::pipe::{Broken, Pipe};
use super::route::Host;
use crate::dialect::{self, Dialect, Session, Up};
use crate::engine::{Engine, Gate};
use crate::fault::Ending;
use crate::measure::{CallEnd, Recorder};
use crate::net::{Clock, Connector, Stream};

/// An app that does not say who it is within this time is given up.
const OPENING: Duration = Duration::from_secs(60);

/// A dependency that speaks no HTTP.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) name: Arc<str>,
    pub(super) gate: Gate,
    /// The hosts that it names: what means it at a gateway.
    pub(super) hosts: Vec<Host>,
    /// The upstream's own host and port, which mean it too.
    pub(super) own_host: Option<Host>,
    pub(super) dialect: &'static dyn Dialect,
    /// The app's TLS goes through to the upstream.
    pub(super) tls_passes: bool,
    pub(super) connector: Arc<Connector>,
    pub(super) engine: Arc<Engine>,
    pub(super) recorder: Recorder,
    pub(super) clock: Arc<dyn Clock>,
    /// Cancelled when no more requests are taken.
    pub(super) drain: CancellationToken,
}

/// How two joined connections come to their end.
#[derive(Debug)]
enum Over {
    Broken(Way, Broken),
    /// A fault ended them.
    Ending(Ending),
    /// This direction is over, its end was passed on.
    Half,
    /// The proxy is drained, and nothing is under way.
    Drained,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Down,
    Up,
}

/// Serves a connection of the app until it ends.
pub(super) async fn serve(mut app: Stream, dependency: Arc<Raw>) {
    let Some(mut session) = dependency.dialect.session(dependency.tls_passes) else {
        return join(app, dependency, BytesMut::new()).await;
    };
    let mut early = BytesMut::new();
    let opened = tokio::select! {
        opened = tokio::time::timeout(OPENING, open(&mut app, session.as_mut(), &mut early)) => opened,
        () = dependency.drain.cancelled() => return,
    };
    match opened {
        Ok(Some(Opened::Session(label, len))) => {
            session::serve(app, dependency, session, early, (&label, len)).await;
        }
        Ok(Some(Opened::Opaque)) => join(app, dependency, early).await,
        Ok(None) | Err(_) => {}
    }
}

/// Serves a connection that nothing can be told of but its bytes.
pub(super) async fn serve_opaque(app: Stream, dependency: Arc<Raw>) {
    join(app, dependency, BytesMut::new()).await;
}

enum Opened {
    Opaque,
    /// Which connection it is, and how many bytes say so.
    Session(String, usize),
}

/// Lets the app say who it is; None when it goes away before.
async fn open(app: &mut Stream, session: &mut dyn Session, early: &mut BytesMut) -> Option<Opened> {
    loop {
        match session.up(early, true) {
            Up::Opening { label, len } => return Some(Opened::Session(label, len)),
            Up::Skip { len, reply, .. } => {
                let _ = early.split_to(len);
                app.write_all(&reply).await.ok()?;
                app.flush().await.ok()?;
            }
            Up::More => {
                if app.read_buf(early).await.ok()? == 0 {
                    return None;
                }
            }
            Up::Ask { .. } | Up::Opaque | Up::Pass { .. } => return Some(Opened::Opaque),
        }
    }
}

/// Joins a connection whose bytes are not read to one of the upstream.
async fn join(app: Stream, dependency: Arc<Raw>, early: BytesMut) {
    let label = dependency.name.to_string();
    let line = Line::open(&dependency, dialect::OPAQUE, &label);
    match line.greet().await {
        Greeting::Go => {}
        Greeting::Answer(_) => return app.close().await,
        Greeting::End(ending) => return end_app(app, ending, &line).await,
    }
    let upstream = match dependency.connector.connect_for(&[]).await {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::debug!(dependency = %dependency.name, %error, "upstream failed");
            line.ended(CallEnd::UpstreamFailed);
            return app.reset().await;
        }
    };
    line.connected();
    let (mut up, mut down) = Pipe::both(app, upstream);
    let ended = {
        let line = &line;
        let up = lane::run(Way::Up, &mut up, line, early.freeze());
        let down = lane::run(Way::Down, &mut down, line, bytes::Bytes::new());
        both(up, down, dependency.drain.cancelled()).await
    };
    finish(up, down, ended, &line).await;
}

/// Runs both directions until both are over, or the connection as a whole is.
async fn both(
    up: impl Future<Output = Over>,
    down: impl Future<Output = Over>,
    drained: impl Future<Output = ()>,
) -> Over {
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let mut drained = std::pin::pin!(drained);
    let (mut up_over, mut down_over) = (false, false);
    loop {
        tokio::select! {
            biased;
            over = down.as_mut(), if !down_over => match over {
                Over::Half => down_over = true,
                other => return other,
            },
            over = up.as_mut(), if !up_over => match over {
                Over::Half => up_over = true,
                // The upstream may have said why before it closed.
                Over::Broken(_, Broken::To) if !down_over => up_over = true,
                other => return other,
            },
            () = drained.as_mut() => return Over::Drained,
        }
        if up_over && down_over {
            return Over::Half;
        }
    }
}

/// Ends both connections, each as the other did or as a fault wants it.
async fn finish(up: Pipe, down: Pipe, over: Over, line: &Line) {
    let (app, upstream) = Pipe::apart(up, down);
    match over {
        Over::Half => {
            line.ended(CallEnd::Complete);
            drop((app, upstream));
        }
        Over::Drained => drop((app, upstream)),
        Over::Ending(ending) => {
            drop(upstream);
            end_app(app, ending, line).await;
        }
        Over::Broken(way, broken) => {
            let of_app = (way == Way::Up) == (broken == Broken::From);
            line.ended(if of_app { CallEnd::ClientGone } else { CallEnd::UpstreamCut });
            let left = if of_app { upstream } else { app };
            left.reset().await;
        }
    }
}

/// Ends the app's connection as a fault wants it.
async fn end_app(mut app: Stream, ending: Ending, line: &Line) {
    line.ended(CallEnd::Injected);
    match ending.of_connection() {
        Ending::Reset => app.reset().await,
        Ending::Hang => {
            hang(&mut app, line).await;
            app.close().await;
        }
        _ => app.close().await,
    }
}

/// Stays silent until the app goes away, something else is armed, or the proxy is drained. What the
/// app sends meanwhile vanishes.
async fn hang(app: &mut Stream, line: &Line) {
    let dependency = &line.dependency;
    let mut changes = dependency.engine.changes();
    let stamp = dependency.engine.version_at(dependency.gate);
    let mut scratch = vec![0; 4096];
    loop {
        tokio::select! {
            read = app.read(&mut scratch) => if !matches!(read, Ok(1..)) { return },
            changed = changes.changed() => {
                let now = dependency.engine.version_at(dependency.gate);
                if changed.is_err() || now != stamp {
                    return;
                }
            }
            () = dependency.drain.cancelled() => return,
        }
    }
}

//! After a 101 the two connections are joined until one of them ends: blindly, or as a WebSocket,
//! on whose messages faults can act.

use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use super::call::Books;
use super::connection::Connection;
use super::request::RequestBody;
use super::websocket::{self, Opening};
use crate::measure::CallEnd;
use crate::net::pool::Answering;
use crate::net::{Socket, Stream};

/// The two connections, and what was read from them behind their heads.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) app: Stream,
    pub(super) from_app: Bytes,
    pub(super) upstream: Stream,
    pub(super) from_upstream: Bytes,
}

/// Joins the app's connection to the upstream's as soon as both have been handed over.
pub(super) fn spawn(
    connection: &Connection,
    app: OnUpgrade,
    upstream: Answering<RequestBody>,
    books: Books,
    opening: Option<Opening>,
) {
    connection.hand_over();
    let wire = Arc::clone(&connection.line.wire);
    let drain = connection.dependency.drain.clone();
    tokio::spawn(async move {
        let ends = async {
            let (upstream, from_upstream) = upstream.upgraded().await?;
            let parts = app.await.ok()?.downcast::<TokioIo<Socket<Stream>>>().ok()?;
            drop(parts.io);
            let app = wire.take_stream()?;
            Some(Ends { app, from_app: parts.read_buf, upstream, from_upstream })
        };
        let joined = async {
            if let Some(ends) = ends.await {
                match opening {
                    Some(opening) => websocket::join(ends, opening, books).await,
                    None => join(ends, books).await,
                }
            }
        };
        tokio::select! {
            () = joined => {}
            () = drain.cancelled() => {}
        }
    });
}

async fn join(mut ends: Ends, mut books: Books) {
    if ends.upstream.write_all(&ends.from_app).await.is_err()
        || ends.app.write_all(&ends.from_upstream).await.is_err()
    {
        return;
    }
    let copied = copy_bidirectional(&mut ends.app, &mut ends.upstream).await;
    let bytes = ends.from_upstream.len() as u64 + copied.map_or(0, |(_, to_app)| to_app);
    books.sent(usize::try_from(bytes).unwrap_or(usize::MAX));
    books.ended(CallEnd::Complete);
}

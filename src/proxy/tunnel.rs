//! After a 101 the two connections are joined blindly until one of them ends.

use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use super::call::Books;
use super::connection::Connection;
use super::request::RequestBody;
use crate::measure::CallEnd;
use crate::net::pool::Answering;
use crate::net::{Socket, Stream};

/// Joins the app's connection to the upstream's as soon as both have been handed over.
pub(super) fn spawn(
    connection: &Connection,
    app: OnUpgrade,
    upstream: Answering<RequestBody>,
    mut books: Books,
) {
    connection.hand_over();
    let wire = Arc::clone(&connection.line.wire);
    let drain = connection.dependency.drain.clone();
    tokio::spawn(async move {
        let joined = async {
            let (upstream, from_upstream) = upstream.upgraded().await?;
            let parts = app.await.ok()?.downcast::<TokioIo<Socket<Stream>>>().ok()?;
            drop(parts.io);
            let app = wire.take_stream()?;
            Some(join(app, parts.read_buf, upstream, from_upstream).await)
        };
        tokio::select! {
            ended = joined => {
                if let Some(bytes) = ended {
                    books.sent(usize::try_from(bytes).unwrap_or(usize::MAX));
                    books.ended(CallEnd::Complete);
                }
            }
            () = drain.cancelled() => {}
        }
    });
}

/// How many bytes went to the app.
async fn join(mut app: Stream, early: Bytes, mut upstream: Stream, from_upstream: Bytes) -> u64 {
    if upstream.write_all(&early).await.is_err() || app.write_all(&from_upstream).await.is_err() {
        return 0;
    }
    let copied = copy_bidirectional(&mut app, &mut upstream).await;
    from_upstream.len() as u64 + copied.map_or(0, |(_, to_app)| to_app)
}

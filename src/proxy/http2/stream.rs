//! One stream of an app's connection: a request, and its answer as far as the app's window allows.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, header};
use http_body::Body as _;
use tokio::sync::mpsc;

use super::super::answer::AnswerBody;
use super::super::connection::{Connection, Killed, Line};
use super::super::request::Incoming;
use super::super::reverse;
use super::{Session, command};
use crate::net::{Gone, Outflow};

/// What is left of a stream that is to be reset.
pub(super) enum Handle {
    /// Its answer has not begun.
    Head(SendResponse<Bytes>),
    Body(Outflow),
}

impl Handle {
    pub(super) fn reset(self, reason: Reason) {
        match self {
            Self::Head(mut respond) => respond.send_reset(reason),
            Self::Body(mut out) => out.reset(reason.into()),
        }
    }
}

/// Serves one request. Whatever ends it drops what it holds: an app that resets its stream ends
/// the call to the upstream at once.
pub(super) async fn serve(
    session: Arc<Session>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (mut request, body) = {
        let (head, body) = request.into_parts();
        let body = Incoming::of_stream(body, &head.headers);
        (Request::from_parts(head, ()), body)
    };
    let (interim, mut told) = mpsc::unbounded_channel();
    let stream =
        super::Line { interim, broken: Arc::clone(&session.broken), grpc: is_grpc(&request) };
    let line = Arc::new(Line::of_stream(stream, Arc::clone(&session.wire)));
    let bodyless = request.method() == Method::HEAD;
    let outcome = match session.route.find(&mut request) {
        Err(unknown) => Some(Ok(reverse::refused(&line, unknown))),
        Ok(dependency) => {
            let connection = Arc::new(Connection { dependency, line: Arc::clone(&line) });
            let mut exchange = pin!(reverse::exchange(connection, request.map(|()| body), None));
            poll_fn(|cx| match exchange.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => {
                    while let Poll::Ready(Some(mut head)) = told.poll_recv(cx) {
                        super::head::answer(head.headers_mut());
                        let _ = respond.send_informational(head);
                    }
                    respond.poll_reset(cx).map(|_| None)
                }
            })
            .await
        }
    };
    let killed = match outcome {
        None => return,
        Some(Err(Killed)) => Some(Handle::Head(respond)),
        Some(Ok(response)) => answer(respond, response, bodyless).await.map(Handle::from),
    };
    if let Some(handle) = killed {
        let _ = session.commands.send(command(line.fate(), handle));
    }
}

/// Whether a request calls a gRPC method.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| crate::wire::grpc::is_content_type(kind.as_bytes()))
}

/// Sends an answer; the way out is given back when its exchange was killed.
async fn answer(
    mut respond: SendResponse<Bytes>,
    response: Response<AnswerBody>,
    bodyless: bool,
) -> Option<Outflow> {
    let (head, mut body) = response.into_parts();
    let ends = bodyless || body.is_end_stream();
    let stream = respond.send_response(Response::from_parts(head, ()), ends).ok()?;
    if ends {
        return None;
    }
    let mut out = Outflow::new(stream);
    match send(&mut out, &mut body).await {
        Ok(()) | Err(Stop::Gone) => None,
        Err(Stop::Killed) => Some(out),
    }
}

/// Why an answer stops.
enum Stop {
    Gone,
    Killed,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Killed> for Stop {
    fn from(_: Killed) -> Self {
        Self::Killed
    }
}

async fn send(out: &mut Outflow, body: &mut AnswerBody) -> Result<(), Stop> {
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => out.poll_gone(cx).map(|()| Err(Gone)),
        });
        let Some(frame) = frame.await?.transpose()? else {
            return Ok(out.end()?);
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream() && body.has_no_trailers();
                out.put(data, last)?;
                poll_fn(|cx| out.poll_sent(cx)).await?;
                if last {
                    return Ok(());
                }
                continue;
            }
            Err(other) => other,
        };
        if let Ok(trailers) = frame.into_trailers() {
            return Ok(out.end_with(trailers)?);
        }
    }
}

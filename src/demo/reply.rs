//! What the app tells its user: events as they come, with the status decided by the first of them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The talking end. What is said after the user has gone is lost.
#[derive(Debug)]
pub(super) struct Reply {
    events: mpsc::Sender<Result<Bytes, String>>,
}

/// The listening end.
#[derive(Debug)]
pub(super) struct Answer {
    events: mpsc::Receiver<Result<Bytes, String>>,
}

impl Reply {
    pub(super) fn new() -> (Self, Answer) {
        let (talk, listen) = mpsc::channel(16);
        (Self { events: talk }, Answer { events: listen })
    }

    /// A piece of the answer.
    pub(super) async fn delta(&self, text: &str) {
        self.event(&json!({ "delta": text })).await;
    }

    /// The end of a whole answer.
    pub(super) async fn done(&self, sources: &[Value], fallback: bool) {
        let mut last = json!({ "done": true, "sources": sources });
        if fallback {
            last["fallback"] = true.into();
        }
        self.event(&last).await;
        self.send(Ok(Bytes::from_static(b"data: [DONE]\n\n"))).await;
    }

    /// Ends with an error: a status where nothing was said yet, else an event.
    pub(super) async fn fail(&self, reason: &str) {
        self.send(Err(reason.to_owned())).await;
    }

    /// Returns when nobody listens any more.
    pub(super) async fn abandoned(&self) {
        self.events.closed().await;
    }

    async fn event(&self, data: &Value) {
        self.send(Ok(Bytes::from(format!("data: {data}\n\n")))).await;
    }

    async fn send(&self, event: Result<Bytes, String>) {
        let _ = self.events.send(event).await;
    }
}

impl Answer {
    /// Waits for the first word. The error is for an answer that failed before it.
    pub(super) async fn begin(mut self) -> Result<Body, String> {
        match self.events.recv().await {
            Some(Ok(first)) => Ok(Body::new(Stream { first: Some(first), events: self.events })),
            Some(Err(reason)) => Err(reason),
            None => Err("the answer was given up".to_owned()),
        }
    }
}

struct Stream {
    first: Option<Bytes>,
    events: mpsc::Receiver<Result<Bytes, String>>,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.events.poll_recv(context).map(|event| {
            let event = event?.unwrap_or_else(|reason| {
                Bytes::from(format!("event: error\ndata: {}\n\n", json!({ "error": reason })))
            });
            Some(Ok(Frame::data(event)))
        })
    }
}

//! One call to a dependency: request out, answer or trouble back. It never retries by itself.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::Upstreams;

/// An answer may be this long.
const BODY_LIMIT: usize = 16 << 20;

/// What a user's request brings along for the calls made on its behalf.
const CARRIED: &[&str] =
    &["traceparent", "tracestate", "baggage", "x-user-id", "x-brownout-session"];

/// The three things the app depends on.
#[derive(Debug)]
pub(super) struct Dependencies {
    upstreams: Upstreams,
}

/// Why a call gave nothing usable.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{dependency} answered {status}")]
    Status { dependency: &'static str, status: StatusCode, retry_after: Option<Duration> },
    #[error("{dependency} cannot be reached: {reason}")]
    Transport { dependency: &'static str, reason: String },
    #[error("{dependency} answered what the app cannot read")]
    Garbled { dependency: &'static str },
    #[error("{dependency} took too long")]
    Late { dependency: &'static str },
}

/// A streamed answer of the model.
#[derive(Debug)]
pub(super) struct Stream {
    body: Incoming,
    /// Bytes of events not yet read.
    rest: Vec<u8>,
    _connection: AbortOnDropHandle<()>,
}

/// What a stream of the model says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    /// The model's own word that it has finished, and why.
    Finish(String),
    /// The end marker.
    Done,
    /// An error within the stream.
    Error(String),
}

impl Trouble {
    /// Whether another try may help.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 429)
            }
            Self::Transport { .. } | Self::Late { .. } => true,
            Self::Garbled { .. } => false,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The headers that go along to every dependency.
pub(super) fn carried(headers: &HeaderMap, user: Option<&str>) -> HeaderMap {
    let mut carried = HeaderMap::new();
    for &name in CARRIED {
        for value in headers.get_all(name) {
            carried.append(name, value.clone());
        }
    }
    let known = carried.contains_key("x-user-id");
    if let Some(user) = user.filter(|_| !known).and_then(|user| HeaderValue::from_str(user).ok()) {
        carried.insert("x-user-id", user);
    }
    carried
}

impl Dependencies {
    pub(super) fn new(upstreams: Upstreams) -> Self {
        Self { upstreams }
    }

    /// The question's vector. `attempt` counts from 0, as the official clients count.
    pub(super) async fn embed(
        &self,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Value, Trouble> {
        let call = Call { dependency: "embeddings", base: &self.upstreams.embeddings };
        call.json("/v1/embeddings", request, carried, attempt).await
    }

    /// The nearest documents.
    pub(super) async fn search(
        &self,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Value, Trouble> {
        let call = Call { dependency: "vectors", base: &self.upstreams.vectors };
        call.json("/collections/documents/points/query", request, carried, attempt).await
    }

    /// The model's answer, as a stream.
    pub(super) async fn ask(
        &self,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Stream, Trouble> {
        let call = Call { dependency: "llm", base: &self.upstreams.llm };
        let (body, connection) =
            call.send("/v1/chat/completions", request, carried, attempt).await?;
        Ok(Stream { body, rest: Vec::new(), _connection: connection })
    }
}

struct Call<'a> {
    dependency: &'static str,
    base: &'a Url,
}

impl Call<'_> {
    async fn json(
        &self,
        path: &str,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Value, Trouble> {
        let (body, _connection) = self.send(path, request, carried, attempt).await?;
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        let body = body.map_err(|error| self.lost(&error))?.to_bytes();
        let dependency = self.dependency;
        serde_json::from_slice(&body).map_err(|_| Trouble::Garbled { dependency })
    }

    /// Sends a request on a connection of its own.
    async fn send(
        &self,
        path: &str,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<(Incoming, AbortOnDropHandle<()>), Trouble> {
        let host = self.base.host_str().unwrap_or("127.0.0.1");
        let port = self.base.port_or_known_default().unwrap_or(80);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| self.lost(&error))?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.lost(&error))?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.await;
        }));

        let path = format!("{}{path}", self.base.path().trim_end_matches('/'));
        let mut head = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("brownout-demo/", env!("CARGO_PKG_VERSION")))
            .header("x-stainless-retry-count", attempt);
        if let Some(headers) = head.headers_mut() {
            headers.extend(carried.clone());
        }
        let request = head
            .body(Full::new(Bytes::from(request.to_string())))
            .map_err(|error| self.lost(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
        let (dependency, status) = (self.dependency, response.status());
        if !status.is_success() {
            let retry_after = retry_after(response.headers());
            return Err(Trouble::Status { dependency, status, retry_after });
        }
        Ok((response.into_body(), connection))
    }

    fn lost(&self, reason: &dyn std::fmt::Display) -> Trouble {
        Trouble::Transport { dependency: self.dependency, reason: reason.to_string() }
    }
}

/// How long a dependency asks to be left alone.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let millis = number("retry-after-ms").map(|millis| millis / 1000.0);
    let seconds = millis.or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

impl Stream {
    /// The next thing said; None when the stream ends, with or without a proper end.
    pub(super) async fn next(&mut self) -> Result<Option<Said>, Trouble> {
        loop {
            while let Some(line) = self.line() {
                if let Some(said) = read(&line) {
                    return Ok(Some(said));
                }
            }
            let frame = match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => frame.map_err(|error| Trouble::Transport {
                    dependency: "llm",
                    reason: error.to_string(),
                })?,
            };
            if let Some(data) = frame.data_ref() {
                self.rest.extend_from_slice(data);
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = memchr::memchr(b'\n', &self.rest)?;
        let mut line: Vec<u8> = self.rest.drain(..=end).collect();
        line.truncate(end);
        Some(line)
    }
}

/// What a line of the stream says; None for lines that say nothing.
fn read(line: &[u8]) -> Option<Said> {
    let data = line.strip_prefix(b"data:")?.trim_ascii();
    if data == b"[DONE]" {
        return Some(Said::Done);
    }
    let Ok(event) = serde_json::from_slice::<Value>(data) else {
        return Some(Said::Error("the model sent an event that is no JSON".to_owned()));
    };
    if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
        let message = error["message"].as_str().unwrap_or("the model reported an error");
        return Some(Said::Error(message.to_owned()));
    }
    let choice = &event["choices"][0];
    match choice["delta"]["content"].as_str() {
        Some(text) if !text.is_empty() => Some(Said::Text(text.to_owned())),
        _ => choice["finish_reason"].as_str().map(|reason| Said::Finish(reason.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_stream_are_read() {
        let cases = [
            (r#"data: {"choices":[{"delta":{"content":"Hi"}}]}"#, Some(Said::Text("Hi".into()))),
            (
                r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
                Some(Said::Finish("stop".into())),
            ),
            ("data: [DONE]\r", Some(Said::Done)),
            (r#"data:{"error":{"message":"busy"}}"#, Some(Said::Error("busy".into()))),
            (r#"data: {"choices":[],"usage":{}}"#, None),
            (": waiting", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn milliseconds_beat_seconds_and_junk_is_nothing() {
        let told = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            retry_after(&headers)
        };
        assert_eq!(told(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        let both = told(&[("retry-after", "2"), ("retry-after-ms", "150")]);
        assert_eq!(both, Some(Duration::from_millis(150)));
        assert_eq!(told(&[("retry-after", "soon")]), None);
        assert_eq!(told(&[("retry-after", "-1")]), None);
        assert_eq!(told(&[]), None);
    }
}

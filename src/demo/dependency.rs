//! One call to a dependency: request out, answer or trouble back. It never retries by itself.

use std::fmt::{self, Display};
use std::io;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::Value;
use url::Url;

use super::Upstreams;
use crate::net::pool::{Answering, Options, Pool};
use crate::net::{self, Origin};

/// An answer may be this long.
const BODY_LIMIT: usize = 16 << 20;

/// What a user's request brings along for the calls made on its behalf.
const CARRIED: &[&str] =
    &["traceparent", "tracestate", "baggage", "x-user-id", "x-brownout-session"];

/// The three things the app depends on.
#[derive(Debug)]
pub(super) struct Dependencies {
    llm: Dependency,
    embeddings: Dependency,
    vectors: Dependency,
}

struct Dependency {
    name: &'static str,
    pool: Pool<Full<Bytes>>,
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
pub(super) struct Stream {
    body: Answering<Full<Bytes>>,
    /// Bytes of events not yet read.
    rest: Vec<u8>,
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
    pub(super) fn new(upstreams: &Upstreams) -> io::Result<Self> {
        Ok(Self {
            llm: Dependency::new("llm", &upstreams.llm)?,
            embeddings: Dependency::new("embeddings", &upstreams.embeddings)?,
            vectors: Dependency::new("vectors", &upstreams.vectors)?,
        })
    }

    /// The question's vector. `attempt` counts from 0, as the official clients count.
    pub(super) async fn embed(
        &self,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Value, Trouble> {
        self.embeddings.json("/v1/embeddings", request, carried, attempt).await
    }

    /// The nearest documents.
    pub(super) async fn search(
        &self,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Value, Trouble> {
        let path = "/collections/documents/points/query";
        self.vectors.json(path, request, carried, attempt).await
    }

    /// The model's answer, as a stream.
    pub(super) async fn ask(
        &self,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Stream, Trouble> {
        let body = self.llm.send("/v1/chat/completions", request, carried, attempt).await?;
        Ok(Stream { body, rest: Vec::new() })
    }
}

impl Dependency {
    fn new(name: &'static str, url: &Url) -> io::Result<Self> {
        let origin = Origin::new(url)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
        let pool = Pool::new(origin, Options::default()).map_err(io::Error::other)?;
        Ok(Self { name, pool })
    }

    async fn json(
        &self,
        path: &str,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Value, Trouble> {
        let body = self.send(path, request, carried, attempt).await?;
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        let body = body.map_err(|error| self.lost(&error))?.to_bytes();
        let dependency = self.name;
        serde_json::from_slice(&body).map_err(|_| Trouble::Garbled { dependency })
    }

    async fn send(
        &self,
        path: &str,
        request: &Value,
        carried: &HeaderMap,
        attempt: u32,
    ) -> Result<Answering<Full<Bytes>>, Trouble> {
        let body = request.to_string();
        let mut head = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.pool.origin().base()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::USER_AGENT, concat!("brownout-demo/", env!("CARGO_PKG_VERSION")))
            .header("x-stainless-retry-count", attempt);
        if let Some(headers) = head.headers_mut() {
            headers.extend(carried.clone());
        }
        let request = head.body(Full::new(Bytes::from(body))).map_err(|error| self.lost(&error))?;
        let response = self.pool.send(request).await.map_err(|error| self.lost(&error))?;
        let (dependency, status) = (self.name, response.status());
        if status.is_success() {
            return Ok(response.into_body());
        }
        let retry_after = retry_after(response.headers());
        // Read to its end the connection can be used again.
        let _ = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        Err(Trouble::Status { dependency, status, retry_after })
    }

    fn lost(&self, reason: &dyn Display) -> Trouble {
        Trouble::Transport { dependency: self.name, reason: reason.to_string() }
    }
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependency").field("name", &self.name).finish_non_exhaustive()
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
                Some(frame) => frame.map_err(|error: net::Error| Trouble::Transport {
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

//! Answers with a failure in the provider's own words, without calling the upstream; or reports an
//! error inside a running stream, where no SDK retries and the status is already 200.

mod inside;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, request};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::inside::Inside;
use super::{
    Arming, Effect, Fault, GrpcStatus, Impossible, Invalid, NO_REQUESTS, Orders, Place, Spec, Within,
};
use crate::dialect::{
    Answer, Dialect, FAILURE_CLASSES, Failure, Moment, STORE_CLASSES, TOOL_CLASSES, grpc,
    inband_message,
};
use crate::exchange::{Exchange, Level, Operation, Transport};
use crate::units::Span;

/// A failure instead of an answer, or in the middle of one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Error {
    /// The status, from 400 to 599. Default: what the provider uses for `as`; 500 with `body`.
    pub status: Option<u16>,
    /// The class of failure, put into the provider's own words: auth, bad_request, context_length,
    /// html (a gateway's page), not_found, overloaded, quota, rate_limit, server_error, slow_down,
    /// timeout or unavailable; on stores also, as far as each has words for it, busy, deadlock,
    /// disk_full, loading, lock_timeout, moved, not_loaded, oom, readonly, serialization,
    /// shard_unavailable, shutdown and too_many_connections; on mcp also session_lost (404, the client
    /// must begin anew) and tool_error (a result that says `isError`). Default: what fits `status`.
    #[serde(rename = "as")]
    pub class: Option<String>,
    /// The SQLSTATE of a PostgreSQL error, five characters such as 57P03; its message is the server's own
    /// where that is known.
    pub sqlstate: Option<String>,
    /// The message in place of the provider's.
    pub message: Option<String>,
    /// A body in place of the provider's: text, or JSON.
    pub body: Option<Value>,
    /// Headers to set; text or numbers.
    pub headers: Option<Map<String, Value>>,
    /// What `retry-after` says, rounded up to seconds where the provider counts in them.
    /// Default: none.
    pub retry_after: Option<Span>,
    /// The status of a gRPC call, by name or number: UNAVAILABLE, RESOURCE_EXHAUSTED, 14. Default: what
    /// fits `as` or `status`. Alone it acts on gRPC calls only.
    pub grpc_status: Option<GrpcStatus>,
    /// Do not answer in the upstream's place, but let its stream run this far (`20 tokens`,
    /// `3 events`), then send the provider's error event (gRPC: the status) and end the stream.
    pub after: Option<Place>,
    /// With `after`: the terminal event (`[DONE]`) follows the error, as in a stream that ended well
    /// (vLLM does so). Default false.
    pub then_done: Option<bool>,
    /// With `after`: the error stands in the text of the answer, as gateways put it there that know no
    /// other way; then the stream ends with `finish_reason: error_finish`. Default false.
    pub as_content: Option<bool>,
}

impl Spec for Error {
    const NAME: &'static str = "error";
    const SUMMARY: &'static str = "a failure in the provider's own words, before or inside an answer";
    const EXAMPLE: &'static str = "{ status: 503, as: overloaded, retry_after: 5s }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        if let Some(class) = &self.class
            && !classes().any(|known| *known == class)
        {
            let all: Vec<&str> = classes().copied().collect();
            let all = all.join(", ");
            return Err(Invalid::new("as", format!("`{class}` is no class of failure; use {all}")));
        }
        if let Some(place) = self.after {
            return self.build_inside(place);
        }
        for (field, set) in [("then_done", self.then_done), ("as_content", self.as_content)] {
            if set.is_some() {
                return Err(Invalid::new(
                    field,
                    format!("`{field}` is about errors inside a stream; write where, for example `after: 20 tokens`"),
                ));
            }
        }
        let said = [
            self.status.is_some(),
            self.class.is_some(),
            self.body.is_some(),
            self.sqlstate.is_some(),
        ];
        let unsaid = !said.contains(&true);
        if unsaid && self.grpc_status.is_none() {
            return Err(Invalid::new(
                "",
                "which error? write `status: 503`, `as: overloaded` or `grpc_status: UNAVAILABLE`",
            ));
        }
        Ok(Box::new(Before {
            status: self.status.map(checked_status).transpose()?,
            class: self.class.clone(),
            sqlstate: self.sqlstate.as_deref().map(checked_sqlstate).transpose()?,
            message: self.message.clone(),
            retry_after: self.retry_after.map(|span| span.0),
            body: self.body.clone().map(Body::from),
            headers: checked_headers(self.headers.as_ref())?,
            grpc_status: self.grpc_status,
            grpc_only: unsaid,
        }))
    }
}

impl Error {
    fn build_inside(&self, place: Place) -> Result<Box<dyn Fault>, Invalid> {
        let set = [
            ("status", self.status.is_some()),
            ("body", self.body.is_some()),
            ("sqlstate", self.sqlstate.is_some()),
            ("headers", self.headers.is_some()),
            ("retry_after", self.retry_after.is_some()),
        ];
        if let Some((field, _)) = set.into_iter().find(|(_, set)| *set) {
            return Err(Invalid::new(
                field,
                format!("`{field}` cannot go with `after`: the head has been sent by then; use `message` or `as`"),
            ));
        }
        if !matches!(place, Place::Events(_) | Place::Tokens(_)) {
            return Err(Invalid::new(
                "after",
                format!("`{place}` is no place between events; write for example 20 tokens or 3 events"),
            ));
        }
        let class = self.class.as_deref().unwrap_or("server_error");
        let message = self.message.as_deref().unwrap_or_else(|| inband_message(class));
        let code = self.grpc_status.map_or_else(|| grpc::code_of_word(class), |status| status.0);
        let said = match (&self.message, self.grpc_status) {
            (None, Some(_)) => grpc::words_of(code),
            _ => message,
        };
        let status = grpc::trailers(code, said);
        Ok(Box::new(Inside {
            place,
            class: class.into(),
            message: self.message.as_deref().map(Arc::from),
            status,
            then_done: self.then_done.unwrap_or_default(),
            as_content: self.as_content.unwrap_or_default(),
            lengths: Arc::default(),
        }))
    }
}

/// The classes of all kinds of dependencies.
fn classes() -> impl Iterator<Item = &'static &'static str> {
    FAILURE_CLASSES.iter().chain(STORE_CLASSES).chain(TOOL_CLASSES)
}

fn checked_status(status: u16) -> Result<StatusCode, Invalid> {
    match StatusCode::from_u16(status) {
        Ok(code) if (400..=599).contains(&status) => Ok(code),
        _ => Err(Invalid::new(
            "status",
            format!("{status} is no status of a failure; write one from 400 to 599"),
        )),
    }
}

fn checked_sqlstate(code: &str) -> Result<String, Invalid> {
    let code = code.trim();
    let fits = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    if code.len() == 5 && code.bytes().all(fits) && !code.starts_with("00") {
        return Ok(code.to_owned());
    }
    let reason = format!("`{code}` is no SQLSTATE of an error; write five digits and letters, such as \"57P03\"");
    Err(Invalid::new("sqlstate", reason))
}

fn checked_headers(headers: Option<&Map<String, Value>>) -> Result<Vec<(String, String)>, Invalid> {
    let mut checked = Vec::new();
    for (name, value) in headers.into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => {
                return Err(Invalid::new("headers", format!("`{name}` must be text or a number")));
            }
        };
        if name.parse::<HeaderName>().is_err() {
            return Err(Invalid::new("headers", format!("`{name}` is no header name")));
        }
        if matches!(name.to_ascii_lowercase().as_str(), "content-length" | "transfer-encoding") {
            return Err(Invalid::new("headers", format!("`{name}` follows from the body")));
        }
        if HeaderValue::from_str(&text).is_err() {
            return Err(Invalid::new("headers", format!("the value of `{name}` is no header value")));
        }
        checked.push((name.clone(), text));
    }
    Ok(checked)
}

/// A body of the user's own.
#[derive(Clone, Debug)]
struct Body {
    bytes: Bytes,
    content_type: &'static str,
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => {
                let content_type = match text.trim_start().as_bytes().first() {
                    Some(b'<') => "text/html; charset=utf-8",
                    Some(b'{' | b'[') => "application/json",
                    _ => "text/plain; charset=utf-8",
                };
                Self { bytes: text.into(), content_type }
            }
            json => Self { bytes: json.to_string().into(), content_type: "application/json" },
        }
    }
}

/// Answers in the upstream's place.
#[derive(Debug)]
struct Before {
    status: Option<StatusCode>,
    class: Option<String>,
    sqlstate: Option<String>,
    message: Option<String>,
    retry_after: Option<Duration>,
    body: Option<Body>,
    headers: Vec<(String, String)>,
    grpc_status: Option<GrpcStatus>,
    /// It says nothing about other calls.
    grpc_only: bool,
}

impl Before {
    fn failure<'a>(
        &'a self,
        of: Option<&'a Exchange>,
        connecting: bool,
        id: u64,
    ) -> Failure<'a> {
        Failure {
            status: self.status,
            class: self.class.as_deref(),
            code: self.sqlstate.as_deref(),
            model: of.and_then(|exchange| exchange.facts.model.as_deref()),
            request: of.map_or(&[], |exchange| &exchange.body),
            retry_after: self.retry_after,
            message: self.message.as_deref(),
            quota: None,
            connecting,
            operation: of.map_or(Operation::Other, |exchange| exchange.facts.operation),
            id,
        }
    }
}

impl Fault for Before {
    fn within(&self, dialect: &dyn Dialect) -> Within {
        match dialect.moment(&self.failure(None, false, 0)) {
            Moment::Asking | Moment::Never => Within::Requests,
            Moment::Both => Within::StartAndRequests,
            Moment::Connecting => Within::Start,
        }
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        arming.before_answer()?;
        let called = arming.exchange.transport == Transport::Grpc;
        if self.grpc_only && !called {
            return Err(Impossible("the exchange is no gRPC call"));
        }
        let raw = arming.exchange.level == Level::Connection;
        if raw && !arming.dialect.has_session() {
            return Err(NO_REQUESTS);
        }
        let id = arming.draw.fork("id").bits();
        let failure = self.failure(Some(arming.exchange), raw, id);
        if arming.dialect.moment(&failure) == Moment::Never {
            return Err(Impossible("this kind of dependency has no such error"));
        }
        if arming.dialect.has_session() && (self.body.is_some() || !self.headers.is_empty()) {
            return Err(Impossible("a protocol over raw TCP has no bodies and headers; use `message`"));
        }
        let mut answer = match &self.body {
            Some(_) if self.class.is_none() => Answer {
                status: self.status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                headers: self
                    .retry_after
                    .map(|time| ("Retry-After".to_owned(), seconds_up(time)))
                    .into_iter()
                    .collect(),
                body: Bytes::new(),
            },
            _ => arming.dialect.failure(&failure),
        };
        if let Some(body) = &self.body {
            answer.body = body.bytes.clone();
            set_header(&mut answer.headers, "Content-Type", body.content_type);
        }
        if let Some(GrpcStatus(code)) = self.grpc_status.filter(|_| called) {
            set_header(&mut answer.headers, grpc::STATUS, &code.to_string());
            if self.message.is_none() {
                set_header(&mut answer.headers, "grpc-message", grpc::words_of(code));
            }
        }
        for (name, value) in &self.headers {
            set_header(&mut answer.headers, name, value);
        }
        Ok(Box::new(Answering(answer)))
    }
}

/// Whole seconds, rounded up: a client that obeys never comes too early.
fn seconds_up(time: Duration) -> String {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).to_string()
}

/// Sets a header in place of all of its name.
fn set_header(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
    headers.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
    headers.push((name.to_owned(), value.to_owned()));
}

struct Answering(Answer);

impl Effect for Answering {
    fn on_connect(&mut self, _: Duration, out: &mut Orders) {
        out.answer(self.0.clone());
    }

    fn on_request(&mut self, _: Duration, _: &mut request::Parts, out: &mut Orders) {
        out.answer(self.0.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ending;
    use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play};
    use super::*;

    fn failed(yaml: &str) -> Played {
        play(&[build::<Error>(yaml).as_ref()], &exchange(1), &Upstream::stream(5, ms(1)))
    }

    fn answer(yaml: &str) -> Answer {
        let played = failed(yaml);
        assert_eq!(played.called, None, "the upstream is not called");
        assert!(played.hit());
        played.answer.unwrap().1
    }

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        let mut found = answer.headers.iter().filter(|(set, _)| set.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        first
    }

    #[test]
    fn the_provider_words_a_class() {
        let told = answer("{ status: 529, as: overloaded, message: busy, retry_after: 1500ms }");
        assert_eq!((told.status.as_u16(), &told.body[..]), (529, &b"overloaded busy"[..]));
        assert_eq!(header(&told, "retry-after"), Some("2"));
    }

    #[test]
    fn own_bodies_and_headers_replace_the_providers() {
        let own = answer(
            "{ status: 502, body: '<html>bad</html>', headers: { server: edge, x-n: 7 }, retry_after: 5s }",
        );
        assert_eq!((own.status.as_u16(), &own.body[..]), (502, &b"<html>bad</html>"[..]));
        assert_eq!(header(&own, "content-type"), Some("text/html; charset=utf-8"));
        assert_eq!((header(&own, "x-n"), header(&own, "retry-after")), (Some("7"), Some("5")));
        let json = answer("{ as: quota, body: { error: { code: 7 } } }");
        assert_eq!(&json.body[..], br#"{"error":{"code":7}}"#);
        assert_eq!(header(&json, "content-type"), Some("application/json"));
        assert_eq!(answer("{ body: gone }").status, StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn an_error_breaks_into_a_stream() {
        let played = failed("{ as: overloaded, after: 2 tokens, message: busy }");
        assert_eq!(played.text(), "role t0 t1 error:busy");
        assert_eq!((played.ended(), played.hit()), (Some(Ending::Clean), true));
        let played = failed("{ after: 1 events }");
        assert!(played.text().starts_with("role error:The server had an error"));
        let played = failed("{ after: 5 tokens }");
        assert_eq!(played.impossible(), Some("the answer ended before the error"));
        let fault = build::<Error>("{ after: 1 tokens }");
        let whole = play(&[fault.as_ref()], &exchange(1), &Upstream::message(5));
        assert_eq!(whole.impossible(), Some("the answer is no stream"));
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        for (yaml, field, part) in [
            ("{}", "", "which error?"),
            ("{ status: 200 }", "status", "from 400 to 599"),
            ("{ as: overload }", "as", "use auth, bad_request"),
            ("{ sqlstate: '57p3' }", "sqlstate", "such as \"57P03\""),
            ("{ status: 500, headers: { 'bad name': x } }", "headers", "no header name"),
            ("{ status: 500, headers: { a: [1] } }", "headers", "text or a number"),
            ("{ status: 500, headers: { Content-Length: 3 } }", "headers", "follows from the body"),
            ("{ status: 500, after: 2 tokens }", "status", "cannot go with `after`"),
            ("{ after: 4kB }", "after", "no place between events"),
        ] {
            let error = invalid::<Error>(yaml);
            assert_eq!(error.field, field, "{yaml}");
            assert!(error.reason.contains(part), "{yaml}: {error}");
        }
    }
}

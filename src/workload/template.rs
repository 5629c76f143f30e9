//! Requests out of a template, compiled once: what stays is bytes, what changes is written between.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use serde_json::{Value, json};
use url::Url;

use super::placeholder::{Filling, Segment, Slot, messages, parse};
use super::prompt::Source;
use super::{Format, Plan, Template};

pub use super::placeholder::{Said, is_placeholder};

/// A template that cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (in `{place}`)")]
pub struct BadTemplate {
    /// Where it stands below `request:`, such as `body.messages[0].content` or `headers.x-user`.
    pub place: String,
    pub reason: String,
}

/// A compiled template.
#[derive(Clone, Debug)]
pub struct Renderer {
    method: Method,
    target: Target,
    fixed: HeaderMap,
    filled: Vec<(HeaderName, Vec<Segment>)>,
    body: Option<Vec<Piece>>,
    history: bool,
    stream: bool,
}

#[derive(Clone, Debug)]
enum Target {
    Filled(Vec<Segment>),
    Fixed(Uri),
}

/// A piece of a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// JSON text as it stands.
    Json(String),
    /// What was said before, as elements of the array around it, with the commas it needs.
    Messages { comma_before: bool, comma_after: bool },
    /// Text within a JSON string.
    Text(Slot),
    /// A JSON value.
    Value(Slot),
}

impl Template {
    /// The request for a URL that comes without one: a POST in the shape of the API its path names,
    /// else `{"message": …, "user": …, "session": …}`.
    pub fn for_app(app: &Url) -> Self {
        let path = app.path().trim_end_matches('/');
        let ask = json!({ "role": "user", "content": "${prompt.text}" });
        let body = if path.ends_with("/chat/completions") {
            json!({ "model": "default", "stream": true, "messages": ["${history}", ask] })
        } else if path.ends_with("/completions") {
            json!({ "model": "default", "stream": true, "prompt": "${prompt.text}" })
        } else if path.ends_with("/v1/messages") {
            json!({ "model": "default", "stream": true, "max_tokens": 1024, "messages": ["${history}", ask] })
        } else if path.ends_with("/v1/responses") {
            json!({ "model": "default", "stream": true, "input": "${prompt.text}" })
        } else {
            json!({
                "message": "${prompt.text}", "user": "${user.id}", "session": "${session.id}"
            })
        };
        Self { method: Method::POST, path: None, headers: Vec::new(), body: Some(body) }
    }
}

impl Renderer {
    /// Compiles a plan's template, or tells everything that is wrong with it.
    pub fn new(plan: &Plan) -> Result<Self, Vec<BadTemplate>> {
        let prompts = Source::new(&plan.prompts).ok_or_else(|| {
            let reason = "there are no prompts to ask".to_owned();
            vec![BadTemplate { place: "prompts".to_owned(), reason }]
        })?;
        let mut compiler = Compiler { prompts: &prompts, bad: Vec::new(), history: false };
        let target = compiler.target(&plan.app, plan.request.path.as_deref());
        let (mut fixed, filled) = compiler.headers(&plan.request.headers);
        let body = plan.request.body.as_ref().map(|body| compiler.body(body));
        if !compiler.bad.is_empty() {
            return Err(compiler.bad);
        }
        let stream = match plan.answer.format {
            Format::Ndjson | Format::Sse => true,
            Format::Auto => {
                let body = plan.request.body.as_ref();
                body.and_then(|body| body.get("stream")).is_some_and(|stream| stream == true)
            }
            Format::Json | Format::Text => false,
        };
        let named = |name: &HeaderName| {
            fixed.contains_key(name) || filled.iter().any(|(other, _)| other == name)
        };
        let defaults = [
            (HOST, host(&plan.app)),
            (USER_AGENT, HeaderValue::from_static(concat!("brownout/", env!("CARGO_PKG_VERSION")))),
            (ACCEPT, HeaderValue::from_static(accept(plan.answer.format))),
        ];
        let mut missing: Vec<(HeaderName, HeaderValue)> =
            defaults.into_iter().filter(|(name, _)| !named(name)).collect();
        if body.is_some() && !named(&CONTENT_TYPE) {
            missing.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        fixed.extend(missing);
        let (method, history) = (plan.request.method.clone(), compiler.history);
        Ok(Self { method, target, fixed, filled, body, history, stream })
    }

    /// Whether what was said before is asked for.
    pub fn needs_history(&self) -> bool {
        self.history
    }

    /// Whether the answer is asked for as a stream.
    pub fn asks_for_stream(&self) -> bool {
        self.stream
    }

    /// The request for one turn, its URI without scheme and host (`host` is a header).
    pub fn request(&self, filling: &Filling<'_>) -> Result<Request<Bytes>, http::Error> {
        let body = self.body.as_ref().map(|pieces| body(pieces, filling));
        let mut request = Request::new(body.unwrap_or_default());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = match &self.target {
            Target::Fixed(uri) => uri.clone(),
            Target::Filled(segments) => target(segments, filling)?,
        };
        let headers = request.headers_mut();
        *headers = self.fixed.clone();
        for (name, segments) in &self.filled {
            headers.append(name, header(segments, filling)?);
        }
        Ok(request)
    }
}

fn accept(format: Format) -> &'static str {
    match format {
        Format::Auto => {
            "text/event-stream, application/x-ndjson, application/json;q=0.9, */*;q=0.8"
        }
        Format::Json => "application/json",
        Format::Ndjson => "application/x-ndjson, application/json;q=0.9",
        Format::Sse => "text/event-stream",
        Format::Text => "text/plain, */*;q=0.8",
    }
}

fn host(app: &Url) -> HeaderValue {
    let host = app.host_str().unwrap_or("localhost");
    let host = match app.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    // A URL's host is ASCII without control characters.
    HeaderValue::try_from(host).unwrap_or_else(|_| HeaderValue::from_static("localhost"))
}

/// Collects everything that is wrong with a template while compiling it.
struct Compiler<'a> {
    prompts: &'a Source,
    bad: Vec<BadTemplate>,
    history: bool,
}

impl Compiler<'_> {
    fn parse(&mut self, text: &str, place: &dyn fmt::Display) -> Vec<Segment> {
        match parse(text, self.prompts) {
            Ok(segments) => {
                self.history |= segments.contains(&Segment::Slot(Slot::History));
                segments
            }
            Err(reason) => {
                self.bad.push(BadTemplate { place: place.to_string(), reason });
                Vec::new()
            }
        }
    }

    /// The path is put below the app's own; the app's query stays.
    fn target(&mut self, app: &Url, path: Option<&str>) -> Target {
        let mut segments = match path {
            None => vec![Segment::Literal(app.path().to_owned())],
            Some(query) if query.starts_with('?') => {
                let mut segments = vec![Segment::Literal(app.path().to_owned())];
                segments.extend(self.parse(query, &"path"));
                segments
            }
            Some(path) => {
                let base = app.path().trim_end_matches('/');
                let mut segments = vec![Segment::Literal(format!("{base}/"))];
                segments.extend(self.parse(path.trim_start_matches('/'), &"path"));
                segments
            }
        };
        if let Some(query) = app.query() {
            let mark = if path.is_some_and(|path| path.contains('?')) { '&' } else { '?' };
            segments.push(Segment::Literal(format!("{mark}{query}")));
        }
        if segments.iter().any(|segment| matches!(segment, Segment::Slot(_))) {
            return Target::Filled(segments);
        }
        let text: String = segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.as_str(),
                Segment::Slot(_) => "",
            })
            .collect();
        match Uri::try_from(encode(&text, is_uri_byte)) {
            Ok(uri) => Target::Fixed(uri),
            Err(error) => {
                let reason = format!("`{text}` is no path: {error}");
                self.bad.push(BadTemplate { place: "path".to_owned(), reason });
                Target::Filled(Vec::new())
            }
        }
    }

    fn headers(
        &mut self,
        headers: &[(HeaderName, String)],
    ) -> (HeaderMap, Vec<(HeaderName, Vec<Segment>)>) {
        let (mut fixed, mut filled) = (HeaderMap::new(), Vec::new());
        for (name, value) in headers {
            let segments = self.parse(value, &format_args!("headers.{name}"));
            let literal = match segments.as_slice() {
                [] => "",
                [Segment::Literal(text)] => text.as_str(),
                _ => {
                    filled.push((name.clone(), segments));
                    continue;
                }
            };
            match HeaderValue::from_str(literal) {
                Ok(value) => drop(fixed.append(name, value)),
                Err(_) => self.bad.push(BadTemplate {
                    place: format!("headers.{name}"),
                    reason: "a header's value is one line of plain ASCII text".to_owned(),
                }),
            }
        }
        (fixed, filled)
    }

    fn body(&mut self, body: &Value) -> Vec<Piece> {
        let mut pieces = Pieces(Vec::new());
        self.value(body, "body", &mut pieces);
        pieces.0
    }

    fn value(&mut self, value: &Value, place: &str, out: &mut Pieces) {
        match value {
            Value::Array(elements) => self.array(elements, place, out),
            Value::Object(fields) => {
                out.json("{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.json(",");
                    }
                    let place = format!("{place}.{name}");
                    if name.contains("${") {
                        let reason = "a key cannot hold a placeholder".to_owned();
                        self.bad.push(BadTemplate { place: place.clone(), reason });
                    }
                    out.json(&Value::from(name.as_str()).to_string());
                    out.json(":");
                    self.value(value, &place, out);
                }
                out.json("}");
            }
            Value::String(text) => {
                let segments = self.parse(text, &place);
                if let [Segment::Slot(slot)] = segments.as_slice() {
                    out.0.push(Piece::Value(slot.clone()));
                    return;
                }
                out.json("\"");
                for segment in segments {
                    match segment {
                        Segment::Literal(text) => {
                            let mut escaped = String::new();
                            escape(&mut escaped, &text);
                            out.json(&escaped);
                        }
                        Segment::Slot(slot) => out.0.push(Piece::Text(slot)),
                    }
                }
                out.json("\"");
            }
            other => out.json(&other.to_string()),
        }
    }

    /// An element that is `${history}` and nothing else becomes the messages themselves.
    fn array(&mut self, elements: &[Value], place: &str, out: &mut Pieces) {
        let spliced =
            |value: &Value| value.as_str().is_some_and(|text| text.trim() == "${history}");
        out.json("[");
        let mut elements_before = false;
        for (index, element) in elements.iter().enumerate() {
            if spliced(element) {
                self.history = true;
                let last = elements[index + 1..].iter().all(spliced);
                let comma_after = !elements_before && !last;
                out.0.push(Piece::Messages { comma_before: elements_before, comma_after });
                continue;
            }
            if elements_before {
                out.json(",");
            }
            elements_before = true;
            self.value(element, &format!("{place}[{index}]"), out);
        }
        out.json("]");
    }
}

/// Pieces in the making; neighbouring JSON text is joined.
struct Pieces(Vec<Piece>);

impl Pieces {
    fn json(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Json(last)) => last.push_str(text),
            _ => self.0.push(Piece::Json(text.to_owned())),
        }
    }
}

fn body(pieces: &[Piece], filling: &Filling<'_>) -> Bytes {
    let mut out = String::with_capacity(256 + filling.prompt.text.len());
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Json(json) => out.push_str(json),
            Piece::Messages { comma_before, comma_after } => {
                for (index, message) in messages(filling.history).enumerate() {
                    if *comma_before || index > 0 {
                        out.push(',');
                    }
                    out.push_str(&message.to_string());
                }
                if *comma_after && !filling.history.is_empty() {
                    out.push(',');
                }
            }
            Piece::Text(Slot::Prompt) => escape(&mut out, &filling.prompt.text),
            Piece::Text(slot) => {
                text.clear();
                slot.write_text(&mut text, filling);
                escape(&mut out, &text);
            }
            Piece::Value(Slot::Prompt) => {
                out.push('"');
                escape(&mut out, &filling.prompt.text);
                out.push('"');
            }
            Piece::Value(slot) => out.push_str(&slot.value(filling).to_string()),
        }
    }
    out.into()
}

/// Writes text as it stands within a JSON string.
fn escape(out: &mut String, text: &str) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        if escaped.is_empty() {
            out.push_str(&format!("\\u{byte:04x}"));
        } else {
            out.push_str(escaped);
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
}

fn target(segments: &[Segment], filling: &Filling<'_>) -> Result<Uri, http::Error> {
    let mut out = String::new();
    for segment in segments {
        match segment {
            Segment::Literal(text) => out.push_str(&encode(text, is_uri_byte)),
            Segment::Slot(slot) => {
                let mut text = String::new();
                slot.write_text(&mut text, filling);
                out.push_str(&encode(&text, is_unreserved));
            }
        }
    }
    Ok(Uri::from(PathAndQuery::try_from(out)?))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Bytes that may stand in a path and query, `%` of what is encoded already included.
fn is_uri_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"/?:@!$&'()*+,;=%".contains(&byte)
}

fn encode(text: &str, keep: fn(u8) -> bool) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Control characters become spaces, since a header is one line.
fn header(segments: &[Segment], filling: &Filling<'_>) -> Result<HeaderValue, http::Error> {
    let mut out = String::new();
    for segment in segments {
        match segment {
            Segment::Literal(text) => out.push_str(text),
            Segment::Slot(slot) => slot.write_text(&mut out, filling),
        }
    }
    let line: Vec<u8> =
        out.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }).collect();
    Ok(HeaderValue::from_bytes(&line)?)
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;

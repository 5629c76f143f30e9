//! Reads an answer as it comes in: which events bear content, and whether it came whole. It knows
//! no socket and no clock; times are those at which the bytes were read.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::error_text;
use super::refusal::Refusal;
use super::shape::{self, Content, Ending};
use crate::exchange::Item;
use crate::measure::Outcome;
use crate::wire::{CAP, ndjson, sse};
use crate::workload::{Answer, EndMark, Format};

/// The most of an error body that is read for its message.
const ERROR_BODY: usize = 16 << 10;

/// The most of an answer's text that is kept for the session's history.
const KEPT_TEXT: usize = 64 << 10;

/// The end of plain text in which a terminal marker is looked for.
const TAIL: usize = 256;

/// Takes the pieces of one answer.
#[derive(Debug)]
pub(crate) struct Reader {
    answer: Arc<Answer>,
    /// Its status promises content: 202 and 204 do not.
    promised: bool,
    /// Why the answer is bad by its head alone.
    refusal: Option<Refusal>,
    mode: Mode,
    /// Events in a known shape, or found by the configured path.
    known: Marks,
    /// Events that hold something unknown: they count when nothing known ever comes.
    unknown: Marks,
    /// Payloads are JSON objects, so one that is not whole JSON is garbled.
    json_stream: bool,
    complete: bool,
    /// The app itself says that this is a stand-in.
    fallback: bool,
    /// Nothing that follows can change what became of the answer.
    over: bool,
    /// What makes the answer a failure, whatever comes later.
    verdict: Option<(Outcome, Arc<str>)>,
    text: Option<String>,
}

#[derive(Debug)]
enum Mode {
    /// Kept up to the limit, to be read when it is whole.
    Body {
        bytes: BytesMut,
        limit: usize,
    },
    Ndjson(ndjson::Splitter),
    Sse(sse::Splitter),
    /// Its last bytes.
    Text {
        tail: Vec<u8>,
        sniff: bool,
    },
}

/// Whether more is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// The terminal marker or an error came: the answer is over, whatever follows.
    Ended,
    More,
}

/// How reading ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The body was over.
    Clean,
    /// It was cut off, for this reason.
    Cut(Outcome, Arc<str>),
}

/// Content-bearing events.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) first: Option<Duration>,
    pub(crate) last: Option<Duration>,
    pub(crate) count: u32,
    /// In microseconds.
    pub(crate) gaps: Vec<u32>,
}

impl Marks {
    fn mark(&mut self, at: Duration) {
        if let Some(last) = self.last {
            let gap = at.saturating_sub(last).as_micros();
            self.gaps.push(u32::try_from(gap).unwrap_or(u32::MAX));
        }
        self.first = self.first.or(Some(at));
        self.last = Some(at);
        self.count += 1;
    }
}

/// An answer that is over.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<Arc<str>>,
    pub(crate) complete: bool,
    pub(crate) fallback: bool,
    pub(crate) content: Marks,
    /// Its text, where it was to be kept.
    pub(crate) text: String,
}

impl Read {
    /// No answer came at all.
    pub(crate) fn nothing(end: End) -> Self {
        let (outcome, error) = match end {
            End::Clean => (Outcome::Aborted, None),
            End::Cut(outcome, reason) => (outcome, Some(reason)),
        };
        let (content, text) = (Marks::default(), String::new());
        Self { outcome, error, complete: false, fallback: false, content, text }
    }
}

impl Reader {
    /// A reader for an answer with this head.
    pub(crate) fn new(
        answer: Arc<Answer>,
        status: StatusCode,
        head: &HeaderMap,
        keep_text: bool,
    ) -> Self {
        let kind = head.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let refusal = (!status.is_success()).then(|| Refusal::new(status, head));
        let (mode, verdict) = match (&refusal, mode(answer.format, &kind)) {
            (Some(_), _) => (body(ERROR_BODY), None),
            (None, Ok(mode)) => (mode, None),
            (None, Err(reason)) => (body(CAP), Some((Outcome::Invalid, reason))),
        };
        Self {
            answer,
            promised: status == StatusCode::OK,
            refusal,
            mode,
            known: Marks::default(),
            unknown: Marks::default(),
            json_stream: false,
            fallback: false,
            complete: false,
            over: false,
            verdict,
            text: keep_text.then(String::new),
        }
    }

    /// Whether the user has seen something of the answer.
    pub(crate) fn has_content(&self) -> bool {
        self.known.count + self.unknown.count > 0
    }

    /// Whether the answer comes piece by piece.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.mode, Mode::Ndjson(_) | Mode::Sse(_))
    }

    /// Takes the next piece, read at this time.
    pub(crate) fn push(&mut self, at: Duration, piece: Bytes) -> Progress {
        if let Mode::Text { sniff: true, .. } = self.mode {
            self.sniff(&piece);
        }
        match &mut self.mode {
            Mode::Body { bytes, limit } => {
                if bytes.len() + piece.len() > *limit && *limit == CAP {
                    let reason = "the answer is longer than 16 MiB".into();
                    self.verdict.get_or_insert((Outcome::Invalid, reason));
                    self.over = true;
                    return Progress::Ended;
                }
                let room = (*limit - bytes.len()).min(piece.len());
                bytes.extend_from_slice(&piece[..room]);
                Progress::More
            }
            Mode::Text { tail, .. } => {
                tail.extend_from_slice(&piece);
                let surplus = tail.len().saturating_sub(TAIL);
                tail.drain(..surplus);
                if !piece.is_empty() {
                    self.known.mark(at);
                    self.keep(&String::from_utf8_lossy(&piece));
                }
                Progress::More
            }
            Mode::Ndjson(_) | Mode::Sse(_) => self.events(at, piece, false),
        }
    }

    /// Plain text that begins like an event stream is one: many apps forget its content type.
    fn sniff(&mut self, piece: &[u8]) {
        let start = piece.trim_ascii_start();
        if start.starts_with(b"data:") || start.starts_with(b"event:") {
            self.mode = Mode::Sse(sse::Splitter::new());
        } else if !start.is_empty() {
            self.mode = Mode::Text { tail: Vec::new(), sniff: false };
        }
    }

    fn events(&mut self, at: Duration, piece: Bytes, last: bool) -> Progress {
        let mut piece = Some(piece);
        loop {
            let item = match &mut self.mode {
                Mode::Sse(splitter) => match piece.take() {
                    Some(piece) => splitter.push(piece).next(),
                    None => splitter.next(),
                },
                Mode::Ndjson(splitter) => match piece.take() {
                    Some(piece) => splitter.push(piece).next(),
                    None => splitter.next(),
                },
                Mode::Body { .. } | Mode::Text { .. } => None,
            };
            match item {
                None => return Progress::More,
                Some(Item::Event(event)) => {
                    let progress = self.event(at, event.name.as_deref(), &event.data, last);
                    if progress == Progress::Ended {
                        return Progress::Ended;
                    }
                }
                Some(Item::Bytes(_) | Item::Message(_)) => {}
            }
        }
    }

    /// One event. `partial`: it may be the stump of one, cut by the end of the stream.
    fn event(&mut self, at: Duration, name: Option<&str>, data: &[u8], partial: bool) -> Progress {
        let data = data.trim_ascii();
        let value = match data.first() {
            Some(b'{' | b'[' | b'"') => serde_json::from_slice::<Value>(data).ok(),
            _ => None,
        };
        if name == Some("error") {
            let message = value.as_ref().and_then(error_text::message);
            let text = message.unwrap_or_else(|| String::from_utf8_lossy(data).into_owned());
            return self.failed(&text);
        }
        if let Some(value) = &value {
            self.json_stream |= value.is_object();
            self.fallback |= self.is_fallback(value);
            if let Some(text) = self.failure(value) {
                return self.failed(&text);
            }
        }
        let ending = self.ending(name, data, value.as_ref());
        let says_done = data == b"[DONE]" || is_end_text(&self.answer, data);
        if !says_done && !matches!(name, Some("ping" | "heartbeat" | "keepalive")) {
            self.content(at, data, value.as_ref(), partial);
        }
        self.complete |= ending.is_some();
        self.over |= ending == Some(Ending::Last);
        if self.over { Progress::Ended } else { Progress::More }
    }

    fn is_fallback(&self, value: &Value) -> bool {
        self.answer.fallback.as_ref().is_some_and(|path| shape::selects(path, value))
    }

    /// What an error inside a good status says.
    fn failure(&self, value: &Value) -> Option<String> {
        let by_path = self.answer.error.as_ref().and_then(|path| {
            path.query(value).all().into_iter().find(|found| shape::is_something(found))
        });
        let error = by_path.or_else(|| shape::failure(value))?;
        Some(error_text::message(error).unwrap_or_else(|| error.to_string()))
    }

    fn failed(&mut self, text: &str) -> Progress {
        self.verdict.get_or_insert_with(|| (Outcome::InbandError, error_text::shown(text)));
        self.over = true;
        Progress::Ended
    }

    fn ending(&self, name: Option<&str>, data: &[u8], value: Option<&Value>) -> Option<Ending> {
        let last = match &self.answer.end {
            Some(EndMark::None) => false,
            Some(EndMark::Event(end)) => name == Some(end),
            Some(EndMark::Text(_)) => is_end_text(&self.answer, data),
            Some(EndMark::Json(path)) => value.is_some_and(|value| shape::selects(path, value)),
            None => {
                let by_name = data == b"[DONE]" || name.is_some_and(shape::ends_by_name);
                return match by_name {
                    true => Some(Ending::Last),
                    false => value.and_then(shape::ending),
                };
            }
        };
        last.then_some(Ending::Last)
    }

    fn content(&mut self, at: Duration, data: &[u8], value: Option<&Value>, partial: bool) {
        let answer = Arc::clone(&self.answer);
        match (&answer.text, value) {
            (Some(path), Some(value)) => {
                let found = shape::text_at(path, value);
                if !found.is_empty() {
                    self.known.mark(at);
                    self.keep(&found);
                }
            }
            (None, Some(value)) => match shape::content(value) {
                Content::Text(text) => {
                    self.known.mark(at);
                    self.keep(text);
                }
                Content::Unknown => self.unknown.mark(at),
                Content::Nothing => {}
            },
            (_, None) if data.is_empty() => {}
            (path, None) => {
                let looks_like_json = matches!(data.first(), Some(b'{' | b'[' | b'"'));
                if looks_like_json && partial {
                    return;
                }
                if looks_like_json && self.json_stream {
                    let text = String::from_utf8_lossy(data);
                    let text = error_text::shown(&format!("an event is not whole JSON: {text}"));
                    self.verdict.get_or_insert((Outcome::Invalid, text));
                } else if path.is_none() {
                    self.known.mark(at);
                    self.keep(&String::from_utf8_lossy(data));
                }
            }
        }
    }

    fn keep(&mut self, more: &str) {
        if let Some(text) = &mut self.text
            && text.len() + more.len() <= KEPT_TEXT
        {
            text.push_str(more);
        }
    }

    /// Reading is over: what became of the answer.
    pub(crate) fn finish(mut self, at: Duration, end: &End) -> Read {
        let is_stream = self.is_stream();
        if *end == End::Clean && self.refusal.is_none() && !self.over {
            match &mut self.mode {
                Mode::Sse(_) => drop(self.events(at, Bytes::from_static(b"\n\n"), true)),
                Mode::Ndjson(_) => drop(self.events(at, Bytes::from_static(b"\n"), true)),
                Mode::Body { bytes, .. } => {
                    let body = bytes.split().freeze();
                    self.whole_body(at, &body);
                }
                Mode::Text { tail, .. } => {
                    self.complete = match &self.answer.end {
                        Some(EndMark::Text(mark)) => {
                            tail.trim_ascii_end().ends_with(mark.as_bytes())
                        }
                        _ => true,
                    };
                }
            }
            self.complete |= matches!(self.answer.end, Some(EndMark::None));
        }
        let to_be_read = is_stream || self.promised && matches!(self.mode, Mode::Text { .. });
        let empty = to_be_read && !self.has_content();
        let (outcome, error) = self.judged(end, empty);
        Read {
            outcome,
            error,
            complete: self.complete,
            fallback: self.fallback,
            content: if self.known.count > 0 { self.known } else { self.unknown },
            text: self.text.unwrap_or_default(),
        }
    }

    /// The class of the answer: what its head says, then what its content says, then how it ended.
    fn judged(&self, end: &End, empty: bool) -> (Outcome, Option<Arc<str>>) {
        if let Some(refusal) = &self.refusal {
            let body: &[u8] = if let Mode::Body { bytes, .. } = &self.mode { bytes } else { &[] };
            return (refusal.outcome, Some(refusal.text(body)));
        }
        if let Some((outcome, error)) = &self.verdict {
            return (*outcome, Some(error.clone()));
        }
        if let End::Cut(outcome, reason) = end {
            return (*outcome, Some(reason.clone()));
        }
        if !self.complete {
            return (
                Outcome::Truncated,
                Some("the answer ended without its terminal event".into()),
            );
        }
        if empty {
            return (Outcome::Invalid, Some("the answer holds no text".into()));
        }
        (Outcome::Ok, None)
    }

    /// An answer in one piece of JSON: its text counts as read when it is whole.
    fn whole_body(&mut self, at: Duration, body: &[u8]) {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            let text = String::from_utf8_lossy(&body[..body.len().min(ERROR_BODY)]);
            let text = error_text::shown(&format!("the answer is not JSON: {text}"));
            self.verdict.get_or_insert((Outcome::Invalid, text));
            return;
        };
        if let Some(text) = self.failure(&value) {
            self.verdict = Some((Outcome::InbandError, error_text::shown(&text)));
            return;
        }
        self.fallback = self.is_fallback(&value);
        self.complete = match &self.answer.end {
            Some(EndMark::Json(path)) => shape::selects(path, &value),
            _ => true,
        };
        let answer = Arc::clone(&self.answer);
        match &answer.text {
            Some(path) => {
                let found = shape::text_at(path, &value);
                if found.is_empty() {
                    let text = format!("the answer has no text at `{path}`").into();
                    self.verdict.get_or_insert((Outcome::Invalid, text));
                } else {
                    self.known.mark(at);
                    self.keep(&found);
                }
            }
            None => match shape::content(&value) {
                Content::Text(text) => {
                    self.known.mark(at);
                    self.keep(text);
                }
                Content::Unknown => self.unknown.mark(at),
                Content::Nothing => {}
            },
        }
    }
}

fn body(limit: usize) -> Mode {
    Mode::Body { bytes: BytesMut::new(), limit }
}

/// How to read a good answer, or why its content type cannot be right.
fn mode(format: Format, kind: &str) -> Result<Mode, Arc<str>> {
    let sse = || Mode::Sse(sse::Splitter::new());
    let ndjson = || Mode::Ndjson(ndjson::Splitter::new());
    Ok(match format {
        Format::Json => body(CAP),
        Format::Ndjson => ndjson(),
        Format::Sse if matches!(kind, "application/json" | "text/html") => {
            return Err(format!("an event stream was expected, not {kind}").into());
        }
        Format::Sse => sse(),
        Format::Text => Mode::Text { tail: Vec::new(), sniff: false },
        Format::Auto => match kind {
            "text/event-stream" => sse(),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines"
            | "application/stream+json" => ndjson(),
            _ if kind == "application/json" || kind.ends_with("+json") => body(CAP),
            _ => Mode::Text { tail: Vec::new(), sniff: true },
        },
    })
}

fn is_end_text(answer: &Answer, data: &[u8]) -> bool {
    matches!(&answer.end, Some(EndMark::Text(mark)) if data == mark.as_bytes())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;

//! Recorded exchanges: what an app asks and what its provider answers, as text.

use std::fs;

use brownout::dialect::{self, Dialect};
use brownout::exchange::{Event, Facts};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::folder;

/// A request and its answer. A file has, one after another: comments (`# kind: openai` names the
/// dialect, `# crlf` makes the answer's lines end as Google's do, `# eventstream` frames each of them, its
/// first word being the event's type, as Amazon does), the request's line, its headers,
/// an empty line, its body in one line, an empty line, the answer's status and headers, an empty
/// line, and its body.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) request: HeaderMap,
    pub(super) asked: Bytes,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Recording {
    pub(super) fn all() -> Vec<Self> {
        let mut files: Vec<_> =
            fs::read_dir(folder("recordings")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let read = |file: &std::path::PathBuf| {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let text = fs::read_to_string(file).unwrap();
            Self::read(name, &text).unwrap_or_else(|| panic!("{name} is no recording"))
        };
        files.iter().map(read).collect()
    }

    fn read(name: &str, text: &str) -> Option<Self> {
        let comments: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let comment = |wanted: &str| {
            comments
                .iter()
                .find_map(|line| line.trim_start_matches('#').trim().strip_prefix(wanted))
        };
        let length: usize = comments.iter().map(|line| line.len() + 1).sum();
        let mut parts = text[length..].splitn(4, "\n\n");
        let (asking, asked, answering, body) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (line, request) = head(asking)?;
        let (method, path) = line.split_once(' ')?;
        let (status, headers) = head(answering)?;
        let streamed = headers.get("content-type").is_some_and(|it| it != "application/json");
        let body = if streamed { body } else { body.trim_end() };
        let body = match (comment("crlf"), comment("eventstream")) {
            (Some(_), _) => body.replace('\n', "\r\n").into(),
            (None, Some(_)) => frames(body)?,
            (None, None) => Bytes::copy_from_slice(body.as_bytes()),
        };
        Some(Self {
            name: name.to_owned(),
            kind: comment("kind:")?.trim().to_owned(),
            method: method.parse().ok()?,
            path: path.to_owned(),
            request,
            asked: Bytes::copy_from_slice(asked.as_bytes()),
            status: status.parse().ok()?,
            headers,
            body,
        })
    }

    pub(super) fn dialect(&self) -> &'static dyn Dialect {
        dialect::by_kind(&self.kind).unwrap_or_else(|| panic!("there is no kind `{}`", self.kind))
    }

    pub(super) fn facts(&self) -> Facts {
        let uri: Uri = self.path.parse().unwrap();
        self.dialect().facts(&self.method, &uri, &self.request, &self.asked)
    }

    pub(super) fn content_type(&self) -> Option<&str> {
        self.headers.get("content-type")?.to_str().ok()
    }
}

/// Lines of a type and a payload, framed.
fn frames(lines: &str) -> Option<Bytes> {
    let mut framed = Vec::new();
    for line in lines.lines() {
        let (kind, payload) = line.split_once(' ')?;
        let headers = [
            (":event-type", kind),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ];
        framed.extend_from_slice(&Event::eventstream(&headers, payload).raw);
    }
    Some(framed.into())
}

fn head(text: &str) -> Option<(&str, HeaderMap)> {
    let mut lines = text.lines();
    let first = lines.next()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name: HeaderName = name.parse().ok()?;
        headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    Some((first, headers))
}

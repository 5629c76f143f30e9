//! Puts another payload into a server-sent event and leaves all else of it as it came: the order
//! of its lines, comments, `id:` and `retry:`, line ends, the space behind a colon.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr2;

const BOM: &[u8] = b"\xEF\xBB\xBF";
const FIELD: &[u8] = b"data";

/// The event in `raw` with other data; `had` is what its reader found.
pub(super) fn sse(raw: &[u8], had: &[u8], data: &[u8]) -> Bytes {
    let (mut skipped, mut lines) = (0, lines_from(raw, 0));
    // A byte order mark is no part of the first line, but only at the start of a stream.
    if raw.starts_with(BOM) && payload_of(raw, &lines) != had {
        skipped = BOM.len();
        lines = lines_from(raw, skipped);
    }
    let payload: Vec<&Line> = lines.iter().filter(|line| line.prefix.is_some()).collect();
    let mut new = data.split(|byte| *byte == b'\n');
    let mut out = Vec::with_capacity(raw.len() + data.len());
    out.extend_from_slice(&raw[..skipped]);
    let Some(last) = payload.last() else {
        let blank = lines.iter().find(|line| line.text.is_empty());
        let at = blank.map_or(raw.len(), |line| line.text.start);
        let end = blank.map_or(&b"\n"[..], |line| &raw[line.end.clone()]);
        out.extend_from_slice(&raw[skipped..at]);
        new.for_each(|line| put(&mut out, b"data: ", line, end));
        out.extend_from_slice(&raw[at..]);
        return out.into();
    };
    for line in &lines {
        let end = &raw[line.end.clone()];
        let Some(prefix) = &line.prefix else {
            out.extend_from_slice(&raw[line.text.start..line.end.end]);
            continue;
        };
        // What has more lines than the event had goes to where the last one stood.
        let most = if line.text == last.text { usize::MAX } else { 1 };
        let mut gone = true;
        for text in new.by_ref().take(most) {
            put(&mut out, &raw[prefix.clone()], text, end);
            gone = false;
        }
        if gone {
            end_with(&mut out, end);
        }
    }
    out.into()
}

/// Ends the line before one that is gone as that one ended: else a CR and an LF that were apart
/// could become one line end, or two ends of lines the end of the event.
fn end_with(out: &mut Vec<u8>, end: &[u8]) {
    let ends = [&b"\r\n"[..], b"\n", b"\r"];
    let length = ends.into_iter().find(|end| out.ends_with(end)).map_or(0, <[u8]>::len);
    out.truncate(out.len() - length);
    out.extend_from_slice(end);
}

struct Line {
    text: Range<usize>,
    /// LF, CRLF or CR.
    end: Range<usize>,
    /// `data:` with or without a blank; None for other fields.
    prefix: Option<Range<usize>>,
}

fn payload_of(raw: &[u8], lines: &[Line]) -> Vec<u8> {
    let texts =
        lines.iter().filter_map(|line| Some(&raw[line.prefix.as_ref()?.end..line.text.end]));
    texts.collect::<Vec<_>>().join(&b'\n')
}

fn lines_from(raw: &[u8], start: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut at = start;
    while at < raw.len() {
        let end = memchr2(b'\n', b'\r', &raw[at..]).map_or(raw.len(), |found| at + found);
        let ending = match &raw[end..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        let prefix = raw[at..end].strip_prefix(FIELD).and_then(|rest| match rest {
            [] => Some(FIELD.len()),
            [b':', b' ', ..] => Some(FIELD.len() + 2),
            [b':', ..] => Some(FIELD.len() + 1),
            _ => None,
        });
        lines.push(Line {
            text: at..end,
            end: end..end + ending,
            prefix: prefix.map(|length| at..at + length),
        });
        at = end + ending;
    }
    lines
}

/// A line of data; where its text would be read otherwise, with the usual prefix.
fn put(out: &mut Vec<u8>, prefix: &[u8], text: &[u8], end: &[u8]) {
    let read_otherwise = match prefix.last() {
        Some(b' ') => false,
        Some(b':') => text.starts_with(b" "),
        _ => !text.is_empty(),
    };
    out.extend_from_slice(if read_otherwise { b"data: " } else { prefix });
    out.extend_from_slice(text);
    out.extend_from_slice(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_into(raw: &str, had: &str, data: &str) -> String {
        let raw = sse(raw.as_bytes(), had.as_bytes(), data.as_bytes());
        String::from_utf8(raw.to_vec()).unwrap()
    }

    #[test]
    fn only_the_payload_changes() {
        for (raw, data, changed) in [
            ("data: a\n\n", "b", "data: b\n\n"),
            ("data:a\r\n\r\n", "b", "data:b\r\n\r\n"),
            ("event: e\ndata: a\n\n", "b", "event: e\ndata: b\n\n"),
            ("data: a\nevent: e\n\n", "b", "data: b\nevent: e\n\n"),
            ("id: 1\r: c\rdata:a\rretry: 5\r\r", "b", "id: 1\r: c\rdata:b\rretry: 5\r\r"),
            ("\u{feff}data: a\n\n", "b", "\u{feff}data: b\n\n"),
            ("data:a\n\n", " b", "data:  b\n\n"),
            ("data\n\n", "b", "data: b\n\n"),
            ("data: a\nid: 1\ndata: b\n\n", "c", "data: c\nid: 1\n\n"),
            ("data: a\r\nid: 1\r\n\r\n", "b\nc", "data: b\r\ndata: c\r\nid: 1\r\n\r\n"),
            ("data: a\rdata: b\n\r\n", "c", "data: c\n\r\n"),
            ("data: a\ndata: b\nid: 1\rdata: c\n\n", "d", "data: d\nid: 1\n\n"),
            ("event: e\r\n\r\n", "b", "event: e\r\ndata: b\r\n\r\n"),
            ("database: x\ndata: a\n\n", "b", "database: x\ndata: b\n\n"),
        ] {
            assert_eq!(put_into(raw, "a", data), changed, "{raw:?}");
        }
        assert_eq!(
            put_into("\u{feff}data: x\ndata: a\n\n", "a", "b"),
            "\u{feff}data: x\ndata: b\n\n"
        );
    }
}

//! Where things stand: texts that an experiment comes from, and places in them.

use std::sync::Arc;

/// A stretch of one of the [`Sources`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    /// Which text.
    pub(super) source: u16,
    /// From 1.
    pub(super) line: u32,
    /// From 1, in characters.
    pub(super) column: u32,
    /// Where it begins in the text, in bytes.
    pub(super) start: u32,
    /// How long it is, in bytes.
    pub(super) len: u32,
}

/// What kind of text a source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SourceKind {
    /// The experiment file or an embedded profile.
    File,
    /// A `--set` on the command line: it has no lines.
    Setting,
}

/// A text that parts of the experiment come from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) text: Arc<str>,
    pub(super) kind: SourceKind,
}

/// All texts of one experiment; the file itself is the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    list: Vec<Source>,
}

impl Sources {
    pub(super) fn add(&mut self, name: &str, text: &str, kind: SourceKind) -> u16 {
        self.list.push(Source { name: name.into(), text: text.into(), kind });
        u16::try_from(self.list.len() - 1).unwrap_or(u16::MAX)
    }

    pub(super) fn get(&self, place: Place) -> Option<&Source> {
        self.list.get(usize::from(place.source))
    }

    /// What stands at a place, as written.
    pub(super) fn slice(&self, place: Place) -> &str {
        let (start, end) = (place.start as usize, (place.start + place.len) as usize);
        self.get(place).and_then(|source| source.text.get(start..end)).unwrap_or("")
    }

    /// The text of the place's whole line, without its line break.
    pub(super) fn line(&self, place: Place) -> &str {
        let Some(source) = self.get(place) else { return "" };
        let start = (place.start as usize).min(source.text.len());
        let Some(before) = source.text.get(..start) else { return "" };
        let from = before.rfind('\n').map_or(0, |found| found + 1);
        let rest = &source.text[from..];
        rest[..rest.find('\n').unwrap_or(rest.len())].trim_end_matches('\r')
    }

    /// A part of a place: `at` and `len` in bytes from its beginning. The whole place when the
    /// part leaves its first line.
    pub(super) fn within(&self, place: Place, at: usize, len: usize) -> Place {
        let text = self.slice(place);
        let Some(before) = text.get(..at) else { return place };
        if before.contains('\n') {
            return place;
        }
        Place {
            column: place.column + before.chars().count() as u32,
            start: place.start + at as u32,
            len: len.min(text.len() - at).max(1) as u32,
            ..place
        }
    }

    /// The place of a line and a column in a source, one character long.
    pub(super) fn at_line(&self, source: u16, line: u32, column: u32) -> Place {
        let text = self.list.get(usize::from(source)).map_or("", |source| &*source.text);
        let mut rest = text;
        for _ in 1..line {
            match rest.find('\n') {
                Some(at) => rest = &rest[at + 1..],
                None => break,
            }
        }
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let skipped: usize =
            line.chars().take(column.saturating_sub(1) as usize).map(char::len_utf8).sum();
        self.at_offset(source, text.len() - rest.len() + skipped)
    }

    /// The place of a byte offset in a source, one character long.
    pub(super) fn at_offset(&self, source: u16, offset: usize) -> Place {
        let text = self.list.get(usize::from(source)).map_or("", |source| &*source.text);
        let mut start = offset.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |found| found + 1);
        Place {
            source,
            line: before.matches('\n').count() as u32 + 1,
            column: before[line_start..].chars().count() as u32 + 1,
            start: start as u32,
            len: 1,
        }
    }
}

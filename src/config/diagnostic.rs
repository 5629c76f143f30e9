//! Mistakes in an experiment: where, why, and what to write instead.
//!
//! Snippets show the file as written, so nothing from the environment can appear in them.

use std::fmt::{self, Write as _};

use super::place::{Place, SourceKind, Sources};

/// Whether a mistake stops the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Error,
    Warning,
}

/// One mistake, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// None when it belongs to no place in a text.
    pub spot: Option<Spot>,
    /// Stands beside the underline.
    pub label: Option<String>,
    pub hints: Vec<String>,
}

/// A place in a text, with what stands there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spot {
    /// The file's name, or the `--set` of the command line.
    pub source: String,
    /// From 1; 0 for a `--set`, which has no lines.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// In characters, at least 1.
    pub len: u32,
    /// The whole line.
    pub text: String,
}

/// All that is wrong with a file, errors first, in the file's order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diagnostics {
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// The mistakes that stop a run.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|one| one.severity == Severity::Error)
    }

    /// The mistakes that do not.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|one| one.severity == Severity::Warning)
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, one) in self.list.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            one.fmt(f)?;
        }
        Ok(())
    }
}

/// The longest part of a line that a snippet shows.
const WIDEST: usize = 110;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{kind}: {}", clean(&self.message))?;
        let margin = self.spot.as_ref().map_or(1, |spot| spot.line.to_string().len());
        if let Some(spot) = &self.spot {
            write_spot(f, spot, self.label.as_deref(), margin)?;
        } else if let Some(label) = &self.label {
            writeln!(f, "{:margin$} = {}", "", clean(label))?;
        }
        for hint in &self.hints {
            writeln!(f, "{:margin$} = {}", "", clean(hint))?;
        }
        Ok(())
    }
}

fn write_spot(
    f: &mut fmt::Formatter<'_>,
    spot: &Spot,
    label: Option<&str>,
    margin: usize,
) -> fmt::Result {
    let label = label.map(clean).unwrap_or_default();
    if spot.line == 0 {
        writeln!(f, "{:margin$} ┌ {}", "", clean(&spot.source))?;
        if !label.is_empty() {
            writeln!(f, "{:margin$} = {label}", "")?;
        }
        return Ok(());
    }
    writeln!(f, "{:margin$} ┌ {}:{}:{}", "", clean(&spot.source), spot.line, spot.column)?;
    // A very long line is shown around its mistake.
    let column = spot.column.saturating_sub(1) as usize;
    let skip = if column + 20 > WIDEST { column - WIDEST / 2 } else { 0 };
    let shown: String =
        spot.text.chars().skip(skip).take(WIDEST).map(|c| if c < ' ' { ' ' } else { c }).collect();
    let room = shown.chars().count().saturating_sub(column - skip).max(1);
    let marks = (spot.len as usize).clamp(1, room);
    writeln!(f, "{:margin$}│ {shown}", spot.line)?;
    let mut under = format!("{:margin$}│ {:indent$}", "", "", indent = column - skip);
    under.extend(std::iter::repeat_n('^', marks));
    if !label.is_empty() {
        let _ = write!(under, " {label}");
    }
    writeln!(f, "{}", under.trim_end())
}

/// Control characters could move a terminal's cursor; they are shown as escapes.
fn clean(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// A mistake on its way to its reader.
#[derive(Clone, Debug)]
pub(super) struct Mistake {
    pub(super) place: Option<Place>,
    pub(super) message: String,
    pub(super) label: Option<String>,
    pub(super) hints: Vec<String>,
}

impl Mistake {
    pub(super) fn at(place: Place, message: impl Into<String>) -> Self {
        Self { place: Some(place), message: message.into(), label: None, hints: Vec::new() }
    }

    pub(super) fn nowhere(message: impl Into<String>) -> Self {
        Self { place: None, message: message.into(), label: None, hints: Vec::new() }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says what the reader may have meant, and what there is.
    pub(super) fn meant<'a>(
        mut self,
        word: &str,
        what: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        if let Some(best) = nearest(word, known.iter().copied()) {
            self.label = Some(format!("did you mean `{best}`?"));
        }
        if !known.is_empty() {
            self.hints.push(format!("{what}: {}", known.join(", ")));
        }
        self
    }
}

/// The known word that looks most like this one, when one does.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| {
            let plain = candidate.to_lowercase().replace('-', "_");
            let distance = strsim::damerau_levenshtein(&word, &plain);
            let begins = word.len() >= 3 && (plain.starts_with(&word) || word.starts_with(&plain));
            (if begins { distance.min(2) } else { distance }, plain.len(), candidate)
        })
        .filter(|(distance, len, _)| {
            let longest = word.len().max(*len);
            *distance <= (longest / 3).max(1) && *distance < longest
        })
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}

/// More mistakes than a reader wants to see at once.
const MOST: usize = 40;

/// Collects the mistakes of one file.
#[derive(Debug, Default)]
pub(super) struct Collector {
    list: Vec<(Severity, Mistake)>,
}

impl Collector {
    pub(super) fn error(&mut self, mistake: Mistake) {
        self.push(Severity::Error, mistake);
    }

    pub(super) fn warn(&mut self, mistake: Mistake) {
        self.push(Severity::Warning, mistake);
    }

    fn push(&mut self, severity: Severity, mistake: Mistake) {
        let known = |(_, other): &(Severity, Mistake)| {
            other.place == mistake.place && other.message == mistake.message
        };
        if !self.list.iter().any(known) {
            self.list.push((severity, mistake));
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|(severity, _)| *severity == Severity::Error)
    }

    /// Whether a mistake was found within these bytes of a source, of which `which` holds.
    pub(super) fn any_within(
        &self,
        source: u16,
        bytes: (u32, u32),
        which: impl Fn(&Mistake) -> bool,
    ) -> bool {
        self.list.iter().any(|(_, mistake)| {
            mistake.place.is_some_and(|place| {
                place.source == source && (bytes.0..=bytes.1).contains(&place.start)
            }) && which(mistake)
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MOST
    }

    /// Drops what `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl Fn(&Mistake) -> bool) {
        self.list.retain(|(_, mistake)| keep(mistake));
    }

    pub(super) fn append(&mut self, other: Self) {
        for (severity, mistake) in other.list {
            self.push(severity, mistake);
        }
    }

    /// The diagnostics, errors first, each kind in the file's order. `mask` hides what a snippet
    /// must not show.
    pub(super) fn finish(
        mut self,
        sources: &Sources,
        mask: &dyn Fn(Place, &str) -> String,
    ) -> Diagnostics {
        self.list.sort_by_key(|(severity, mistake)| {
            let place = mistake.place.unwrap_or_default();
            (*severity == Severity::Warning, place.source, place.line, place.column)
        });
        let left_out = self.list.len().saturating_sub(MOST);
        let mut list: Vec<Diagnostic> = self
            .list
            .into_iter()
            .take(MOST)
            .map(|(severity, mistake)| Diagnostic {
                severity,
                spot: mistake.place.and_then(|place| spot(place, sources, mask)),
                message: mistake.message,
                label: mistake.label,
                hints: mistake.hints,
            })
            .collect();
        if left_out > 0
            && let Some(last) = list.last_mut()
        {
            last.hints.push(format!("{left_out} more mistakes are not shown"));
        }
        Diagnostics { list }
    }
}

fn spot(place: Place, sources: &Sources, mask: &dyn Fn(Place, &str) -> String) -> Option<Spot> {
    let source = sources.get(place)?;
    let setting = source.kind == SourceKind::Setting;
    let written = sources.slice(place);
    let first = written.lines().next().unwrap_or("").trim_end();
    Some(Spot {
        source: source.name.to_string(),
        line: if setting { 0 } else { place.line },
        column: if setting { 0 } else { place.column },
        len: (first.chars().count() as u32).max(1),
        text: mask(place, sources.line(place)),
    })
}

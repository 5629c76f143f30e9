//! Tables as data: what a template needs to write a `<table>` with caption, scopes and titles.

use crate::measure::record::Verdict;
use crate::report::{digest, numbers, text};

/// A table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) head: Vec<Head>,
    pub(super) rows: Vec<Row>,
    /// A sentence beneath it.
    pub(super) note: String,
    /// What stands in place of a table without rows.
    pub(super) empty: &'static str,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) text: &'static str,
    pub(super) class: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) cells: Vec<Cell>,
}

/// A cell; the template escapes all of it.
#[derive(Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) class: &'static str,
    pub(super) title: String,
    pub(super) code: bool,
    /// Names its row.
    pub(super) header: bool,
    /// Where it leads, within the page.
    pub(super) href: String,
    /// Read aloud in place of a sign.
    pub(super) spoken: &'static str,
}

impl Table {
    /// A table with these columns; a name that begins with `#` heads numbers.
    pub(super) fn new(caption: &str, head: &[&'static str], empty: &'static str) -> Self {
        let head = head
            .iter()
            .map(|name| match name.strip_prefix('#') {
                Some(name) => Head { text: name, class: "n" },
                None => Head { text: name, class: "" },
            })
            .collect();
        Self { caption: caption.into(), head, empty, ..Self::default() }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(Row { class: "", cells });
    }

    pub(super) fn marked_row(&mut self, class: &'static str, cells: Vec<Cell>) {
        self.rows.push(Row { class, cells });
    }
}

impl Cell {
    /// Foreign text.
    pub(super) fn text(foreign: &str) -> Self {
        Self { text: text::line(foreign, 400), ..Self::default() }
    }

    /// What the row is about.
    pub(super) fn header(foreign: &str) -> Self {
        Self { header: true, ..Self::text(foreign) }
    }

    pub(super) fn code(foreign: &str) -> Self {
        Self { code: true, ..Self::text(foreign) }
    }

    pub(super) fn number(text: String) -> Self {
        Self { text, class: "n", ..Self::default() }
    }

    pub(super) fn count(value: u64) -> Self {
        Self::number(numbers::count(value))
    }

    /// A number that may be missing, with its samples as title.
    pub(super) fn measured(value: Option<f64>, format: fn(f64) -> String, samples: u64) -> Self {
        let title = match value {
            Some(_) => format!("n = {}", numbers::count(samples)),
            None if samples == 0 => "no samples".into(),
            None => format!("too few samples for this: n = {}", numbers::count(samples)),
        };
        Self { title, ..Self::number(numbers::or_dash(value, format)) }
    }

    pub(super) fn mark(verdict: Verdict, warns: bool) -> Self {
        let class = if warns { "mark warn" } else { state(verdict) };
        let spoken = if warns { "WARNING" } else { digest::word(verdict) };
        Self { text: digest::mark(verdict).into(), class, spoken, ..Self::default() }
    }

    pub(super) fn classed(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    pub(super) fn titled(mut self, title: String) -> Self {
        self.title = title;
        self
    }

    pub(super) fn linked(mut self, href: String) -> Self {
        self.href = href;
        self
    }
}

/// The class of a verdict's sign.
fn state(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aborted => "mark aborted",
        Verdict::Fail => "mark fail",
        Verdict::Inconclusive => "mark inconclusive",
        Verdict::Pass => "mark pass",
    }
}

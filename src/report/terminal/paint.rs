//! Colours and the ASCII alphabet of the summary.

use anstyle::{AnsiColor, Style as Ansi};

use crate::measure::record::Verdict;

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Bad,
    Bold,
    Dim,
    Good,
    Warn,
}

impl Role {
    pub(super) fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Aborted | Verdict::Fail => Self::Bad,
            Verdict::Inconclusive => Self::Warn,
            Verdict::Pass => Self::Good,
        }
    }

    fn style(self) -> Ansi {
        match self {
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Bold => Ansi::new().bold(),
            Self::Dim => Ansi::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default().bold(),
            Self::Warn => AnsiColor::Yellow.on_default().bold(),
        }
    }
}

/// Writes pieces of text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pen {
    pub(super) color: bool,
    pub(super) ascii: bool,
}

impl Pen {
    pub(super) fn paint(self, role: Role, text: &str) -> String {
        let text = self.plain(text);
        if !self.color || text.trim().is_empty() {
            return text;
        }
        let style = role.style();
        format!("{style}{text}{style:#}")
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint(Role::Bold, text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint(Role::Dim, text)
    }

    /// No colour; one ASCII character for each other one where only ASCII may be used.
    pub(super) fn plain(self, text: &str) -> String {
        if !self.ascii {
            return text.into();
        }
        text.chars().map(ascii).collect()
    }
}

fn ascii(c: char) -> char {
    match c {
        // Escapes are the pen's own: foreign text has none left.
        '\x1b' | '\n' | ' '..='~' => c,
        '✓' => '+',
        '✗' | '×' => 'x',
        '■' | '█' => '#',
        '–' | '—' | '─' => '-',
        '│' => '|',
        '·' => '.',
        '…' => '~',
        '→' => '>',
        '←' => '<',
        '≥' => '>',
        '≤' => '<',
        '▁' => '_',
        '▂' => '.',
        '▃' => '-',
        '▄' => ':',
        '▅' => '=',
        '▆' => '+',
        '▇' => '*',
        '“' | '”' => '"',
        '‘' | '’' => '\'',
        _ => '?',
    }
}

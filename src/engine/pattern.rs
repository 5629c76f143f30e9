//! What a text must look like: a glob, or a regular expression whose cost has an end.

mod glob;

use globset::GlobBuilder;
use regex::bytes::{Regex, RegexBuilder};

pub use self::glob::Glob;

/// How much of a text is searched, in bytes.
const SEARCHED: usize = 64 * 1024;
/// The longest pattern, in bytes.
const LONGEST: usize = 1000;
/// The largest program that a regular expression may become, in bytes: a search takes at most as
/// many steps as the text has bytes, times what this holds.
const LARGEST: usize = 64 * 1024;
/// Brackets within brackets.
const DEEPEST: u32 = 20;

/// What a text must look like.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// The whole text; `*` stands for anything, slashes included.
    Glob(Glob),
    /// Any part of the text.
    Regex(Regex),
}

/// Why a text is no pattern, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    pub reason: String,
    pub form: &'static str,
}

impl Pattern {
    /// Reads a glob.
    pub fn glob(text: &str) -> Result<Self, BadPattern> {
        let form = "`*` stands for anything, `?` for one character";
        if text.len() > LONGEST {
            return Err(BadPattern { reason: too_long(text), form });
        }
        let glob = GlobBuilder::new(text).literal_separator(false).build();
        glob.map(|glob| Self::Glob(glob.compile_matcher().into()))
            .map_err(|error| BadPattern { reason: error.kind().to_string(), form })
    }

    /// Reads a regular expression.
    pub fn regex(text: &str) -> Result<Self, BadPattern> {
        if text.len() > LONGEST {
            let form = "write several faults, or a shorter one";
            return Err(BadPattern { reason: too_long(text), form });
        }
        let built = RegexBuilder::new(text)
            .size_limit(LARGEST)
            .dfa_size_limit(16 * LARGEST)
            .nest_limit(DEEPEST)
            .build();
        built.map(Self::Regex).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => BadPattern {
                reason: "it would cost too much on each request".to_owned(),
                form: "repeat less, such as {1,20}, and say [a-z0-9] rather than \\w",
            },
            error => BadPattern {
                reason: plain(&error.to_string()),
                form: "the syntax is that of Rust's regex crate: no look-around, no back-references",
            },
        })
    }

    /// Whether a text looks so, as far as it is searched.
    pub fn fits(&self, text: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(text),
            Self::Regex(regex) => regex.is_match(&text.as_bytes()[..text.len().min(SEARCHED)]),
        }
    }

    /// The same of bytes that are probably text.
    pub fn fits_bytes(&self, bytes: &[u8]) -> bool {
        let bytes = &bytes[..bytes.len().min(SEARCHED)];
        match self {
            Self::Glob(glob) => glob.is_match(&String::from_utf8_lossy(bytes)),
            Self::Regex(regex) => regex.is_match(bytes),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Glob(glob) => f.write_str(glob.text()),
            Self::Regex(regex) => write!(f, "like /{regex}/"),
        }
    }
}

fn too_long(text: &str) -> String {
    format!("it has {} bytes, and {LONGEST} are allowed", text.len())
}

/// The last line of what the parser says, which names the reason.
fn plain(error: &str) -> String {
    let last = error.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("it cannot be read").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn globs_fit_as_a_whole_and_expressions_anywhere() {
        let glob = Pattern::glob("/v1/*").unwrap();
        assert!(glob.fits("/v1/chat/completions") && !glob.fits("/x/v1/chat"));
        let regex = Pattern::regex("v[12]/(chat|embed)").unwrap();
        assert!(
            regex.fits("/v2/embeddings")
                && regex.fits_bytes(b"\xff/v1/chat")
                && !regex.fits("/v3/chat")
        );
        assert!(Pattern::regex(r"(?i)\bgold\b").unwrap().fits("tier: GOLD"));
        assert!(Pattern::regex(r"\d{3}-\d{4}").unwrap().fits("call 555-1234"));
    }

    #[test]
    fn hostile_expressions_are_refused_when_they_are_read() {
        let hostile = [
            r"(\w{1,100}){1,100}",
            r"((((a{1,50}){1,50}){1,50}){1,50})",
            r".{0,100000}x",
            r"(a|b|c|d){9999}",
            r"\pL{500}",
        ];
        for text in hostile {
            let bad = Pattern::regex(text).unwrap_err();
            assert!(bad.reason.contains("cost too much"), "{text}: {bad:?}");
        }
        let deep = "(".repeat(400) + "a" + &")".repeat(400);
        assert!(Pattern::regex(&deep).is_err() && Pattern::regex(&"a".repeat(1001)).is_err());
        let bad = Pattern::regex(r"(?=x)").unwrap_err();
        assert!(bad.form.contains("no look-around"), "{bad:?}");
        assert!(Pattern::regex("a(").unwrap_err().reason.contains("unclosed"));
    }

    #[test]
    fn the_dearest_expression_ends_soon() {
        // The classic traps of backtracking, on the text that trips them.
        let text = "a".repeat(10 * SEARCHED);
        for trap in ["(a+)+$", "(a|aa)+b", "(.*)(.*)(.*)b", "(x+x+)+y", "a{0,200}a{0,200}b"] {
            let pattern = Pattern::regex(trap).unwrap();
            let begun = Instant::now();
            pattern.fits(&text);
            assert!(begun.elapsed() < Duration::from_secs(5), "{trap}: {:?}", begun.elapsed());
        }
    }
}

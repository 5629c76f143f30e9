//! JSON text that breaks its schema as it passes, piece by piece. What is kept back is a key and the
//! comma before it until the key is whole, 256 bytes at most; nothing else.

mod how;
mod key;

use serde_json::Value;

pub(super) use self::how::{How, Told};
pub(super) use self::key::Key;
use self::key::renamed;
use super::answer::Rewrite;

/// Keys longer than this are not looked at.
const KEY: usize = 256;
/// Objects and arrays in one another, as deep as this.
const DEPTH: usize = 128;
/// The name of a key that nobody asked for.
const EXTRA: &str = "additional_info";
const PREAMBLE: &str = "Here is the JSON you asked for:\n\n";
const PROSE: &str =
    "I looked into this for you, but the result does not fit the format that you asked for.";
/// A member of no list.
const UNLISTED: &str = "unlisted_value";

/// A JSON text on its way.
#[derive(Debug)]
pub(super) struct Breach {
    how: How,
    key: Key,
    at: At,
    stack: Vec<Level>,
    /// Kept back until the key is whole.
    held: Option<String>,
    /// The key as far as it has been read.
    name: String,
    escaped: bool,
    /// What is to be done with the value that comes next.
    pending: bool,
    /// Dropped until the value at this depth is over.
    muted: Option<usize>,
    /// A quote is put behind the value at this depth.
    quoted: Option<usize>,
    /// Characters that still pass before the text is cut off.
    left: Option<usize>,
    /// All the rest is dropped.
    cut: bool,
    eat_comma: bool,
    fenced: bool,
    /// Words of prose that are still to be said.
    prose: Vec<&'static str>,
    pub(super) told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Before the JSON.
    Start,
    Colon,
    /// Behind a value.
    Comma,
    Key,
    /// A key, or the end of the object.
    KeyOrEnd,
    /// Whatever comes passes.
    Over,
    String,
    /// A value, or the end of the array.
    Value,
    Word,
}

/// An object or array that is open.
#[derive(Debug)]
struct Level {
    object: bool,
    members: usize,
    key: String,
}

impl Breach {
    pub(super) fn new(how: How, key: Key) -> Self {
        Self {
            how,
            key,
            at: At::Start,
            stack: Vec::new(),
            held: None,
            name: String::new(),
            escaped: false,
            pending: false,
            muted: None,
            quoted: None,
            left: None,
            cut: false,
            eat_comma: false,
            fenced: false,
            prose: Vec::new(),
            told: Told::Nothing,
        }
    }

    fn step(&mut self, c: char, out: &mut String) {
        let space = matches!(c, ' ' | '\t' | '\n' | '\r');
        match self.at {
            At::Start => self.start(c, space, out),
            At::Over => self.put(c, out),
            _ if self.cut => {}
            At::Key => self.in_key(c, out),
            At::String => {
                self.put(c, out);
                match c {
                    _ if self.escaped => self.escaped = false,
                    '\\' => self.escaped = true,
                    '"' => self.value_over(out),
                    _ => {}
                }
            }
            At::Word if space || matches!(c, ',' | '}' | ']') => {
                self.value_over(out);
                self.step(c, out);
            }
            At::Word => self.put(c, out),
            _ if space => self.put(c, out),
            At::KeyOrEnd => match c {
                '"' => {
                    self.name.clear();
                    self.at = At::Key;
                    self.add_extra(",", out);
                    self.put(c, out);
                }
                '}' => {
                    self.add_extra("", out);
                    self.end_level(c, out);
                }
                _ => self.lose(c, out),
            },
            At::Colon if c == ':' => {
                self.at = At::Value;
                self.put(c, out);
            }
            At::Value => self.value(c, out),
            At::Comma => self.behind_value(c, out),
            At::Colon => self.lose(c, out),
        }
    }

    fn put(&mut self, c: char, out: &mut String) {
        if self.cut || self.muted.is_some() {
            return;
        }
        if let Some(held) = &mut self.held {
            held.push(c);
            return;
        }
        out.push(c);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.cut = true;
            }
        }
    }

    /// The text is not as JSON is: nothing more is done.
    fn lose(&mut self, c: char, out: &mut String) {
        if self.told == Told::Nothing {
            self.told = Told::Lost;
        }
        self.at = At::Over;
        self.muted = None;
        self.release(out);
        self.put(c, out);
    }

    fn release(&mut self, out: &mut String) {
        if let Some(held) = self.held.take()
            && !self.cut
        {
            out.push_str(&held);
        }
    }

    fn start(&mut self, c: char, space: bool, out: &mut String) {
        let fence = c == '`' || self.fenced;
        match c {
            '{' | '[' => {
                match self.how {
                    How::Fence if self.fenced => self.told = Told::Already,
                    How::Fence => self.break_with("```json\n", out),
                    How::Preamble => self.break_with(PREAMBLE, out),
                    How::NotJson => {
                        self.told = Told::Broken;
                        self.cut = true;
                        self.prose = PROSE.split_inclusive(' ').rev().collect();
                        self.at = At::Comma;
                        return;
                    }
                    _ => {}
                }
                self.at = At::Value;
                self.value(c, out);
            }
            _ if fence => {
                self.fenced = true;
                self.put(c, out);
            }
            _ if space => self.put(c, out),
            _ => {
                self.told = Told::NoJson;
                self.at = At::Over;
                self.put(c, out);
            }
        }
    }

    fn break_with(&mut self, words: &str, out: &mut String) {
        self.told = Told::Broken;
        out.push_str(words);
    }

    fn value(&mut self, c: char, out: &mut String) {
        if c == ']' && self.stack.last().is_some_and(|level| !level.object && level.members == 0) {
            return self.end_level(c, out);
        }
        if std::mem::take(&mut self.pending) {
            self.replace(c, out);
        }
        match c {
            '{' | '[' if self.stack.len() >= DEPTH => self.lose(c, out),
            '{' | '[' => {
                self.put(c, out);
                let object = c == '{';
                self.stack.push(Level { object, members: 0, key: String::new() });
                self.at = if object { At::KeyOrEnd } else { At::Value };
                self.held = object.then(String::new);
            }
            '"' => {
                self.put(c, out);
                self.escaped = false;
                self.at = At::String;
            }
            ',' | ':' | '}' | ']' => self.lose(c, out),
            _ => {
                self.put(c, out);
                self.at = At::Word;
            }
        }
    }

    /// Another value for the one that begins with this character.
    fn replace(&mut self, c: char, out: &mut String) {
        self.told = Told::Broken;
        let depth = self.stack.len();
        let new = match self.how {
            How::InvalidEnum => format!("\"{UNLISTED}\""),
            How::Null if c == 'n' => {
                self.told = Told::Already;
                return;
            }
            How::Null => "null".to_owned(),
            How::WrongType => match c {
                '"' => "0".to_owned(),
                '{' => "[]".to_owned(),
                '[' => "{}".to_owned(),
                _ => {
                    // A number, true, false or null becomes a text.
                    out.push('"');
                    self.quoted = Some(depth);
                    return;
                }
            },
            How::Truncated => {
                self.left = Some(if c == '"' { 3 } else { 1 });
                return;
            }
            _ => return,
        };
        out.push_str(&new);
        self.muted = Some(depth);
    }

    fn value_over(&mut self, out: &mut String) {
        let depth = self.stack.len();
        if self.muted == Some(depth) {
            self.muted = None;
        }
        if self.quoted == Some(depth) {
            self.quoted = None;
            out.push('"');
        }
        // Short values are cut off behind their last character.
        self.cut |= self.left.is_some();
        if let Some(level) = self.stack.last_mut() {
            level.members += 1;
        }
        self.at = if depth == 0 { At::Over } else { At::Comma };
    }

    fn behind_value(&mut self, c: char, out: &mut String) {
        let Some(level) = self.stack.last() else { return self.put(c, out) };
        let object = level.object;
        match c {
            ',' => {
                let shown = self.muted.is_none();
                if object && shown {
                    self.held = Some(String::new());
                }
                // It goes with the member before it, where that was the first.
                if !(shown && std::mem::take(&mut self.eat_comma)) {
                    self.put(c, out);
                }
                self.at = if object { At::KeyOrEnd } else { At::Value };
            }
            '}' if object => self.end_level(c, out),
            ']' if !object => self.end_level(c, out),
            _ => self.lose(c, out),
        }
    }

    fn end_level(&mut self, c: char, out: &mut String) {
        if self.muted.is_none() {
            self.eat_comma = false;
        }
        self.release(out);
        self.stack.pop();
        if self.stack.is_empty() && self.how == How::TrailingComma {
            self.break_with(",", out);
        }
        self.put(c, out);
        self.value_over(out);
    }

    fn in_key(&mut self, c: char, out: &mut String) {
        self.put(c, out);
        match c {
            _ if self.escaped => {
                self.escaped = false;
                self.name.push(c);
            }
            '\\' => {
                self.escaped = true;
                self.name.push(c);
            }
            '"' => {
                self.at = At::Colon;
                self.key_read(out);
                return;
            }
            _ => self.name.push(c),
        }
        if self.name.len() > KEY {
            self.release(out);
            // It cannot be the one that is meant.
            self.name.clear();
            self.name.push('\\');
        }
    }

    /// A key is whole: it goes on, with what was kept back, unless it is the one that is meant.
    fn key_read(&mut self, out: &mut String) {
        let name = std::mem::take(&mut self.name);
        if let Some(level) = self.stack.last_mut() {
            level.key.clone_from(&name);
        }
        let meant = self.muted.is_none()
            && self.held.is_some()
            && self.told == Told::Nothing
            && self.how.needs_key()
            && self.is_meant(&name);
        if !meant {
            return self.release(out);
        }
        match self.how {
            How::MissingKey => {
                self.told = Told::Broken;
                self.held = None;
                self.muted = Some(self.stack.len());
                self.eat_comma = self.stack.last().is_some_and(|level| level.members == 0);
            }
            How::RenamedKey => {
                self.told = Told::Broken;
                let held = self.held.take().unwrap_or_default();
                let before = held.len() - name.len() - 2;
                out.push_str(&held[..before]);
                out.push_str(&format!("\"{}\"", renamed(&name)));
            }
            _ => {
                self.pending = true;
                self.release(out);
            }
        }
    }

    fn is_meant(&self, name: &str) -> bool {
        match &self.key {
            Key::First => true,
            Key::Named(wanted) => wanted == name,
            Key::Path(steps) => {
                // The items of an array on top need not be named.
                let here: Vec<Option<&str>> = self
                    .stack
                    .iter()
                    .map(|level| level.object.then_some(level.key.as_str()))
                    .collect();
                let names = here.iter().flatten().copied();
                let wanted = steps.iter().map(|step| step.as_deref());
                here.iter().copied().eq(wanted.clone()) || names.eq(wanted.flatten())
            }
        }
    }

    /// Adds a key of our own before the first one of the first object.
    fn add_extra(&mut self, comma: &str, out: &mut String) {
        if self.how != How::ExtraKey || self.told != Told::Nothing || self.muted.is_some() {
            return;
        }
        let first = self.stack.last().is_some_and(|level| level.members == 0);
        if !first {
            return;
        }
        self.told = Told::Broken;
        let name = match &self.key {
            Key::Named(name) => name.as_str(),
            Key::First | Key::Path(_) => EXTRA,
        };
        let member = format!("{}:\"none\"{comma}", Value::from(name));
        match &mut self.held {
            Some(held) => held.push_str(&member),
            None => out.push_str(&member),
        }
    }
}

impl Rewrite for Breach {
    fn piece(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            self.step(c, &mut out);
        }
        out.extend(self.prose.pop());
        out
    }

    fn rest(&mut self) -> Vec<String> {
        let mut rest: Vec<String> =
            std::mem::take(&mut self.prose).into_iter().rev().map(str::to_owned).collect();
        let mut held = String::new();
        if self.muted.is_none() {
            self.release(&mut held);
        }
        if self.how == How::Fence
            && self.told == Told::Broken
            && self.at == At::Over
            && !self.fenced
        {
            held.push_str("\n```");
            self.fenced = true;
        }
        if !held.is_empty() {
            rest.push(held);
        }
        rest
    }
}

#[cfg(test)]
mod tests;

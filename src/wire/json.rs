//! Finds where values stand in a JSON document, by path, so that they can be changed while every
//! other byte stays as it came. It reads no values and builds no tree; what no path leads to is
//! stepped over without being checked.

mod edits;

use std::ops::Range;

use memchr::memchr2;

pub use self::edits::Edits;

/// How deep a path may lead; no answer of a provider is as deep.
const DEPTH: usize = 64;

/// Places in a document, by their paths: `choices[*].delta.content`. `[*]` is each item of an
/// array, `*` each key of an object, a path that begins with `[*]` is about an array on top.
#[derive(Debug)]
pub struct Paths<S> {
    root: Node<S>,
}

#[derive(Debug)]
struct Node<S> {
    here: Option<S>,
    keys: Vec<(&'static str, Self)>,
    any: Option<Box<Self>>,
    each: Option<Box<Self>>,
}

/// A value that a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot<S> {
    pub what: S,
    /// The value's bytes.
    pub span: Range<usize>,
    /// From its key's quote on, where it is a member of an object; else its own start.
    pub start: usize,
    /// The numbers of the array items that lead to it, outermost first.
    pub at: Vec<usize>,
}

impl<S> Spot<S> {
    /// The value's bytes.
    pub fn of<'d>(&self, document: &'d [u8]) -> &'d [u8] {
        &document[self.span.clone()]
    }

    /// The text of a value that is a string.
    pub fn text(&self, document: &[u8]) -> Option<String> {
        serde_json::from_slice(self.of(document)).ok()
    }
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self { here: None, keys: Vec::new(), any: None, each: None }
    }
}

impl<S: Copy> Paths<S> {
    /// The places that these paths lead to.
    pub fn new(paths: &[(&'static str, S)]) -> Self {
        let mut root = Node::default();
        for (path, what) in paths {
            root.enter(path).here = Some(*what);
        }
        Self { root }
    }

    /// The values that are there, in the document's order, an outer one before those in it. None
    /// where this is no JSON.
    pub fn find(&self, document: &[u8]) -> Option<Vec<Spot<S>>> {
        let mut scan = Scan { document, at: 0, items: Vec::new(), found: Vec::new() };
        scan.skip_space();
        let start = scan.at;
        scan.value(&self.root, start, 0)?;
        scan.skip_space();
        (scan.at == document.len()).then_some(scan.found)
    }
}

impl<S> Node<S> {
    fn enter(&mut self, path: &'static str) -> &mut Self {
        let mut node = self;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let name = part.split("[*]").next().unwrap_or_default();
            if name == "*" {
                node = node.any.get_or_insert_default();
            } else if !name.is_empty() {
                node = node.key(name);
            }
            for _ in 0..part.matches("[*]").count() {
                node = node.each.get_or_insert_default();
            }
        }
        node
    }

    fn key(&mut self, name: &'static str) -> &mut Self {
        let place = self.keys.iter().position(|(known, _)| *known == name);
        let place = place.unwrap_or_else(|| {
            self.keys.push((name, Self::default()));
            self.keys.len() - 1
        });
        &mut self.keys[place].1
    }

    fn child(&self, key: &[u8]) -> Option<&Self> {
        let named = self.keys.iter().find(|(known, _)| known.as_bytes() == key);
        named.map(|(_, node)| node).or(self.any.as_deref())
    }

    fn leads_into_object(&self) -> bool {
        !self.keys.is_empty() || self.any.is_some()
    }
}

/// The items of the array at `span`; None where there is none.
pub fn items(document: &[u8], span: Range<usize>) -> Option<Vec<Range<usize>>> {
    let document = document.get(..span.end)?;
    let mut scan = Scan::<()> { document, at: span.start, items: Vec::new(), found: Vec::new() };
    let mut found = Vec::new();
    scan.each(b'[', b']', |scan| {
        let start = scan.at;
        scan.skip_value()?;
        found.push(start..scan.at);
        Some(())
    })?;
    Some(found)
}

/// The members of the object at `span`: each key, with its quotes, and its value.
pub fn members(document: &[u8], span: Range<usize>) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let document = document.get(..span.end)?;
    let mut scan = Scan::<()> { document, at: span.start, items: Vec::new(), found: Vec::new() };
    let mut found = Vec::new();
    scan.each(b'{', b'}', |scan| {
        let start = scan.at;
        let key = start..scan.key()?.end + 1;
        let start = scan.at;
        scan.skip_value()?;
        found.push((key, start..scan.at));
        Some(())
    })?;
    Some(found)
}

struct Scan<'d, S> {
    document: &'d [u8],
    at: usize,
    /// The numbers of the array items around this place.
    items: Vec<usize>,
    found: Vec<Spot<S>>,
}

impl<S: Copy> Scan<'_, S> {
    /// Passes a value and notes what the paths below `node` lead to.
    fn value(&mut self, node: &Node<S>, start: usize, depth: usize) -> Option<()> {
        let noted = node.here.map(|what| {
            let span = self.at..self.at;
            self.found.push(Spot { what, span, start, at: self.items.clone() });
            self.found.len() - 1
        });
        match self.peek()? {
            b'{' if node.leads_into_object() && depth < DEPTH => self.object(node, depth)?,
            b'[' if depth < DEPTH => match &node.each {
                Some(each) => self.array(each, depth)?,
                None => self.skip_value()?,
            },
            _ => self.skip_value()?,
        }
        if let Some(noted) = noted {
            self.found[noted].span.end = self.at;
        }
        Some(())
    }

    fn object(&mut self, node: &Node<S>, depth: usize) -> Option<()> {
        self.each(b'{', b'}', |scan| {
            let start = scan.at;
            let key = scan.key()?;
            match node.child(&scan.document[key]) {
                Some(child) => scan.value(child, start, depth + 1),
                None => scan.skip_value(),
            }
        })
    }

    fn array(&mut self, each: &Node<S>, depth: usize) -> Option<()> {
        let mut number = 0;
        self.each(b'[', b']', |scan| {
            scan.items.push(number);
            number += 1;
            let start = scan.at;
            scan.value(each, start, depth + 1)?;
            scan.items.pop();
            Some(())
        })
    }
}

impl<S> Scan<'_, S> {
    fn peek(&self) -> Option<u8> {
        self.document.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        self.skip_space();
        Some(())
    }

    /// Passes an array or object, showing the start of each of its parts.
    fn each(
        &mut self,
        open: u8,
        close: u8,
        mut part: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.take(open)?;
        if self.peek()? != close {
            loop {
                part(self)?;
                self.skip_space();
                if self.peek()? != b',' {
                    break;
                }
                self.at += 1;
                self.skip_space();
            }
        }
        if self.peek()? != close {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Passes a key and its colon; gives what stands between its quotes.
    fn key(&mut self) -> Option<Range<usize>> {
        let start = self.at + 1;
        self.skip_string()?;
        let key = start..self.at - 1;
        self.take(b':')?;
        Some(key)
    }

    fn skip_string(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            let rest = self.document.get(self.at..)?;
            self.at += memchr2(b'"', b'\\', rest)? + 1;
            if self.document[self.at - 1] == b'"' {
                return Some(());
            }
            self.at += 1;
        }
    }

    /// Passes a value without looking into it: as many brackets must close as open.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth > 0 => self.at += 1,
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => return None,
                _ => self.skip_word(),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes a number, `true`, `null` and whatever else stands without quotes.
    fn skip_word(&mut self) {
        let ends = |byte: &u8| {
            matches!(
                byte,
                b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"' | b' ' | b'\t' | b'\n' | b'\r'
            )
        };
        let rest = &self.document[self.at..];
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
    }
}

#[cfg(test)]
mod tests;

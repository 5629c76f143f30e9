//! Finds where values stand in a JSON document, by path, so that they can be changed while every
//! other byte stays as it came. It reads no values and builds no tree; what no path leads to is
//! stepped over without being checked.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr2;

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
    keys: Vec<(&'static str, Node<S>)>,
    any: Option<Box<Node<S>>>,
    each: Option<Box<Node<S>>>,
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

/// Changes to a document: all other bytes stay.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    replaced: Vec<(Range<usize>, Vec<u8>)>,
    removed: Vec<Range<usize>>,
}

impl Edits {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.removed.is_empty()
    }

    /// Puts other JSON in a value's place.
    pub fn replace(&mut self, span: Range<usize>, json: impl Into<Vec<u8>>) {
        self.replaced.push((span, json.into()));
    }

    /// Puts a text in a value's place.
    pub fn set_text(&mut self, span: Range<usize>, text: &str) {
        self.replace(span, serde_json::Value::from(text).to_string());
    }

    /// Takes a member of an object, or an item of an array, away together with a comma. `start` is
    /// where its key begins.
    pub fn remove(&mut self, start: usize, span: Range<usize>) {
        self.removed.push(start..span.end);
    }

    /// The document as changed. Where changes lie in one another, the outer one counts.
    pub fn apply(self, document: &[u8]) -> Bytes {
        let gone = with_commas(document, self.removed).into_iter().map(|span| (span, Vec::new()));
        let mut changes: Vec<_> = self.replaced.into_iter().chain(gone).collect();
        changes.sort_by_key(|(span, _)| (span.start, usize::MAX - span.end));
        let mut changed = Vec::with_capacity(document.len());
        let mut at = 0;
        for (span, with) in changes {
            if span.start >= at {
                changed.extend_from_slice(&document[at..span.start]);
                changed.extend_from_slice(&with);
                at = span.end;
            }
        }
        changed.extend_from_slice(&document[at..]);
        changed.into()
    }
}

/// What goes when these parts go: each takes the comma behind it with it; the last of an object or
/// array the one before it.
fn with_commas(document: &[u8], mut parts: Vec<Range<usize>>) -> Vec<Range<usize>> {
    parts.sort_by_key(|part| part.start);
    let mut gone: Vec<Range<usize>> = Vec::with_capacity(parts.len());
    for part in parts {
        let followed = behind_comma(document, part.end);
        let start = match gone.last() {
            Some(last) if last.end >= part.start => {
                gone.pop().map_or(part.start, |last| last.start)
            }
            _ => part.start,
        };
        gone.push(match followed {
            Some(end) => start..end,
            None => before_comma(document, start)..part.end,
        });
    }
    gone
}

/// Where the next part begins, if a comma follows here.
fn behind_comma(document: &[u8], at: usize) -> Option<usize> {
    let skip = |at: usize| {
        let rest = document.get(at..).unwrap_or_default();
        at + rest.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(rest.len())
    };
    let comma = skip(at);
    (document.get(comma) == Some(&b',')).then(|| skip(comma + 1))
}

/// Where the comma stands that leads here; here, if none does.
fn before_comma(document: &[u8], at: usize) -> usize {
    let before = document[..at].trim_ascii_end();
    if before.ends_with(b",") { before.len() - 1 } else { at }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn found(paths: &[(&'static str, u8)], document: &str) -> Vec<(u8, String, Vec<usize>)> {
        let spots = Paths::new(paths).find(document.as_bytes()).unwrap();
        let told = |spot: Spot<u8>| {
            (spot.what, String::from_utf8_lossy(spot.of(document.as_bytes())).into_owned(), spot.at)
        };
        spots.into_iter().map(told).collect()
    }

    #[test]
    fn paths_lead_to_values() {
        let document =
            r#" {"a" : [ {"b": "x,]\"", "c":{"d":1}}, 7 , {"c":{"d":[2]}} ], "*":{"k":true}} "#;
        let paths = &[("a[*].c", 1), ("a[*].c.d", 2), ("a[*].b", 3), ("*.k", 4), ("none", 5)];
        assert_eq!(
            found(paths, document),
            [
                (3, r#""x,]\"""#.to_owned(), vec![0]),
                (1, r#"{"d":1}"#.to_owned(), vec![0]),
                (2, "1".to_owned(), vec![0]),
                (1, r#"{"d":[2]}"#.to_owned(), vec![2]),
                (2, "[2]".to_owned(), vec![2]),
                (4, "true".to_owned(), vec![]),
            ]
        );
        assert_eq!(found(&[("[*][*]", 1)], "[[1,2],[],3]").len(), 2);
        assert_eq!(found(&[("", 1)], " 5 "), [(1, "5".to_owned(), vec![])]);
    }

    #[test]
    fn what_is_no_json_has_no_places() {
        let paths = Paths::new(&[("a[*].b", ()), ("c", ())]);
        for document in [
            "",
            "{",
            r#"{"a":"#,
            r#"{"a":[}"#,
            r#"{"c":1}}"#,
            r#"{"c":1} x"#,
            "[1",
            "nul l",
            r#""abc"#,
        ] {
            assert_eq!(paths.find(document.as_bytes()), None, "{document}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(paths.find(deep.as_bytes()), None);
    }

    #[test]
    fn parts_go_with_their_commas() {
        let document = r#"{ "a":1 , "b":[2], "c":3 }"#;
        let paths = Paths::new(&[("a", 'a'), ("b", 'b'), ("c", 'c')]);
        let spots = paths.find(document.as_bytes()).unwrap();
        for (gone, left) in [
            ("a", r#"{ "b":[2], "c":3 }"#),
            ("b", r#"{ "a":1 , "c":3 }"#),
            ("c", r#"{ "a":1 , "b":[2] }"#),
            ("ab", r#"{ "c":3 }"#),
            ("bc", r#"{ "a":1  }"#),
            ("ac", r#"{ "b":[2] }"#),
            ("abc", "{  }"),
        ] {
            let mut edits = Edits::default();
            for spot in spots.iter().filter(|spot| gone.contains(spot.what)) {
                edits.remove(spot.start, spot.span.clone());
            }
            assert_eq!(edits.apply(document.as_bytes()), left, "without {gone}");
        }
    }

    #[test]
    fn the_outer_change_counts() {
        let mut edits = Edits::default();
        edits.replace(2..3, "x");
        edits.replace(1..4, "y");
        edits.set_text(5..6, "\"");
        assert_eq!(edits.apply(b"[1,2,3]"), "[y,\"\\\"\"]");
    }

    #[test]
    fn parts_of_arrays_and_objects() {
        let document = br#"{"a": [1, "x]", {"b":[]} ] , "c" :2}"#;
        let parts = members(document, 0..document.len()).unwrap();
        let text = |span: &Range<usize>| std::str::from_utf8(&document[span.clone()]).unwrap();
        let told: Vec<_> = parts.iter().map(|(key, value)| (text(key), text(value))).collect();
        assert_eq!(told, [("\"a\"", r#"[1, "x]", {"b":[]} ]"#), ("\"c\"", "2")]);
        let items = items(document, parts[0].1.clone()).unwrap();
        assert_eq!(items.iter().map(text).collect::<Vec<_>>(), ["1", "\"x]\"", r#"{"b":[]}"#]);
        assert_eq!(super::items(document, parts[1].1.clone()), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\,}\\]é]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[ab]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_are_found_where_serde_has_them(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let paths = Paths::new(&[("a[*].b", 1), ("*.aa", 2), ("[*].a", 3)]);
            let spots = paths.find(text.as_bytes()).unwrap();
            let read = |spot: &Spot<i32>| serde_json::from_slice::<Value>(spot.of(text.as_bytes())).unwrap();
            let got = |what| spots.iter().filter(|spot| spot.what == what).map(read).collect::<Vec<_>>();
            let wanted: Vec<Value> = value["a"].as_array().into_iter().flatten().filter_map(|item| item.get("b").cloned()).collect();
            prop_assert_eq!(got(1), wanted);
            let wanted: Vec<Value> = value.as_object().into_iter().flatten()
                .filter(|(key, _)| *key != "a").filter_map(|(_, item)| item.get("aa").cloned()).collect();
            prop_assert_eq!(got(2), wanted);
            let wanted: Vec<Value> = value.as_array().into_iter().flatten().filter_map(|item| item.get("a").cloned()).collect();
            prop_assert_eq!(got(3), wanted);
            let mut edits = Edits::default();
            for spot in &spots {
                edits.remove(spot.start, spot.span.clone());
            }
            prop_assert!(serde_json::from_slice::<Value>(&edits.apply(text.as_bytes())).is_ok());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ a1".to_vec()), 0..60)) {
            let _ = Paths::new(&[("a[*].a", ()), ("[*]", ()), ("*", ())]).find(&bytes);
            let _ = items(&bytes, 0..bytes.len());
            let _ = members(&bytes, 0..bytes.len());
        }
    }
}

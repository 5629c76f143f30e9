//! A strict little reader of HTML and XML: enough to see whether foreign text became markup, and
//! whether elements nest as they should.

/// An element, with its children's names and its text.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) children: Vec<Self>,
    /// Its own text, entities as written.
    pub(super) text: String,
}

const VOID: [&str; 4] = ["meta", "br", "link", "img"];
const RAW: [&str; 2] = ["style", "script"];

impl Element {
    /// Reads a document; panics with the place where it is not well formed.
    pub(super) fn read(text: &str) -> Self {
        let mut stack = vec![Self { name: "document".into(), ..Self::default() }];
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            let here: String = rest[at..].chars().take(80).collect();
            stack.last_mut().unwrap().text.push_str(&rest[..at]);
            let end = rest[at..].find('>').unwrap_or_else(|| panic!("unclosed tag at {here}")) + at;
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            if tag.starts_with(['!', '?']) {
                assert!(stack.len() == 1, "a declaration inside the document at {here}");
                continue;
            }
            if let Some(name) = tag.strip_prefix('/') {
                let closed = stack.pop().unwrap();
                assert_eq!(closed.name, name, "wrong end tag at {here}");
                stack.last_mut().expect("an end tag without a start").children.push(closed);
                continue;
            }
            let element = Self::start(tag.trim_end_matches('/'), &here);
            if tag.ends_with('/') || VOID.contains(&element.name.as_str()) {
                stack.last_mut().unwrap().children.push(element);
                continue;
            }
            let name = element.name.clone();
            stack.push(element);
            if RAW.contains(&name.as_str()) {
                let close = rest.find(&format!("</{name}>")).expect("unclosed raw text");
                stack.last_mut().unwrap().text.push_str(&rest[..close]);
                rest = &rest[close..];
            }
        }
        assert_eq!(stack.len(), 1, "unclosed: {:?}", stack.last().map(|it| &it.name));
        stack.pop().unwrap()
    }

    fn start(tag: &str, here: &str) -> Self {
        let name_end = tag.find(|c: char| c.is_whitespace()).unwrap_or(tag.len());
        let mut element = Self { name: tag[..name_end].into(), ..Self::default() };
        let well_named = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c))
        };
        assert!(well_named(&element.name), "odd tag name at {here}");
        let mut rest = tag[name_end..].trim_start();
        while !rest.is_empty() {
            let end = rest.find(['=', ' ']).unwrap_or(rest.len());
            let name = rest[..end].to_owned();
            assert!(well_named(&name), "odd attribute {name:?} at {here}");
            rest = &rest[end..];
            let mut value = String::new();
            if let Some(quoted) = rest.strip_prefix("=\"") {
                let close = quoted.find('"').unwrap_or_else(|| panic!("unclosed value at {here}"));
                value = quoted[..close].into();
                rest = &quoted[close + 1..];
            }
            element.attributes.push((name, value));
            rest = rest.trim_start();
        }
        element
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    /// This element and all below it.
    pub(super) fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        for child in &self.children {
            all.extend(child.all());
        }
        all
    }

    pub(super) fn named<'a>(&'a self, name: &str) -> Vec<&'a Self> {
        self.all().into_iter().filter(|it| it.name == name).collect()
    }

    /// All text below it, entities as written.
    pub(super) fn words(&self) -> String {
        let mut words = self.text.clone();
        for child in &self.children {
            words.push_str(&child.words());
        }
        words
    }
}

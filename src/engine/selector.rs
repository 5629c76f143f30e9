//! Does a fault's `where` describe an exchange?

use http::{HeaderMap, HeaderName};

use super::pattern::Pattern;
use crate::exchange::{Exchange, Operation};

/// What `where:` asks of an exchange; all parts that are set must hold.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// A glob over the path (`*` crosses slashes).
    pub path: Option<Pattern>,
    pub method: Option<http::Method>,
    /// Header name and a glob over its value.
    pub headers: Vec<(HeaderName, Pattern)>,
    pub model: Option<Pattern>,
    pub stream: Option<bool>,
    pub operation: Option<Operation>,
    pub user: Option<Pattern>,
}

/// A part of `where`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Path,
    Method,
    Header,
    Operation,
    Stream,
    Model,
    User,
}

impl Part {
    /// All, in the order in which they are asked.
    pub(super) const ALL: [Self; 7] = [
        Self::Path,
        Self::Method,
        Self::Header,
        Self::Operation,
        Self::Stream,
        Self::Model,
        Self::User,
    ];

    /// Its key in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::Header => "header",
            Self::Operation => "operation",
            Self::Stream => "stream",
            Self::Model => "model",
            Self::User => "user",
        }
    }
}

impl Selector {
    /// Whether nothing is asked, so that every exchange fits.
    pub fn is_empty(&self) -> bool {
        let Self { path, method, headers, model, stream, operation, user } = self;
        path.is_none()
            && method.is_none()
            && headers.is_empty()
            && model.is_none()
            && stream.is_none()
            && operation.is_none()
            && user.is_none()
    }

    /// Whether all that is asked holds.
    pub fn matches(&self, exchange: &Exchange) -> bool {
        self.mismatch(exchange).is_none()
    }

    /// The first part that does not hold.
    #[inline]
    pub(super) fn mismatch(&self, exchange: &Exchange) -> Option<Part> {
        let facts = &exchange.facts;
        let fits = |glob: &Option<Pattern>, text: Option<&str>| {
            glob.as_ref().is_none_or(|glob| text.is_some_and(|text| glob.is_match(text)))
        };
        if self.path.as_ref().is_some_and(|path| !path.is_match(exchange.uri.path())) {
            Some(Part::Path)
        } else if self.method.as_ref().is_some_and(|method| *method != exchange.method) {
            Some(Part::Method)
        } else if !self.headers.iter().all(|wanted| has_header(&exchange.headers, wanted)) {
            Some(Part::Header)
        } else if self.operation.is_some_and(|operation| operation != facts.operation) {
            Some(Part::Operation)
        } else if self.stream.is_some_and(|stream| stream != facts.stream) {
            Some(Part::Stream)
        } else if !fits(&self.model, facts.model.as_deref()) {
            Some(Part::Model)
        } else if !fits(&self.user, exchange.user.as_deref()) {
            Some(Part::User)
        } else {
            None
        }
    }
}

/// Whether any value of the header fits the glob.
fn has_header(headers: &HeaderMap, (name, glob): &(HeaderName, Pattern)) -> bool {
    let mut values = headers.get_all(name).iter();
    values.any(|value| glob.is_match(&String::from_utf8_lossy(value.as_bytes())))
}

#[cfg(test)]
mod tests {
    use globset::Glob;
    use http::{Method, Uri};

    use super::*;
    use crate::engine::tests::exchange;

    fn glob(text: &str) -> Option<Pattern> {
        Some(Glob::new(text).unwrap().compile_matcher().into())
    }

    #[test]
    fn every_part_is_asked() {
        let mut fits = exchange(1);
        fits.method = Method::POST;
        fits.uri = Uri::from_static("/v1/chat/completions?x=1");
        fits.headers.append("x-team", "red".parse().unwrap());
        fits.headers.append("x-team", "blue".parse().unwrap());
        fits.facts.model = Some("gpt-4o-mini".into());
        fits.facts.stream = true;
        fits.facts.operation = Operation::Chat;
        fits.user = Some("ann".into());
        let name = HeaderName::from_static("x-team");
        let none = Selector::default;
        let parts = [
            ("path", Selector { path: glob("/v1/*"), ..none() }),
            ("method", Selector { method: Some(Method::POST), ..none() }),
            ("header", Selector { headers: vec![(name, glob("bl*").unwrap())], ..none() }),
            ("operation", Selector { operation: Some(Operation::Chat), ..none() }),
            ("stream", Selector { stream: Some(true), ..none() }),
            ("model", Selector { model: glob("gpt-4o*"), ..none() }),
            ("user", Selector { user: glob("a?n"), ..none() }),
        ];
        let mut other = exchange(2);
        other.method = Method::GET;
        other.uri = Uri::from_static("/v2/x");
        for (part, selector) in parts {
            assert!(!selector.is_empty(), "{part} is a part");
            assert_eq!(selector.mismatch(&fits), None, "{part} must fit");
            assert_eq!(selector.mismatch(&other).map(Part::name), Some(part));
        }
        assert!(none().is_empty() && none().matches(&other));
    }

    #[test]
    fn a_path_must_fit_as_a_whole() {
        let mut asked = exchange(1);
        asked.uri = Uri::from_static("/v1/chat/completions/extra");
        let selector = Selector { path: glob("/v1/chat/completions"), ..Selector::default() };
        assert_eq!(selector.mismatch(&asked), Some(Part::Path));
        let selector = Selector { path: glob("*/completions*"), ..Selector::default() };
        assert!(selector.matches(&asked));
    }
}

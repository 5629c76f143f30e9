//! Does a fault's `where` describe an exchange?

mod probe;
mod reading;

use std::fmt;

use http::{HeaderName, Method};

pub use self::probe::{BadPath, Probe, Wanted, json_path};
pub(super) use self::reading::Reading;
use super::pattern::Pattern;
use crate::exchange::Operation;
use crate::units::Bounds;

/// What `where:` asks of an exchange; all parts must hold.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Only what is asked; what is dear comes last.
    parts: Vec<Part>,
}

/// One thing that is asked.
#[derive(Clone, Debug)]
pub enum Part {
    /// The hash of the API key; the key itself is never kept.
    ApiKey(u64),
    /// The body's bytes look so.
    Body(Pattern),
    /// What a store is asked about looks so.
    Collection(Pattern),
    /// Whether tools are offered or called.
    HasTools(bool),
    /// Any value of this header looks so.
    Header(HeaderName, Pattern),
    /// The host that the request names looks so.
    Host(Pattern),
    /// A JSON body has such a value.
    Json(Probe),
    /// The most tokens that the answer may have.
    MaxTokens(Bounds),
    Method(Method),
    Model(Pattern),
    Operation(Operation),
    Path(Pattern),
    /// The text of the prompt looks so.
    Prompt(Pattern),
    /// Tokens of the prompt, as estimated.
    PromptTokens(Bounds),
    Session(Pattern),
    Stream(bool),
    /// One of the tools offered or called looks so.
    Tools(Vec<Pattern>),
    /// Which turn of a conversation, from 1.
    Turn(Bounds),
    User(Pattern),
}

impl Selector {
    /// Asks all of these.
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        let mut parts: Vec<Part> = parts.into_iter().collect();
        parts.sort_by_key(Part::cost);
        Self { parts }
    }

    /// Whether nothing is asked, so that every exchange fits.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What is asked.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The first part that does not hold.
    #[inline]
    pub(super) fn mismatch(&self, read: &Reading<'_>) -> Option<Aspect> {
        self.parts.iter().find(|part| !part.holds(read)).map(Part::key)
    }
}

/// What did not hold, of `where` or of what a request asks itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aspect {
    ApiKey,
    Body,
    Collection,
    HasTools,
    Header,
    Host,
    Json,
    MaxTokens,
    Method,
    Model,
    Operation,
    Path,
    Prompt,
    PromptTokens,
    Session,
    Stream,
    Tools,
    Turn,
    User,
    OptIn,
    Skip,
}

impl Aspect {
    pub(super) const ALL: [Self; 21] = [
        Self::ApiKey,
        Self::Body,
        Self::Collection,
        Self::HasTools,
        Self::Header,
        Self::Host,
        Self::Json,
        Self::MaxTokens,
        Self::Method,
        Self::Model,
        Self::Operation,
        Self::Path,
        Self::Prompt,
        Self::PromptTokens,
        Self::Session,
        Self::Stream,
        Self::Tools,
        Self::Turn,
        Self::User,
        Self::OptIn,
        Self::Skip,
    ];

    /// The word in the file, or of the header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Body => "body",
            Self::Collection => "collection",
            Self::HasTools => "has_tools",
            Self::Header => "header",
            Self::Host => "host",
            Self::Json => "json",
            Self::MaxTokens => "max_tokens",
            Self::Method => "method",
            Self::Model => "model",
            Self::Operation => "operation",
            Self::Path => "path",
            Self::Prompt => "prompt",
            Self::PromptTokens => "prompt_tokens",
            Self::Session => "session",
            Self::Stream => "stream",
            Self::Tools => "tools",
            Self::Turn => "turn",
            Self::User => "user",
            Self::OptIn => "opt_in",
            Self::Skip => "x-brownout-skip",
        }
    }
}

impl Part {
    /// Its key in the file.
    pub(super) fn key(&self) -> Aspect {
        match self {
            Self::ApiKey(_) => Aspect::ApiKey,
            Self::Body(_) => Aspect::Body,
            Self::Collection(_) => Aspect::Collection,
            Self::HasTools(_) => Aspect::HasTools,
            Self::Header(..) => Aspect::Header,
            Self::Host(_) => Aspect::Host,
            Self::Json(_) => Aspect::Json,
            Self::MaxTokens(_) => Aspect::MaxTokens,
            Self::Method(_) => Aspect::Method,
            Self::Model(_) => Aspect::Model,
            Self::Operation(_) => Aspect::Operation,
            Self::Path(_) => Aspect::Path,
            Self::Prompt(_) => Aspect::Prompt,
            Self::PromptTokens(_) => Aspect::PromptTokens,
            Self::Session(_) => Aspect::Session,
            Self::Stream(_) => Aspect::Stream,
            Self::Tools(_) => Aspect::Tools,
            Self::Turn(_) => Aspect::Turn,
            Self::User(_) => Aspect::User,
        }
    }

    /// What reads the body is asked after what the head tells.
    fn cost(&self) -> u8 {
        match self {
            Self::Body(_) => 3,
            Self::Prompt(_) => 2,
            Self::Json(_) => 1,
            _ => 0,
        }
    }

    fn holds(&self, read: &Reading<'_>) -> bool {
        let exchange = read.exchange();
        let facts = &exchange.facts;
        let fits = |wanted: &Pattern, text: Option<&str>| text.is_some_and(|it| wanted.fits(it));
        let within = |wanted: &Bounds, number: Option<u32>| {
            number.is_some_and(|number| wanted.hold(f64::from(number)))
        };
        let known = |number: u32| (number > 0).then_some(number);
        match self {
            Self::ApiKey(key) => exchange.api_key == Some(*key),
            Self::Body(wanted) => wanted.fits_bytes(&exchange.body),
            Self::Collection(wanted) => fits(wanted, facts.collection.as_deref()),
            Self::HasTools(has) => *has != facts.tools.is_empty(),
            Self::Header(name, wanted) => read.has_header(name, wanted),
            Self::Host(wanted) => fits(wanted, read.host()),
            Self::Json(probe) => probe.fits(read.json()),
            Self::MaxTokens(wanted) => within(wanted, facts.max_tokens),
            Self::Method(method) => *method == exchange.method,
            Self::Model(wanted) => fits(wanted, facts.model.as_deref()),
            Self::Operation(operation) => *operation == facts.operation,
            Self::Path(wanted) => wanted.fits(exchange.uri.path()),
            Self::Prompt(wanted) => wanted.fits(read.prompt()),
            Self::PromptTokens(wanted) => within(wanted, known(facts.prompt_tokens)),
            Self::Session(wanted) => fits(wanted, exchange.session.as_deref()),
            Self::Stream(stream) => *stream == facts.stream,
            Self::Tools(wanted) => {
                facts.tools.iter().any(|tool| wanted.iter().any(|wanted| wanted.fits(tool)))
            }
            Self::Turn(wanted) => within(wanted, known(facts.turn)),
            Self::User(wanted) => fits(wanted, exchange.user.as_deref()),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(_) => f.write_str("the API key is the one named"),
            Self::Body(wanted) => write!(f, "the body is {wanted}"),
            Self::Collection(wanted) => write!(f, "the collection is {wanted}"),
            Self::HasTools(true) => f.write_str("tools are offered"),
            Self::HasTools(false) => f.write_str("no tools are offered"),
            Self::Header(name, wanted) => write!(f, "the header {name} is {wanted}"),
            Self::Host(wanted) => write!(f, "the host is {wanted}"),
            Self::Json(probe) => write!(f, "{probe}"),
            Self::MaxTokens(wanted) => write!(f, "max_tokens is {wanted}"),
            Self::Method(method) => write!(f, "the method is {method}"),
            Self::Model(wanted) => write!(f, "the model is {wanted}"),
            Self::Operation(operation) => write!(f, "the operation is {}", operation.as_str()),
            Self::Path(wanted) => write!(f, "the path is {wanted}"),
            Self::Prompt(wanted) => write!(f, "the prompt is {wanted}"),
            Self::PromptTokens(wanted) => write!(f, "the prompt has {wanted} tokens"),
            Self::Session(wanted) => write!(f, "the session is {wanted}"),
            Self::Stream(true) => f.write_str("the answer is streamed"),
            Self::Stream(false) => f.write_str("the answer is not streamed"),
            Self::Tools(wanted) => {
                let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                write!(f, "a tool is {}", wanted.join(" or "))
            }
            Self::Turn(wanted) => write!(f, "the turn is {wanted}"),
            Self::User(wanted) => write!(f, "the user is {wanted}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Uri;

    use super::*;
    use crate::engine::identify;
    use crate::engine::tests::exchange;
    use crate::exchange::Exchange;

    fn glob(text: &str) -> Pattern {
        Pattern::glob(text).unwrap()
    }

    fn bounds(text: &str) -> Bounds {
        text.parse().unwrap()
    }

    fn mismatch(selector: &Selector, exchange: &Exchange) -> Option<&'static str> {
        selector.mismatch(&Reading::new(exchange)).map(Aspect::name)
    }

    #[test]
    fn every_part_is_asked() {
        let mut fits = exchange(1);
        fits.method = Method::POST;
        fits.uri = Uri::from_static("/v1/chat/completions?x=1");
        fits.headers.append("x-team", "red".parse().unwrap());
        fits.headers.append("x-team", "blue".parse().unwrap());
        fits.headers.append("host", "eu.example.com:443".parse().unwrap());
        fits.facts.model = Some("gpt-4o-mini".into());
        fits.facts.stream = true;
        fits.facts.operation = Operation::Chat;
        fits.facts.tools = vec!["get_time".into(), "search_docs".into()];
        fits.facts.turn = 3;
        fits.facts.prompt_tokens = 5000;
        fits.facts.max_tokens = Some(256);
        fits.facts.collection = Some("docs-eu".into());
        fits.user = Some("ann".into());
        fits.session = Some("s-17".into());
        fits.api_key = Some(identify::key_hash("sk-1"));
        fits.body = Bytes::from_static(
            br#"{"messages":[{"role":"user","content":"Where is my order?"}],"metadata":{"tier":"gold","n":7}}"#,
        );
        let name = HeaderName::from_static("x-team");
        let gold = Wanted::Text(glob("go*"));
        let parts = [
            Part::Path(glob("/v1/*")),
            Part::Method(Method::POST),
            Part::Host(glob("eu.*")),
            Part::Header(name, glob("bl*")),
            Part::Operation(Operation::Chat),
            Part::Stream(true),
            Part::Model(glob("gpt-4o*")),
            Part::User(glob("a?n")),
            Part::Session(glob("s-*")),
            Part::ApiKey(identify::key_hash("sk-1")),
            Part::Turn(bounds("2..")),
            Part::PromptTokens(bounds("> 4000")),
            Part::MaxTokens(bounds("..256")),
            Part::HasTools(true),
            Part::Collection(glob("docs*")),
            Part::Tools(vec![glob("no"), glob("search_*")]),
            Part::Json(Probe::new(json_path("$.metadata.tier").unwrap(), gold)),
            Part::Prompt(Pattern::regex("(?i)order").unwrap()),
            Part::Body(glob("*\"n\":7*")),
        ];
        let mut other = exchange(2);
        other.method = Method::GET;
        other.uri = Uri::from_static("/v2/x");
        for part in parts {
            let (key, selector) = (part.key().name(), Selector::new([part]));
            assert_eq!(mismatch(&selector, &fits), None, "{key} must fit");
            assert_eq!(mismatch(&selector, &other), Some(key));
        }
        assert!(Selector::default().is_empty() && mismatch(&Selector::default(), &other).is_none());
    }

    #[test]
    fn a_path_must_fit_as_a_whole() {
        let mut asked = exchange(1);
        asked.uri = Uri::from_static("/v1/chat/completions/extra");
        let selector = Selector::new([Part::Path(glob("/v1/chat/completions"))]);
        assert_eq!(mismatch(&selector, &asked), Some("path"));
        let selector = Selector::new([Part::Path(glob("*/completions*"))]);
        assert_eq!(mismatch(&selector, &asked), None);
    }

    #[test]
    fn what_is_not_known_lies_within_no_limits() {
        let selector = Selector::new([Part::PromptTokens(bounds("< 100"))]);
        assert_eq!(mismatch(&selector, &exchange(1)), Some("prompt_tokens"));
        let selector = Selector::new([Part::HasTools(false)]);
        assert_eq!(mismatch(&selector, &exchange(1)), None);
    }

    #[test]
    fn what_is_dear_is_asked_last() {
        let parts = [Part::Body(glob("*")), Part::Prompt(glob("*")), Part::Stream(true)];
        let selector = Selector::new(parts);
        let keys: Vec<&str> = selector.parts().iter().map(|part| part.key().name()).collect();
        assert_eq!(keys, ["stream", "prompt", "body"]);
    }
}

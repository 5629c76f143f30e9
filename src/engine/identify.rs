//! Who is asking: reads the user and the session out of passing traffic, as `identify:` says.

use std::str::FromStr;

use http::header::{AUTHORIZATION, CONTENT_TYPE, Entry, UPGRADE};
use http::{HeaderMap, HeaderName};
use serde_json::Value;

use crate::dice::hash_bytes;
use crate::exchange::Transport;

/// Where an identity stands in a request.
#[derive(Clone, Debug)]
pub enum Source {
    Header(HeaderName),
    /// A JSONPath (RFC 9535) into the request's body.
    Json(serde_json_path::JsonPath),
}

/// How user and session are found; both are optional.
#[derive(Clone, Debug, Default)]
pub struct Identify {
    pub user: Option<Source>,
    pub session: Option<Source>,
}

/// Why a text is no source of an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSource(String);

/// The longest identity that is kept, in characters.
const LONGEST: usize = 256;

impl FromStr for Source {
    type Err = BadSource;

    /// Reads `header NAME` or `json PATH`.
    fn from_str(text: &str) -> Result<Self, BadSource> {
        let (place, rest) =
            text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let rest = rest.trim();
        match place {
            "header" => rest.parse().map(Self::Header).map_err(|_| {
                BadSource(format!(
                    "`{rest}` is no header name; write for example `header x-user-id`"
                ))
            }),
            "json" => serde_json_path::JsonPath::parse(rest).map(Self::Json).map_err(|error| {
                BadSource(format!(
                    "`{rest}` is no JSONPath ({error}); write for example `json $.metadata.user_id`"
                ))
            }),
            _ => Err(BadSource(format!(
                "`{}` names no place; write `header NAME` or `json PATH`, for example \
                 `header x-user-id` or `json $.metadata.user_id`",
                text.trim()
            ))),
        }
    }
}

impl Identify {
    /// Whether the body is needed to tell who is asking.
    pub fn needs_body(&self) -> bool {
        [&self.user, &self.session]
            .into_iter()
            .any(|source| matches!(source, Some(Source::Json(_))))
    }

    /// The user and the session of a request. The body is parsed only where a path points into it;
    /// one that is cut off or no JSON tells nothing.
    pub fn read(&self, headers: &HeaderMap, body: &[u8]) -> (Option<String>, Option<String>) {
        let body = self.needs_body().then(|| serde_json::from_slice(body).ok()).flatten();
        let read = |source: &Option<Source>| {
            let found = match source.as_ref()? {
                Source::Header(name) => {
                    String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned()
                }
                Source::Json(path) => text_of(path.query(body.as_ref()?).first()?)?,
            };
            let found = found.trim();
            (!found.is_empty()).then(|| found.chars().take(LONGEST).collect())
        };
        (read(&self.user), read(&self.session))
    }
}

/// A string or a number as an identity.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What carries a request, as its head tells.
pub(super) fn transport(head: &http::request::Parts) -> Transport {
    let is = |name, start: &[u8]| {
        let value = head.headers.get(name).map(|value| value.as_bytes().to_ascii_lowercase());
        value.is_some_and(|value| value.starts_with(start))
    };
    let grpc = || {
        let kind = head.headers.get(CONTENT_TYPE);
        kind.is_some_and(|kind| crate::wire::grpc::is_content_type(kind.as_bytes()))
    };
    if head.version == http::Version::HTTP_2 {
        if grpc() { Transport::Grpc } else { Transport::Http2 }
    } else if is(UPGRADE, b"websocket") || is(HeaderName::from_static("sec-websocket-version"), b"")
    {
        Transport::WebSocket
    } else {
        Transport::Http1
    }
}

/// A copy of the headers in which those that hold secrets do not show when they are printed.
pub(super) fn guarded(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    let secrets = ["authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"];
    for name in secrets {
        if let Entry::Occupied(mut entry) = headers.entry(name) {
            entry.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
    headers
}

/// A hash of the API key that a request carries; the key itself is never kept.
pub fn api_key(headers: &HeaderMap) -> Option<u64> {
    let value = headers
        .get(AUTHORIZATION)
        .or_else(|| headers.get("api-key"))
        .or_else(|| headers.get("x-api-key"))?
        .as_bytes();
    let bearer = value.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"bearer "));
    let key = if bearer { &value[7..] } else { value }.trim_ascii();
    (!key.is_empty()).then(|| hash_bytes(key))
}

/// The hash by which an API key is known.
pub fn key_hash(key: &str) -> u64 {
    hash_bytes(key.trim().as_bytes())
}

/// The label that a request carries for brownout: `x-brownout-session`, or the entry
/// `brownout.session` of its `baggage`.
pub fn label(headers: &HeaderMap) -> Option<&str> {
    let named = headers.get("x-brownout-session").and_then(|value| value.to_str().ok());
    let baggage = || {
        let values = headers.get_all("baggage").iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).find_map(|entry| {
            let (name, value) = entry.split(';').next()?.split_once('=')?;
            (name.trim() == "brownout.session").then(|| value.trim())
        })
    };
    named.map(str::trim).or_else(baggage).filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn identities_stand_in_headers_or_bodies() {
        let identify = Identify {
            user: Some("header X-User-Id".parse().unwrap()),
            session: Some("json $.metadata.session_id".parse().unwrap()),
        };
        let head = headers(&[("x-user-id", " ann ")]);
        let (user, session) = identify.read(&head, br#"{"metadata":{"session_id":17}}"#);
        assert_eq!((user.as_deref(), session.as_deref()), (Some("ann"), Some("17")));
        for body in
            [&br#"{"metadata":{}}"#[..], br#"{"metadata":{"session_id":{}}}"#, b"{\"met", b""]
        {
            assert_eq!(identify.read(&HeaderMap::new(), body), (None, None));
        }
        assert!(identify.needs_body() && !Identify::default().needs_body());
    }

    #[test]
    fn long_identities_are_cut() {
        let identify = Identify { user: Some("json $.u".parse().unwrap()), session: None };
        let body = serde_json::json!({ "u": "é".repeat(1000) }).to_string();
        let (user, _) = identify.read(&HeaderMap::new(), body.as_bytes());
        assert_eq!(user.unwrap().chars().count(), LONGEST);
    }

    #[test]
    fn sources_say_how_they_are_written() {
        let error = |text: &str| text.parse::<Source>().unwrap_err().to_string();
        assert!(error("x-user-id").contains("write `header NAME` or `json PATH`"));
        assert!(error("header a b").contains("no header name"));
        assert!(error("json metadata.user").contains("no JSONPath"));
        assert!(error("").contains("names no place"));
    }

    #[test]
    fn keys_are_known_by_their_hash_alone() {
        let bearer = api_key(&headers(&[("authorization", "Bearer sk-1")]));
        assert_eq!(bearer, api_key(&headers(&[("authorization", "bearer  sk-1")])));
        assert_eq!(bearer, api_key(&headers(&[("api-key", "sk-1")])));
        assert_eq!(bearer, api_key(&headers(&[("x-api-key", "sk-1")])));
        assert_ne!(bearer, api_key(&headers(&[("api-key", "sk-2")])));
        assert_eq!(api_key(&headers(&[("authorization", "Bearer ")])), None);
    }

    #[test]
    fn labels_come_by_header_or_baggage() {
        assert_eq!(label(&headers(&[("x-brownout-session", "s1/t2")])), Some("s1/t2"));
        let baggage = headers(&[("baggage", "a=b"), ("baggage", "c=d, brownout.session = s9;p=1")]);
        assert_eq!(label(&baggage), Some("s9"));
        assert_eq!(label(&headers(&[("baggage", "session=x")])), None);
    }
}

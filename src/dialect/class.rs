//! The classes of failure that users name, as each dialect puts them into its own words.

use std::time::Duration;

use http::StatusCode;

use super::Failure;
use crate::dice::hash_bytes;

/// One of `FAILURE_CLASSES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Auth,
    BadRequest,
    ContextLength,
    Html,
    NotFound,
    Overloaded,
    Quota,
    RateLimit,
    ServerError,
    SlowDown,
    Timeout,
    Unavailable,
}

impl Class {
    /// The class that was asked for, else the one that its status or its numbers suggest.
    pub(super) fn of(failure: &Failure<'_>) -> Self {
        let named = failure.class.and_then(Self::named);
        named.unwrap_or_else(|| match failure.status.map(|status| status.as_u16()) {
            Some(status) => Self::of_status(status),
            None if failure.quota.is_some() => Self::RateLimit,
            None => Self::ServerError,
        })
    }

    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "auth" => Self::Auth,
            "bad_request" => Self::BadRequest,
            "context_length" => Self::ContextLength,
            "html" => Self::Html,
            "not_found" => Self::NotFound,
            "overloaded" => Self::Overloaded,
            "quota" => Self::Quota,
            "rate_limit" => Self::RateLimit,
            "server_error" => Self::ServerError,
            "slow_down" => Self::SlowDown,
            "timeout" => Self::Timeout,
            "unavailable" => Self::Unavailable,
            _ => return None,
        })
    }

    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Auth,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            429 => Self::RateLimit,
            // Gateways answer these with a page of their own.
            502 | 520..=527 | 530 => Self::Html,
            503 | 529 => Self::Overloaded,
            400..=499 => Self::BadRequest,
            _ => Self::ServerError,
        }
    }

    /// The status that most services give for it.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Auth => StatusCode::UNAUTHORIZED,
            Self::BadRequest | Self::ContextLength => StatusCode::BAD_REQUEST,
            Self::Html => StatusCode::BAD_GATEWAY,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Overloaded | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Quota | Self::RateLimit | Self::SlowDown => StatusCode::TOO_MANY_REQUESTS,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// Whole seconds as `retry-after` has them, rounded up so that waiting them is enough.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What an error event inside a stream says where its provider has no words of its own for the class.
pub fn inband_message(class: &str) -> &'static str {
    match class {
        "overloaded" | "unavailable" => {
            "The engine is currently overloaded, please try again later"
        }
        "quota" => "You exceeded your current quota, please check your plan and billing details.",
        "rate_limit" | "slow_down" => "Rate limit reached. Please slow down.",
        "timeout" => "The request timed out.",
        _ => "The server had an error while processing your request. Sorry about that!",
    }
}

/// A page as CDNs and gateways give it in place of an answer.
pub(super) fn html_page(status: StatusCode, served_by: &str) -> String {
    let title = format!(
        "{} {}",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Web Server Returned an Unknown Error")
    );
    format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1>\
         </center>\r\n<hr><center>{served_by}</center>\r\n</body>\r\n</html>\r\n"
    )
}

/// 64 bits in the form of a version 4 UUID.
pub(super) fn uuid(id: u64) -> String {
    let more = hash_bytes(&id.to_le_bytes());
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        id >> 32,
        (id >> 16) & 0xffff,
        id & 0xfff,
        more >> 52,
        more & 0xffff_ffff_ffff
    )
}

/// The first 128 characters of a name from a request, so that no request decides how much we keep
/// or how long our answer is.
pub(super) fn short(name: &str) -> &str {
    let end = name.char_indices().nth(128).map_or(name.len(), |(at, _)| at);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    #[test]
    fn every_class_users_may_name_is_known() {
        for word in FAILURE_CLASSES {
            assert!(Class::named(word).is_some(), "`{word}` has no meaning");
        }
    }

    #[test]
    fn seconds_round_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(5)), 5);
        assert_eq!(uuid(7).len(), 36);
    }
}

//! Heads between HTTP/1.1 and HTTP/2: what belongs to a connection of the one has no place in the
//! other (RFC 9113, 8.2.2), `Host` becomes `:authority`, cookies are one line or many.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Uri, Version};

use crate::net::{Origin, RawHead};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Makes a request ready for an upstream that speaks HTTP/2.
pub(in crate::proxy) fn request(head: &mut Parts, origin: &Origin) {
    strip(&mut head.headers);
    head.headers.remove(HOST);
    let trailers = head.headers.get_all(TE).iter().any(|value| names(value, "trailers"));
    match trailers {
        true => {
            head.headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        false => {
            head.headers.remove(TE);
        }
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let target = Uri::builder()
        .scheme(origin.scheme())
        .authority(origin.authority())
        .path_and_query(path)
        .build();
    if let Ok(target) = target {
        head.uri = target;
    }
    head.version = Version::HTTP_2;
}

/// Makes the head of an answer ready for an app that speaks HTTP/2.
pub(in crate::proxy) fn answer(headers: &mut HeaderMap) {
    strip(headers);
}

/// The lines of a request that came by HTTP/2, for an upstream that speaks HTTP/1.1. A body of
/// unknown length goes in chunks.
pub(in crate::proxy) fn to_http1(headers: &mut HeaderMap, has_body: bool) -> RawHead {
    strip(headers);
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, cookie);
    }
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    RawHead::from_map(headers)
}

/// Takes off what belongs to a connection.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| *name != CONTENT_LENGTH && *name != HOST && *name != TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &TRANSFER_ENCODING, &UPGRADE] {
        headers.remove(name);
    }
}

/// Whether a comma-separated list has this word.
fn names(list: &HeaderValue, word: &str) -> bool {
    let mut items = list.as_bytes().split(|byte| *byte == b',');
    items.any(|item| {
        let name = item.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(word.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use http::Request;
    use url::Url;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_belongs_to_a_connection_does_not_cross() {
        let mut parts = Request::post("/v1/x?y=1").body(()).unwrap().into_parts().0;
        parts.headers = headers(&[
            ("host", "app"),
            ("connection", "close, x-mine, content-length"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers;q=0.5"),
            ("content-length", "3"),
            ("x-kept", "2"),
        ]);
        let origin = Origin::new(&Url::parse("https://up.example:8443").unwrap()).unwrap();
        request(&mut parts, &origin);
        assert_eq!(parts.uri.to_string(), "https://up.example:8443/v1/x?y=1");
        let want = headers(&[("te", "trailers"), ("content-length", "3"), ("x-kept", "2")]);
        assert_eq!(parts.headers, want);
    }

    #[test]
    fn crumbs_become_one_cookie_and_unknown_lengths_go_in_chunks() {
        let mut map = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("x", "y")]);
        let raw = to_http1(&mut map, true);
        let lines: Vec<_> = raw.lines().map(|line| std::str::from_utf8(line).unwrap()).collect();
        assert_eq!(lines, ["cookie: a=1; b=2", "x: y", "transfer-encoding: chunked"]);
        let mut map = headers(&[("content-length", "3")]);
        assert_eq!(to_http1(&mut map, true).lines().count(), 1);
    }
}

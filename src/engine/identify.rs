//! Who is asking: reads the user and the session out of passing traffic, as `identify:` says.

use http::HeaderName;

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

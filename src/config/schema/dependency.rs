//! `dependencies` and `identify`.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::gateway::Host;
use super::json;
use super::named::OneOrMany;
use super::tls::{HttpVersion, ListenTls, UpstreamTls};
use crate::units::{Count, Span};

/// A dependency of the app: it is called through us. Needs `upstream` or `simulate` and `kind`, and
/// `listen` unless one of the `gateways` reaches it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Dependency {
    /// The wire format it speaks: error bodies, headers, streams and token counts follow it. `auto`
    /// finds it out for each request, by the upstream's host, the path, the headers and the body; what
    /// nobody knows is plain HTTP. Default auto where `upstream` is an http or https URL.
    #[schemars(schema_with = "json::kind")]
    pub(in crate::config) kind: Option<String>,
    /// Where the app finds us: a port on 127.0.0.1 (0 picks a free one), or address:port. May be
    /// left out where one of the `gateways` reaches it.
    pub(in crate::config) listen: Option<Listen>,
    /// TLS with the app on `listen`: `minted` (a certificate made on the fly by this installation's
    /// own authority), or your own `{ cert, key }`. Left out: none. For a kind that speaks no HTTP
    /// `pass`: the app's TLS goes through to the upstream, where faults see bytes alone; left out,
    /// PostgreSQL clients are told that there is none.
    pub(in crate::config) tls: Option<ListenTls>,
    /// The real dependency: an http or https URL, with an optional base path; for a kind that speaks
    /// no HTTP `host:port`, or a URL of its own scheme.
    pub(in crate::config) upstream: Option<String>,
    /// TLS towards the upstream, where the system's certificates are not enough.
    pub(in crate::config) upstream_tls: Option<UpstreamTls>,
    /// The version of HTTP spoken to the upstream: `auto` (the app's own, as far as the upstream
    /// agrees), `"1.1"` or `"2"`. Default auto.
    pub(in crate::config) http: Option<HttpVersion>,
    /// In place of `upstream`: the embedded simulator, with no key and no cost.
    pub(in crate::config) simulate: Option<Simulate>,
    /// What means this dependency at a gateway beside the upstream's own host: hosts, with a port
    /// where only that one is meant; `*.example.com` means all below it.
    pub(in crate::config) hosts: Option<OneOrMany<Host>>,
    /// The path prefix that means it at the shared gateway, taken off there. Default `/NAME`.
    pub(in crate::config) path: Option<String>,
    /// A label that faults can target: `target: { region: eu }`.
    pub(in crate::config) region: Option<String>,
}

/// Where we listen.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Listen(pub(in crate::config) SocketAddr);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListenVisitor)
    }
}

pub(super) struct ListenVisitor;

impl Visitor<'_> for ListenVisitor {
    type Value = Listen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port such as 4001, or address:port such as 0.0.0.0:4001")
    }

    fn visit_u64<E: de::Error>(self, port: u64) -> Result<Listen, E> {
        match u16::try_from(port) {
            Ok(port) => Ok(Listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))),
            Err(_) => Err(E::custom(format!("{port} is no port; write 0 to 65535"))),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
        let text = text.trim();
        if let Ok(port) = text.parse::<u16>() {
            return self.visit_u64(u64::from(port));
        }
        let spelled = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        spelled.parse().map(Listen).map_err(|_| {
            E::custom(format!(
                "`{text}` is no address to listen on; write a port such as 4001, or address:port \
                 such as 0.0.0.0:4001"
            ))
        })
    }
}

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                { "type": "string", "pattern": "^([0-9]+|.+:[0-9]+)$" }
            ],
            "examples": [4001, "0.0.0.0:4001"]
        })
    }
}

/// `true`, or how the simulator behaves.
#[derive(Clone, Debug)]
pub(in crate::config) enum Simulate {
    Off,
    On(Box<SimulateOptions>),
}

/// How the simulator behaves.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SimulateOptions {
    /// A preset of the numbers below. Default small.
    #[serde(default)]
    #[schemars(schema_with = "json::sim_model")]
    pub(in crate::config) model: Option<String>,
    /// Tokens per second of one answer, above 0.
    pub(in crate::config) tokens_per_second: Option<f64>,
    /// Time to the first token.
    pub(in crate::config) time_to_first_token: Option<Span>,
    /// Requests worked on at once, from 1; more wait in line.
    pub(in crate::config) slots: Option<u64>,
    /// Requests that may wait in line; more are turned away.
    pub(in crate::config) queue_limit: Option<u64>,
    /// Tokens of an answer when the request does not say: `120`, `80..200`.
    pub(in crate::config) answer_tokens: Option<Count>,
    /// Documents that a vector store holds from the start, in the collection `documents`: up to
    /// 1000000. Default 200.
    pub(in crate::config) documents: Option<u64>,
    /// Length of an embedding, 1 to 16384. Default 1536.
    pub(in crate::config) dimensions: Option<u64>,
    /// Time of an embedding or a search.
    pub(in crate::config) latency: Option<Span>,
    /// A rate limit of the simulated provider's own, from 1. Default none.
    pub(in crate::config) requests_per_minute: Option<u32>,
}

impl<'de> Deserialize<'de> for Simulate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SimulateVisitor)
    }
}

struct SimulateVisitor;

impl<'de> Visitor<'de> for SimulateVisitor {
    type Value = Simulate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or a map such as { model: small }")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<Simulate, E> {
        Ok(if on { Simulate::On(Box::default()) } else { Simulate::Off })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Simulate, A::Error> {
        SimulateOptions::deserialize(MapAccessDeserializer::new(map))
            .map(|options| Simulate::On(Box::new(options)))
    }
}

impl JsonSchema for Simulate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Simulate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let options = generator.subschema_for::<SimulateOptions>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, options] })
    }
}

/// How a user and a session are recognised in passing traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Identify {
    /// Where the user's id stands: `header x-user-id` or `json $.user`.
    pub(in crate::config) user: Option<Source>,
    /// Where the session's id stands: `header x-session-id` or `json $.metadata.session_id`.
    pub(in crate::config) session: Option<Source>,
}

/// `header NAME` or `json $.path`.
#[derive(Clone, Debug)]
pub(in crate::config) struct Source(pub(in crate::config) crate::engine::identify::Source);

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use crate::engine::identify::Source as Parsed;
        let (place, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        match place {
            "header" => match rest.parse::<http::HeaderName>() {
                Ok(name) => Ok(Self(Parsed::Header(name))),
                Err(_) => Err(format!(
                    "`{rest}` is no name of a header; write for example `header x-user-id`"
                )),
            },
            "json" => match serde_json_path::JsonPath::parse(rest) {
                Ok(path) => Ok(Self(Parsed::Json(path))),
                Err(error) => Err(format!(
                    "`{rest}` is no JSONPath ({error}); write for example `json $.user`"
                )),
            },
            _ => Err(format!(
                "`{}` does not say where to look; write `header x-user-id` or `json $.user`",
                text.trim()
            )),
        }
    }
}

json::text_type!(Source, "`header NAME` or `json $.path`", {
    "type": "string",
    "pattern": "^\\s*(header|json)\\s+\\S.*$",
    "examples": ["header x-user-id", "json $.metadata.session_id"]
});

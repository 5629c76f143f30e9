//! `gateways`, and what means a dependency there.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::dependency::{Listen, ListenVisitor};
use super::json;
use super::named::OneOrMany;

/// Listeners that serve several dependencies.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Gateways {
    /// One listener for all that speak HTTP: a request is told by its `Host`, or by the path prefix
    /// of a dependency (`path`). A port on 127.0.0.1 (0 picks a free one), or address:port.
    pub(in crate::config) shared: Option<Listen>,
    /// A proxy for `HTTP_PROXY` and `HTTPS_PROXY`. What is no dependency passes untouched.
    pub(in crate::config) forward: Option<Listen>,
    /// Takes connections that the kernel redirects (Linux): a port, or `{ listen, mode }`.
    pub(in crate::config) transparent: Option<Transparent>,
    /// Who may use `forward` and `transparent` beside this machine: networks such as `10.0.0.0/8`.
    pub(in crate::config) clients: Option<OneOrMany<Network>>,
}

/// A place for redirected connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Transparent")]
pub(in crate::config) struct TransparentOptions {
    /// Where they are redirected to: a port on 127.0.0.1, or address:port.
    #[schemars(required)]
    pub(in crate::config) listen: Option<Listen>,
    /// How the kernel hands them over. Default redirect.
    pub(in crate::config) mode: Option<Redirection>,
}

/// How the kernel hands redirected connections over.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Redirection {
    /// NAT (`REDIRECT`): the original destination is asked for.
    #[default]
    Redirect,
    /// `TPROXY`: the original destination is the connection's own address (needs `CAP_NET_ADMIN`).
    Tproxy,
}

/// Where redirected connections are taken, with or without a map.
#[derive(Debug)]
pub(in crate::config) struct Transparent(pub(in crate::config) TransparentOptions);

impl<'de> Deserialize<'de> for Transparent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TransparentVisitor)
    }
}

struct TransparentVisitor;

impl<'de> Visitor<'de> for TransparentVisitor {
    type Value = Transparent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port such as 15001, or a map such as { listen: 15001, mode: tproxy }")
    }

    fn visit_u64<E: de::Error>(self, port: u64) -> Result<Transparent, E> {
        ListenVisitor.visit_u64(port).map(at)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Transparent, E> {
        ListenVisitor.visit_str(text).map(at)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Transparent, A::Error> {
        TransparentOptions::deserialize(MapAccessDeserializer::new(map)).map(Transparent)
    }
}

fn at(listen: Listen) -> Transparent {
    Transparent(TransparentOptions { listen: Some(listen), mode: None })
}

impl JsonSchema for Transparent {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TransparentGateway".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (listen, options) =
            (Listen::json_schema(generator), generator.subschema_for::<TransparentOptions>());
        json_schema!({ "anyOf": [listen, options] })
    }
}

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Network(pub(in crate::config) IpAddr, pub(in crate::config) u8);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let no_network = || {
            format!("`{text}` is no network; write for example 10.0.0.0/8, 192.0.2.7 or fd00::/8")
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| no_network())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse::<u8>().map_err(|_| no_network())?,
        };
        if bits > most {
            return Err(format!("`{text}` has a prefix of {bits} bits; write 0 to {most}"));
        }
        let network = first_of(address, bits);
        if network != address {
            return Err(format!(
                "`{text}` has bits set behind its prefix; write {network}/{bits} for that network"
            ));
        }
        Ok(Self(address, bits))
    }
}

/// The first address of the network that an address lies in.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

json::text_type!(Network, "a network such as 10.0.0.0/8", {
    "type": "string",
    "pattern": "^\\s*[0-9A-Fa-f:.]+(/[0-9]{1,3})?\\s*$",
    "examples": ["10.0.0.0/8", "fd00::/8"]
});

/// A host, or all hosts below one, with an optional port: in lower case, as requests are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Host(pub(in crate::config) String);

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let write = "write for example api.openai.com, api.openai.com:8443 or *.openai.azure.com";
        if text.contains("://") || text.contains('/') {
            return Err(format!("`{text}` is more than a host; {write}"));
        }
        let name = match text.parse::<IpAddr>() {
            // An IPv6 address without its brackets; in a `Host` it has them.
            Ok(IpAddr::V6(address)) => return Ok(Self(format!("[{address}]"))),
            _ => text.to_ascii_lowercase(),
        };
        let (host, port) = split_port(&name);
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(format!("`{text}` has no port behind its colon; {write}"));
        }
        let host = host.trim_end_matches('.');
        let below = host.strip_prefix("*.").unwrap_or(host);
        if below.contains('*') {
            return Err(format!(
                "`{text}` has `*` elsewhere than at its beginning; write *.example.com for all \
                 hosts below example.com"
            ));
        }
        match url::Host::parse(below) {
            Ok(url::Host::Domain(_)) if is_name(below) => {}
            Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) if below.len() == host.len() => {}
            _ => return Err(format!("`{text}` is no host; {write}")),
        }
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self(format!("{host}{port}")))
    }
}

/// Splits the port off, which an address in brackets has behind them.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

json::text_type!(Host, "a host such as api.openai.com or *.openai.azure.com", {
    "type": "string",
    "pattern": "^\\s*[^/\\s]+\\s*$",
    "examples": ["api.openai.com", "*.openai.azure.com", "api.openai.com:8443"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_a_prefix_and_nothing_behind_it() {
        let of =
            |text: &str| text.parse::<Network>().map(|Network(ip, bits)| format!("{ip}/{bits}"));
        assert_eq!(of("10.0.0.0/8").unwrap(), "10.0.0.0/8");
        assert_eq!(of("0.0.0.0/0").unwrap(), "0.0.0.0/0");
        assert_eq!(of("192.0.2.7").unwrap(), "192.0.2.7/32");
        assert_eq!(of("fd00::/8").unwrap(), "fd00::/8");
        assert!(of("10.1.2.3/8").unwrap_err().contains("write 10.0.0.0/8"));
        assert!(of("10.0.0.0/33").unwrap_err().contains("0 to 32"));
        assert!(of("ten/8").unwrap_err().contains("no network"));
    }

    #[test]
    fn hosts_are_names_patterns_or_addresses_with_an_optional_port() {
        let of = |text: &str| text.parse::<Host>().map(|host| host.0);
        for (written, read) in [
            ("API.OpenAI.com", "api.openai.com"),
            ("api.openai.com.", "api.openai.com"),
            ("*.openai.azure.com", "*.openai.azure.com"),
            ("localhost:9000", "localhost:9000"),
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("::1", "[::1]"),
            ("[::1]:443", "[::1]:443"),
            ("qdrant", "qdrant"),
        ] {
            assert_eq!(of(written).as_deref(), Ok(read), "{written}");
        }
        for bad in [
            "https://api.openai.com",
            "a/b",
            "api.*.com",
            "*",
            "a:b",
            "a:0",
            "a b",
            "",
            "*.10.0.0.1",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}

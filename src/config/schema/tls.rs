//! TLS with the app and with the upstream, and the version of HTTP that is spoken there.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::json;

/// The certificate that the app is shown.
#[derive(Debug)]
pub(in crate::config) enum ListenTls {
    Files(CertFiles),
    Minted,
    /// The app's own goes through.
    Passes,
}

/// A certificate of your own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CertFiles {
    /// Its chain: a PEM file beside this one.
    #[schemars(required)]
    pub(in crate::config) cert: Option<String>,
    /// Its private key: a PEM file beside this one.
    #[schemars(required)]
    pub(in crate::config) key: Option<String>,
}

impl<'de> Deserialize<'de> for ListenTls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListenTlsVisitor)
    }
}

struct ListenTlsVisitor;

impl<'de> Visitor<'de> for ListenTlsVisitor {
    type Value = ListenTls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("minted, or files of your own: { cert: app.pem, key: app.key }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ListenTls, E> {
        match text.trim() {
            "minted" => Ok(ListenTls::Minted),
            "pass" => Ok(ListenTls::Passes),
            other => Err(E::custom(format!(
                "`{other}` is no certificate; write minted, or {{ cert: app.pem, key: app.key }}"
            ))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListenTls, A::Error> {
        CertFiles::deserialize(MapAccessDeserializer::new(map)).map(ListenTls::Files)
    }
}

impl JsonSchema for ListenTls {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ListenTls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let files = generator.subschema_for::<CertFiles>();
        json_schema!({ "anyOf": [{ "enum": ["minted", "pass"] }, files] })
    }
}

/// TLS towards the upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct UpstreamTls {
    /// Certificates to trust beside the system's: a PEM file beside this one.
    pub(in crate::config) ca_file: Option<String>,
    /// Our own certificate chain, where the upstream asks for one (mTLS): a PEM file.
    pub(in crate::config) client_cert: Option<String>,
    /// Its private key: a PEM file.
    pub(in crate::config) client_key: Option<String>,
    /// The name in the handshake and in the certificate, where it is not the upstream's host.
    pub(in crate::config) server_name: Option<String>,
    /// Takes any certificate. Default false.
    pub(in crate::config) insecure: Option<bool>,
}

/// Which version of HTTP the upstream is spoken to in.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::config) struct HttpVersion(pub(in crate::config) crate::net::HttpVersion);

impl FromStr for HttpVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use crate::net::HttpVersion as Version;
        match text.trim() {
            "1.1" => Ok(Self(Version::Http1)),
            "2" => Ok(Self(Version::Http2)),
            "auto" => Ok(Self(Version::Auto)),
            other => Err(format!("`{other}` is no version of HTTP; write auto, \"1.1\" or \"2\"")),
        }
    }
}

json::text_type!(HttpVersion, "auto, \"1.1\" or \"2\"", {
    "enum": ["auto", "1.1", "2", 1.1, 2]
});

//! The codes by which HTTP/2 and gRPC say what went wrong, as users write them: by name or number.

use std::fmt;
use std::str::FromStr;

use crate::dialect::grpc;
use crate::exchange::Transport;
use crate::units::{BadUnit, unit};

/// The names of the error codes of HTTP/2, each at its number (RFC 9113, section 7).
const STREAM_CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// An error code of HTTP/2: `REFUSED_STREAM`, or a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamCode(pub u32);

impl StreamCode {
    pub(super) const INTERNAL_ERROR: Self = Self(2);
    pub(super) const REFUSED_STREAM: Self = Self(7);
}

impl FromStr for StreamCode {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let text = text.trim();
        let named = STREAM_CODES.iter().zip(0..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        if let Some((_, number)) = named {
            return Ok(Self(number));
        }
        let hex = text.strip_prefix("0x").map(|digits| u32::from_str_radix(digits, 16));
        hex.unwrap_or_else(|| text.parse()).map(Self).map_err(|_| {
            BadUnit(format!(
                "`{text}` is no error code of HTTP/2; use {} or a number",
                STREAM_CODES.join(", ")
            ))
        })
    }
}

impl fmt::Display for StreamCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0).ok().and_then(|number| STREAM_CODES.get(number)) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A status of gRPC that is a failure: `UNAVAILABLE`, or a number from 1 to 16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrpcStatus(pub u16);

impl FromStr for GrpcStatus {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        match grpc::code_named(text) {
            Some(code @ 1..) => Ok(Self(code)),
            Some(0) => Err(BadUnit("0 (OK) is no failure; write for example UNAVAILABLE".into())),
            None => Err(BadUnit(format!(
                "`{}` is no status of gRPC; use {} or a number from 1 to 16",
                text.trim(),
                grpc::CODES[1..].join(", ")
            ))),
        }
    }
}

impl fmt::Display for GrpcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(grpc::CODES.get(usize::from(self.0)).unwrap_or(&"UNKNOWN"))
    }
}

unit!(StreamCode, "an error code of HTTP/2 such as CANCEL, or its number", {
    "anyOf": [
        { "type": "string" },
        { "type": "integer", "minimum": 0, "maximum": 4_294_967_295u32 }
    ],
    "examples": ["CANCEL", "REFUSED_STREAM", "ENHANCE_YOUR_CALM", "INTERNAL_ERROR", 11]
});
unit!(GrpcStatus, "a status of gRPC such as UNAVAILABLE, or its number", {
    "anyOf": [
        { "type": "string" },
        { "type": "integer", "minimum": 1, "maximum": 16 }
    ],
    "examples": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", 14]
});

/// Why a fault cannot reset a stream or say GOAWAY.
pub(super) const NO_HTTP2: &str = "the app does not speak HTTP/2 on this exchange";

/// Whether an exchange is a stream of HTTP/2.
pub(super) fn is_http2(transport: Transport) -> bool {
    matches!(transport, Transport::Grpc | Transport::Http2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names_and_numbers() {
        for (text, code) in
            [("CANCEL", 8), ("refused_stream", 7), ("11", 11), ("0xdead", 0xdead), ("0", 0)]
        {
            assert_eq!(text.parse(), Ok(StreamCode(code)), "{text}");
        }
        assert_eq!(StreamCode(8).to_string(), "CANCEL");
        assert_eq!(StreamCode(0xdead).to_string(), "57005");
        let error = "CANCELED".parse::<StreamCode>().unwrap_err().to_string();
        assert!(error.contains("`CANCELED` is no error code") && error.contains("CANCEL,"));
        assert_eq!("unavailable".parse(), Ok(GrpcStatus(14)));
        assert_eq!(GrpcStatus(8).to_string(), "RESOURCE_EXHAUSTED");
        for (text, part) in [("OK", "no failure"), ("17", "from 1 to 16"), ("busy", "`busy`")] {
            let error = text.parse::<GrpcStatus>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

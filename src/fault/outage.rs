//! Takes a dependency away: nobody listens, packets vanish, connections break, or a gateway says
//! 503 to everything (OpenAI's outage of 11 December 2024 had all four).

use std::time::Duration;

use http::{StatusCode, request};
use schemars::JsonSchema;
use serde::Deserialize;

use super::code::{NO_HTTP2, is_http2};
use super::tls::Spoilt;
use super::{Arming, Effect, Ending, Fault, Flaw, Impossible, Invalid, Orders, Spec, StreamCode};
use crate::dialect::{Answer, Failure};
use crate::exchange::Level;

/// A dependency that is gone: the upstream is never called.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// How it is gone: `refuse`, `blackhole`, `reset`, `close`, `http_503`, `rst_stream`, `goaway`
    /// or `tls`.
    pub mode: Mode,
    /// The error code of `rst_stream`: CANCEL, INTERNAL_ERROR, ENHANCE_YOUR_CALM, … or a number.
    /// Default REFUSED_STREAM, which tells clients that they may safely try again.
    pub code: Option<StreamCode>,
}

/// How a dependency is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Connections are accepted and requests are read, but nothing ever comes back.
    Blackhole,
    /// The connection is closed (FIN) as soon as a request has come.
    Close,
    /// HTTP/2 and gRPC: the connection says GOAWAY and ends as soon as a request has come; all that
    /// is open on it breaks.
    Goaway,
    /// A gateway answers 503 in the provider's words; a gRPC call fails with UNAVAILABLE.
    #[serde(rename = "http_503")]
    Http503,
    /// Nobody listens: connections are refused. A fault that is armed for all requests of a
    /// dependency closes its listener; one for some of them resets the connections of those.
    Refuse,
    /// The connection is reset (RST) as soon as a request has come.
    Reset,
    /// HTTP/2 and gRPC: the request's stream is reset (RST_STREAM) with `code`; the connection stays.
    RstStream,
    /// TLS handshakes are refused (alert `handshake_failure`); like `tls: { mode: refuse }`.
    Tls,
}

impl Spec for Outage {
    const NAME: &'static str = "outage";
    const SUMMARY: &'static str = "a dependency that is gone: refused, silent, reset, 503 or no TLS";
    const EXAMPLE: &'static str = "{ mode: blackhole }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        if self.code.is_some() && self.mode != Mode::RstStream {
            return Err(Invalid::new("code", "`code` belongs to `mode: rst_stream`"));
        }
        let code = self.code.unwrap_or(StreamCode::REFUSED_STREAM);
        Ok(Box::new(Loaded { mode: self.mode, code }))
    }
}

#[derive(Debug)]
struct Loaded {
    mode: Mode,
    code: StreamCode,
}

impl Fault for Loaded {
    fn acts_on(&self, level: Level) -> bool {
        (level == Level::Handshake) == (self.mode == Mode::Tls)
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let framed = matches!(self.mode, Mode::Goaway | Mode::RstStream);
        if framed && !is_http2(arming.exchange.transport) {
            return Err(Impossible(NO_HTTP2));
        }
        Ok(Box::new(match self.mode {
            Mode::Goaway => Gone::End(Ending::GoAway),
            Mode::RstStream => Gone::End(Ending::StreamReset(self.code.0)),
            Mode::Blackhole => Gone::End(Ending::Hang),
            Mode::Close => Gone::End(Ending::Close),
            Mode::Http503 => Gone::Answer(arming.dialect.failure(&Failure {
                status: Some(StatusCode::SERVICE_UNAVAILABLE),
                class: Some("unavailable"),
                model: arming.exchange.facts.model.as_deref(),
                id: arming.draw.fork("id").bits(),
                ..Failure::default()
            })),
            Mode::Refuse | Mode::Reset => Gone::End(Ending::Reset),
            Mode::Tls => return Ok(Box::new(Spoilt::Certificate(Flaw::Missing))),
        }))
    }

    fn refuses_connections(&self) -> bool {
        self.mode == Mode::Refuse
    }
}

enum Gone {
    Answer(Answer),
    End(Ending),
}

impl Effect for Gone {
    fn on_request(&mut self, _: Duration, _: &mut request::Parts, out: &mut Orders) {
        match self {
            Self::Answer(answer) => out.answer(answer.clone()),
            Self::End(ending) => out.end(*ending),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Order;
    use super::super::testing::{Upstream, arm, build, exchange, invalid, ms, play};
    use super::*;
    use crate::exchange::{Exchange, Transport};

    #[test]
    fn the_upstream_is_never_called() {
        for (mode, ending) in [
            ("blackhole", Some(Ending::Hang)),
            ("close", Some(Ending::Close)),
            ("http_503", None),
            ("refuse", Some(Ending::Reset)),
            ("reset", Some(Ending::Reset)),
        ] {
            let fault = build::<Outage>(&format!("{{ mode: {mode} }}"));
            let played = play(&[fault.as_ref()], &exchange(1), &Upstream::stream(5, ms(1)));
            assert_eq!(played.called, None, "{mode}");
            assert_eq!(played.ended(), ending, "{mode}");
            assert!(played.hit(), "{mode}");
            assert_eq!(fault.refuses_connections(), mode == "refuse", "{mode}");
            let status = played.answer.map(|(_, answer)| answer.status);
            assert_eq!(status, ending.is_none().then_some(StatusCode::SERVICE_UNAVAILABLE));
        }
    }

    #[test]
    fn streams_are_reset_and_connections_told_to_go_where_there_are_any() {
        for (yaml, ending) in [
            ("{ mode: rst_stream }", Ending::StreamReset(7)),
            ("{ mode: rst_stream, code: ENHANCE_YOUR_CALM }", Ending::StreamReset(11)),
            ("{ mode: goaway }", Ending::GoAway),
        ] {
            let fault = build::<Outage>(yaml);
            assert_eq!(arm(fault.as_ref(), ms(0), &exchange(1)).err(), Some(Impossible(NO_HTTP2)));
            for transport in [Transport::Http2, Transport::Grpc] {
                let exchange = Exchange { transport, ..exchange(1) };
                let played = play(&[fault.as_ref()], &exchange, &Upstream::stream(1, ms(1)));
                assert_eq!((played.called, played.ended()), (None, Some(ending)), "{yaml}");
            }
        }
        assert_eq!(invalid::<Outage>("{ mode: reset, code: CANCEL }").field, "code");
    }

    #[test]
    fn tls_is_about_handshakes_and_nothing_else_is() {
        for mode in ["blackhole", "close", "http_503", "refuse", "reset", "tls"] {
            let fault = build::<Outage>(&format!("{{ mode: {mode} }}"));
            assert_eq!(fault.acts_on(Level::Handshake), mode == "tls", "{mode}");
            assert_eq!(fault.acts_on(Level::Request), mode != "tls", "{mode}");
        }
        let fault = build::<Outage>("{ mode: tls }");
        let mut effect = arm(fault.as_ref(), ms(0), &exchange(1)).unwrap().0;
        let mut orders = Orders::default();
        effect.on_connect(ms(0), &mut orders);
        assert_eq!(orders.list, [Order::Certificate(Flaw::Missing)]);
    }
}

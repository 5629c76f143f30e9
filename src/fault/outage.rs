//! Takes a dependency away: nobody listens, packets vanish, connections break, or a gateway says
//! 503 to everything (OpenAI's outage of 11 December 2024 had all four).

use std::time::Duration;

use http::{StatusCode, request, response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::close::{self, Close};
use super::code::{NO_HTTP2, is_http2};
use super::tls::Spoilt;
use super::{
    Arming, Effect, Ending, Fault, Flaw, Impossible, Invalid, NO_REQUESTS, Orders, Spec, StreamCode,
    Within,
};
use crate::dialect::{Answer, Dialect, Failure};
use crate::exchange::{Item, Level, Transport};

/// A dependency that is gone: the upstream is never called.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// How it is gone: `refuse`, `blackhole`, `reset`, `close`, `http_503`, `html`, `dns`,
    /// `rst_stream`, `goaway`, `close_frame` or `tls`. WebSockets that are open when this is armed end in the same way.
    pub mode: Mode,
    /// The error code of `rst_stream`: CANCEL, INTERNAL_ERROR, ENHANCE_YOUR_CALM, … or a number;
    /// default REFUSED_STREAM, which tells clients that they may safely try again. Or that of
    /// `close_frame`: 1001 (going away), 1011 (internal error), 1012 (restart), 1013 (try again
    /// later), 3000 to 4999; default 1011.
    pub code: Option<StreamCode>,
    /// With `close_frame`: the reason beside the code, at most 123 bytes. Default none.
    pub reason: Option<String>,
}

/// How a dependency is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Connections are accepted and requests are read, but nothing ever comes back.
    Blackhole,
    /// The connection is closed (FIN) as soon as a request has come.
    Close,
    /// A WebSocket is closed with a close frame as soon as it is open: `code` and `reason`.
    CloseFrame,
    /// The dependency's name is not found. To the app, which knows the proxy's name alone, that is
    /// what a gateway says of it: Cloudflare's 530 with `error code: 1016` (origin DNS error), a gRPC
    /// call fails with UNAVAILABLE, a raw connection is closed before its first byte.
    Dns,
    /// HTTP/2 and gRPC: the connection says GOAWAY and ends as soon as a request has come; all that
    /// is open on it breaks.
    Goaway,
    /// The CDN or gateway in front of the dependency answers 502 with a page of HTML and its own
    /// `server` header; a gRPC call fails with UNAVAILABLE.
    Html,
    /// A gateway answers 503 in the provider's words; a gRPC call fails with UNAVAILABLE. PostgreSQL
    /// and Redis say that they are starting.
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
        if self.code.is_some() && !matches!(self.mode, Mode::CloseFrame | Mode::RstStream) {
            return Err(Invalid::new(
                "code",
                "`code` belongs to `mode: rst_stream` or `mode: close_frame`",
            ));
        }
        let reason = self.reason.as_deref();
        let close = match self.mode {
            Mode::CloseFrame => Some(Close::checked(self.code, reason)?),
            _ => close::unused(reason).map(|()| None)?,
        };
        let code = self.code.unwrap_or(StreamCode::REFUSED_STREAM);
        Ok(Box::new(Loaded { mode: self.mode, code, close }))
    }
}

#[derive(Debug)]
struct Loaded {
    mode: Mode,
    code: StreamCode,
    close: Option<Close>,
}

impl Fault for Loaded {
    fn acts_on(&self, level: Level) -> bool {
        (level == Level::Handshake) == (self.mode == Mode::Tls)
    }

    fn within(&self, _: &dyn Dialect) -> Within {
        Within::StartAndRequests
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if let Some(close) = &self.close {
            return match arming.exchange.transport {
                Transport::WebSocket => Ok(Box::new(Closing(close.clone()))),
                _ => Err(Impossible("only a WebSocket has close frames")),
            };
        }
        if matches!(self.mode, Mode::Dns | Mode::Html | Mode::Http503) {
            arming.before_answer()?;
        }
        let framed = matches!(self.mode, Mode::Goaway | Mode::RstStream);
        if framed && !is_http2(arming.exchange.transport) {
            return Err(Impossible(NO_HTTP2));
        }
        let raw = arming.exchange.level == Level::Connection;
        if raw && self.mode == Mode::Http503 && !arming.dialect.has_session() {
            return Err(NO_REQUESTS);
        }
        let over_tcp = arming.exchange.transport == Transport::Tcp;
        if over_tcp && self.mode == Mode::Html {
            return Err(Impossible("only HTTP has pages"));
        }
        Ok(Box::new(match self.mode {
            Mode::Goaway => Gone::End(Ending::GoAway),
            Mode::RstStream => Gone::End(Ending::StreamReset(self.code.0)),
            Mode::Blackhole => Gone::End(Ending::Hang),
            Mode::Close | Mode::CloseFrame => Gone::End(Ending::Close),
            Mode::Dns if over_tcp => Gone::End(Ending::Close),
            Mode::Dns => Gone::Answer(not_found(arming)),
            Mode::Html => Gone::Answer(arming.dialect.failure(&Failure {
                status: Some(StatusCode::BAD_GATEWAY),
                class: Some("html"),
                id: arming.draw.fork("id").bits(),
                ..Failure::default()
            })),
            Mode::Http503 => Gone::Answer(arming.dialect.failure(&Failure {
                status: Some(StatusCode::SERVICE_UNAVAILABLE),
                class: Some("unavailable"),
                model: arming.exchange.facts.model.as_deref(),
                connecting: raw,
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

/// What a gateway says of a name that nobody knows (Cloudflare's documentation of its errors 530
/// and 1016).
fn not_found(arming: &Arming<'_>) -> Answer {
    let id = arming.draw.fork("id").bits();
    if arming.exchange.transport == Transport::Grpc {
        return arming.dialect.failure(&Failure {
            class: Some("unavailable"),
            message: Some("DNS resolution failed: domain name not found"),
            id,
            ..Failure::default()
        });
    }
    let headers = [
        ("content-type", "text/plain; charset=UTF-8".to_owned()),
        ("cache-control", "private, no-store".to_owned()),
        ("server", "cloudflare".to_owned()),
        ("cf-ray", format!("{id:016x}-FRA")),
    ];
    Answer {
        status: StatusCode::from_u16(530).expect("530 is a number of three digits"),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        body: "error code: 1016".into(),
    }
}

enum Gone {
    Answer(Answer),
    End(Ending),
}

impl Effect for Gone {
    fn on_connect(&mut self, _: Duration, out: &mut Orders) {
        self.act(out);
    }

    // A raw connection that was there before ends with its next bytes, whichever way they go.
    fn on_upload(&mut self, _: Duration, item: Item, out: &mut Orders) {
        self.cut(item, out);
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        self.cut(item, out);
    }

    fn on_request(&mut self, _: Duration, _: &mut request::Parts, out: &mut Orders) {
        self.act(out);
    }
}

impl Gone {
    fn act(&self, out: &mut Orders) {
        match self {
            Self::Answer(answer) => out.answer(answer.clone()),
            Self::End(ending) => out.end(*ending),
        }
    }

    fn cut(&self, item: Item, out: &mut Orders) {
        match self {
            Self::Answer(_) => out.send(item),
            Self::End(ending) => out.end(*ending),
        }
    }
}

/// Closes a socket as soon as it is open.
struct Closing(Close);

impl Effect for Closing {
    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            self.0.order(out);
        } else {
            out.impossible("the upstream opened no socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Order;
    use super::super::testing::{
        Upstream, arm, arm_with, build, connection, exchange, invalid, ms, play,
    };
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
    fn a_gateway_speaks_for_what_it_cannot_reach() {
        let openai = crate::dialect::by_kind("openai").unwrap();
        let answer = |mode: &str, exchange: &Exchange| {
            let fault = build::<Outage>(&format!("{{ mode: {mode} }}"));
            let mut effect = arm_with(fault.as_ref(), ms(0), exchange, openai).unwrap().0;
            let (mut head, ()) = request::Request::new(()).into_parts();
            let mut out = Orders::default();
            effect.on_request(ms(0), &mut head, &mut out);
            match out.list.pop() {
                Some(Order::Answer(answer)) => answer,
                other => panic!("{mode}: {other:?}"),
            }
        };
        let html = answer("html", &exchange(1));
        assert_eq!(html.status, StatusCode::BAD_GATEWAY);
        assert!(html.body.starts_with(b"<html>"), "{:?}", html.body);
        let server = ("server".to_owned(), "cloudflare".to_owned());
        assert!(html.headers.contains(&server), "{:?}", html.headers);
        let dns = answer("dns", &exchange(1));
        assert_eq!((dns.status.as_u16(), &dns.body[..]), (530, &b"error code: 1016"[..]));
        assert!(dns.headers.contains(&server));

        let raw = connection(1);
        let fault = build::<Outage>("{ mode: html }");
        assert_eq!(arm(fault.as_ref(), ms(0), &raw).err(), Some(Impossible("only HTTP has pages")));
        let fault = build::<Outage>("{ mode: dns }");
        let mut orders = Orders::default();
        arm(fault.as_ref(), ms(0), &raw).unwrap().0.on_connect(ms(0), &mut orders);
        assert_eq!(orders.list, [Order::End(Ending::Close)]);
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
        for mode in ["blackhole", "close", "dns", "html", "http_503", "refuse", "reset", "tls"] {
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

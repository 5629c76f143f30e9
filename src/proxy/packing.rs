//! An answer that is compressed, on its way through the effects: unpacked before them, packed again
//! behind them.

use bytes::Bytes;

use crate::wire::coding::{Coding, Packer, Unpacker};

/// Both ends of the effects.
#[derive(Debug)]
pub(super) struct Packing {
    pub(super) unpacker: Unpacker,
    pub(super) packer: Packer,
    /// The upstream's own body was not whole: neither is what the app gets.
    cut: bool,
}

impl Packing {
    pub(super) fn new(coding: Coding) -> Self {
        Self { unpacker: Unpacker::new(coding), packer: Packer::new(coding), cut: false }
    }

    /// The upstream's body has ended.
    pub(super) fn ended(&mut self) {
        self.cut = !self.unpacker.is_whole();
    }

    /// The end of what was packed. None where there is none: nothing had come, or not all.
    pub(super) fn tail(mut self) -> Option<Bytes> {
        (self.unpacker.has_begun() && !self.cut).then(|| self.packer.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use futures_util::stream;
    use http::{Request, Response};
    use http_body::Frame;
    use http_body_util::{BodyExt, Empty, StreamBody};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use serde_json::{Value, json};
    use tokio::io::duplex;

    use super::super::connection::serve;
    use super::super::pump_tests::{dependency, rule};
    use super::super::route::Route;
    use super::*;
    use crate::engine::{Arming, Engine};
    use crate::measure::Recorder;
    use crate::net::{Origin, Pool, Stream};
    use crate::wire::CAP;

    const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n";
    const ALL: [(&str, Coding); 4] = [
        ("br", Coding::Br),
        ("deflate", Coding::Deflate),
        ("gzip", Coding::Gzip),
        ("zstd", Coding::Zstd),
    ];

    fn packed(coding: Coding, pieces: &[&[u8]]) -> Vec<Bytes> {
        let mut packer = Packer::new(coding);
        let mut packed: Vec<Bytes> = pieces.iter().map(|piece| packer.push(piece)).collect();
        packed.push(packer.finish());
        packed
    }

    /// What an app gets of this answer through this fault: unpacked, as far as it can be; whether the
    /// body came whole, and whether what was in it did.
    async fn got(
        fault: (&'static str, Value),
        kind: &'static str,
        (name, coding): (&'static str, Coding),
        pieces: Vec<Bytes>,
    ) -> (Vec<u8>, bool, bool) {
        let origin = Origin::new(&"http://upstream:1".parse().unwrap()).unwrap();
        let pool = Pool::in_memory(origin, move || {
            let (proxy, upstream) = duplex(64 << 10);
            let pieces = pieces.clone();
            let service = service_fn(move |_| {
                let frames =
                    pieces.clone().into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
                let body = StreamBody::new(stream::iter(frames));
                let answer = Response::builder()
                    .header("content-type", kind)
                    .header("content-encoding", name)
                    .body(body);
                async move { Ok::<_, Infallible>(answer.unwrap()) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(upstream), service));
            Some(Stream::Memory(Box::new(proxy)))
        });
        let engine = Engine::new(1, vec![rule(&[fault])], Recorder::none());
        engine.arm("test", Arming::default()).unwrap();
        let route = Route::Fixed(Arc::new(dependency(engine, Recorder::none(), pool)));
        let (app, proxy) = duplex(64 << 10);
        let drain = route.drain().clone();
        tokio::spawn(serve(Stream::Memory(Box::new(proxy)), Arc::new(route), drain, None));
        let io = TokioIo::new(app);
        let (mut app, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("/v1/chat/completions").header("host", "llm");
        let answer = app.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], name);
        let (mut body, mut whole) = (answer.into_body(), true);
        let (mut unpacker, mut out) = (Unpacker::new(coding), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                whole = false;
                break;
            };
            unpacker.push(frame.into_data().unwrap());
            unpacker.by_ref().for_each(|piece| out.extend_from_slice(&piece.unwrap()));
        }
        (out, whole, unpacker.is_whole())
    }

    #[tokio::test]
    async fn events_in_any_coding_are_seen_and_packed_again() {
        for (name, coding) in ALL {
            let fault = ("truncate", json!({ "after": "3 events" }));
            let pieces = packed(coding, &[EVENT.as_bytes(); 7]);
            let told = got(fault, "text/event-stream", (name, coding), pieces.clone()).await;
            assert_eq!(told, (EVENT.repeat(3).into_bytes(), true, true), "{name}");
            let fault = ("drop", json!({ "after": "900 events" }));
            let told = got(fault, "text/event-stream", (name, coding), pieces).await;
            assert_eq!(told, (EVENT.repeat(7).into_bytes(), true, true), "{name}");
        }
    }

    #[tokio::test]
    async fn a_bomb_passes_without_being_held() {
        let zeros = vec![b'0'; CAP + (4 << 20)];
        let pieces = packed(Coding::Gzip, &[&zeros]);
        let small: usize = pieces.iter().map(Bytes::len).sum();
        assert!(small < zeros.len() / 50);
        let fault = ("truncate", json!({ "after": "900 tokens" }));
        let told = got(fault, "application/json", ("gzip", Coding::Gzip), pieces).await;
        assert_eq!((told.0.len(), told.1, told.2), (zeros.len(), true, true));
    }

    #[tokio::test]
    async fn what_was_not_whole_does_not_become_so() {
        let drop = || ("drop", json!({ "after": "900 events" }));
        let gzip = ("gzip", Coding::Gzip);
        let mut pieces = packed(Coding::Gzip, &[EVENT.as_bytes(); 3]);
        pieces.pop();
        let told = got(drop(), "text/event-stream", gzip, pieces).await;
        assert_eq!(told, (EVENT.repeat(3).into_bytes(), true, false), "its end is missing");
        let plain = vec![Bytes::from_static(EVENT.as_bytes())];
        let (out, whole, _) = got(drop(), "text/event-stream", gzip, plain).await;
        assert_eq!((out.len(), whole), (0, false), "it is not in its coding");
    }
}

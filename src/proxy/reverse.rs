//! One exchange: where it goes and what comes back. While no fault is armed for its dependency
//! nothing is parsed, held or decided.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;

use super::answer::{AnswerBody, Passed};
use super::call::{self, Books};
use super::connection::{Connection, Dependency, Killed, Line};
use super::request::{Incoming, RequestBody};
use super::websocket::{self, Handshake};
use super::{headers, http2, pump, tunnel};
use crate::dialect;
use crate::engine;
use crate::fault::Ending;
use crate::measure::CallEnd;
use crate::net::{self, Lines, RawHead, pool};
use crate::wire::strict::Refusal;

/// What becomes of an exchange: an answer, or the end of its connection.
pub(super) type Outcome = Result<Response<AnswerBody>, Killed>;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) parts: Parts,
    pub(super) body: RequestBody,
    /// The head as it was read.
    pub(super) raw: RawHead,
    pub(super) books: Books,
    /// Of a request that asks for a WebSocket.
    pub(super) handshake: Option<Box<Handshake>>,
    upgrade: Option<OnUpgrade>,
    version: Version,
}

/// Serves one request.
pub(super) async fn exchange(
    connection: Arc<Connection>,
    request: Request<Incoming>,
    head: Option<RawHead>,
) -> Outcome {
    let connection = connection.renewed();
    let dependency = &connection.dependency;
    let demand = dependency.engine.demand_at(dependency.gate);
    if demand.refuse {
        dependency.engine.count_refused(&dependency.name);
        return Err(connection.kill(Ending::Reset));
    }
    let passing = Passing::new(&connection, request, head);
    if passing.parts.method == Method::CONNECT {
        return Ok(no_tunnels(&connection, passing.books));
    }
    if demand.any || demand.steered {
        Box::pin(pump::exchange(connection, passing, demand)).await
    } else {
        pass(connection, passing).await
    }
}

impl Passing {
    fn new(
        connection: &Arc<Connection>,
        mut request: Request<Incoming>,
        head: Option<RawHead>,
    ) -> Self {
        let books = Books::open(connection, request.headers());
        let raw = match head.filter(|raw| raw.is_of(&request)) {
            Some(raw) => raw,
            // There are no lines in HTTP/2.
            None if connection.line.is_http2() => RawHead::default(),
            None => RawHead::from_map(request.headers()),
        };
        let upgrade = headers::is_upgrade(&raw).then(|| hyper::upgrade::on(&mut request));
        let (mut parts, incoming) = request.into_parts();
        if upgrade.is_none() && incoming.is_end_stream() {
            connection.line.wire.expect_head();
        }
        let version = parts.version;
        parts.extensions.clear();
        let handshake = upgrade.is_some().then(|| Handshake::of(&parts, connection)).flatten();
        let body = RequestBody::new(incoming, Arc::clone(&connection.line.wire));
        Self { parts, body, raw, books, handshake, upgrade, version }
    }

    /// Takes off what the request told brownout alone.
    pub(super) fn strip(&mut self) {
        if engine::strip(&mut self.parts.headers) {
            self.raw = headers::reconcile(&self.raw, &self.parts.headers);
        }
    }

    /// An HTTP/1.0 client knows no chunks.
    fn is_old_client(&self) -> bool {
        self.version < Version::HTTP_11
    }

    /// Calls the upstream.
    pub(super) async fn send(
        mut self,
        dependency: &Dependency,
    ) -> (Sent, Result<Answered, net::Error>) {
        let origin = dependency.pool.origin();
        let from_http2 = self.version == Version::HTTP_2;
        let way = dependency.pool.way(from_http2).await;
        let to_http2 = way.as_ref().is_ok_and(pool::Way::is_http2);
        let upgrade = self.upgrade.is_some() && !to_http2;
        let expects = self.parts.headers.contains_key(header::EXPECT);
        self.parts.uri = target(origin.base(), self.parts.uri);
        let lines = if to_http2 {
            http2::head::request(&mut self.parts, origin);
            Lines::default()
        } else {
            if from_http2 {
                self.raw =
                    http2::head::to_http1(&mut self.parts.headers, !self.body.is_end_stream());
            }
            self.parts.version = Version::HTTP_11;
            headers::request(&self.raw, &self.parts.headers, origin.authority(), upgrade)
        };
        let sent = Sent {
            old_client: self.is_old_client(),
            upgrade: self.upgrade,
            handshake: self.handshake,
            books: self.books,
        };
        let way = match way {
            Ok(way) => way,
            Err(error) => return (sent, Err(error)),
        };
        let mut request = Request::from_parts(self.parts, self.body);
        if let Some(interim) = sent.books.connection().line.interim() {
            request.extensions_mut().insert(interim);
        }
        if expects && !sent.old_client {
            RequestBody::wait_to_be_asked(&mut request, &*dependency.clock);
        }
        let answer = dependency.pool.send_on(way, request, lines).await.map(|answer| {
            let pool::Answer { response, head } = answer;
            let raw = match head {
                Some(raw) => raw,
                // Nobody reads it there.
                None if from_http2 => RawHead::default(),
                None => RawHead::from_map(response.headers()),
            };
            (response, raw)
        });
        (sent, answer)
    }
}

/// What is kept of a request while its answer is awaited.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) old_client: bool,
    pub(super) upgrade: Option<OnUpgrade>,
    pub(super) handshake: Option<Box<Handshake>>,
    pub(super) books: Books,
}

/// Passes an exchange that no fault touches.
pub(super) async fn pass(connection: Arc<Connection>, mut passing: Passing) -> Outcome {
    passing.books.upstream_called();
    let (sent, answer) = passing.send(&connection.dependency).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return failed(&connection, &error, sent.books),
    };
    pass_on(&connection, sent, answer)
}

/// An answer with its head as it was read.
pub(super) type Answered = (Response<pool::Answering<RequestBody>>, RawHead);

/// Hands the upstream's answer to the app, its body as it comes.
pub(super) fn pass_on(
    connection: &Connection,
    mut sent: Sent,
    (response, raw): Answered,
) -> Outcome {
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (mut head, body) = response.into_parts();
    let (lines, framed) = lines_of(connection, &raw, &mut head.headers, sent.old_client, upgraded);
    let mut books = sent.books;
    let handshake = sent.handshake.take().filter(|_| websocket::is_opened(&head));
    let opening = handshake.map(|handshake| handshake.answered(head.clone()));
    let response = opened(connection, head, lines, framed, &mut books);
    let body = match sent.upgrade.take() {
        Some(app) if upgraded => {
            tunnel::spawn(connection, app, body, books, opening);
            AnswerBody::Nothing
        }
        asked => {
            if asked.is_some() {
                // Another request may follow on this connection.
                connection.line.wire.expect_head();
            }
            AnswerBody::Passed(Passed::new(body, books))
        }
    };
    Ok(response.map(|()| body))
}

/// The lines of an answer's head for the app, and whether they say how its body is framed. In
/// HTTP/2 there are none: the map is made ready for it.
pub(super) fn lines_of(
    connection: &Connection,
    raw: &RawHead,
    map: &mut HeaderMap,
    old_client: bool,
    upgraded: bool,
) -> (Lines, bool) {
    if connection.line.is_http2() {
        http2::head::answer(map);
        return (Lines::default(), true);
    }
    headers::answer(raw, map, old_client, upgraded)
}

/// An answer's head as the app gets it; from here on the call has a status.
pub(super) fn opened(
    connection: &Connection,
    head: http::response::Parts,
    lines: Lines,
    framed: bool,
    books: &mut Books,
) -> Response<()> {
    let retry_after = match head.status.is_success() {
        true => None,
        false => call::retry_after(&head.headers),
    };
    books.head(head.status, retry_after);
    if !head.status.is_success() && call::says_no_retry(&head.headers) {
        books.no_retry();
    }
    books.said(&head.headers);
    finished(&connection.line, head, lines, framed)
}

/// A head as the app's protocol is given it.
fn finished(
    line: &Line,
    mut head: http::response::Parts,
    lines: Lines,
    framed: bool,
) -> Response<()> {
    if line.is_http2() {
        head.version = Version::HTTP_2;
    } else {
        line.wire.write_head(&mut head.headers, lines, framed);
        line.wire.mark_dirty();
        head.version = Version::HTTP_11;
    }
    Response::from_parts(head, ())
}

/// An answer that we make up.
pub(super) fn made(
    connection: &Connection,
    answer: dialect::Answer,
    faults: &[Arc<str>],
    mut books: Books,
) -> Response<AnswerBody> {
    let answer = spoken(&connection.line, answer);
    let marked = connection.dependency.mark_faults && !faults.is_empty();
    let mark = marked.then(|| ("x-brownout-fault", faults.join(", ")));
    let (head, lines, framed) = written(&answer, mark);
    let response = opened(connection, head, lines, framed, &mut books);
    let body = (!answer.body.is_empty()).then_some(answer.body);
    response.map(|()| AnswerBody::Made(body, books))
}

/// An answer of ours as the app's protocol has it.
fn spoken(line: &Line, answer: dialect::Answer) -> dialect::Answer {
    if line.is_grpc() { dialect::grpc::answer(&answer) } else { answer }
}

/// What an app is told whose request cannot be read in one way alone.
pub(super) fn malformed(refusal: Refusal) -> dialect::Answer {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    told(status, format!("brownout: the request is refused: {refusal}\n"))
}

/// What an app is told whose request is for no dependency.
pub(super) fn refused(line: &Line, answer: dialect::Answer) -> Response<AnswerBody> {
    let answer = spoken(line, answer);
    let (head, lines, framed) = written(&answer, None);
    let response = finished(line, head, lines, framed);
    let body = (!answer.body.is_empty()).then_some(answer.body);
    response.map(|()| AnswerBody::Told(body))
}

/// The answer to a CONNECT that is granted: no line, no body.
pub(super) fn tunnelled(line: &Line) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Nothing);
    line.wire.write_head(response.headers_mut(), Lines::default(), true);
    line.wire.mark_dirty();
    response
}

/// The head of an answer that we make up, its lines, and whether they say how it is framed.
fn written(
    answer: &dialect::Answer,
    mark: Option<(&str, String)>,
) -> (http::response::Parts, Lines, bool) {
    let mut lines = Lines::with_capacity(256);
    let mut head = Response::new(()).into_parts().0;
    head.status = answer.status;
    for (name, value) in &answer.headers {
        lines.push(name.as_bytes(), value.as_bytes());
        if let (Ok(name), Ok(value)) =
            (name.parse::<http::HeaderName>(), value.parse::<http::HeaderValue>())
        {
            head.headers.append(name, value);
        }
    }
    if let Some((name, value)) = mark {
        lines.push(name.as_bytes(), value.as_bytes());
        if let (Ok(name), Ok(value)) =
            (name.parse::<http::HeaderName>(), value.parse::<http::HeaderValue>())
        {
            head.headers.append(name, value);
        }
    }
    let framed = lines.contains("content-length") || lines.contains("transfer-encoding");
    (head, lines, framed)
}

/// The upstream gave no answer: the app is told why, or sees its own connection end in the same way.
pub(super) fn failed(connection: &Connection, error: &net::Error, mut books: Books) -> Outcome {
    if let net::Error::Request { reason, .. } = error {
        // A stream that the app broke off; in HTTP/1.1, chunks that make no sense.
        if connection.line.is_http2() {
            return Err(connection.give_up());
        }
        let text = format!("brownout: the request is refused: {reason}\n");
        return Ok(made(connection, told(StatusCode::BAD_REQUEST, text), &[], books));
    }
    books.ended(CallEnd::UpstreamFailed);
    let has_status = connection.status_of(error).is_some();
    if error.is_cut() && !has_status {
        return Err(connection.kill(connection.cut_of(error)));
    }
    Ok(made(connection, why(&connection.dependency, error), &[], books))
}

/// What an app is told whose request got no answer.
pub(super) fn why(dependency: &Dependency, error: &net::Error) -> dialect::Answer {
    tracing::debug!(dependency = %dependency.name, %error, "upstream failed");
    let origin = dependency.pool.origin().to_string();
    let named = format!("upstream {} ({origin})", dependency.name);
    let body = format!("brownout: {}\n", error.to_string().replacen(&origin, &named, 1));
    told(status_of(error), body)
}

/// How an app is told that its upstream gave no answer.
pub(super) fn status_of(error: &net::Error) -> StatusCode {
    match error {
        net::Error::Forbidden { .. } => StatusCode::FORBIDDEN,
        net::Error::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn no_tunnels(connection: &Connection, mut books: Books) -> Response<AnswerBody> {
    books.ended(CallEnd::UpstreamFailed);
    let body = format!(
        "brownout: this is a reverse proxy for {}; CONNECT is not served here\n",
        connection.dependency
    );
    made(connection, told(StatusCode::METHOD_NOT_ALLOWED, body), &[], books)
}

/// What we say in our own name.
pub(super) fn told(status: StatusCode, body: String) -> dialect::Answer {
    let headers = vec![
        ("content-type".to_owned(), "text/plain; charset=utf-8".to_owned()),
        ("x-brownout".to_owned(), "upstream-error".to_owned()),
    ];
    dialect::Answer { status, headers, body: Bytes::from(body) }
}

/// The request target for the upstream: the path as it came, behind the base.
fn target(base: &str, uri: Uri) -> Uri {
    if base.is_empty() && uri.authority().is_none() {
        return uri;
    }
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    match PathAndQuery::try_from(format!("{base}{path}")) {
        Ok(path) => Uri::from(path),
        Err(_) => uri,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_keep_their_bytes() {
        let of = |base, uri: &str| target(base, uri.parse().unwrap()).to_string();
        assert_eq!(of("", "/a%2Fb?q=%20&x"), "/a%2Fb?q=%20&x");
        assert_eq!(of("/openai", "/v1/x?y"), "/openai/v1/x?y");
        assert_eq!(of("", "http://other:1/p"), "/p");
        assert_eq!(of("", "*"), "*");
    }
}

//! One request as a user makes it: sent, read as it comes, given up when patience ends.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::{End, Progress, Read, Reader};
use super::error_text;
use crate::dice::Dice;
use crate::measure::{Outcome, Sample};
use crate::net::pool::Answering;
use crate::net::{Clock, Error, Pool};
use crate::units::Span;
use crate::workload::prompt::Source;
use crate::workload::session::{Script, Session};
use crate::workload::template::{Renderer, Said};
use crate::workload::{Answer, Filling, Plan};

/// What is left of a body after its terminal marker is read for this long, to keep the connection.
const DRAIN: Duration = Duration::from_secs(1);

/// Asks the app, turn by turn.
#[derive(Debug)]
pub(crate) struct Client {
    pool: Pool<Full<Bytes>>,
    renderer: Renderer,
    prompts: Source,
    script: Script,
    answer: Arc<Answer>,
    clock: Arc<dyn Clock>,
    patience: Patience,
    /// Ends requests in flight.
    cancel: CancellationToken,
    /// Tells the traces of this run from those of another with the same seed.
    run: u128,
}

/// How long a user waits, and what is said when it was too long.
#[derive(Debug)]
struct Patience {
    total: Duration,
    total_text: Arc<str>,
    first_token: Option<(Duration, Arc<str>)>,
}

/// One turn of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) session: Session,
    pub(crate) turn: u32,
    /// The intended start.
    pub(crate) at: Duration,
    pub(crate) history: &'a [Said],
}

/// A turn that is over.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) sample: Sample,
    /// For the history, where the template asks for it.
    pub(crate) said: Option<Said>,
}

type Body = Answering<Full<Bytes>>;

/// What is known of a request under way, so that it outlasts giving up.
#[derive(Debug, Default)]
struct Trace {
    head: Option<Duration>,
    status: Option<u16>,
    first_byte: Option<Duration>,
    end: Option<Duration>,
    reader: Option<Reader>,
    /// What may follow the terminal marker.
    rest: Option<Body>,
}

impl Client {
    pub(crate) fn new(
        plan: &Plan,
        renderer: Renderer,
        prompts: Source,
        script: Script,
        pool: Pool<Full<Bytes>>,
        clock: Arc<dyn Clock>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            pool,
            renderer,
            prompts,
            script,
            answer: Arc::new(plan.answer.clone()),
            clock,
            patience: Patience::new(plan),
            cancel,
            run: u128::from(Dice::fresh_seed()) << 96,
        }
    }

    /// Asks one turn and waits for its end.
    pub(crate) async fn ask(&self, turn: Turn<'_>) -> Asked {
        let issued = self.clock.now();
        let number = self.prompt_number(turn.session, turn.turn);
        let prompt = self.prompts.get(number);
        let request = self.script.request(turn.session.number, turn.turn);
        let filling = Filling {
            prompt: &prompt,
            user: turn.session.user,
            session: turn.session.number,
            turn: turn.turn,
            request,
            history: turn.history,
        };
        let mut trace = Trace::default();
        let end = match self.renderer.request(&filling) {
            Ok(mut http) => {
                self.label(http.headers_mut(), &turn, request);
                self.talk(http, &mut trace).await
            }
            Err(error) => {
                let text = format!("the request cannot be written: {error}");
                End::Cut(Outcome::Invalid, error_text::shown(&text))
            }
        };
        let ended = trace.end.unwrap_or_else(|| self.clock.now());
        if let Some(rest) = trace.rest.take() {
            read_rest(rest).await;
        }
        let streamed = trace.reader.as_ref().is_some_and(Reader::is_stream);
        let read = match trace.reader {
            Some(reader) => reader.finish(ended, &end),
            None => Read::nothing(end),
        };
        let sample = Sample {
            issued,
            head: trace.head,
            first_byte: trace.first_byte,
            first_token: read.content.first,
            last_token: read.content.last,
            end: ended,
            outcome: read.outcome,
            status: trace.status,
            tokens: read.content.count,
            gaps: read.content.gaps.into(),
            complete: read.complete,
            fallback: read.fallback,
            error: read.error,
            stream: self.renderer.asks_for_stream() || streamed,
            ..self.unsent(&turn, Outcome::Ok)
        };
        let said = self
            .renderer
            .needs_history()
            .then(|| Said { question: prompt.text.clone(), answer: read.text });
        Asked { sample, said }
    }

    /// The sample of a turn that never left the driver.
    pub(crate) fn unsent(&self, turn: &Turn<'_>, outcome: Outcome) -> Sample {
        Sample {
            scheduled: turn.at,
            issued: turn.at,
            head: None,
            first_byte: None,
            first_token: None,
            last_token: None,
            end: turn.at,
            outcome,
            status: None,
            tokens: 0,
            gaps: Box::default(),
            complete: false,
            fallback: false,
            prompt: self.prompt_number(turn.session, turn.turn),
            user: u32::try_from(turn.session.user).unwrap_or(u32::MAX),
            session: turn.session.number,
            turn: turn.turn,
            error: None,
            stream: self.renderer.asks_for_stream(),
        }
    }

    fn prompt_number(&self, session: Session, turn: u32) -> u64 {
        self.script.prompt(session.number, turn, self.prompts.count())
    }

    /// Says who is asking, in the ways that apps pass on.
    fn label(&self, headers: &mut HeaderMap, turn: &Turn<'_>, request: u128) {
        const SESSION: HeaderName = HeaderName::from_static("x-brownout-session");
        const REQUEST: HeaderName = HeaderName::from_static("x-request-id");
        const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
        const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
        let (session, number) = (turn.session.number, u64::from(turn.turn) + 1);
        let (trace, span) = (request ^ self.run, request as u64 | 1);
        let mut say = |name: HeaderName, text: String| {
            // Digits, letters and punctuation only.
            if !headers.contains_key(&name)
                && let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text))
            {
                headers.append(name, value);
            }
        };
        // Session and turn: what faults are drawn from, so that a retry of an earlier turn moves
        // nothing later.
        say(SESSION, format!("session-{session}/{number}"));
        say(REQUEST, format!("{request:032x}"));
        say(TRACEPARENT, format!("00-{trace:032x}-{span:016x}-01"));
        let baggage = format!("brownout.session=session-{session}/{number},synthetic_request=true");
        say(BAGGAGE, baggage);
    }

    /// The whole exchange, within the user's patience.
    async fn talk(&self, request: Request<Bytes>, trace: &mut Trace) -> End {
        tokio::select! {
            biased;
            end = self.exchange(request.map(Full::new), trace) => end,
            () = tokio::time::sleep(self.patience.total) => {
                End::Cut(Outcome::Timeout, self.patience.total_text.clone())
            }
            () = self.cancel.cancelled() => {
                End::Cut(Outcome::CancelledByDriver, "the run was over".into())
            }
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, trace: &mut Trace) -> End {
        let first_token = self.patience.first_token.as_ref();
        let limit = first_token.map(|(time, _)| Instant::now() + *time);
        let too_late = || {
            let text = first_token.map(|(_, text)| text.clone());
            End::Cut(Outcome::Timeout, text.unwrap_or_default())
        };
        let response = match within(limit, self.pool.send(request)).await {
            None => return too_late(),
            Some(Err(error)) => return cut(&error, false),
            Some(Ok(response)) => response,
        };
        let mut body = self.head(response, trace);
        loop {
            let Some(reader) = &mut trace.reader else { return End::Clean };
            let limit = limit.filter(|_| !reader.has_content());
            let frame = match within(limit, body.frame()).await {
                None => return too_late(),
                Some(None) => {
                    trace.end = Some(self.clock.now());
                    return End::Clean;
                }
                Some(Some(Err(error))) => return cut(&error, true),
                Some(Some(Ok(frame))) => frame,
            };
            let at = self.clock.now();
            let Ok(piece) = frame.into_data() else { continue };
            trace.first_byte.get_or_insert(at);
            if reader.push(at, piece) == Progress::Ended {
                trace.end = Some(at);
                trace.rest = Some(body);
                return End::Clean;
            }
        }
    }

    fn head(&self, response: Response<Body>, trace: &mut Trace) -> Body {
        trace.head = Some(self.clock.now());
        let (head, body) = response.into_parts();
        trace.status = Some(head.status.as_u16());
        let keep_text = self.renderer.needs_history();
        let answer = self.answer.clone();
        trace.reader = Some(Reader::new(answer, head.status, &head.headers, keep_text));
        body
    }
}

impl Patience {
    fn new(plan: &Plan) -> Self {
        let total_text = format!("timeout (total): no whole answer within {}", Span(plan.timeout));
        let first_token = plan.first_token_timeout.map(|time| {
            let text = format!("timeout (first token): nothing to read within {}", Span(time));
            (time, text.into())
        });
        Self { total: plan.timeout, total_text: total_text.into(), first_token }
    }
}

/// What becomes of a request whose connection failed, in words that are the same for the same cause.
fn cut(error: &Error, answering: bool) -> End {
    let (outcome, text) = match error {
        Error::Closed { .. } if answering => {
            (Outcome::Aborted, "the connection was closed in mid-answer".into())
        }
        Error::Closed { .. } => {
            (Outcome::Aborted, "the connection was closed before any answer".into())
        }
        Error::Reset { .. } if answering => {
            (Outcome::Aborted, "the connection was reset in mid-answer".into())
        }
        Error::Reset { .. } => {
            (Outcome::Aborted, "the connection was reset before any answer".into())
        }
        Error::Timeout { after, .. } => {
            let text = format!("timeout (connect): no connection within {}", Span(*after));
            (Outcome::Timeout, text.into())
        }
        Error::Refused { .. } => (Outcome::Refused, "the connection was refused".into()),
        connect if connect.is_connect() => {
            (Outcome::Refused, error_text::shown(&connect.to_string()))
        }
        other => (Outcome::Invalid, error_text::shown(&other.to_string())),
    };
    End::Cut(outcome, text)
}

/// Waits for a future up to a time, if there is one; None when it was too late.
async fn within<T>(limit: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match limit {
        None => Some(future.await),
        Some(limit) => tokio::time::timeout_at(limit, future).await.ok(),
    }
}

/// Reads what follows a terminal marker, so that the connection can be used again: at once what is
/// there, and behind the user's back what is not.
async fn read_rest(mut rest: Body) {
    let ended = poll_fn(|cx| {
        loop {
            match Pin::new(&mut rest).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(true),
                Poll::Pending => return Poll::Ready(false),
            }
        }
    });
    if !ended.await {
        tokio::spawn(async move {
            let all = async { while let Some(Ok(_)) = rest.frame().await {} };
            let _ = tokio::time::timeout(DRAIN, all).await;
        });
    }
}

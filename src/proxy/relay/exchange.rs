//! One exchange on the short way: both directions at once, in one task, with bytes held only for a
//! side that is slower than the other.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::StatusCode;

use super::head;
use super::lane::Lane;
use super::side::Scratch;
use super::{Relay, Request};
use crate::fault::Ending;
use crate::measure::CallEnd;
use crate::net;
use crate::proxy::call::Books;
use crate::proxy::connection::Dependency;
use crate::proxy::reverse;
use crate::wire::http1::{self, Body};

/// What becomes of the app's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    Close,
    /// The app has gone.
    Gone,
    /// Another request may follow.
    Next,
    Reset,
}

pub(super) struct Exchange<'a> {
    relay: &'a mut Relay,
    dependency: Arc<Dependency>,
    books: Option<Books>,
    upload: Upload,
    lane: Lane,
    answer: Answer,
    /// The request was a `HEAD`.
    to_head: bool,
    /// The app's connection ends behind the answer.
    last: bool,
    /// The upstream's connection can be used again.
    keep: bool,
    /// Another connection is being made, and has not been polled.
    started_over: bool,
}

/// The request's body on its way up.
enum Upload {
    /// It goes no further.
    Broken,
    Going(Body),
    Whole,
}

/// The answer on its way down.
enum Answer {
    Body(Body),
    /// It broke off; the app sees the same end when it has what came before.
    Cut(Ending),
    /// Its head is awaited; this much of it is there, and so much was searched for its end.
    Head(Vec<u8>, usize),
    Whole,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(relay: &'a mut Relay, request: Request) -> Self {
        let dependency = Arc::clone(&relay.connection.dependency);
        let mut books = Books::begin(&relay.connection, request.retry);
        books.upstream_called();
        Self {
            lane: Lane::open(dependency.pool.raw(), request.first),
            relay,
            books: Some(books),
            upload: match request.body.is_whole() {
                true => Upload::Whole,
                false => Upload::Going(request.body),
            },
            answer: Answer::Head(Vec::new(), 0),
            to_head: request.is_head,
            last: request.close,
            keep: false,
            started_over: false,
            dependency,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<After> {
        loop {
            if let Err(error) = self.lane.poll_connect(cx) {
                self.fail(cx, &error);
            }
            if let Some(after) = self.poll_upload(cx, scratch) {
                return Poll::Ready(after);
            }
            let polled = self.poll_answer(cx, scratch);
            if polled.is_ready() || !std::mem::take(&mut self.started_over) {
                return polled;
            }
        }
    }

    /// Moves the request on; says so when the app has gone.
    fn poll_upload(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Option<After> {
        loop {
            let drained = match &mut self.lane {
                Lane::Open(side) => match side.poll_drain(cx) {
                    Poll::Ready(Ok(())) => true,
                    Poll::Ready(Err(_)) => {
                        self.upload_broke();
                        return None;
                    }
                    Poll::Pending => false,
                },
                _ => false,
            };
            let watches = matches!(self.upload, Upload::Whole) && self.relay.ahead.is_empty();
            let goes_on = matches!(self.upload, Upload::Going(_)) && drained;
            if !watches && !goes_on {
                return None;
            }
            let count = match self.relay.app.poll_read(cx, scratch) {
                Poll::Pending => return None,
                Poll::Ready(Ok(count @ 1..)) => count,
                Poll::Ready(Ok(0) | Err(_)) => return Some(After::Gone),
            };
            if let (Upload::Going(body), Lane::Open(side)) = (&mut self.upload, &mut self.lane) {
                // Hyper ends the connection here too.
                let Ok(taken) = body.follow(scratch.read(count)) else {
                    return Some(After::Close);
                };
                let rest = &scratch.read(count)[taken.bytes..];
                self.relay.ahead.extend_from_slice(rest);
                side.write_read(cx, scratch, taken.bytes);
                if body.is_whole() {
                    self.upload = Upload::Whole;
                }
            } else {
                self.relay.ahead.extend_from_slice(scratch.read(count));
            }
        }
    }

    /// The upstream takes no more. It may have answered before it closed.
    fn upload_broke(&mut self) {
        if self.lane.start_over(self.dependency.pool.raw()) {
            self.started_over = true;
            return;
        }
        self.upload = Upload::Broken;
        if let Lane::Open(side) = &mut self.lane {
            side.discard();
        }
    }

    /// Moves the answer on.
    fn poll_answer(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<After> {
        loop {
            match self.relay.app.poll_drain(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(After::Gone),
                // The upstream goes on meanwhile, for one more piece.
                Poll::Pending
                    if matches!(self.answer, Answer::Body(_)) && self.relay.app.has_room() => {}
                Poll::Pending => return Poll::Pending,
            }
            match self.answer {
                Answer::Cut(Ending::Reset) => return Poll::Ready(After::Reset),
                Answer::Cut(_) => return Poll::Ready(After::Close),
                Answer::Whole => {
                    self.books = None;
                    if let Some(after) = self.finish() {
                        return Poll::Ready(after);
                    }
                }
                Answer::Head(..) | Answer::Body(_) => {}
            }
            let Lane::Open(side) = &mut self.lane else { return Poll::Pending };
            match ready!(side.poll_read(cx, scratch)) {
                Ok(count @ 1..) => {
                    side.forget();
                    self.take(cx, scratch, count);
                }
                Ok(0) => self.upstream_ended(cx, None),
                Err(error) => self.upstream_ended(cx, Some(&error)),
            }
        }
    }

    /// After a whole answer: what follows, when the request is whole too.
    fn finish(&mut self) -> Option<After> {
        let whole = match (&self.upload, &self.lane) {
            (Upload::Going(_), _) => return None,
            (Upload::Whole, Lane::Open(side)) if !side.is_drained() => return None,
            (Upload::Whole, _) => true,
            (Upload::Broken, _) => false,
        };
        if whole && self.keep {
            self.lane.release(self.dependency.pool.raw());
        }
        Some(if whole && !self.last { After::Next } else { After::Close })
    }

    /// Bytes of the answer.
    fn take(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, count: usize) {
        let bytes = scratch.read(count);
        match &mut self.answer {
            Answer::Head(held, searched) => {
                let mut searched = *searched;
                if held.is_empty() {
                    self.take_heads(cx, bytes, &mut searched);
                } else {
                    let mut all = std::mem::take(held);
                    all.extend_from_slice(bytes);
                    self.take_heads(cx, &all, &mut searched);
                }
            }
            Answer::Body(body) => {
                let Ok(taken) = body.follow(bytes) else { return self.cut(Ending::Close) };
                let whole = body.is_whole();
                self.pass(taken, count, whole);
                self.relay.app.write_read(cx, scratch, taken.bytes);
            }
            // More than was asked for.
            Answer::Whole | Answer::Cut(_) => {
                self.keep = false;
                self.upload = Upload::Broken;
            }
        }
    }

    /// Bytes from the start of a head.
    fn take_heads(&mut self, cx: &mut Context<'_>, bytes: &[u8], searched: &mut usize) {
        let mut rest = bytes;
        loop {
            let end = match http1::answer_end(rest, searched) {
                Ok(Some(end)) => end,
                Ok(None) => {
                    self.answer = Answer::Head(rest.to_vec(), *searched);
                    return;
                }
                Err(bad) => return self.no_answer(cx, &bad),
            };
            *searched = 0;
            let (head, behind) = rest.split_at(end);
            let answer = match head::Answer::read(head, self.to_head) {
                Ok(answer) => answer,
                Err(bad) => return self.no_answer(cx, &bad),
            };
            if !answer.framed.is_interim() {
                return self.begin(cx, &answer, rest, end);
            }
            match answer.framed.plain {
                true => self.relay.app.write(cx, head),
                false => {
                    let head = head::answer(head, &answer.framed, false);
                    self.relay.app.write_owned(cx, head);
                }
            }
            self.answer = Answer::Head(Vec::new(), 0);
            if behind.is_empty() {
                return;
            }
            rest = behind;
        }
    }

    /// The answer proper: its head ends at `end`, its body follows.
    fn begin(&mut self, cx: &mut Context<'_>, answer: &head::Answer<'_>, bytes: &[u8], end: usize) {
        let (head, behind) = bytes.split_at(end);
        let framed = &answer.framed;
        if let (Some(books), Ok(status)) = (&mut self.books, StatusCode::from_u16(framed.status)) {
            books.head(status, answer.retry_after());
        }
        self.last |= self.dependency.drain.is_cancelled();
        self.keep = framed.keep;
        let mut body = Body::of_answer(framed.framing);
        let followed = body.follow(behind);
        let taken = followed.unwrap_or_default();
        if framed.plain && !self.last {
            self.relay.app.write(cx, &bytes[..end + taken.bytes]);
        } else {
            let mut out = head::answer(head, framed, self.last);
            out.extend_from_slice(&behind[..taken.bytes]);
            self.relay.app.write_owned(cx, out);
        }
        if followed.is_err() {
            return self.cut(Ending::Close);
        }
        let whole = body.is_whole();
        self.answer = Answer::Body(body);
        self.pass(taken, behind.len(), whole);
    }

    /// Part of the body goes on, out of `count` bytes that came.
    fn pass(&mut self, taken: http1::Taken, count: usize, whole: bool) {
        let Some(books) = &mut self.books else { return };
        if taken.payload > 0 {
            books.sent(taken.payload);
        }
        if whole {
            books.ended(CallEnd::Complete);
            self.answer = Answer::Whole;
            // What comes unasked is nobody's answer.
            self.keep &= taken.bytes == count;
        }
    }

    /// The upstream has ended its connection.
    fn upstream_ended(&mut self, cx: &mut Context<'_>, error: Option<&io::Error>) {
        let pool = self.dependency.pool.raw();
        let failure = || error.map_or_else(|| pool.closed(), |error| pool.failure(error));
        self.keep = false;
        match &self.answer {
            Answer::Head(..) => {
                let error = failure();
                if error.is_cut() && self.lane.start_over(pool) {
                    self.started_over = true;
                } else {
                    self.fail(cx, &error);
                }
            }
            Answer::Body(body) if body.ends_with_connection() && error.is_none() => {
                if let Some(books) = &mut self.books {
                    books.ended(CallEnd::Complete);
                }
                self.answer = Answer::Whole;
                self.last = true;
                self.upload = match self.upload {
                    Upload::Whole => Upload::Whole,
                    _ => Upload::Broken,
                };
                self.lane = Lane::Closed;
            }
            Answer::Body(_) => {
                let ending = self.relay.connection.cut_of(&failure());
                self.cut(ending);
            }
            Answer::Whole | Answer::Cut(_) => {
                self.upload = Upload::Broken;
                self.lane = Lane::Closed;
            }
        }
    }

    fn cut(&mut self, ending: Ending) {
        if let Some(books) = &mut self.books {
            books.ended(CallEnd::UpstreamCut);
        }
        self.answer = Answer::Cut(ending);
        self.lane = Lane::Closed;
    }

    fn no_answer(&mut self, cx: &mut Context<'_>, reason: &dyn std::fmt::Display) {
        let error = self.dependency.pool.raw().no_answer(reason);
        self.fail(cx, &error);
    }

    /// There is no answer: the app is told why, or sees its own connection end in the same way.
    fn fail(&mut self, cx: &mut Context<'_>, error: &net::Error) {
        self.lane = Lane::Closed;
        let Some(books) = &mut self.books else { return };
        books.ended(CallEnd::UpstreamFailed);
        if error.is_cut() {
            self.answer = Answer::Cut(self.relay.connection.cut_of(error));
            return;
        }
        if !matches!(self.upload, Upload::Whole) {
            // Nobody reads the rest of it.
            self.upload = Upload::Broken;
        }
        let told = reverse::why(&self.dependency, error);
        let last = self.last || matches!(self.upload, Upload::Broken);
        books.head(told.status, None);
        let mut out = head::made(&told, last);
        if !self.to_head {
            books.sent(told.body.len());
            out.extend_from_slice(&told.body);
        }
        self.answer = Answer::Whole;
        self.relay.app.write_owned(cx, out);
    }
}

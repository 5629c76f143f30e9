//! What comes in at a socket: messages are followed byte by byte, so that each head is seen whole,
//! checked, and kept before hyper sees any of it. A request that is refused never reaches hyper.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{HEAD, KEEP, Socket};
use crate::net::head::{Framing, Scanner};
use crate::wire::http1::{self, Body};
use crate::wire::strict::{self, Refusal};

/// How long a request's head may take from its first byte to its last.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// What hyper is shown in the place of a request that is refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// A request's head, or what comes before it.
    RequestHead,
    /// So many bytes of a request's body are still to come; whether another protocol may follow.
    RequestBody(u64, bool),
    RequestChunks(Body),
    /// Perhaps another protocol: nothing of it is looked at. Whether any of it came.
    Unknown(bool),
    /// A request was refused; nothing more is read.
    Refused,
    /// A request was kept from hyper, and everything behind it; hyper sees the end.
    Left,
    /// An answer's head.
    AnswerHead,
    /// An answer's body, or nothing is expected.
    Answer,
}

impl<S> Socket<S> {
    /// Follows the messages through the bytes that were read; what belongs to a later message
    /// stays in the stash. Gives back how many bytes hyper may see; a request's head it sees whole,
    /// or not at all.
    fn follow(&mut self, new: &[u8]) -> io::Result<usize> {
        match self.reading {
            Reading::RequestHead => {
                let begun = self.scanner.has_begun();
                let Some((used, head)) = self.scanner.feed(new) else {
                    if let Err(refusal) = strict::check_part(self.scanner.bytes()) {
                        self.refuse(refusal);
                    }
                    return Ok(0);
                };
                self.slow = None;
                if self.leaving.is_due() {
                    self.reading = Reading::Left;
                    self.stash = [head.bytes(), &new[used..]].concat();
                    return Ok(0);
                }
                self.leaving.shown += 1;
                if let Err(refusal) = strict::check(head.bytes()) {
                    self.refuse(refusal);
                    return Ok(0);
                }
                if begun {
                    self.ready.extend_from_slice(head.bytes());
                }
                self.reading = match head.request_framing() {
                    Framing::Chunked => {
                        Reading::RequestChunks(Body::of_request(http1::Framing::Chunked))
                    }
                    Framing::Length(length) => {
                        Reading::RequestBody(length, head.may_change_protocol())
                    }
                    Framing::Unknown => Reading::Unknown(false),
                };
                self.wire.slots.lock().head = Some(head);
                let Ok(body) = self.follow(&new[used..]) else {
                    // Hyper has seen nothing of it yet.
                    self.refuse(Refusal::Chunks);
                    return Ok(0);
                };
                if begun {
                    self.ready.extend_from_slice(&new[used..used + body]);
                    return Ok(0);
                }
                Ok(used + body)
            }
            Reading::RequestBody(left, open) => {
                let used = usize::try_from(left).map_or(new.len(), |left| left.min(new.len()));
                let left = left - used as u64;
                self.reading = match (left, open) {
                    (0, false) => Reading::RequestHead,
                    (0, true) => Reading::Unknown(used < new.len()),
                    _ => Reading::RequestBody(left, open),
                };
                if left == 0 && open {
                    return Ok(new.len());
                }
                self.stash.extend_from_slice(&new[used..]);
                Ok(used)
            }
            Reading::RequestChunks(mut body) => {
                let taken = body.follow(new);
                let taken = taken.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
                self.reading = match body.is_whole() {
                    true => Reading::RequestHead,
                    false => Reading::RequestChunks(body),
                };
                self.stash.extend_from_slice(&new[taken.bytes..]);
                Ok(taken.bytes)
            }
            Reading::Unknown(any) => {
                self.reading = Reading::Unknown(any || !new.is_empty());
                Ok(new.len())
            }
            Reading::Answer => Ok(new.len()),
            Reading::Refused | Reading::Left => Ok(0),
            Reading::AnswerHead => {
                let mut from = 0;
                while let Some((used, head)) = self.scanner.feed(&new[from..]) {
                    from += used;
                    if !head.is_interim() {
                        self.wire.slots.lock().head = Some(head);
                        self.reading = Reading::Answer;
                        break;
                    }
                }
                Ok(new.len())
            }
        }
    }

    /// Hyper is shown a request that stands for the refused one, in its turn; the connection is
    /// closed behind its answer.
    fn refuse(&mut self, refusal: Refusal) {
        let mut slots = self.wire.slots.lock();
        slots.refusal = Some(refusal);
        slots.head = None;
        drop(slots);
        self.reading = Reading::Refused;
        self.ready = STAND_IN.to_vec();
        self.stash = Vec::new();
        self.scanner = Scanner::default();
        self.slow = None;
    }

    /// Hyper is shown the end of the stream; who called it gets what was read since.
    fn leave(&mut self) {
        self.leaving.has_left = true;
        self.wire.slots.lock().left = Some(std::mem::take(&mut self.stash).into());
    }

    fn is_following(&mut self) -> bool {
        if self.wire.has(HEAD) {
            self.wire.clear(HEAD);
            self.reading = match self.reading {
                // What came of it is with hyper, so where the next head begins cannot be told.
                Reading::Unknown(true) => Reading::Answer,
                Reading::Unknown(false) => Reading::RequestHead,
                Reading::Answer if !self.wire.has(KEEP) => Reading::AnswerHead,
                reading => reading,
            };
        }
        self.reading != Reading::Answer
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Whether a head that has begun takes too long; the request is then refused.
    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        if self.reading != Reading::RequestHead || !self.scanner.has_begun() {
            return false;
        }
        let slow = self.slow.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEAD_TIME)));
        if slow.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.refuse(Refusal::Slow(HEAD_TIME.as_secs()));
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        loop {
            if !this.ready.is_empty() {
                put(&mut this.ready, buf);
                return Poll::Ready(Ok(()));
            }
            match this.reading {
                Reading::Refused => return Poll::Pending,
                Reading::Left => return Poll::Ready(Ok(())),
                _ => {}
            }
            let following = this.is_following();
            let later = if this.stash.is_empty() {
                match this.stream().poll_read(cx, buf)? {
                    Poll::Ready(()) => Vec::new(),
                    Poll::Pending if this.is_too_slow(cx) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            } else {
                put(&mut this.stash, buf);
                std::mem::take(&mut this.stash)
            };
            if buf.filled().len() == start {
                return Poll::Ready(Ok(()));
            }
            if !following {
                // What is stashed now is for hyper, too.
                this.stash = later;
                return Poll::Ready(Ok(()));
            }
            let keep = this.follow(&buf.filled()[start..])?;
            // What was not taken yet stands behind what was put back.
            this.stash.extend_from_slice(&later);
            buf.set_filled(start + keep);
            if this.reading == Reading::Left {
                this.leave();
                return Poll::Ready(Ok(()));
            }
            if keep > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Moves as much as there is room for.
fn put(from: &mut Vec<u8>, buf: &mut ReadBuf<'_>) {
    let count = from.len().min(buf.remaining());
    buf.put_slice(&from[..count]);
    from.drain(..count);
    if from.is_empty() {
        *from = Vec::new();
    }
}

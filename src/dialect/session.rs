//! A protocol over one raw connection, followed on both sides: where requests begin and answers end,
//! and what is said in the server's place. It is pure; it holds back nothing but the piece it reads.

use std::fmt::Debug;

use bytes::Bytes;

use super::Answer;
use crate::exchange::{Event, Operation};

/// Follows one connection. Each side's bytes are shown in order, and each call takes the front of them.
pub trait Session: Debug + Send {
    /// What the front of the app's bytes is. `whole`: a request is wanted whole, since a fault may
    /// act on it; else everything passes as it comes.
    fn up(&mut self, bytes: &[u8], whole: bool) -> Up;

    /// What the front of the server's bytes is. `whole`: messages are wanted one by one.
    fn down(&mut self, bytes: &[u8], whole: bool) -> Down;

    /// How the request that `up` has just given is answered in the server's place. `idle`: all
    /// answers before it have come.
    fn refuse(&mut self, answer: &Answer, idle: bool) -> Refusal;

    /// The connection is refused at its start with this answer.
    fn refuse_connection(&self, answer: &Answer) -> Bytes {
        answer.body.clone()
    }

    /// What is left of a message when the answer was ended early in good order, after so many rows, or
    /// with an error; None: it is dropped.
    fn after_end(&self, _event: &Event, _rows: u64, _erred: bool) -> Option<Bytes> {
        None
    }
}

/// The front of what the app sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Up {
    /// A request of this many bytes, whole (or its beginning, where it is very long).
    Ask { len: usize, asked: Asked },
    /// More is needed.
    More,
    /// From here on nothing can be told apart.
    Opaque,
    /// The app introduces itself with these bytes; then requests follow.
    Opening { len: usize, label: String },
    /// These bytes pass; with them a request begins, or none does.
    Pass { len: usize, begins: bool },
    /// These bytes are not for the server: they belong to a request that was refused, or are for us.
    /// The app gets this reply, which may be the last of that answer.
    Skip { len: usize, reply: Bytes, over: bool },
}

/// The front of what the server sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Down {
    More,
    /// From here on nothing can be told apart.
    Opaque,
    /// A whole message, which may be the last of an answer.
    /// `said`: it is what an answer of ours would stand in place of.
    Part {
        event: Event,
        said: bool,
        ends: Option<Reply>,
    },
    /// These bytes pass as they are; with them an answer may end.
    Pass {
        len: usize,
        ends: Option<Reply>,
    },
}

/// What a request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The word for `where: { path: … }`, such as `/select`.
    pub path: String,
    pub operation: Operation,
    /// The index that is searched, where the request names one.
    pub collection: Option<String>,
    /// A hash of all that was asked.
    pub hash: u64,
    pub len: usize,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200, or what HTTP would say of such an error.
    pub status: u16,
}

/// What is done with a request that a fault answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// What the server gets in its place, so that it agrees that something failed.
    pub upstream: Bytes,
    /// What the app gets; with `upstream` set, in place of what the server says to that.
    pub app: Bytes,
    /// Whether the answer is over with that.
    pub over: bool,
    /// Whether the server would close the connection now.
    pub close: bool,
}

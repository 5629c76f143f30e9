//! A PostgreSQL session followed on both sides: query cycles from their first message to
//! ReadyForQuery, prepared statements by name, and errors in the server's place.
//!
//! Inside a transaction, or when answers are outstanding, an error of ours must be the server's too: it
//! gets a statement that fails in place of the app's, and its error is replaced by ours. So the
//! transaction has really failed, savepoints and ROLLBACK mean what they say, and nothing is emulated.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::{sql, words};
use crate::dialect::Answer;
use crate::dialect::session::{Asked, Down, Refusal, Reply, Session, Up};
use crate::dice::hash_bytes;
use crate::exchange::{Event, Framing, Operation};
use crate::wire::postgres::{self as wire, Framer, Malformed, Opening};

/// A request longer than this is judged by its beginning.
const WHOLE: usize = 1 << 20;
/// A message of the server longer than this passes in pieces.
const LONG: usize = 256 << 10;
/// Prepared statements remembered; others are known by their name alone.
const STATEMENTS: usize = 4096;
/// In place of a statement; it has a name, so that the unnamed statement stays what it is.
const FAILING: &[u8] =
    b"brownout_injected\0brownout injected an error in place of this statement\0\0\0";

/// One session.
#[derive(Debug)]
pub(super) struct Following {
    tls_passes: bool,
    opened: bool,
    user: String,
    up: Framer,
    down: Framer,
    /// The transaction's state at the last ReadyForQuery.
    status: u8,
    /// Cycles that lack their ReadyForQuery; whether each uses the extended protocol.
    cycles: VecDeque<bool>,
    /// A cycle has begun and lacks its Sync, or the rest of its only message.
    open: bool,
    copying: Copying,
    skipping: Skipping,
    statements: HashMap<Vec<u8>, Statement>,
    /// What the request was that was given last.
    asked: Statement,
    /// What the answer under way has said of an error.
    failing: Option<u16>,
}

#[derive(Clone, Debug, Default)]
struct Statement {
    verb: String,
    operation: Operation,
    hash: u64,
}

/// COPY FROM STDIN: while it lasts, and at its end, the server overlooks one Sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Copying {
    Ended,
    No,
    Yes { extended: bool },
}

/// What becomes of the rest of a request that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Skipping {
    /// The rest of one message.
    Message,
    No,
    /// Everything up to Sync, which we answer.
    ToOwnSync,
    /// Everything up to Sync, which the server answers.
    ToSync,
}

/// The event that a message is.
pub(super) fn event(kind: u8, raw: Bytes) -> Event {
    let data = raw.slice(5.min(raw.len())..);
    Event { framing: Framing::Protocol, raw, name: Some(char::from(kind).to_string()), data }
}

impl Following {
    pub(super) fn new(tls_passes: bool) -> Self {
        Self {
            tls_passes,
            opened: false,
            user: String::new(),
            up: Framer::default(),
            down: Framer::default(),
            status: b'I',
            cycles: VecDeque::new(),
            open: false,
            copying: Copying::No,
            skipping: Skipping::No,
            statements: HashMap::new(),
            asked: Statement::default(),
            failing: None,
        }
    }

    fn opening(&mut self, bytes: &[u8]) -> Up {
        match wire::opening(bytes) {
            Ok(None) => Up::More,
            Ok(Some((len, Opening::Ssl | Opening::Gss))) if !self.tls_passes => {
                Up::Skip { len, reply: Bytes::from_static(b"N"), over: false }
            }
            Ok(Some((len, Opening::Startup { user, database }))) => {
                self.opened = true;
                self.cycles.push_back(false);
                let label = format!("{user}@{database}");
                self.user = user;
                Up::Opening { len, label }
            }
            // TLS that passes, a cancellation, or what is no PostgreSQL at all.
            Ok(Some((_, Opening::Ssl | Opening::Gss | Opening::Cancel))) | Err(Malformed) => {
                Up::Opaque
            }
        }
    }

    /// Takes one message or what is there of it; whether a cycle begins with it.
    fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let step = self.up.step(bytes, |kind| matches!(kind, b'P' | b'C'))?;
        let mut begins = false;
        if let Some(kind) = step.began {
            let overlooked = kind == b'S' && self.copying != Copying::No;
            begins = begins_cycle(kind) && !self.open && !overlooked;
            if begins {
                self.open = true;
                self.cycles.push_back(!matches!(kind, b'Q' | b'F'));
            }
        }
        match step.ended {
            Some(b'Q' | b'F') => self.open = false,
            Some(b'S') => match self.copying {
                Copying::No => self.open = false,
                Copying::Ended => self.copying = Copying::No,
                Copying::Yes { .. } => {}
            },
            Some(b'c' | b'f') => {
                let extended = self.copying == Copying::Yes { extended: true };
                self.copying = if extended { Copying::Ended } else { Copying::No };
            }
            Some(b'P') => self.learn(),
            Some(b'C') => self.forget(),
            _ => {}
        }
        Ok((step.taken, begins))
    }

    /// A statement is prepared.
    fn learn(&mut self) {
        let Some((name, rest)) = wire::name(self.up.kept()) else { return };
        let sql = wire::name(rest).map_or(rest, |(sql, _)| sql);
        let statement = statement(sql);
        if self.statements.len() < STATEMENTS || self.statements.contains_key(name) {
            self.statements.insert(name.to_vec(), statement);
        }
    }

    /// A statement is closed.
    fn forget(&mut self) {
        if let Some((b'S', name)) = self.up.kept().split_first().map(|(kind, name)| (*kind, name)) {
            let name = name.strip_suffix(b"\0").unwrap_or(name);
            self.statements.remove(name);
        }
    }

    /// A request that a fault may act on.
    fn request(&mut self, bytes: &[u8]) -> Result<Up, Malformed> {
        let mut end = 0;
        let mut asked: Option<Statement> = None;
        let mut hash = 0;
        // Whether anything is to be done, or a statement is prepared, described or closed for later.
        let mut runs = false;
        loop {
            let rest = &bytes[end..];
            let Some((kind, length)) = wire::head(rest)? else {
                if end == 0 || bytes.len() < WHOLE {
                    return Ok(Up::More);
                }
                break;
            };
            if !begins_cycle(kind) || matches!(kind, b'Q' | b'F') && end > 0 {
                break;
            }
            let whole = length <= rest.len();
            if !whole && bytes.len() < WHOLE {
                return Ok(Up::More);
            }
            let payload = &rest[5.min(rest.len())..length.min(rest.len())];
            self.read(kind, payload, &mut asked, &mut hash);
            // Behind a Flush the rest follows.
            runs |= matches!(kind, b'Q' | b'F' | b'E' | b'H') || !whole;
            end += length.min(rest.len());
            if !whole || matches!(kind, b'Q' | b'F' | b'S' | b'H') {
                break;
            }
        }
        let alone = matches!(bytes.first(), Some(b'S' | b'H')) && end == 5;
        if end == 0 || alone {
            return self.advance(bytes).map(|(len, begins)| Up::Pass { len, begins });
        }
        let mut taken = 0;
        while taken < end {
            taken += self.advance(&bytes[taken..end])?.0;
        }
        self.asked = asked.unwrap_or_default();
        if !runs {
            let verb = if bytes[0] == b'P' { "prepare" } else { "" }.to_owned();
            self.asked = Statement { verb, operation: Operation::Other, ..self.asked.clone() };
        }
        let asked = Asked {
            path: format!("/{}", self.asked.verb),
            operation: self.asked.operation,
            collection: None,
            hash: self.asked.hash.rotate_left(17) ^ hash,
            len: end,
        };
        Ok(Up::Ask { len: end, asked })
    }

    /// What a message says of the request; `hash` is of its parameters.
    fn read(&self, kind: u8, payload: &[u8], asked: &mut Option<Statement>, hash: &mut u64) {
        match kind {
            b'Q' => *asked = Some(statement(wire::name(payload).map_or(payload, |(sql, _)| sql))),
            b'P' => {
                let Some((_, rest)) = wire::name(payload) else { return };
                let sql = wire::name(rest).map_or(rest, |(sql, _)| sql);
                self.note(asked, statement(sql));
            }
            b'B' => {
                let Some((name, values)) =
                    wire::name(payload).and_then(|(_, rest)| wire::name(rest))
                else {
                    return;
                };
                *hash = hash.rotate_left(9) ^ hash_bytes(values);
                if let Some(known) = self.statements.get(name).filter(|_| !name.is_empty()) {
                    self.note(asked, known.clone());
                } else if asked.is_none() {
                    let known = self.statements.get(name).cloned();
                    let unknown = || Statement { hash: hash_bytes(name), ..Statement::default() };
                    *asked = Some(known.unwrap_or_else(unknown));
                }
            }
            b'F' => *hash ^= hash_bytes(payload),
            _ => {}
        }
    }

    /// Of several statements the first that reads or writes counts, else the first.
    fn note(&self, asked: &mut Option<Statement>, next: Statement) {
        match asked {
            Some(first)
                if first.operation != Operation::Other || next.operation == Operation::Other =>
            {
                first.hash = first.hash.rotate_left(7) ^ next.hash;
            }
            _ => *asked = Some(next),
        }
    }

    /// The rest of a request that was refused.
    fn skip(&mut self, bytes: &[u8]) -> Result<Up, Malformed> {
        let mut len = 0;
        while len < bytes.len() {
            let sync = self.up.between() && bytes[len] == b'S';
            if sync && self.skipping == Skipping::ToSync {
                self.skipping = Skipping::No;
                if len > 0 {
                    break;
                }
                return self.advance(bytes).map(|(len, begins)| Up::Pass { len, begins });
            }
            len += self.advance(&bytes[len..])?.0;
            if !self.up.between() {
                continue;
            }
            if self.skipping == Skipping::Message {
                self.skipping = Skipping::No;
                break;
            }
            if sync {
                self.skipping = Skipping::No;
                self.cycles.pop_back();
                return Ok(Up::Skip { len, reply: wire::ready(b'I'), over: true });
            }
        }
        Ok(Up::Skip { len, reply: Bytes::new(), over: false })
    }

    /// Notes what a whole message of the server says.
    fn hear(&mut self, kind: u8, payload: &[u8]) -> Option<Reply> {
        match kind {
            b'E' => {
                let code = wire::field(payload, b'C').unwrap_or_default();
                self.failing.get_or_insert(words::status_of(code));
            }
            b'G' | b'W' => {
                let extended = self.cycles.front() == Some(&true);
                self.copying = Copying::Yes { extended };
            }
            b'Z' => {
                self.status = payload.first().copied().unwrap_or(b'I');
                self.copying = match self.copying {
                    Copying::Yes { .. } => Copying::No,
                    other => other,
                };
                self.cycles.pop_front();
                return Some(Reply { status: self.failing.take().unwrap_or(200) });
            }
            _ => {}
        }
        None
    }

    fn listen(&mut self, bytes: &[u8]) -> Result<(usize, Option<Reply>), Malformed> {
        let step = self.down.step(bytes, |kind| matches!(kind, b'E' | b'G' | b'W' | b'Z'))?;
        let ends = step.ended.and_then(|kind| {
            let payload = self.down.kept().to_vec();
            self.hear(kind, &payload)
        });
        Ok((step.taken, ends))
    }

    /// One message of the server, whole.
    fn part(&mut self, bytes: &[u8]) -> Result<Down, Malformed> {
        let Some((kind, length)) = wire::head(bytes)? else { return Ok(Down::More) };
        if length > bytes.len() && length <= LONG {
            return Ok(Down::More);
        }
        let (len, ends) = self.listen(bytes)?;
        if length > LONG {
            return Ok(Down::Pass { len, ends });
        }
        let event = event(kind, Bytes::copy_from_slice(&bytes[..length]));
        Ok(Down::Part { event, said: kind == b'E', ends })
    }
}

/// Whether a message of the app may begin a cycle.
fn begins_cycle(kind: u8) -> bool {
    matches!(kind, b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S')
}

fn statement(sql: &[u8]) -> Statement {
    let (verb, operation) = sql::read(sql);
    Statement { verb, operation, hash: hash_bytes(sql) }
}

impl Session for Following {
    fn up(&mut self, bytes: &[u8], whole: bool) -> Up {
        if bytes.is_empty() {
            return Up::More;
        }
        if !self.opened {
            return self.opening(bytes);
        }
        let front = if self.skipping != Skipping::No {
            self.skip(bytes)
        } else if whole && self.up.between() && !self.open {
            self.request(bytes)
        } else {
            self.advance(bytes).map(|(len, begins)| Up::Pass { len, begins })
        };
        front.unwrap_or(Up::Opaque)
    }

    fn down(&mut self, bytes: &[u8], whole: bool) -> Down {
        if bytes.is_empty() {
            return Down::More;
        }
        let front = if whole && self.down.between() {
            self.part(bytes)
        } else {
            self.listen(bytes).map(|(len, ends)| Down::Pass { len, ends })
        };
        front.unwrap_or(Down::Opaque)
    }

    fn refuse(&mut self, answer: &Answer, idle: bool) -> Refusal {
        let app = words::filled(&answer.body, &self.user, &self.asked.verb);
        if wire::field(&app[5.min(app.len())..], b'V') == Some(b"FATAL") {
            return Refusal { app, close: true, over: true, ..Refusal::default() };
        }
        let extended = self.cycles.back() == Some(&true);
        let whole = self.up.between() && !self.open;
        if idle && self.status == b'I' {
            if whole || !extended {
                self.skipping = if whole { Skipping::No } else { Skipping::Message };
                self.open = false;
                self.cycles.pop_back();
                let app = [&app[..], &wire::ready(b'I')].concat().into();
                return Refusal { app, over: true, ..Refusal::default() };
            }
            self.skipping = Skipping::ToOwnSync;
            return Refusal { app, ..Refusal::default() };
        }
        let mut upstream = wire::message(b'P', FAILING).to_vec();
        if whole || !extended {
            upstream.extend_from_slice(&wire::message(b'S', &[]));
            self.skipping = if whole { Skipping::No } else { Skipping::Message };
        } else {
            self.skipping = Skipping::ToSync;
        }
        Refusal { upstream: upstream.into(), app, over: false, close: false }
    }

    fn refuse_connection(&self, answer: &Answer) -> Bytes {
        words::filled(&answer.body, &self.user, "")
    }

    fn after_end(&self, event: &Event, rows: u64, erred: bool) -> Option<Bytes> {
        let kind = event.name.as_deref()?;
        match kind {
            "Z" | "N" | "S" | "A" => Some(event.raw.clone()),
            _ if erred => None,
            "D" => None,
            "C" => Some(counted(event, rows)),
            _ => Some(event.raw.clone()),
        }
    }
}

/// A CommandComplete (`SELECT 10`) that names so many rows.
pub(super) fn counted(event: &Event, rows: u64) -> Bytes {
    let text = String::from_utf8_lossy(&event.data);
    match text.trim_end_matches('\0').rsplit_once(' ') {
        Some((tag, count)) if count.bytes().all(|byte| byte.is_ascii_digit()) => {
            wire::message(b'C', format!("{tag} {rows}\0").as_bytes())
        }
        _ => event.raw.clone(),
    }
}

#[cfg(test)]
mod tests;

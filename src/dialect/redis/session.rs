//! A Redis connection followed on both sides: each command has one reply. What does not hold to that
//! (subscriptions, MONITOR, replicas, CLIENT REPLY) passes unread from there on.
//!
//! Between MULTI and EXEC an error of ours must be the server's too: it gets a command that it does not
//! know in place of the app's, so that EXEC aborts as it would, and its reply is replaced by ours.

use bytes::Bytes;

use super::words;
use crate::dialect::Answer;
use crate::dialect::class::short;
use crate::dialect::session::{Asked, Down, Refusal, Reply, Session, Up};
use crate::dice::hash_bytes;
use crate::exchange::{Event, Framing, Operation};
use crate::wire::resp::{self, Framer, Malformed, Side};

/// A command longer than this is judged by its beginning.
const WHOLE: usize = 1 << 20;
/// A reply longer than this passes in pieces.
const LONG: usize = 1 << 20;

const FAILING: &[u8] = b"*1\r\n$17\r\nBROWNOUT.INJECTED\r\n";
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";

/// One connection.
#[derive(Debug)]
pub(super) struct Following {
    opened: bool,
    up: Framer,
    down: Framer,
    queueing: bool,
    /// The command that was given last, and whether it came between MULTI and EXEC.
    asked: (String, bool),
    /// The rest of the command under way was refused with its beginning.
    skipping: bool,
}

impl Following {
    pub(super) fn new() -> Self {
        Self {
            opened: false,
            up: Framer::new(Side::App),
            down: Framer::new(Side::Server),
            queueing: false,
            asked: (String::new(), false),
            skipping: false,
        }
    }

    /// Takes one command or what is there of it; whether the answer to one is awaited with it.
    fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let step = self.up.step(bytes)?;
        if !step.ended {
            return Ok((step.taken, false));
        }
        let word = word_of(self.up.kept());
        match &*word {
            // Redis overlooks empty lines and empty arrays.
            "" => return Ok((step.taken, false)),
            "multi" => self.queueing = true,
            "exec" | "discard" | "reset" => self.queueing = false,
            _ => {}
        }
        Ok((step.taken, true))
    }

    /// A command that a fault may act on.
    fn command(&mut self, bytes: &[u8]) -> Result<Up, Malformed> {
        let step = Framer::new(Side::App).step(bytes)?;
        if !step.ended && bytes.len() < WHOLE {
            return Ok(Up::More);
        }
        let command = &bytes[..step.taken];
        let word = word_of(command);
        if word.is_empty() {
            return self.advance(bytes).map(|(len, begins)| Up::Pass { len, begins });
        }
        let queueing = self.queueing;
        self.advance(command)?;
        let asked = Asked {
            path: format!("/{word}"),
            operation: operation(&word),
            collection: index_of(&word, command),
            hash: hash_bytes(command),
            len: step.taken,
        };
        self.asked = (word, queueing);
        Ok(Up::Ask { len: step.taken, asked })
    }

    fn skip(&mut self, bytes: &[u8]) -> Result<Up, Malformed> {
        let step = self.up.step(bytes)?;
        self.skipping = !step.ended;
        Ok(Up::Skip { len: step.taken, reply: Bytes::new(), over: false })
    }

    fn listen(&mut self, bytes: &[u8]) -> Result<(usize, Option<Reply>), Malformed> {
        let step = self.down.step(bytes)?;
        // What is pushed is no answer.
        let ends = step.ended && self.down.kept().first() != Some(&b'>');
        let ends = ends.then(|| Reply { status: words::status_of(self.down.kept()) });
        Ok((step.taken, ends))
    }

    fn part(&mut self, bytes: &[u8]) -> Result<Down, Malformed> {
        let step = Framer::new(Side::Server).step(bytes)?;
        if !step.ended && bytes.len() <= LONG {
            return Ok(Down::More);
        }
        let (len, ends) = self.listen(bytes)?;
        if !step.ended {
            return Ok(Down::Pass { len, ends });
        }
        let raw = Bytes::copy_from_slice(&bytes[..len]);
        let name = Some(char::from(raw[0]).to_string());
        let event = Event { framing: Framing::Protocol, data: raw.clone(), raw, name };
        Ok(Down::Part { event, said: ends.is_some(), ends })
    }
}

/// The command that these bytes begin with, in lower case; empty where there is none.
fn word_of(command: &[u8]) -> String {
    let words = resp::words(command, 1);
    let word = words.first().map(|word| String::from_utf8_lossy(word).to_ascii_lowercase());
    let mut word = word.unwrap_or_default();
    word.truncate(word.char_indices().nth(32).map_or(word.len(), |(at, _)| at));
    word
}

/// Whether the replies of the command that these bytes begin with cannot be counted; None when its
/// words are not there yet.
fn breaks_count(command: &[u8]) -> Option<bool> {
    let words = resp::words(command, 2);
    let is = |word: &[u8], known: &str| word.eq_ignore_ascii_case(known.as_bytes());
    if command.first() != Some(&b'*') && !command.contains(&b'\n') {
        return None;
    }
    let first = *words.first()?;
    if is(first, "client") {
        return words.get(1).map(|second| is(second, "reply"));
    }
    let modes = ["monitor", "psubscribe", "psync", "ssubscribe", "subscribe", "sync"];
    Some(modes.iter().any(|mode| is(first, mode)))
}

/// The index (or the set of vectors) that a search is in: its second word.
fn index_of(word: &str, command: &[u8]) -> Option<String> {
    let search = operation(word) == Operation::Search;
    let words = if search { resp::words(command, 2) } else { Vec::new() };
    words.get(1).map(|index| short(&String::from_utf8_lossy(index)).to_owned())
}

fn operation(word: &str) -> Operation {
    match word {
        "ft.search" | "ft.aggregate" | "ft.hybrid" | "vsim" => Operation::Search,
        "hset" | "hmset" | "hsetnx" | "set" | "setex" | "psetex" | "setnx" | "mset" | "msetnx"
        | "getset" | "append" | "json.set" | "json.mset" | "json.merge" | "vadd" | "vsetattr"
        | "zadd" | "sadd" | "lpush" | "rpush" | "xadd" => Operation::Upsert,
        "del" | "unlink" | "hdel" | "json.del" | "json.forget" | "vrem" | "zrem" | "srem"
        | "getdel" | "flushdb" | "flushall" | "ft.dropindex" => Operation::Delete,
        "get" | "mget" | "hget" | "hmget" | "hgetall" | "json.get" | "json.mget" | "getex"
        | "exists" | "scan" | "hscan" | "zrange" | "smembers" | "lrange" | "xrange" | "vemb"
        | "vgetattr" | "type" | "ttl" | "strlen" => Operation::Read,
        _ => Operation::Other,
    }
}

impl Session for Following {
    fn up(&mut self, bytes: &[u8], whole: bool) -> Up {
        if !self.opened {
            self.opened = true;
            return Up::Opening { len: 0, label: String::new() };
        }
        if bytes.is_empty() {
            return Up::More;
        }
        if self.up.between() {
            match breaks_count(bytes) {
                Some(true) => return Up::Opaque,
                Some(false) => {}
                None => match Framer::new(Side::App).step(bytes) {
                    Err(Malformed) => return Up::Opaque,
                    // The words are short; what is long is none of these.
                    Ok(step) if !step.ended && bytes.len() < 64 => return Up::More,
                    Ok(_) => {}
                },
            }
        }
        let front = if self.skipping {
            self.skip(bytes)
        } else if whole && self.up.between() {
            self.command(bytes)
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

    fn refuse(&mut self, answer: &Answer, _idle: bool) -> Refusal {
        self.skipping = !self.up.between();
        let app = answer.body.clone();
        let upstream = match &self.asked {
            (word, true) if word == "exec" => DISCARD,
            (word, true) if word != "discard" => FAILING,
            _ => return Refusal { app, over: true, ..Refusal::default() },
        };
        Refusal { upstream: Bytes::from_static(upstream), app, over: false, close: false }
    }
}

#[cfg(test)]
mod tests;

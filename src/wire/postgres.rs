//! PostgreSQL's messages (protocol 3.0): finding their ends in bytes that pass, reading and writing the
//! few that matter. It is strict about lengths and keeps nothing but a short prefix.

use bytes::{BufMut, Bytes, BytesMut};

/// A message longer than this is no message: the server takes none above 1 GB.
const LONGEST: usize = 0x3fff_ffff;
/// The first message of a connection is short.
const LONGEST_OPENING: usize = 10_000;
/// What is kept of a message that is read while it passes.
const KEPT: usize = 64 << 10;

/// Bytes that are no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are no messages of PostgreSQL")]
pub struct Malformed;

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Another connection's query is to be cancelled.
    Cancel,
    /// GSSAPI encryption is asked for.
    Gss,
    /// TLS is asked for.
    Ssl,
    /// The session begins: its user and database.
    Startup { user: String, database: String },
}

/// Reads the first message; None when more bytes are needed. The number is its length.
pub fn opening(bytes: &[u8]) -> Result<Option<(usize, Opening)>, Malformed> {
    let Some(length) = number(bytes, 0) else {
        // A length of four bytes begins with two zeros here.
        return if bytes.iter().take(2).any(|byte| *byte != 0) { Err(Malformed) } else { Ok(None) };
    };
    if !(8..=LONGEST_OPENING).contains(&length) {
        return Err(Malformed);
    }
    let Some(code) = number(bytes, 4) else { return Ok(None) };
    let exactly = |wanted: usize, opening| {
        if length == wanted { Ok(Some((length, opening))) } else { Err(Malformed) }
    };
    match code {
        80_877_102 if bytes.len() < length => Ok(None),
        // Longer keys came with protocol 3.2.
        80_877_102 if (16..=268).contains(&length) => Ok(Some((length, Opening::Cancel))),
        80_877_103 => exactly(8, Opening::Ssl),
        80_877_104 => exactly(8, Opening::Gss),
        version if version >> 16 == 3 => {
            let Some(body) = bytes.get(8..length) else { return Ok(None) };
            startup(body).map(|opening| Some((length, opening)))
        }
        _ => Err(Malformed),
    }
}

fn startup(body: &[u8]) -> Result<Opening, Malformed> {
    let (mut user, mut database) = (String::new(), String::new());
    let mut words = body.split(|byte| *byte == 0);
    loop {
        let name = words.next().ok_or(Malformed)?;
        if name.is_empty() {
            break;
        }
        let value = String::from_utf8_lossy(words.next().ok_or(Malformed)?).into_owned();
        match name {
            b"user" => user = value,
            b"database" => database = value,
            _ => {}
        }
    }
    if database.is_empty() {
        database.clone_from(&user);
    }
    Ok(Opening::Startup { user, database })
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?;
    usize::try_from(u32::from_be_bytes(four.try_into().ok()?)).ok()
}

/// The kind and whole length of the message that these bytes begin with; None when its head is not
/// there yet.
pub fn head(bytes: &[u8]) -> Result<Option<(u8, usize)>, Malformed> {
    let Some(kind) = bytes.first() else { return Ok(None) };
    if !kind.is_ascii_alphanumeric() {
        return Err(Malformed);
    }
    let Some(length) = number(bytes, 1) else { return Ok(None) };
    if (4..=LONGEST).contains(&length) { Ok(Some((*kind, length + 1))) } else { Err(Malformed) }
}

/// Follows messages that pass, in whatever pieces they come.
#[derive(Debug, Default)]
pub struct Framer {
    head: [u8; 5],
    /// How much of the head is there.
    have: usize,
    /// What is still to come of the message.
    left: usize,
    kept: Vec<u8>,
}

/// What a step has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes that belong to the message under way.
    pub taken: usize,
    /// Its kind, once that is known; for the bytes in which it became so.
    pub began: Option<u8>,
    /// Its kind, if it ends here.
    pub ended: Option<u8>,
}

impl Framer {
    /// Whether the next byte begins a message.
    pub fn between(&self) -> bool {
        self.have == 0
    }

    /// The kind of the message under way.
    fn kind(&self) -> u8 {
        self.head[0]
    }

    /// The beginning of the payload of the message that has just ended, if it was one to keep.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Takes bytes up to the end of the message under way. Payloads are kept where `keep` says so of
    /// the kind.
    pub fn step(&mut self, bytes: &[u8], keep: fn(u8) -> bool) -> Result<Step, Malformed> {
        let mut taken = 0;
        let mut began = None;
        if self.have < 5 {
            if self.have == 0 {
                self.kept.clear();
            }
            taken = bytes.len().min(5 - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            match head(&self.head[..self.have])? {
                Some((kind, length)) => {
                    began = Some(kind);
                    self.left = length - 5;
                }
                None => return Ok(Step { taken, began, ended: None }),
            }
        }
        let body = bytes.len().saturating_sub(taken).min(self.left);
        if keep(self.kind()) {
            let room = KEPT.saturating_sub(self.kept.len()).min(body);
            self.kept.extend_from_slice(&bytes[taken..taken + room]);
        }
        self.left -= body;
        let ended = (self.left == 0).then(|| self.kind());
        if ended.is_some() {
            self.have = 0;
        }
        Ok(Step { taken: taken + body, began, ended })
    }
}

/// A message of this kind.
pub fn message(kind: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(payload.len() + 5);
    bytes.put_u8(kind);
    bytes.put_u32(u32::try_from(payload.len() + 4).unwrap_or(u32::MAX));
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// An ErrorResponse with these fields, `S` first.
pub fn error(fields: &[(u8, &str)]) -> Bytes {
    let mut payload = Vec::new();
    for (name, value) in fields {
        payload.push(*name);
        payload.extend(value.bytes().filter(|byte| *byte != 0));
        payload.push(0);
    }
    payload.push(0);
    message(b'E', &payload)
}

/// A field of an ErrorResponse's payload.
pub fn field(payload: &[u8], name: u8) -> Option<&[u8]> {
    let mut fields = payload.split(|byte| *byte == 0);
    fields.find(|field| field.first() == Some(&name)).map(|field| &field[1..])
}

/// The server is ready for the next query; `status` is `I`, `T` or `E`.
pub fn ready(status: u8) -> Bytes {
    message(b'Z', &[status])
}

/// A name that ends with a zero, and what follows it.
pub fn name(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, payload)?;
    Some((&payload[..end], &payload[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(pieces: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, Malformed> {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for piece in pieces {
            let mut left = *piece;
            while !left.is_empty() {
                let step = framer.step(left, |_| true)?;
                assert!(step.taken > 0);
                left = &left[step.taken..];
                if let Some(kind) = step.ended {
                    found.push((kind, framer.kept().to_vec()));
                }
            }
        }
        Ok(found)
    }

    #[test]
    fn openings_are_told_apart() {
        let start = |body: &[u8]| {
            let mut bytes = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
            bytes.extend(196_608u32.to_be_bytes());
            bytes.extend(body);
            bytes
        };
        let bytes = start(b"user\0ann\0database\0app\0\0");
        let began = Opening::Startup { user: "ann".into(), database: "app".into() };
        assert_eq!(opening(&bytes), Ok(Some((bytes.len(), began))));
        for cut in 0..bytes.len() {
            assert_eq!(opening(&bytes[..cut]), Ok(None), "{cut}");
        }
        let Ok(Some((_, Opening::Startup { database, .. }))) = opening(&start(b"user\0ann\0\0"))
        else {
            panic!("a startup")
        };
        assert_eq!(database, "ann");
        let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
        assert_eq!(opening(&ssl), Ok(Some((8, Opening::Ssl))));
        assert_eq!(opening(&[0, 0, 0, 8, 4, 210, 22, 48]), Ok(Some((8, Opening::Gss))));
        for wrong in [&b"GET / HTTP/1.1"[..], &[0x16, 3, 1, 2], &[0, 0, 0, 7, 0, 3, 0, 0]] {
            assert_eq!(opening(wrong), Err(Malformed));
        }
    }

    #[test]
    fn errors_are_written_and_read() {
        let told = error(&[(b'S', "FATAL"), (b'C', "57P03"), (b'M', "starting\0up")]);
        assert_eq!(head(&told), Ok(Some((b'E', told.len()))));
        assert_eq!(field(&told[5..], b'C'), Some(&b"57P03"[..]));
        assert_eq!(field(&told[5..], b'M'), Some(&b"startingup"[..]));
        assert_eq!(field(&told[5..], b'H'), None);
    }

    #[test]
    fn wrong_lengths_are_no_messages() {
        for bytes in [&[b'Q', 0, 0, 0, 3][..], &[b'Q', 0xff, 0, 0, 4], &[0, 0, 0, 0, 4]] {
            assert_eq!(ends(&[bytes]), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            messages in prop::collection::vec((b'A'..=b'Z', prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            size in 1..20usize,
        ) {
            let bytes: Vec<u8> =
                messages.iter().flat_map(|(kind, body)| message(*kind, body).to_vec()).collect();
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(ends(&pieces), Ok(messages));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = ends(&[&bytes]);
            let _ = opening(&bytes);
            let _ = field(&bytes, b'C');
        }
    }
}

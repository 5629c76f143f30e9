//! Follows a body through the bytes that carry it, however they are cut.

use super::Framing;

/// A longer chunk line (its size and extensions) is refused.
const LONGEST_LINE: u16 = 4096;
/// More bytes of trailers are refused.
const MOST_TRAILERS: u16 = 16 << 10;

/// Where in a body the bytes stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Body {
    state: State,
    /// Nothing that other readers might take differently.
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// So many bytes are still to come.
    Length(u64),
    UntilClose,
    Whole,
    /// In a chunk's size, of which so many digits were seen.
    Size {
        value: u64,
        digits: u8,
    },
    /// Behind the size, before an extension.
    SizeSpace {
        value: u64,
        seen: u16,
    },
    Extension {
        value: u64,
        seen: u16,
    },
    /// The line feed behind a chunk's size.
    SizeEnd {
        value: u64,
    },
    Data(u64),
    DataReturn,
    DataEnd,
    /// At the start of a line behind the last chunk.
    Trailer {
        seen: u16,
    },
    TrailerName {
        seen: u16,
    },
    TrailerValue {
        seen: u16,
    },
    TrailerEnd {
        seen: u16,
    },
    /// The line feed that ends it all.
    End,
}

/// A body whose framing is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("its chunks are framed wrong")]
pub struct BadBody;

/// How much of some bytes belongs to a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// With the framing.
    pub bytes: usize,
    /// Without it.
    pub payload: usize,
}

impl Body {
    /// The body of a request.
    pub fn of_request(framing: Framing) -> Self {
        Self::new(framing, true)
    }

    /// The body of an answer; spaces behind a chunk's size are let pass.
    pub fn of_answer(framing: Framing) -> Self {
        Self::new(framing, false)
    }

    fn new(framing: Framing, strict: bool) -> Self {
        let state = match framing {
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::Length(0) => State::Whole,
            Framing::Length(length) => State::Length(length),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, strict }
    }

    /// Whether its last byte was seen.
    pub fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    /// Whether the end of the connection is its end.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Follows the body through more bytes, to its end at most.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Taken, BadBody> {
        let mut taken = Taken::default();
        while taken.bytes < bytes.len() {
            let rest = &bytes[taken.bytes..];
            match self.state {
                State::Whole => break,
                State::UntilClose => {
                    taken.bytes += rest.len();
                    taken.payload += rest.len();
                }
                State::Length(left) | State::Data(left) => {
                    let used = usize::try_from(left).map_or(rest.len(), |it| it.min(rest.len()));
                    taken.bytes += used;
                    taken.payload += used;
                    let left = left - used as u64;
                    self.state = match (self.state, left) {
                        (State::Length(_), 0) => State::Whole,
                        (State::Length(_), _) => State::Length(left),
                        (_, 0) => State::DataReturn,
                        _ => State::Data(left),
                    };
                }
                state => {
                    self.state = self.step(state, rest[0])?;
                    taken.bytes += 1;
                }
            }
        }
        Ok(taken)
    }

    /// One byte of the framing.
    fn step(&self, state: State, byte: u8) -> Result<State, BadBody> {
        Ok(match (state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = (byte as char).to_digit(16).ok_or(BadBody)?;
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BadBody),
            (State::Size { value, .. } | State::SizeSpace { value, .. }, b'\r') => {
                State::SizeEnd { value }
            }
            (State::Size { value, .. }, b';') => State::Extension { value, seen: 0 },
            (State::SizeSpace { value, seen }, b';') => State::Extension { value, seen },
            (State::Size { value, .. }, b' ' | b'\t') if !self.strict => {
                State::SizeSpace { value, seen: 0 }
            }
            (State::SizeSpace { value, seen }, b' ' | b'\t') if seen < LONGEST_LINE => {
                State::SizeSpace { value, seen: seen + 1 }
            }
            (State::Extension { value, .. }, b'\r') => State::SizeEnd { value },
            (State::Extension { value, seen }, _) if is_text(byte) && seen < LONGEST_LINE => {
                State::Extension { value, seen: seen + 1 }
            }
            (State::SizeEnd { value: 0 }, b'\n') => State::Trailer { seen: 0 },
            (State::SizeEnd { value }, b'\n') => State::Data(value),
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size { value: 0, digits: 0 },
            (State::Trailer { .. }, b'\r') => State::End,
            (State::End, b'\n') => State::Whole,
            (State::Trailer { seen }, _) if is_token(byte) => Self::trailer_name(seen)?,
            (State::TrailerName { seen }, _) if is_token(byte) => Self::trailer_name(seen)?,
            (State::TrailerName { seen }, b':') => State::TrailerValue { seen },
            (State::TrailerValue { seen }, b'\r') => State::TrailerEnd { seen },
            (State::TrailerValue { seen }, _) if is_text(byte) && seen < MOST_TRAILERS => {
                State::TrailerValue { seen: seen + 1 }
            }
            (State::TrailerEnd { seen }, b'\n') => State::Trailer { seen },
            _ => return Err(BadBody),
        })
    }

    fn trailer_name(seen: u16) -> Result<State, BadBody> {
        match seen {
            MOST_TRAILERS.. => Err(BadBody),
            _ => Ok(State::TrailerName { seen: seen + 1 }),
        }
    }
}

/// What may stand in a value.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// What may stand in a name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Followed = Result<(Taken, bool), BadBody>;

    /// Follows the pieces one after another.
    fn follow(mut body: Body, pieces: &[&[u8]]) -> Followed {
        let mut all = Taken::default();
        for piece in pieces {
            let taken = body.follow(piece)?;
            all.bytes += taken.bytes;
            all.payload += taken.payload;
            if taken.bytes < piece.len() {
                assert!(body.is_whole());
                break;
            }
        }
        Ok((all, body.is_whole()))
    }

    fn chunked(text: &str) -> Followed {
        follow(Body::of_request(Framing::Chunked), &[text.as_bytes()])
    }

    #[test]
    fn chunks_end_where_they_say() {
        let whole = "4;ext=\"a b\"\r\nabcd\r\n00A\r\n0123456789\r\n0\r\nX-Sum: 7\r\nB:\r\n\r\n";
        let taken = Taken { bytes: whole.len(), payload: 14 };
        assert_eq!(chunked(whole), Ok((taken, true)));
        assert_eq!(chunked(&format!("{whole}GET / HTTP/1.1")), Ok((taken, true)));
        assert!(!chunked(&whole[..whole.len() - 1]).unwrap().1);
    }

    #[test]
    fn chunks_that_are_framed_wrong_are_refused() {
        for text in [
            "x\r\n",
            "\r\n",
            ";a\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\na\r\n",
            "1\na\r\n",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rx",
            "1;a\nb\r\n",
            "1;\0\r\n",
            "1\rX",
            "11111111111111111\r\n",
            "0\r\nX\r\n",
            "0\r\n X: 1\r\n",
            "0\r\nX : 1\r\n",
            "0\r\nX: a\rb",
            "0\r\nX: a\nb",
            "0\r\n:\r\n",
            "0\r\n\n",
            "0\r\n\rX",
        ] {
            assert_eq!(chunked(text), Err(BadBody), "{text:?}");
        }
        assert!(chunked(&format!("1;{}", "a".repeat(5000))).is_err());
        assert!(chunked(&format!("0\r\n{}", "a: b\r\n".repeat(9000))).is_err());
        let spaced = follow(Body::of_answer(Framing::Chunked), &[b"1  \r\na\r\n0 ;x\r\n\r\n"]);
        assert_eq!(spaced.map(|it| it.1), Ok(true));
    }

    #[test]
    fn lengths_are_counted_down() {
        let body = Body::of_request(Framing::Length(3));
        assert_eq!(follow(body, &[b"ab", b"cd"]), Ok((Taken { bytes: 3, payload: 3 }, true)));
        assert!(Body::of_request(Framing::Length(0)).is_whole());
        let open = Body::of_answer(Framing::UntilClose);
        assert!(open.ends_with_connection());
        assert_eq!(follow(open, &[b"ab", b"cd"]), Ok((Taken { bytes: 4, payload: 4 }, false)));
    }

    proptest! {
        #[test]
        fn any_split_follows_alike(
            text in "([0-9a-fA-F]{1,2}(;[a-z=]{0,5})?\r\n.{0,20}\r\n){0,4}(0\r\n([A-Za-z:\r\n ]{0,9}){0,3}\r\n)?.{0,9}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            strict in any::<bool>(),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let body = Body::new(Framing::Chunked, strict);
            prop_assert_eq!(follow(body, &pieces), follow(body, &[bytes]));
        }

        #[test]
        fn what_is_framed_right_is_whole(
            chunks in prop::collection::vec((1usize..300, "(;[a-z]{1,5}(=[a-z]{1,5})?)?"), 0..6),
            trailers in "([A-Z]{1,5}: [a-z]{0,9}\r\n){0,3}",
            behind in any::<Vec<u8>>(),
        ) {
            let mut wire = Vec::new();
            for (length, extension) in &chunks {
                wire.extend_from_slice(format!("{length:x}{extension}\r\n").as_bytes());
                wire.extend(std::iter::repeat_n(b'\r', *length));
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            let payload = chunks.iter().map(|(length, _)| length).sum();
            let bytes = wire.len();
            wire.extend_from_slice(&behind);
            let followed = follow(Body::of_request(Framing::Chunked), &[&wire]);
            prop_assert_eq!(followed, Ok((Taken { bytes, payload }, true)));
        }
    }
}

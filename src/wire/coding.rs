//! Content codings: an answer that came compressed is unpacked a piece at a time, so that its events
//! can be seen, and packed again in the same coding, flushed with every piece. A small body that
//! unpacks to a huge one costs time and no memory.

use bytes::Bytes;
use compression_codecs::brotli::params::EncoderParams;
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::DParameter;
use compression_codecs::{
    BrotliDecoder, BrotliEncoder, DecodeV2, DeflateDecoder, EncodeV2, GzipDecoder, GzipEncoder,
    ZlibDecoder, ZlibEncoder, ZstdDecoder, ZstdEncoder,
};
use http::header::{CONTENT_ENCODING, HeaderValue};
use http::{HeaderMap, StatusCode};

/// The most that is unpacked at a time.
const STEP: usize = 64 << 10;
/// The widest window of zstd that a content coding may have (8 MiB, RFC 9659), as a power of two.
const WINDOW: u32 = 23;

/// How an answer is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    Br,
    Deflate,
    Gzip,
    Zstd,
}

/// What was to be unpacked is not in its coding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the body is not what its `content-encoding` says")]
pub struct Corrupt;

impl Coding {
    /// How the answer with this head is compressed. None where it is not, or in a way that cannot be
    /// undone here: by several codings, by one that nobody knows, in part of a body.
    pub fn of(status: StatusCode, head: &HeaderMap) -> Option<Self> {
        let mut lines = head.get_all(CONTENT_ENCODING).iter();
        let (line, None) = (lines.next()?, lines.next()) else { return None };
        if status == StatusCode::PARTIAL_CONTENT {
            return None;
        }
        Self::named(line)
    }

    fn named(name: &HeaderValue) -> Option<Self> {
        Some(match name.to_str().ok()?.trim().to_ascii_lowercase().as_str() {
            "br" => Self::Br,
            "deflate" => Self::Deflate,
            "gzip" | "x-gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

/// Whether all that a request accepts can be unpacked here.
pub fn can_unpack(accepted: &HeaderValue) -> bool {
    let Ok(accepted) = accepted.to_str() else { return false };
    accepted.split(',').all(|one| {
        let name = one.split(';').next().unwrap_or_default().trim();
        let known = HeaderValue::from_str(name).ok().and_then(|name| Coding::named(&name));
        name.is_empty() || name.eq_ignore_ascii_case("identity") || known.is_some()
    })
}

/// Unpacks a body piece by piece. As an iterator it yields what can be had, None when it needs more.
pub struct Unpacker {
    coding: Coding,
    /// None until the first byte has come: it tells which of two formats `deflate` is.
    decoder: Option<Box<dyn DecodeV2 + Send + Sync>>,
    input: Bytes,
    /// More may come out without more going in.
    full: bool,
    /// A member or frame has ended; another one may follow.
    ended: bool,
    failed: bool,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("coding", &self.coding).finish_non_exhaustive()
    }
}

impl Unpacker {
    pub fn new(coding: Coding) -> Self {
        Self {
            coding,
            decoder: None,
            input: Bytes::new(),
            full: false,
            ended: false,
            failed: false,
            buffer: Vec::new(),
        }
    }

    /// Takes the next piece; call it when the last one is used up.
    pub fn push(&mut self, piece: Bytes) {
        self.input = match self.input.is_empty() {
            true => piece,
            false => [&self.input[..], &piece].concat().into(),
        };
    }

    fn decoder(&mut self) -> &mut (dyn DecodeV2 + Send + Sync) {
        let (coding, first) = (self.coding, self.input.first().copied());
        self.decoder
            .get_or_insert_with(|| match coding {
                Coding::Br => Box::new(BrotliDecoder::new()),
                // The standard means zlib's format; some servers send what is inside alone.
                Coding::Deflate if first.is_some_and(|byte| byte & 0x0f == 8) => {
                    Box::new(ZlibDecoder::new())
                }
                Coding::Deflate => Box::new(DeflateDecoder::new()),
                Coding::Gzip => Box::new(GzipDecoder::new()),
                Coding::Zstd => {
                    Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(WINDOW)]))
                }
            })
            .as_mut()
    }

    /// One step: what it gave, and whether it used any input or gave anything.
    fn step(&mut self) -> Result<Option<Bytes>, Corrupt> {
        if self.ended {
            // Whatever follows a whole body of these is no part of it.
            if !matches!(self.coding, Coding::Gzip | Coding::Zstd) {
                self.input.clear();
                return Ok(None);
            }
            self.decoder().reinit().map_err(|_| Corrupt)?;
            self.ended = false;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(STEP, 0);
        let input = self.input.clone();
        let mut from = PartialBuffer::new(&input[..]);
        let mut to = WriteBuffer::new_initialized(&mut buffer);
        let done = self.decoder().decode(&mut from, &mut to);
        // Asked for more with nothing more to read: some say that it is an error.
        let dry = input.is_empty();
        let (used, given) = (from.written_len(), to.written_len());
        self.full = to.has_no_spare_space();
        let piece = Bytes::copy_from_slice(&buffer[..given]);
        self.buffer = buffer;
        self.input = input.slice(used..);
        self.ended = match done {
            Err(_) if dry => false,
            done => done.map_err(|_| Corrupt)?,
        };
        self.full &= !self.ended && given > 0;
        if !self.ended && !dry && used == 0 && given == 0 {
            return Err(Corrupt);
        }
        Ok((given > 0).then_some(piece))
    }

    /// Whether anything has come.
    pub fn has_begun(&self) -> bool {
        self.decoder.is_some()
    }

    /// The body has ended: whether it was whole.
    pub fn is_whole(&self) -> bool {
        !self.failed && (self.ended || self.decoder.is_none())
    }
}

impl Iterator for Unpacker {
    type Item = Result<Bytes, Corrupt>;

    fn next(&mut self) -> Option<Result<Bytes, Corrupt>> {
        while !self.failed && (!self.input.is_empty() || self.full) {
            match self.step() {
                Ok(Some(piece)) => return Some(Ok(piece)),
                Ok(None) => {}
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Packs a body piece by piece; each can be read as soon as it is there.
pub struct Packer(Box<dyn EncodeV2 + Send + Sync>);

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Packer")
    }
}

impl Packer {
    pub fn new(coding: Coding) -> Self {
        let level = Level::Fastest;
        Self(match coding {
            Coding::Br => Box::new(BrotliEncoder::new(EncoderParams::default().quality(level))),
            Coding::Deflate => Box::new(ZlibEncoder::new(level.into())),
            Coding::Gzip => Box::new(GzipEncoder::new(level.into())),
            Coding::Zstd => Box::new(ZstdEncoder::new(1)),
        })
    }

    /// A piece, packed and flushed.
    pub fn push(&mut self, piece: &[u8]) -> Bytes {
        let mut from = PartialBuffer::new(piece);
        let mut out = Vec::with_capacity(piece.len() / 2 + 64);
        while !from.unwritten().is_empty() {
            let before = (from.written_len(), out.len());
            self.write(&mut out, |encoder, to| encoder.encode(&mut from, to).map(|()| true));
            if before == (from.written_len(), out.len()) {
                break;
            }
        }
        while !self.write(&mut out, |encoder, to| encoder.flush(to)) {}
        out.into()
    }

    /// The end of the body.
    pub fn finish(&mut self) -> Bytes {
        let mut out = Vec::with_capacity(32);
        while !self.write(&mut out, |encoder, to| encoder.finish(to)) {}
        out.into()
    }

    /// Whether there is nothing left to write. Writing into memory does not fail.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        step: impl FnOnce(&mut dyn EncodeV2, &mut WriteBuffer<'_>) -> std::io::Result<bool>,
    ) -> bool {
        let mut buffer = [0; 4096];
        let mut to = WriteBuffer::new_initialized(&mut buffer);
        let done = step(self.0.as_mut(), &mut to).unwrap_or(true);
        let given = to.written_len();
        out.extend_from_slice(&buffer[..given]);
        done
    }
}

#[cfg(test)]
mod tests {
    use compression_codecs::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 4] = [Coding::Br, Coding::Deflate, Coding::Gzip, Coding::Zstd];

    fn unpacked(coding: Coding, pieces: &[&[u8]]) -> Result<Vec<u8>, Corrupt> {
        let mut unpacker = Unpacker::new(coding);
        let mut out = Vec::new();
        for piece in pieces {
            unpacker.push(Bytes::copy_from_slice(piece));
            for piece in unpacker.by_ref() {
                let piece = piece?;
                assert!(piece.len() <= STEP);
                out.extend_from_slice(&piece);
            }
        }
        if unpacker.is_whole() { Ok(out) } else { Err(Corrupt) }
    }

    fn packed(coding: Coding, pieces: &[&[u8]]) -> Vec<Bytes> {
        let mut packer = Packer::new(coding);
        let mut out: Vec<Bytes> = pieces.iter().map(|piece| packer.push(piece)).collect();
        out.push(packer.finish());
        out
    }

    #[test]
    fn every_piece_can_be_read_as_it_comes() {
        for coding in ALL {
            let packed = packed(coding, &[b"data: one\n\n", b"data: two\n\n"]);
            let mut unpacker = Unpacker::new(coding);
            for (piece, text) in packed.iter().zip(["data: one\n\n", "data: two\n\n", ""]) {
                unpacker.push(piece.clone());
                let got: Vec<u8> = unpacker.by_ref().flat_map(|piece| piece.unwrap()).collect();
                assert_eq!(got, text.as_bytes(), "{coding:?}");
            }
            assert!(unpacker.is_whole(), "{coding:?}");
        }
    }

    #[test]
    fn what_is_not_in_its_coding_is_said_to_be_so() {
        for coding in [Coding::Br, Coding::Gzip, Coding::Zstd] {
            assert_eq!(unpacked(coding, &[b"data: plain text and no more\n\n"]), Err(Corrupt));
        }
        for coding in ALL {
            let whole = packed(coding, &[b"hello"]).concat();
            assert_eq!(unpacked(coding, &[&whole[..whole.len() - 1]]), Err(Corrupt), "{coding:?}");
            assert_eq!(unpacked(coding, &[]), Ok(Vec::new()), "{coding:?}");
        }
    }

    #[test]
    fn members_follow_each_other() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let one = packed(coding, &[b"one"]).concat();
            let two = packed(coding, &[b"two"]).concat();
            assert_eq!(unpacked(coding, &[&one, &two]).unwrap(), b"onetwo");
        }
    }

    #[test]
    fn deflate_comes_in_two_forms() {
        let mut raw = DeflateEncoder::new(Level::Fastest.into());
        let mut buffer = [0; 64];
        let mut to = WriteBuffer::new_initialized(&mut buffer);
        raw.encode(&mut PartialBuffer::new(b"hello"), &mut to).unwrap();
        while !EncodeV2::finish(&mut raw, &mut to).unwrap() {}
        let length = to.written_len();
        assert_eq!(unpacked(Coding::Deflate, &[&buffer[..length]]).unwrap(), b"hello");
    }

    #[test]
    fn heads_say_how() {
        let of = |text: &'static str| {
            let mut head = HeaderMap::new();
            head.insert(CONTENT_ENCODING, text.parse().unwrap());
            Coding::of(StatusCode::OK, &head)
        };
        assert_eq!((of("GZIP"), of("br")), (Some(Coding::Gzip), Some(Coding::Br)));
        assert_eq!((of("identity"), of("gzip, br"), of("compress")), (None, None, None));
        let can = |text: &'static str| can_unpack(&HeaderValue::from_static(text));
        assert!(can("gzip, deflate, br;q=0.5, zstd") && !can("*") && !can("gzip, dcb"));
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks_alike_however_it_is_cut(
            which in 0usize..4,
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
            size in 1usize..40,
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let whole = packed(ALL[which], &pieces).concat();
            let cut: Vec<&[u8]> = whole.chunks(size).collect();
            prop_assert_eq!(unpacked(ALL[which], &cut).unwrap(), pieces.concat());
        }

        #[test]
        fn no_bytes_panic(which in 0usize..4, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpacked(ALL[which], &[&bytes]);
        }
    }
}

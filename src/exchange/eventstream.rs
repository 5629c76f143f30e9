//! Frames of Amazon's eventstream as they are made: lengths and both checksums follow from what is
//! put in. Reading them is `wire::eventstream`'s.

use bytes::Bytes;

use super::{Event, Framing};

/// The lengths and their checksum.
pub const PRELUDE: usize = 12;
/// What a frame has besides headers and payload.
pub const OVERHEAD: usize = PRELUDE + 4;
/// The type of a header whose value is text.
pub const TEXT: u8 = 7;

impl Event {
    /// An event in Amazon's eventstream, its headers being texts. What names it (`:event-type`,
    /// `:exception-type` or `:error-code`) becomes its name.
    pub fn eventstream(headers: &[(&str, &str)], data: impl AsRef<[u8]>) -> Self {
        let mut bytes = Vec::with_capacity(96);
        for (name, value) in headers {
            put(&mut bytes, name, value);
        }
        let data = Bytes::copy_from_slice(data.as_ref());
        let name = headers.iter().find(|(name, _)| is_name(name));
        Self {
            framing: Framing::EventStream,
            raw: frame(&bytes, &data).into(),
            name: name.map(|(_, value)| (*value).to_owned()),
            data,
        }
    }

    /// The same event with a checksum that does not fit: what bits that flipped on the way do. None
    /// where the framing has no checksum.
    pub fn with_bad_checksum(&self) -> Option<Self> {
        if self.framing != Framing::EventStream || self.raw.len() < OVERHEAD {
            return None;
        }
        let mut raw = self.raw.to_vec();
        let last = raw.len() - 1;
        raw[last] ^= 1;
        Some(Self { raw: raw.into(), ..self.clone() })
    }

    /// The same event with another payload: its headers stay as they are.
    pub(super) fn reframed(&self, data: impl AsRef<[u8]>) -> Self {
        let data = Bytes::copy_from_slice(data.as_ref());
        let raw = frame(headers_of(&self.raw), &data).into();
        Self { raw, data, ..self.clone() }
    }
}

/// Whether this header names an event.
pub fn is_name(header: &str) -> bool {
    matches!(header, ":event-type" | ":exception-type" | ":error-code")
}

/// The headers of a frame, as bytes; none where it is no frame.
pub fn headers_of(raw: &[u8]) -> &[u8] {
    let length = raw.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    raw.get(PRELUDE..PRELUDE.saturating_add(length)).unwrap_or_default()
}

fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    let name = &name.as_bytes()[..name.len().min(usize::from(u8::MAX))];
    // A text is cut at what the format can hold; ours are far shorter.
    let value = &value.as_bytes()[..value.len().min(usize::from(u16::MAX >> 1))];
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(name);
    bytes.push(TEXT);
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(value);
}

fn frame(headers: &[u8], data: &[u8]) -> Vec<u8> {
    let total = OVERHEAD + headers.len() + data.len();
    let mut raw = Vec::with_capacity(total);
    raw.extend_from_slice(&u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes());
    raw.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes());
    raw.extend_from_slice(&crc32fast::hash(&raw).to_be_bytes());
    raw.extend_from_slice(headers);
    raw.extend_from_slice(data);
    raw.extend_from_slice(&crc32fast::hash(&raw).to_be_bytes());
    raw
}

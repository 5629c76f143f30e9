//! One frame: what it is, and how it is made and unmasked.

use bytes::{Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    #[default]
    Binary,
    Close,
    Ping,
    Pong,
    Text,
}

impl Kind {
    /// The word for it in an event.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Text => "text",
        }
    }

    /// The kind of this name; text where there is none.
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("binary") => Self::Binary,
            Some("close") => Self::Close,
            Some("ping") => Self::Ping,
            Some("pong") => Self::Pong,
            _ => Self::Text,
        }
    }

    /// Whether it is about the socket, not a message of the app or the upstream.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn opcode(self) -> OpCode {
        match self {
            Self::Binary => OpCode::Data(Data::Binary),
            Self::Close => OpCode::Control(Control::Close),
            Self::Ping => OpCode::Control(Control::Ping),
            Self::Pong => OpCode::Control(Control::Pong),
            Self::Text => OpCode::Data(Data::Text),
        }
    }
}

/// One frame with this payload, masked as an app's must be.
pub fn frame(kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    let header = FrameHeader { opcode: kind.opcode(), mask, ..FrameHeader::default() };
    let length = payload.len() as u64;
    let mut raw = Vec::with_capacity(header.len(length) + payload.len());
    header.format(length, &mut raw).expect("a vector takes every byte");
    let start = raw.len();
    raw.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut raw[start..], mask);
    }
    raw.into()
}

/// Masks a payload, or unmasks it.
pub(super) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u32::from_ne_bytes(mask);
    let mut words = payload.chunks_exact_mut(4);
    for bytes in &mut words {
        let masked = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) ^ word;
        bytes.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// The frame that is passing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    /// Of a fragment: the kind of its message.
    pub(super) kind: Kind,
    /// It is the last of its message.
    pub(super) last: bool,
    /// Of its payload.
    pub(super) length: u64,
    pub(super) mask: Option<[u8; 4]>,
}

impl Frame {
    /// Its payload in clear: a copy where it was masked.
    pub(super) fn unmasked(&self, payload: Bytes) -> Bytes {
        let Some(mask) = self.mask else { return payload };
        let mut clear = BytesMut::from(&payload[..]);
        apply_mask(&mut clear, mask);
        clear.freeze()
    }
}

//! Follows frames without holding or reading their payloads: so much work per frame, none per byte.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::frame::{Frame, Kind};

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const LONGEST_HEAD: usize = 14;
/// The most that a control frame carries.
const CONTROL: u64 = 125;

/// Who sends the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Masked frames.
    App,
    /// Frames in clear.
    Upstream,
}

/// Where one side's frames stand.
#[derive(Clone, Debug)]
pub struct Tracker {
    side: Side,
    /// An extension was agreed on: reserved bits may be set, and payloads cannot be read.
    extended: bool,
    /// A head of which more is to come.
    head: [u8; LONGEST_HEAD],
    head_len: usize,
    frame: Frame,
    /// What is still to come of the payload.
    left: u64,
    /// The kind of the fragmented message that is under way.
    open: Option<Kind>,
    broken: bool,
    closed: bool,
    messages: u64,
}

/// What the next bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// They break the protocol, and with them all that follows.
    Broken,
    /// The end of a head; `ends`: there is no payload.
    Head { ends: bool },
    /// The beginning of a head.
    More,
    /// Payload; `ends`: all of it.
    Payload { ends: bool },
}

impl Tracker {
    /// At the start of a socket. `extended`: the handshake agreed on an extension.
    pub fn new(side: Side, extended: bool) -> Self {
        Self {
            side,
            extended,
            head: [0; LONGEST_HEAD],
            head_len: 0,
            frame: Frame::default(),
            left: 0,
            open: None,
            broken: false,
            closed: false,
            messages: 0,
        }
    }

    /// Follows these bytes.
    pub fn skip(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let (used, step) = self.step(&bytes[at..]);
            if step == Step::Broken {
                return;
            }
            at += used;
        }
    }

    /// Whether the next byte begins a frame.
    pub fn at_boundary(&self) -> bool {
        self.left == 0 && self.head_len == 0 && !self.broken
    }

    /// Whether the next data frame goes on with a message.
    pub fn is_inside_message(&self) -> bool {
        self.open.is_some()
    }

    /// Whether payloads mean nothing here.
    pub fn is_opaque(&self) -> bool {
        self.extended
    }

    /// Whether a close frame has passed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many messages were begun, without pings, pongs and closes.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The frame whose head was complete last.
    pub(super) fn frame(&self) -> Frame {
        self.frame
    }

    /// Follows the next bytes, of which there must be one: up to the end of a head or a payload at
    /// most. Gives back how many that were.
    pub(super) fn step(&mut self, bytes: &[u8]) -> (usize, Step) {
        if self.broken {
            return (bytes.len(), Step::Broken);
        }
        if self.left > 0 {
            let used = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= used as u64;
            return (used, Step::Payload { ends: self.left == 0 });
        }
        let before = self.head_len;
        let taken = bytes.len().min(LONGEST_HEAD - before);
        self.head[before..before + taken].copy_from_slice(&bytes[..taken]);
        let mut cursor = Cursor::new(&self.head[..before + taken]);
        match FrameHeader::parse(&mut cursor) {
            Ok(None) => {
                self.head_len += taken;
                (taken, Step::More)
            }
            Ok(Some((header, length))) => {
                let used = cursor.position() as usize;
                self.head_len = 0;
                if !self.enter(&header, length, used) {
                    self.broken = true;
                    return (bytes.len(), Step::Broken);
                }
                (used - before, Step::Head { ends: length == 0 })
            }
            Err(_) => {
                self.broken = true;
                (bytes.len(), Step::Broken)
            }
        }
    }

    /// Takes in a head; false when it breaks the protocol.
    fn enter(&mut self, header: &FrameHeader, length: u64, size: usize) -> bool {
        let reserved = header.rsv1 || header.rsv2 || header.rsv3;
        let shortest = header.len(length) == size && length >> 63 == 0;
        let masked = header.mask.is_some() == (self.side == Side::App);
        if (reserved && !self.extended) || !shortest || !masked {
            return false;
        }
        let kind = match header.opcode {
            OpCode::Control(control) => {
                let kind = match control {
                    Control::Close if length == 1 => return false,
                    Control::Close => Kind::Close,
                    Control::Ping => Kind::Ping,
                    Control::Pong => Kind::Pong,
                    Control::Reserved(_) => return false,
                };
                if !header.is_final || length > CONTROL {
                    return false;
                }
                self.closed |= kind == Kind::Close;
                kind
            }
            OpCode::Data(data) => {
                let kind = match (data, self.open) {
                    (Data::Continue, Some(kind)) => kind,
                    (Data::Text, None) => Kind::Text,
                    (Data::Binary, None) => Kind::Binary,
                    _ => return false,
                };
                self.messages += u64::from(self.open.is_none());
                self.open = (!header.is_final).then_some(kind);
                kind
            }
        };
        self.frame = Frame { kind, last: header.is_final, length, mask: header.mask };
        self.left = length;
        true
    }
}

//! How a WebSocket is closed in its own words: a code, and a reason.

use std::sync::Arc;

use super::{Ending, Invalid, Orders, StreamCode};
use crate::exchange::{Event, Item};

/// What a server says that has met a condition it did not expect.
const INTERNAL_ERROR: u16 = 1011;
/// What a close frame has room for beside its code.
const LONGEST_REASON: usize = 123;

/// What a close frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Close {
    code: u16,
    reason: Arc<str>,
}

impl Close {
    /// Checks what the file says; 1011 where it says nothing.
    pub(super) fn checked(code: Option<StreamCode>, reason: Option<&str>) -> Result<Self, Invalid> {
        let code = code.map_or(INTERNAL_ERROR, |code| u16::try_from(code.0).unwrap_or(u16::MAX));
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => {}
            1005 | 1006 | 1015 => {
                return Err(Invalid::new(
                    "code",
                    format!(
                        "{code} is never sent: it is what a client reports when no close frame \
                         came; leave the frame out with `close` or `reset`"
                    ),
                ));
            }
            _ => {
                return Err(Invalid::new(
                    "code",
                    format!(
                        "{code} is no code that a server may close with; use for example 1001 \
                         (going away), 1008, 1011 (internal error), 1012 (restart), 1013 (try \
                         again later), or one from 3000 to 4999"
                    ),
                ));
            }
        }
        let reason = reason.unwrap_or_default();
        if reason.len() > LONGEST_REASON {
            return Err(Invalid::new(
                "reason",
                format!(
                    "a reason has at most {LONGEST_REASON} bytes; this one has {}",
                    reason.len()
                ),
            ));
        }
        Ok(Self { code, reason: reason.into() })
    }

    /// Sends it and ends the socket.
    pub(super) fn order(&self, out: &mut Orders) {
        out.send(Item::Event(Event::close(self.code, &self.reason)));
        out.end(Ending::CloseFrame(self.code));
    }
}

/// A `reason` without a close frame says nothing.
pub(super) fn unused(reason: Option<&str>) -> Result<(), Invalid> {
    match reason {
        Some(_) => Err(Invalid::new("reason", "`reason` goes with `close_frame` alone")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_are_never_sent_are_refused() {
        for code in [1000, 1001, 1011, 1012, 1013, 3000, 4999] {
            assert!(Close::checked(Some(StreamCode(code)), None).is_ok(), "{code}");
        }
        for code in [0, 999, 1004, 1016, 2999, 5000] {
            assert_eq!(
                Close::checked(Some(StreamCode(code)), None).unwrap_err().field,
                "code",
                "{code}"
            );
        }
        let error = Close::checked(Some(StreamCode(1006)), None).unwrap_err().reason;
        assert!(error.contains("never sent") && error.contains("`reset`"), "{error}");
        let long = "x".repeat(124);
        assert_eq!(Close::checked(None, Some(&long)).unwrap_err().field, "reason");
        assert_eq!(Close::checked(None, None).unwrap().code, 1011);
    }
}

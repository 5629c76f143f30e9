//! The proxy on real sockets: raw bytes in, raw bytes out.

mod conformance;
mod content;
mod ends;
mod faults;
mod forward;
pub(crate) mod kit;
mod lent;
mod many;
mod passing;
mod refuse;
mod relay;
mod reload;
pub(crate) mod secure;
mod shared;
mod slow;
mod steer;
mod tcp;
mod websocket;

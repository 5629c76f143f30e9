//! HTTP/2 and gRPC on real sockets: the library's own client and server on both ends, and bytes of
//! our own where a peer is hostile.

mod faults;
mod hostile;
mod kit;
mod passing;
mod secure;
mod statuses;
mod upstream;

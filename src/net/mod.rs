//! Sockets and time: the clock with its timer thread, upstream connections, TLS. It knows nothing
//! of faults, dialects or experiments.

mod blind;
pub mod ca;
mod certificate;
mod clock;
mod connect;
mod guard;
pub mod handover;
pub mod head;
mod lent;
mod outflow;
pub mod pool;
mod raw;
mod replay;
pub mod secure;
mod serve;
mod socket;
mod stream;
mod timer;
mod tls;

pub use self::blind::join;
pub use self::certificate::{Certificates, TrustError};
pub use self::clock::{Clock, PausedClock, RealClock, Sleep};
pub use self::connect::{
    BadOrigin, ConnectOptions, Connecting, Connector, Error, HttpVersion, KeyPair, Origin,
    UpstreamTls, connect_to,
};
pub use self::guard::{Dialled, Guard};
pub use self::head::{Lines, RawHead, Special};
pub use self::lent::{Lent, Loan};
pub use self::outflow::{Gone, Outflow};
pub use self::pool::Pool;
pub use self::raw::{LONGEST_RESENT, RawPool};
pub use self::serve::Server;
pub use self::socket::{Socket, Wire};
pub use self::stream::{Io, Rewound, Stream};

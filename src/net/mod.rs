//! Sockets and time: the clock with its timer thread, upstream connections, TLS. It knows nothing
//! of faults, dialects or experiments.

mod clock;
mod serve;

pub use self::clock::{Clock, Sleep};
pub use self::serve::Server;

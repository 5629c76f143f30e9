//! What happened: observations in, a record out. Pure: no clock, no I/O.

pub mod answers;
pub mod attempts;
pub mod behaviour;
mod errors;
pub mod ledger;
mod live;
pub mod observation;
pub mod record;
mod recorder;
pub mod recovery;
pub mod retry;
pub mod statistics;
pub mod summary;
mod timeline;

pub use self::ledger::{Good, Ledger, Span};
pub use self::live::Now;
pub use self::observation::{
    Call, CallEnd, DecisionLine, FailedHandshake, Observation, Outcome, Sample,
};
pub use self::record::Record;
pub use self::recorder::{Recorder, Tap};

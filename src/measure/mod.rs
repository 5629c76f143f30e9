//! What happened: observations in, a record out. Pure: no clock, no I/O.

pub mod observation;
pub mod record;
mod recorder;

pub use self::observation::{Call, CallEnd, DecisionLine, Observation, Outcome, Sample};
pub use self::record::Record;
pub use self::recorder::{Recorder, Tap};

//! The load driver: asks the app what users would ask, when they would ask it, and reports what
//! they saw. It knows nothing of phases, faults or verdicts.

mod answer;
mod client;
mod driver;
mod error_text;
mod refusal;
mod shape;

pub use self::driver::{Driver, Error, Handle};
pub use self::error_text::without_keys;

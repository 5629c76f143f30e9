//! What people and machines read of a run. Pure rendering of a `Record`: no clock, no file, no
//! judgement of its own; `brownout report results.json` gives the same pages years later.

mod decisions;
mod digest;
mod fault;
mod html;
mod json;
mod junit;
mod markdown;
mod numbers;
mod terminal;
mod text;
mod timeline;

pub use self::decisions::decision;
pub use self::fault::replayed;
pub use self::html::html;
pub use self::json::{Error, json, read_json};
pub use self::junit::junit;
pub use self::markdown::{annotations, markdown};
pub use self::terminal::{Style, terminal};

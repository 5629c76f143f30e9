//! From an experiment file to a plan, with every mistake reported at its place.
//!
//! The text becomes a tree of placed nodes; overlays, settings, variables and profiles are put
//! together there; typed reading and lowering follow, and both go on after a mistake. Reads no
//! environment itself and no file but the prompts that an experiment names.

mod diagnostic;
pub mod explain;
mod load;
mod lower;
mod mask;
mod overlay;
mod place;
pub mod plan;
pub mod profile;
mod read;
mod schema;
mod tree;
mod vars;
mod words;

pub use self::diagnostic::{Diagnostic, Diagnostics, Severity, Spot};
pub use self::load::{Loaded, Options, load, load_file};
#[cfg(feature = "cli")]
pub(crate) use self::mask::setting_shown;
pub use self::schema::{schema_json, schema_text};
pub use self::vars::Environment;

//! The integration tests: one binary, a module per subject.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod binary;
mod demo;
mod docs;
mod driver;
mod experiment_file;
mod faults;
mod floors;
mod hostile;
mod http2;
mod matrix;
mod mistakes;
mod profiles;
mod providers;
mod proxy;
mod raw;
mod report;
mod sim;

//! The built `brownout`, run as users run it: its words, its files, its exit codes.

mod activated;
mod app;
mod ca;
mod changing;
mod checks;
mod command;
mod control;
mod hostile;
mod replay;
mod runs;
mod secrets;
mod signals;
mod stops;
mod targeting;
mod wire;
mod wire_requests;

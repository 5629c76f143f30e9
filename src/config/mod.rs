//! From an experiment file to a plan, with every mistake reported at its place.

pub mod plan;

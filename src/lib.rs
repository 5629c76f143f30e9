#![doc = include_str!("../ARCHITECTURE.md")]

// Floor 0: words.
pub mod dice;
pub mod exchange;
pub mod units;
// Floor 1: formats.
pub mod wire;
// Floor 2: meaning.
pub mod dialect;
// Floor 3: faults.
pub mod fault;
// Floor 4: decide.
pub mod engine;
pub mod measure;
pub mod workload;
// Floor 5: sockets and time.
pub mod net;
// Floor 6: planes and judgement.
pub mod demo;
pub mod load;
pub mod proxy;
pub mod report;
pub mod sim;
pub mod verdict;
// Floor 7: the file.
pub mod config;
// Floor 8: conduct.
pub mod admin;
pub mod experiment;
// Floor 9: surface.
#[cfg(feature = "cli")]
pub mod cli;

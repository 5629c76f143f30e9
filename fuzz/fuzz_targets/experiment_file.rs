//! Any text is a plan or a list of mistakes inside it.
#![no_main]

use brownout::config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(diagnostics) = config::load("fuzz.yaml", text, &config::Options::default()) {
        assert!(!diagnostics.to_string().is_empty());
    }
});

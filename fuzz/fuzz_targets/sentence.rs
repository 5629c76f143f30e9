//! Any text is an expectation or a mistake with a place inside the text.
#![no_main]

use brownout::verdict::Expectation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(bad) = Expectation::parse(text) {
        assert!(bad.at <= text.len() && text.is_char_boundary(bad.at));
    }
});

//! No text makes a unit panic.
#![no_main]

use brownout::units::{Bounds, Count, Percent, Ramp, Rate, Shift, Span, SpanRange};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = (text.parse::<Span>(), text.parse::<Percent>(), text.parse::<Rate>());
    let _ = (text.parse::<Count>(), text.parse::<SpanRange>());
    let _ = (text.parse::<Ramp>(), text.parse::<Shift>(), text.parse::<Bounds>());
});

//! Any bytes as the head of a request: checked without a panic, and what passes is framed once.

#![no_main]

use brownout::wire::strict;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = strict::check_part(bytes);
    if strict::check(bytes).is_ok() {
        let lower = bytes.to_ascii_lowercase();
        let count = |name: &[u8]| lower.windows(name.len()).filter(|at| *at == name).count();
        assert!(count(b"\r\ncontent-length:") + count(b"\r\ntransfer-encoding:") <= 1);
    }
});

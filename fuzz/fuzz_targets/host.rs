//! Any bytes: never a panic, and what is said of a beginning stays true of the whole.
#![no_main]

use brownout::wire::host::{Host, host, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, u16)| {
    let (data, cut) = input;
    let early = host(&data[..usize::from(cut).min(data.len())]);
    if early != Host::Unknown {
        assert_eq!(early, host(&data));
    }
    if let Host::Named(authority) = host(&data) {
        let _ = split(authority);
    }
});

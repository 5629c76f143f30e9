//! Any bytes, cut anywhere: what comes out is what went in, and never a panic.
#![no_main]

use brownout::wire::grpc::Splitter;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, u8)| {
    let (data, size) = input;
    let mut splitter = Splitter::new();
    let mut out = Vec::new();
    for piece in data.chunks(usize::from(size).max(1)) {
        splitter.push(Bytes::copy_from_slice(piece));
        for item in splitter.by_ref() {
            out.extend_from_slice(item.raw());
        }
    }
    while let Some(item) = splitter.finish() {
        out.extend_from_slice(item.raw());
    }
    assert_eq!(out, data);
});

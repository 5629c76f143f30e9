//! Any bytes, cut anywhere: what comes out is what went in, events that are framed anew read back,
//! and never a panic.
#![no_main]

use brownout::exchange::Item;
use brownout::wire::eventstream::{Splitter, headers};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, u8, Vec<u8>)| {
    let (mut data, size, payload) = input;
    // A fuzzer finds no checksums: some frames are made right.
    let known = brownout::exchange::Event::eventstream(&[(":event-type", "chunk")], &payload);
    data.extend_from_slice(&known.raw);
    let mut splitter = Splitter::new();
    let mut out = Vec::new();
    let mut items = Vec::new();
    for piece in data.chunks(usize::from(size).max(1)) {
        splitter.push(Bytes::copy_from_slice(piece));
        items.extend(splitter.by_ref());
    }
    items.extend(std::iter::from_fn(|| splitter.finish()));
    for item in items {
        out.extend_from_slice(item.raw());
        let _ = headers(item.raw()).count();
        if let Item::Event(event) = item {
            assert_eq!(event.with_data(&event.data).raw, event.raw);
        }
    }
    assert_eq!(out, data);
});

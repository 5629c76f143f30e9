//! No bytes make the reader of protocol buffers panic; what it changes is a message again.
#![no_main]

use brownout::wire::protobuf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = protobuf::fields(bytes);
    let _ = protobuf::numbers(bytes);
    for path in [&[1][..], &[2, 1], &[1, 2, 3]] {
        let Some(found) = protobuf::below(bytes, path) else { continue };
        let mut seen = 0;
        let new = protobuf::changed(bytes, path, &mut |message| {
            seen += 1;
            Some([message, &[0x08, 0x01]].concat())
        });
        assert_eq!(seen, found.len());
        let new = new.expect("it was readable");
        let after = protobuf::fields(&new).expect("it is readable still");
        assert_eq!(after.len(), whole.as_ref().map_or(0, Vec::len));
    }
});

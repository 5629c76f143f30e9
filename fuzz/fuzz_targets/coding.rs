//! Any bytes in any coding: never a panic, no step above its size; what is packed unpacks alike.
#![no_main]

use brownout::wire::coding::{Coding, Packer, Unpacker};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (choice, data) = input;
    let coding = [Coding::Br, Coding::Deflate, Coding::Gzip, Coding::Zstd][usize::from(choice % 4)];
    let mut unpacker = Unpacker::new(coding);
    unpacker.push(Bytes::copy_from_slice(&data));
    // A bomb takes long; what matters is that it takes no memory.
    for piece in unpacker.by_ref().take(100) {
        let Ok(piece) = piece else { break };
        assert!(piece.len() <= 64 << 10);
    }
    let mut packer = Packer::new(coding);
    let packed = [packer.push(&data), packer.finish()].concat();
    let mut unpacker = Unpacker::new(coding);
    unpacker.push(packed.into());
    let back: Vec<u8> = unpacker.by_ref().flat_map(|piece| piece.expect("we packed it")).collect();
    assert_eq!(back, data);
});

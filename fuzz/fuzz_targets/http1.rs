//! Any bytes, cut anywhere: heads and bodies end in the same place, and never a panic.
#![no_main]

use brownout::wire::http1::{self, Body, Framing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, u8, u8)| {
    let (data, size, kind) = input;
    let size = usize::from(size).max(1);
    let whole = http1::request_end(&data, &mut 0);
    let (mut searched, mut seen) = (0, 0);
    let split = loop {
        seen = (seen + size).min(data.len());
        match http1::request_end(&data[..seen], &mut searched) {
            Ok(None) if seen < data.len() => {}
            found => break found,
        }
    };
    let read = |end: usize| http1::request(&data[..end], |_, _| {});
    match split {
        Ok(end) => assert_eq!(whole, Ok(end)),
        // What was refused early would not have been taken later.
        Err(_) => assert!(!matches!(whole, Ok(Some(end)) if read(end).is_ok())),
    }
    if let Ok(Some(end)) = whole {
        let _ = read(end);
    }
    if let Ok(Some(end)) = http1::answer_end(&data, &mut 0) {
        let _ = http1::answer(&data[..end], kind & 1 == 1, |_, _| {});
    }

    let framing = match kind % 3 {
        0 => Framing::Chunked,
        1 => Framing::Length(u64::from(kind) * 3),
        _ => Framing::UntilClose,
    };
    let start = if kind & 1 == 1 { Body::of_request(framing) } else { Body::of_answer(framing) };
    let (mut at_once, mut in_pieces) = (start, start);
    let whole = at_once.follow(&data);
    let mut sum = http1::Taken::default();
    for piece in data.chunks(size) {
        match in_pieces.follow(piece) {
            Ok(taken) => {
                sum.bytes += taken.bytes;
                sum.payload += taken.payload;
            }
            Err(bad) => return assert_eq!(whole, Err(bad)),
        }
    }
    assert_eq!(whole, Ok(sum));
    assert_eq!(at_once.is_whole(), in_pieces.is_whole());
});

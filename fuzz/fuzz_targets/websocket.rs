//! Any frames, cut anywhere: no byte is lost or added, cutting changes no message, a tracker and a
//! splitter agree, and splitting can begin anywhere. Never a panic.
#![no_main]

use brownout::exchange::Item;
use brownout::wire::websocket::{Side, Splitter, Tracker};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fn split(tracker: Tracker, data: &[u8], size: usize) -> (Vec<Item>, usize, Tracker) {
    let mut splitter = Splitter::with_cap(tracker, 1000);
    let (mut events, mut bytes) = (Vec::new(), 0);
    for piece in data.chunks(size.max(1)) {
        splitter.push(Bytes::copy_from_slice(piece));
        for item in splitter.by_ref() {
            bytes += item.raw().len();
            if matches!(item, Item::Event(_)) {
                events.push(item);
            }
        }
    }
    let (left, tracker) = splitter.finish();
    (events, bytes + left.len(), tracker)
}

fuzz_target!(|input: (Vec<u8>, u8, u8, bool, bool)| {
    let (data, size, begin, app, extended) = input;
    let side = if app { Side::App } else { Side::Upstream };
    let start = Tracker::new(side, extended);
    let (whole, bytes, _) = split(start.clone(), &data, data.len());
    assert_eq!(bytes, data.len());
    let (cut, bytes, tracker) = split(start.clone(), &data, size.into());
    assert_eq!((bytes, &cut), (data.len(), &whole));
    let mut skipped = start;
    let begin = usize::from(begin).min(data.len());
    skipped.skip(&data[..begin]);
    let (late, bytes, _) = split(skipped.clone(), &data[begin..], size.into());
    assert_eq!(bytes, data.len() - begin);
    assert!(whole.ends_with(&late));
    skipped.skip(&data[begin..]);
    assert_eq!(
        (skipped.at_boundary(), skipped.messages(), skipped.is_closed()),
        (tracker.at_boundary(), tracker.messages(), tracker.is_closed())
    );
});

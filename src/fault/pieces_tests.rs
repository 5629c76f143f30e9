//! The same seed gives the same bytes, however the network has cut the stream.

use bytes::Bytes;
use proptest::prelude::*;

use super::KINDS;
use super::testing::{Upstream, ms, play_one};
use crate::dialect::by_kind;
use crate::exchange::Grain;
use crate::wire::Cutter;

const STREAM: &str = concat!(
    ": hello\n\n",
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "id: 4\ndata:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüß\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" Gott\"}}]}\r\n\r\n",
    "event: x\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"12}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
);

/// What becomes of the stream, read in pieces that end at these places.
fn played(name: &str, yaml: &str, cuts: &[usize]) -> Vec<u8> {
    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    let fault = (kind.try_build)(serde_yaml::from_str(yaml).unwrap()).unwrap();
    let mut cutter = Cutter::new(Grain::Event, Some("text/event-stream"));
    let mut items = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([STREAM.len()]) {
        let piece = Bytes::copy_from_slice(&STREAM.as_bytes()[from..cut]);
        items.extend(cutter.push(piece));
        from = cut;
    }
    items.extend(cutter.finish());
    let upstream = Upstream::events(items.into_iter().map(|item| (ms(1), item)).collect());
    let played = play_one(by_kind("openai").unwrap(), fault.as_ref(), &upstream.typed());
    played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect()
}

/// Effects, and whether they leave all bytes as they are.
const EFFECTS: &[(&str, &str, bool)] = &[
    ("burst", "{ collect: 2 tokens }", true),
    ("corrupt", "{ percent: 50%, where: text }", false),
    ("corrupt", "{ where: arguments, how: cut }", false),
    ("corrupt", "{ where: frame, percent: 30% }", false),
    ("corrupt", "{ how: split_character }", false),
    ("drop", "{ percent: 50% }", false),
    ("duplicate", "{ percent: 50% }", false),
    ("error", "{ after: 1 token, then_done: true }", false),
    ("keep_alive", "{ every: 1s, for: 3s }", false),
    ("regroup", "{ merge: 1..3, split: 2..9, gap: 0s }", true),
    ("regroup", "{ line_ends: crlf }", false),
    ("reorder", "{ percent: 50%, window: 3 }", false),
    ("stall", "{ at: mid_arguments, pause: 1s }", true),
    ("stall", "{ at: mid_character, pause: 1s }", true),
    ("strip", "{ parts: [index, usage, event_name] }", false),
    ("truncate", "{ at: mid_arguments, finish: tool_calls }", false),
    ("truncate", "{ at: mid_event, ending: close }", false),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pieces_of_the_network_change_nothing(
        cuts in prop::collection::btree_set(1..STREAM.len(), 0..30),
    ) {
        let cuts: Vec<usize> = cuts.into_iter().collect();
        for (name, yaml, untouched) in EFFECTS {
            let one = played(name, yaml, &[]);
            prop_assert_eq!(&played(name, yaml, &cuts), &one, "{} {}", name, yaml);
            if *untouched {
                prop_assert_eq!(&one, STREAM.as_bytes(), "{} {}", name, yaml);
            } else {
                prop_assert_ne!(&one, STREAM.as_bytes(), "{} {}", name, yaml);
            }
        }
    }
}

//! Any document: what is found stands where it is said to, and changes leave a document that is as
//! sound as it was.
#![no_main]

use brownout::wire::json::{Edits, Paths, items, members};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const PATHS: [(&str, u8); 8] = [
    ("a", 0),
    ("a[*]", 1),
    ("a[*].b", 2),
    ("*.c", 3),
    ("[*]", 4),
    ("[*].a[*][*]", 5),
    ("b.*", 6),
    ("b.*[*].a", 7),
];

fuzz_target!(|input: (&[u8], u8)| {
    let (document, chosen) = input;
    let found = Paths::new(&PATHS).find(document);
    let sound = serde_json::from_slice::<Value>(document).is_ok();
    let Some(found) = found else {
        assert!(!sound, "JSON that is not read");
        return;
    };
    let mut same = Edits::default();
    for spot in &found {
        let _ = spot.text(document);
        let bytes = spot.of(document);
        assert!(spot.start <= spot.span.start && spot.span.end <= document.len());
        same.replace(spot.span.clone(), bytes);
        let value = serde_json::from_slice::<Value>(bytes);
        assert!(!sound || value.is_ok(), "a part that is no value: {:?}", spot.span);
        let (items, members) =
            (items(document, spot.span.clone()), members(document, spot.span.clone()));
        if let (true, Ok(Value::Array(array))) = (sound, &value) {
            let items = items.expect("the items of an array");
            let read = items.into_iter().map(|span| serde_json::from_slice::<Value>(&document[span]));
            assert_eq!(&read.collect::<Result<Vec<_>, _>>().unwrap(), array);
        } else if let (true, Ok(Value::Object(object))) = (sound, &value) {
            for (key, member) in members.expect("the members of an object") {
                let key: String = serde_json::from_slice(&document[key]).unwrap();
                assert!(object.contains_key(&key));
                assert!(serde_json::from_slice::<Value>(&document[member]).is_ok());
            }
        }
    }
    assert_eq!(&same.apply(document)[..], document, "nothing has changed");

    let (mut removed, mut replaced, mut mixed) =
        (Edits::default(), Edits::default(), Edits::default());
    for spot in &found {
        let takes = |bit: u8| chosen >> bit & 1 == 1;
        if takes(spot.what) {
            removed.remove(spot.start, spot.span.clone());
            mixed.remove(spot.start, spot.span.clone());
        } else {
            mixed.set_text(spot.span.clone(), "other");
        }
        replaced.set_text(spot.span.clone(), "a \"text\"\u{0}");
    }
    for edits in [removed, replaced, mixed] {
        let changed = edits.apply(document);
        let still = serde_json::from_slice::<Value>(&changed).is_ok();
        assert!(!sound || still, "{}", String::from_utf8_lossy(&changed));
    }
});

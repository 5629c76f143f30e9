use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn found(paths: &[(&'static str, u8)], document: &str) -> Vec<(u8, String, Vec<usize>)> {
    let spots = Paths::new(paths).find(document.as_bytes()).unwrap();
    let told = |spot: Spot<u8>| {
        (spot.what, String::from_utf8_lossy(spot.of(document.as_bytes())).into_owned(), spot.at)
    };
    spots.into_iter().map(told).collect()
}

#[test]
fn paths_lead_to_values() {
    let document =
        r#" {"a" : [ {"b": "x,]\"", "c":{"d":1}}, 7 , {"c":{"d":[2]}} ], "*":{"k":true}} "#;
    let paths = &[("a[*].c", 1), ("a[*].c.d", 2), ("a[*].b", 3), ("*.k", 4), ("none", 5)];
    assert_eq!(
        found(paths, document),
        [
            (3, r#""x,]\"""#.to_owned(), vec![0]),
            (1, r#"{"d":1}"#.to_owned(), vec![0]),
            (2, "1".to_owned(), vec![0]),
            (1, r#"{"d":[2]}"#.to_owned(), vec![2]),
            (2, "[2]".to_owned(), vec![2]),
            (4, "true".to_owned(), vec![]),
        ]
    );
    assert_eq!(found(&[("[*][*]", 1)], "[[1,2],[],3]").len(), 2);
    assert_eq!(found(&[("", 1)], " 5 "), [(1, "5".to_owned(), vec![])]);
}

#[test]
fn what_is_no_json_has_no_places() {
    let paths = Paths::new(&[("a[*].b", ()), ("c", ())]);
    for document in
        ["", "{", r#"{"a":"#, r#"{"a":[}"#, r#"{"c":1}}"#, r#"{"c":1} x"#, "[1", "nul l", r#""abc"#]
    {
        assert_eq!(paths.find(document.as_bytes()), None, "{document}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(paths.find(deep.as_bytes()), None);
}

#[test]
fn parts_go_with_their_commas() {
    let document = r#"{ "a":1 , "b":[2], "c":3 }"#;
    let paths = Paths::new(&[("a", 'a'), ("b", 'b'), ("c", 'c')]);
    let spots = paths.find(document.as_bytes()).unwrap();
    for (gone, left) in [
        ("a", r#"{ "b":[2], "c":3 }"#),
        ("b", r#"{ "a":1 , "c":3 }"#),
        ("c", r#"{ "a":1 , "b":[2] }"#),
        ("ab", r#"{ "c":3 }"#),
        ("bc", r#"{ "a":1  }"#),
        ("ac", r#"{ "b":[2] }"#),
        ("abc", "{  }"),
    ] {
        let mut edits = Edits::default();
        for spot in spots.iter().filter(|spot| gone.contains(spot.what)) {
            edits.remove(spot.start, spot.span.clone());
        }
        assert_eq!(edits.apply(document.as_bytes()), left, "without {gone}");
    }
}

#[test]
fn the_outer_change_counts() {
    let mut edits = Edits::default();
    edits.replace(2..3, "x");
    edits.replace(1..4, "y");
    edits.set_text(5..6, "\"");
    assert_eq!(edits.apply(b"[1,2,3]"), "[y,\"\\\"\"]");
}

#[test]
fn parts_of_arrays_and_objects() {
    let document = br#"{"a": [1, "x]", {"b":[]} ] , "c" :2}"#;
    let parts = members(document, 0..document.len()).unwrap();
    let text = |span: &Range<usize>| std::str::from_utf8(&document[span.clone()]).unwrap();
    let told: Vec<_> = parts.iter().map(|(key, value)| (text(key), text(value))).collect();
    assert_eq!(told, [("\"a\"", r#"[1, "x]", {"b":[]} ]"#), ("\"c\"", "2")]);
    let items = items(document, parts[0].1.clone()).unwrap();
    assert_eq!(items.iter().map(text).collect::<Vec<_>>(), ["1", "\"x]\"", r#"{"b":[]}"#]);
    assert_eq!(super::items(document, parts[1].1.clone()), None);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        "[a\"\\\\,}\\]é]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[ab]{1,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn values_are_found_where_serde_has_them(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let paths = Paths::new(&[("a[*].b", 1), ("*.aa", 2), ("[*].a", 3)]);
        let spots = paths.find(text.as_bytes()).unwrap();
        let read = |spot: &Spot<i32>| serde_json::from_slice::<Value>(spot.of(text.as_bytes())).unwrap();
        let got = |what| spots.iter().filter(|spot| spot.what == what).map(read).collect::<Vec<_>>();
        let wanted: Vec<Value> = value["a"].as_array().into_iter().flatten().filter_map(|item| item.get("b").cloned()).collect();
        prop_assert_eq!(got(1), wanted);
        let wanted: Vec<Value> = value.as_object().into_iter().flatten()
            .filter(|(key, _)| *key != "a").filter_map(|(_, item)| item.get("aa").cloned()).collect();
        prop_assert_eq!(got(2), wanted);
        let wanted: Vec<Value> = value.as_array().into_iter().flatten().filter_map(|item| item.get("a").cloned()).collect();
        prop_assert_eq!(got(3), wanted);
        let mut edits = Edits::default();
        for spot in &spots {
            edits.remove(spot.start, spot.span.clone());
        }
        prop_assert!(serde_json::from_slice::<Value>(&edits.apply(text.as_bytes())).is_ok());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ a1".to_vec()), 0..60)) {
        let _ = Paths::new(&[("a[*].a", ()), ("[*]", ()), ("*", ())]).find(&bytes);
        let _ = items(&bytes, 0..bytes.len());
        let _ = members(&bytes, 0..bytes.len());
    }
}

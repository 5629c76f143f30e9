//! Broken JSON: each way, whole and in pieces.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const JSON: &str = r#"{"city": "New York", "days": 3, "sun": true, "stops": [{"id": 1, "name": "a\"}"}, {"id": 2}], "unit": {"of": null}}"#;

fn broken(how: How, key: &str, text: &str) -> (String, Told) {
    let key = if key.is_empty() { Key::First } else { Key::read(key) };
    in_pieces(how, &key, &[text])
}

fn in_pieces(how: How, key: &Key, pieces: &[&str]) -> (String, Told) {
    let mut breach = Breach::new(how, key.clone());
    let mut text: String = pieces.iter().map(|piece| breach.piece(piece)).collect();
    text.extend(breach.rest());
    (text, breach.told)
}

#[test]
fn each_way_to_break_it_changes_one_place() {
    for (how, key, old, new) in [
        (How::MissingKey, "city", r#""city": "New York","#, ""),
        (How::MissingKey, "days", r#", "days": 3"#, ""),
        (How::MissingKey, "unit", r#", "unit": {"of": null}"#, ""),
        (How::MissingKey, "stops[*].name", r#", "name": "a\"}""#, ""),
        (How::MissingKey, "of", r#""of": null"#, ""),
        (How::RenamedKey, "$.stops.id", r#""id": 1"#, r#""id_value": 1"#),
        (How::WrongType, "", r#""New York""#, "0"),
        (How::WrongType, "days", "3", r#""3""#),
        (How::WrongType, "of", "null", r#""null""#),
        (How::WrongType, "stops", r#"[{"id": 1, "name": "a\"}"}, {"id": 2}]"#, "{}"),
        (How::WrongType, "unit", r#"{"of": null}"#, "[]"),
        (How::Null, "sun", "true", "null"),
        (How::InvalidEnum, "city", "New York", "unlisted_value"),
        (How::ExtraKey, "", r#"{"city""#, r#"{"additional_info":"none","city""#),
        (How::ExtraKey, "mood", r#"{"city""#, r#"{"mood":"none","city""#),
        (How::TrailingComma, "", "null}}", "null},}"),
        (
            How::Preamble,
            "",
            r#"{"city""#,
            r#"Here is the JSON you asked for:

{"city""#,
        ),
        (How::Truncated, "city", &JSON[12..], ""),
        (
            How::Truncated,
            "stops",
            r#"{"id": 1, "name": "a\"}"}, {"id": 2}], "unit": {"of": null}}"#,
            "",
        ),
    ] {
        let wanted = JSON.replacen(old, new, 1);
        assert_ne!(wanted, JSON, "{old}");
        assert_eq!(broken(how, key, JSON), (wanted.clone(), Told::Broken), "{how:?} {key}");
        let valid = serde_json::from_str::<Value>(&wanted).is_ok();
        assert_eq!(valid, how.keeps_json(), "{how:?} {key}: {wanted}");
    }
    let fenced = format!("```json\n{JSON}\n```");
    assert_eq!(broken(How::Fence, "", JSON).0, fenced);
    assert_eq!(broken(How::NotJson, "", JSON).0, PROSE);
    assert_eq!(broken(How::ExtraKey, "", "{ }").0, r#"{ "additional_info":"none"}"#);
    assert_eq!(broken(How::MissingKey, "a", r#"{"a":1}"#).0, "{}");
    assert_eq!(broken(How::MissingKey, "a", r#"[{"a":{"b":[1]} , "c":2}]"#).0, r#"[{  "c":2}]"#);
}

#[test]
fn what_cannot_be_broken_passes_and_says_why() {
    for (how, key, text, told) in [
        (How::MissingKey, "none", JSON, Told::Nothing),
        (How::MissingKey, "stops.of", JSON, Told::Nothing),
        (How::Null, "", "Sorry, no.", Told::NoJson),
        (How::Null, "", "[1,2]", Told::Nothing),
        (How::Fence, "", "```json\n{}\n```", Told::Already),
        (How::Null, "b", r#"{"a" 1, "b": 2}"#, Told::Lost),
        (How::MissingKey, "b", r#"{"a":1, "b"#, Told::Nothing),
        (How::WrongType, "", "", Told::Nothing),
    ] {
        assert_eq!(broken(how, key, text), (text.to_owned(), told), "{how:?} {key} {text}");
        assert!(told.reason().is_some());
    }
    let deep = "[".repeat(1000);
    assert_eq!(broken(How::Null, "", &deep), (deep, Told::Lost));
    let long = format!(r#"{{"{}":1,"a":2}}"#, "k".repeat(1000));
    assert_eq!(broken(How::Null, "a", &long).0, long.replace(":2", ":null"));
}

#[test]
fn little_is_kept_back() {
    let mut breach = Breach::new(How::MissingKey, Key::read("unit"));
    let (mut came, mut went) = (0, 0);
    for c in JSON.chars() {
        came += 1;
        went += breach.piece(&c.to_string()).chars().count();
        if breach.told == Told::Nothing {
            assert!(came - went <= 10, "{came} {went}");
        }
    }
}

#[test]
fn keys_are_drawn_from_the_schema() {
    let schema = json!({
        "properties": {
            "a": { "type": "string" },
            "b": { "type": ["string", "null"] },
            "c": { "enum": ["x"] },
        },
        "required": ["a", "c"],
    });
    let drawn = |how, schema: Option<&Value>| {
        (0..50).map(|n| Key::draw(how, schema, f64::from(n) / 50.0)).collect::<Vec<_>>()
    };
    let key = |name: &str| Some(Key::Path(vec![Some(name.to_owned())]));
    let missing = drawn(How::MissingKey, Some(&schema));
    assert!(missing.contains(&key("a")) && missing.contains(&key("c")));
    assert!(!missing.contains(&key("b")), "it is not required");
    assert!(drawn(How::InvalidEnum, Some(&schema)).iter().all(|drawn| *drawn == key("c")));
    assert!(!drawn(How::Null, Some(&schema)).contains(&key("b")));
    assert_eq!(drawn(How::MissingKey, None)[0], Some(Key::First));
    assert_eq!(drawn(How::InvalidEnum, None)[0], None);
    assert_eq!(Key::read("a"), Key::Named("a".to_owned()));
    assert_eq!(Key::read("$.a"), Key::Path(vec![Some("a".to_owned())]));
    let path = vec![Some("a".to_owned()), None, Some("b".to_owned())];
    assert_eq!(Key::read("a[*].b"), Key::Path(path));
}

const WAYS: [How; 11] = [
    How::ExtraKey,
    How::InvalidEnum,
    How::Fence,
    How::MissingKey,
    How::NotJson,
    How::Null,
    How::Preamble,
    How::RenamedKey,
    How::TrailingComma,
    How::Truncated,
    How::WrongType,
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a\"\\\\,:}\\]é]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[abc_\"]{1,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        value in value(), pretty in any::<bool>(), way in 0usize..11, key in "[abc]{0,2}",
        cuts in prop::collection::vec(0usize..400, 0..6),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let how = WAYS[way];
        let key = if key.is_empty() { Key::First } else { Key::read(&key) };
        let mut places: Vec<usize> = cuts.into_iter().filter(|at| text.is_char_boundary(*at)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces: Vec<&str> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        let (whole, told) = in_pieces(how, &key, &[&text]);
        prop_assert_eq!(&in_pieces(how, &key, &pieces), &(whole.clone(), told));
        if told != Told::Broken {
            prop_assert_eq!(&whole, &text);
        } else if how.keeps_json() {
            let new: Value = serde_json::from_str(&whole).unwrap();
            prop_assert!(new != value || how == How::ExtraKey, "{} {}", whole, text);
        } else {
            prop_assert!(serde_json::from_str::<Value>(&whole).is_err(), "{}", whole);
        }
    }

    #[test]
    fn no_text_panics(text in "[{}\\[\\]\",:\\\\ `a1é]{0,60}", way in 0usize..11, key in "[a1]{0,1}") {
        let key = if key.is_empty() { Key::First } else { Key::read(&key) };
        let (new, told) = in_pieces(WAYS[way], &key, &[&text]);
        if told != Told::Broken {
            prop_assert_eq!(new, text);
        }
    }
}

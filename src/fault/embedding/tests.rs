//! Embedding on answers of OpenAI, as floats and as base64.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play_as};
use super::*;
use crate::dialect::by_kind;
use crate::exchange::{Exchange, Facts};

const FLOATS: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.6,0.8]},{"object":"embedding","index":1,"embedding":[1.0,0.0]},{"object":"embedding","index":2,"embedding":[0.0,1.0]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
const BASE64: &str = r#"{"data":[{"index":0,"embedding":"AAAAPwAAgL8="}],"model":"m"}"#;

fn play_body(fault: &dyn Fault, key: u64, body: &str) -> Played {
    let asked = Exchange {
        facts: Facts { operation: Operation::Embed, ..Facts::default() },
        ..exchange(key)
    };
    let items = vec![(Duration::ZERO, Item::Message(Bytes::copy_from_slice(body.as_bytes())))];
    let upstream =
        Upstream { took: ms(1), status: StatusCode::OK, headers: HeaderMap::new(), items };
    play_as(by_kind("openai").unwrap(), Duration::ZERO, &[fault], &asked, &upstream).unwrap()
}

fn played(yaml: &str, body: &str) -> Played {
    play_body(build::<Embedding>(yaml).as_ref(), 1, body)
}

/// The index and the first number of each vector.
fn told(body: &str) -> Vec<(u64, f64)> {
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    let data = json["data"].as_array().unwrap().iter();
    data.map(|one| (one["index"].as_u64().unwrap(), one["embedding"][0].as_f64().unwrap())).collect()
}

#[test]
fn vectors_change_and_no_other_byte() {
    let zeros = played("{ vectors: zeros }", FLOATS);
    let wanted = FLOATS
        .replace("[0.6,0.8]", "[0.0,0.0]")
        .replace("[1.0,0.0]", "[0.0,0.0]")
        .replace("[0.0,1.0]", "[0.0,0.0]");
    assert_eq!((zeros.text(), zeros.hit(), zeros.note("vectors")), (wanted, true, Some(3.0)));
    let nan = played("{ vectors: nan, count: 1 }", FLOATS);
    assert_eq!((nan.text().matches("[NaN,NaN]").count(), nan.note("vectors")), (1, Some(1.0)));
    assert_eq!(
        played("{ vectors: nan }", BASE64).text(),
        BASE64.replace("AAAAPwAAgL8=", "AADAfwAAwH8=")
    );
    let short = played("{ vectors: wrong_dimension }", BASE64);
    assert_eq!(short.text(), BASE64.replace("AAAAPwAAgL8=", "AAAAPw=="));
    let long = played("{ vectors: wrong_dimension, dimensions: 3 }", FLOATS).text();
    assert!(long.contains("[0.6,0.8,0.0]"), "{long}");
    let noise = played("{ vectors: noise, cosine: 0.5 }", FLOATS).text();
    let (x, y) = {
        let json: serde_json::Value = serde_json::from_str(&noise).unwrap();
        let vector = &json["data"][0]["embedding"];
        (vector[0].as_f64().unwrap(), vector[1].as_f64().unwrap())
    };
    assert!((0.6 * x + 0.8 * y - 0.5).abs() < 1e-3, "{x} {y}");
    assert_eq!(noise, played("{ vectors: noise, cosine: 0.5 }", FLOATS).text(), "seeded");
}

#[test]
fn batches_change_their_order() {
    let reversed = played("{ order: reversed }", FLOATS);
    assert_eq!(told(&reversed.text()), [(2, 0.0), (1, 1.0), (0, 0.6)]);
    let counted = played("{ order: reversed, index: stays }", FLOATS);
    assert_eq!(told(&counted.text()), [(0, 0.0), (1, 1.0), (2, 0.6)]);
    let shuffled = told(&played("{ order: shuffled }", FLOATS).text());
    assert!(shuffled.len() == 3 && !shuffled.is_sorted_by_key(|(index, _)| *index));
    let short = played("{ missing: 1 }", FLOATS);
    assert_eq!((told(&short.text()).len(), short.note("vectors_left")), (2, Some(2.0)));
    let none = played("{ missing: 9 }", FLOATS).text();
    assert!(none.starts_with(r#"{"object":"list","data":[],"model""#), "{none}");
    let one = played("{ order: reversed }", BASE64);
    assert_eq!((one.hit(), one.let_go().is_some(), one.text().as_str()), (false, true, BASE64));
    let both = played("{ vectors: zeros, order: reversed, missing: 1 }", FLOATS);
    let both = told(&both.text());
    assert!(both.len() == 2 && both.iter().all(|(_, first)| *first == 0.0), "{both:?}");
}

#[test]
fn what_cannot_change_says_why() {
    let odd = r#"{"data":[{"index":0,"embedding":"AAA="}]}"#;
    let played_odd = played("{ vectors: zeros }", odd);
    assert_eq!((played_odd.hit(), played_odd.text().as_str()), (false, odd));
    assert!(played_odd.impossible().unwrap().contains("no list of numbers"));
    let none = played("{ vectors: zeros }", r#"{"data":[]}"#);
    assert_eq!(none.impossible(), Some("the answer has no vectors"));
    let same = played("{ vectors: wrong_dimension, dimensions: 2 }", FLOATS);
    assert_eq!((same.impossible(), same.text().as_str()), (Some("the vectors are like that already"), FLOATS));
    let fault = build::<Embedding>("{ vectors: stale }");
    let first = play_body(fault.as_ref(), 1, BASE64);
    assert!(first.impossible().unwrap().contains("another text"));
    let other = BASE64.replace("AAAAPwAAgL8=", "AACAvwAAAD8=");
    assert_eq!(play_body(fault.as_ref(), 2, &other).text(), BASE64);
    let chat = super::super::testing::arm(fault.as_ref(), Duration::ZERO, &exchange(1));
    assert_eq!(chat.err().unwrap().0, "the request asks for no vectors");
}

#[test]
fn the_own_percent_is_a_share_of_the_exchanges() {
    let fault = build::<Embedding>("{ vectors: zeros, percent: 10% }");
    let hit = (0..1000).filter(|key| play_body(fault.as_ref(), *key, BASE64).hit()).count();
    assert!((60..140).contains(&hit), "{hit} of 1000");
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (yaml, field) in [
        ("{}", ""),
        ("{ vectors: zeros, cosine: 0.5 }", "cosine"),
        ("{ vectors: noise, cosine: 1.0 }", "cosine"),
        ("{ vectors: noise, dimensions: 5 }", "dimensions"),
        ("{ vectors: wrong_dimension, dimensions: 0 }", "dimensions"),
        ("{ vectors: unnormalised, factor: 1.0 }", "factor"),
        ("{ vectors: unnormalised, factor: -1.0 }", "factor"),
        ("{ order: reversed, count: 1 }", "count"),
        ("{ vectors: zeros, index: stays }", "index"),
        ("{ missing: 0 }", "missing"),
        ("{ vectors: zeros, percent: 0% }", "percent"),
    ] {
        assert_eq!(invalid::<Embedding>(yaml).field, field, "{yaml}");
    }
}

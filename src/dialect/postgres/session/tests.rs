use http::StatusCode;
use proptest::prelude::*;

use super::*;

fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    wire::message(kind, payload).to_vec()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

/// Parse, Bind, Execute, Sync.
fn extended(name: &str, sql: &str, values: &[u8]) -> Vec<u8> {
    let mut bind = format!("\0{name}\0").into_bytes();
    bind.extend_from_slice(values);
    [
        message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes()),
        message(b'B', &bind),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat()
}

fn open() -> Following {
    let mut session = Following::new(false);
    let mut bytes = 8 + "user\0ann\0\0".len() as u32;
    let mut start = bytes.to_be_bytes().to_vec();
    bytes = 196_608;
    start.extend(bytes.to_be_bytes());
    start.extend(b"user\0ann\0\0");
    assert_eq!(
        session.up(&start, true),
        Up::Opening { len: start.len(), label: "ann@ann".to_owned() }
    );
    let Down::Pass { ends: Some(_), .. } = session.down(&wire::ready(b'I'), false) else {
        panic!("the session is ready")
    };
    session
}

fn ready(session: &mut Following, status: u8) {
    let Down::Pass { ends: Some(_), .. } = session.down(&wire::ready(status), false) else {
        panic!("the cycle ends")
    };
}

fn timeout() -> Answer {
    Answer {
        status: StatusCode::BAD_GATEWAY,
        headers: Vec::new(),
        body: words::error("57014", "late"),
    }
}

#[test]
fn tls_is_declined_or_passes() {
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let declined = Up::Skip { len: 8, reply: Bytes::from_static(b"N"), over: false };
    assert_eq!(Following::new(false).up(&ssl, true), declined);
    assert_eq!(Following::new(true).up(&ssl, true), Up::Opaque);
}

#[test]
fn a_request_is_a_query_or_goes_up_to_its_sync() {
    let mut session = open();
    let bytes = query("select 1");
    for cut in 0..bytes.len() {
        assert_eq!(session.up(&bytes[..cut], true), Up::More, "{cut}");
    }
    let Up::Ask { len, asked } = session.up(&bytes, true) else { panic!("a request") };
    assert_eq!(
        (len, asked.path.as_str(), asked.operation),
        (bytes.len(), "/select", Operation::Read)
    );
    ready(&mut session, b'I');
    let bytes = extended("s1", "select id from d order by e <=> $1", b"abc");
    let Up::Ask { len, asked: first } = session.up(&bytes, true) else { panic!("a request") };
    assert_eq!((len, first.operation), (bytes.len(), Operation::Search));
    ready(&mut session, b'I');
    // The statement again, by its name alone: the same key.
    let again =
        [message(b'B', b"\0s1\0abc"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat();
    let Up::Ask { asked, .. } = session.up(&again, true) else { panic!("a request") };
    assert_eq!(
        (asked.path, asked.operation, asked.hash),
        (first.path, first.operation, first.hash)
    );
}

#[test]
fn preparing_is_no_search() {
    let mut session = open();
    let sql = b"s\0select 1 from d order by e <-> $1\0\0\0";
    let bytes = [message(b'P', sql), message(b'S', b"")].concat();
    let Up::Ask { asked, .. } = session.up(&bytes, true) else { panic!("a request") };
    assert_eq!((asked.path.as_str(), asked.operation), ("/prepare", Operation::Other));
    ready(&mut session, b'I');
    // Behind a Flush it is run.
    let bytes = [message(b'P', sql), message(b'H', b"")].concat();
    let Up::Ask { asked, .. } = session.up(&bytes, true) else { panic!("a request") };
    assert_eq!((asked.path.as_str(), asked.operation), ("/select", Operation::Search));
}

#[test]
fn what_passes_is_followed() {
    let mut session = open();
    let bytes = [query("select 1"), extended("", "select 2", b""), query("select 3")].concat();
    let (mut left, mut begun) = (&bytes[..], 0);
    while !left.is_empty() {
        let Up::Pass { len, begins } = session.up(&left[..left.len().min(7)], false) else {
            panic!("it passes")
        };
        begun += u32::from(begins);
        left = &left[len..];
    }
    assert_eq!((begun, session.cycles.len()), (3, 3));
    let answers = [
        &wire::ready(b'I')[..],
        &words::error("57014", "x"),
        &wire::ready(b'I'),
        &wire::ready(b'T'),
    ];
    let bytes = answers.concat();
    let (mut left, mut statuses) = (&bytes[..], Vec::new());
    while !left.is_empty() {
        let Down::Pass { len, ends } = session.down(&left[..left.len().min(3)], false) else {
            panic!("it passes")
        };
        statuses.extend(ends.map(|reply| reply.status));
        left = &left[len..];
    }
    assert_eq!((statuses, session.status), (vec![200, 504, 200], b'T'));
}

#[test]
fn an_error_outside_a_transaction_is_ours_alone() {
    let mut session = open();
    session.up(&query("select 1"), true);
    let refusal = session.refuse(&timeout(), true);
    assert!(refusal.upstream.is_empty() && refusal.over && !refusal.close);
    assert!(refusal.app.ends_with(&wire::ready(b'I')));
    let Up::Ask { .. } = session.up(&query("select 2"), true) else { panic!("the next") };
}

#[test]
fn an_error_in_a_transaction_is_the_servers_too() {
    let mut session = open();
    session.up(&query("begin"), true);
    ready(&mut session, b'T');
    session.up(&query("select 1"), true);
    let refusal = session.refuse(&timeout(), true);
    assert_eq!(wire::head(&refusal.upstream), Ok(Some((b'P', FAILING.len() + 5))));
    assert!(refusal.upstream.ends_with(&message(b'S', b"")) && !refusal.over);
    // With answers outstanding nobody knows whether there is one.
    let mut session = open();
    session.up(&query("begin"), true);
    session.up(&query("select 1"), true);
    assert!(!session.refuse(&timeout(), false).upstream.is_empty());
}

#[test]
fn a_refused_pipeline_is_skipped_to_its_sync() {
    // Parse, Describe, Flush; the rest comes when that has been answered.
    let first =
        [message(b'P', b"s\0select 1\0\0\0"), message(b'D', b"Ss\0"), message(b'H', b"")].concat();
    let rest = [message(b'B', b"\0s\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat();
    let mut session = open();
    let Up::Ask { len, .. } = session.up(&first, true) else { panic!("a request") };
    assert_eq!(len, first.len());
    let refusal = session.refuse(&timeout(), true);
    assert!(refusal.upstream.is_empty() && !refusal.over);
    assert_eq!(
        session.up(&rest, true),
        Up::Skip { len: rest.len(), reply: wire::ready(b'I'), over: true }
    );
    // In a transaction the server sees the failure and the Sync.
    let mut session = open();
    session.status = b'T';
    session.up(&first, true);
    assert!(!session.refuse(&timeout(), true).upstream.is_empty());
    let Up::Skip { len, reply, over: false } = session.up(&rest, true) else { panic!("skipped") };
    assert!(reply.is_empty());
    assert_eq!(session.up(&rest[len..], true), Up::Pass { len: 5, begins: false });
}

#[test]
fn a_fatal_error_closes() {
    let mut session = open();
    session.up(&query("select 1"), true);
    let answer = Answer { body: words::error("57P01", "gone"), ..timeout() };
    let refusal = session.refuse(&answer, true);
    assert!(refusal.close && refusal.upstream.is_empty());
}

#[test]
fn copies_do_not_upset_the_count() {
    // The extended protocol: the first Sync is overlooked by the server.
    let mut session = open();
    let Up::Ask { .. } = session.up(&extended("", "copy d from stdin", b""), true) else {
        panic!("a request")
    };
    session.down(&message(b'G', b"\0\0\0"), false);
    for bytes in [message(b'd', b"1\n"), message(b'c', b""), message(b'S', b"")] {
        let passed = Up::Pass { len: bytes.len(), begins: false };
        assert_eq!(session.up(&bytes, true), passed);
    }
    ready(&mut session, b'I');
    assert!(session.cycles.is_empty());
    // The simple one has none.
    session.up(&query("copy d from stdin"), true);
    session.down(&message(b'G', b"\0\0\0"), false);
    session.up(&message(b'c', b""), true);
    ready(&mut session, b'I');
    let Up::Ask { .. } = session.up(&query("select 1"), true) else { panic!("a request") };
}

#[test]
fn rows_are_dropped_and_counted() {
    let session = open();
    let of = |kind: u8, payload: &[u8]| event(kind, wire::message(kind, payload));
    assert_eq!(session.after_end(&of(b'D', b"x"), 3, false), None);
    let told = session.after_end(&of(b'C', b"SELECT 10\0"), 3, false).unwrap();
    assert_eq!(told, message(b'C', b"SELECT 3\0"));
    assert_eq!(session.after_end(&of(b'C', b"SELECT 10\0"), 3, true), None);
    assert!(session.after_end(&of(b'Z', b"I"), 3, true).is_some());
}

#[test]
fn a_long_request_is_judged_by_its_beginning() {
    let mut session = open();
    let mut bytes = query(&format!("insert into d values ('{}')", "x".repeat(2 * WHOLE)));
    let late = bytes.split_off(WHOLE + 10);
    let Up::Ask { len, asked } = session.up(&bytes, true) else { panic!("a request") };
    assert_eq!((len, asked.path.as_str()), (bytes.len(), "/insert"));
    assert!(session.refuse(&timeout(), true).over);
    assert_eq!(
        session.up(&late, true),
        Up::Skip { len: late.len(), reply: Bytes::new(), over: false }
    );
    let Up::Ask { .. } = session.up(&query("select 1"), true) else { panic!("the next") };
}

proptest! {
    /// Whatever comes, each call moves on or waits, and nothing panics.
    #[test]
    fn no_bytes_panic(
        bytes in prop::collection::vec(prop_oneof![Just(0u8), b'A'..=b'Z', 0..10u8, any::<u8>()], 0..200),
        whole: bool,
        refused: bool,
    ) {
        let mut session = open();
        let mut left = &bytes[..];
        for _ in 0..400 {
            let len = match session.up(left, whole) {
                Up::Ask { len, .. } => {
                    if refused {
                        session.refuse(&timeout(), whole);
                    }
                    len
                }
                Up::Pass { len, .. } | Up::Skip { len, .. } | Up::Opening { len, .. } => len,
                Up::More | Up::Opaque => break,
            };
            prop_assert!(len > 0);
            left = &left[len..];
        }
        let mut left = &bytes[..];
        while let Down::Pass { len, .. } = session.down(left, whole) {
            prop_assert!(len > 0);
            left = &left[len..];
        }
    }
}

use http::StatusCode;
use proptest::prelude::*;

use super::*;

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

fn open() -> Following {
    let mut session = Following::new();
    assert_eq!(session.up(b"", true), Up::Opening { len: 0, label: String::new() });
    session
}

fn busy() -> Answer {
    Answer { status: StatusCode::BAD_GATEWAY, headers: Vec::new(), body: resp::error("BUSY x") }
}

#[test]
fn a_request_is_a_command() {
    let mut session = open();
    let bytes = command(&["FT.SEARCH", "idx", "*"]);
    for cut in 1..bytes.len() {
        assert_eq!(session.up(&bytes[..cut], true), Up::More, "{cut}");
    }
    let Up::Ask { len, asked } = session.up(&bytes, true) else { panic!("a request") };
    assert_eq!(len, bytes.len());
    assert_eq!((asked.path.as_str(), asked.operation), ("/ft.search", Operation::Search));
    let Up::Ask { asked, .. } = session.up(b"get key\r\n", true) else { panic!("inline") };
    assert_eq!((asked.path.as_str(), asked.operation), ("/get", Operation::Read));
    assert_eq!(session.up(b"\r\n", true), Up::Pass { len: 2, begins: false });
}

#[test]
fn what_passes_is_counted() {
    let mut session = open();
    let bytes =
        [command(&["SET", "a", "1"]), command(&["GET", "a"]), b"\r\nping\r\n".to_vec()].concat();
    let (mut at, mut seen, mut begun) = (0, 0, 0);
    while at < bytes.len() {
        seen = bytes.len().min(seen.max(at) + 5);
        match session.up(&bytes[at..seen], false) {
            Up::Pass { len, begins } => {
                begun += u32::from(begins);
                at += len;
            }
            Up::More => {}
            other => panic!("it passes, not {other:?}"),
        }
    }
    assert_eq!(begun, 3);
    let replies = b"+OK\r\n>2\r\n+a\r\n+b\r\n$1\r\n1\r\n-LOADING x\r\n";
    let (mut left, mut statuses) = (&replies[..], Vec::new());
    while !left.is_empty() {
        let Down::Pass { len, ends } = session.down(&left[..left.len().min(3)], false) else {
            panic!("it passes")
        };
        statuses.extend(ends.map(|reply| reply.status));
        left = &left[len..];
    }
    assert_eq!(statuses, [200, 200, 503], "what is pushed does not count");
}

#[test]
fn modes_without_replies_are_not_read() {
    for words in [&["SUBSCRIBE", "c"][..], &["monitor"], &["CLIENT", "REPLY", "OFF"]] {
        for whole in [true, false] {
            assert_eq!(open().up(&command(words), whole), Up::Opaque, "{words:?}");
        }
    }
    for words in [&["CLIENT", "INFO"][..], &["SET", "a", "b"], &["PING"]] {
        let Up::Ask { .. } = open().up(&command(words), true) else { panic!("{words:?}") };
    }
}

#[test]
fn an_error_is_ours_alone_outside_multi() {
    let mut session = open();
    session.up(&command(&["GET", "a"]), true);
    let refusal = session.refuse(&busy(), true);
    assert_eq!((&refusal.app[..], refusal.over), (&b"-BUSY x\r\n"[..], true));
    assert!(refusal.upstream.is_empty());
}

#[test]
fn an_error_in_multi_is_the_servers_too() {
    let mut session = open();
    session.up(&command(&["MULTI"]), true);
    session.up(&command(&["SET", "a", "1"]), true);
    let refusal = session.refuse(&busy(), true);
    assert_eq!((&refusal.upstream[..], refusal.over), (FAILING, false));
    session.up(&command(&["EXEC"]), true);
    assert_eq!(&session.refuse(&busy(), true).upstream[..], DISCARD);
    session.up(&command(&["GET", "a"]), true);
    assert!(session.refuse(&busy(), true).upstream.is_empty());
}

#[test]
fn a_long_command_is_judged_by_its_beginning() {
    let mut session = open();
    let mut bytes = command(&["SET", "a", &"x".repeat(2 * WHOLE)]);
    let late = bytes.split_off(WHOLE + 10);
    let Up::Ask { len, asked } = session.up(&bytes, true) else { panic!("a request") };
    assert_eq!((len, asked.path.as_str()), (bytes.len(), "/set"));
    assert!(session.refuse(&busy(), true).over);
    let skipped = Up::Skip { len: late.len(), reply: Bytes::new(), over: false };
    assert_eq!(session.up(&late, true), skipped);
    let Up::Ask { .. } = session.up(&command(&["PING"]), true) else { panic!("the next") };
}

proptest! {
    #[test]
    fn no_bytes_panic(text in "[*$+\r\n0-9a-cmMsS:>-]{0,60}", whole: bool) {
        let bytes = text.as_bytes();
        let mut session = open();
        let mut left = bytes;
        for _ in 0..100 {
            let len = match session.up(left, whole) {
                Up::Ask { len, .. } => { session.refuse(&busy(), true); len }
                Up::Pass { len, .. } | Up::Skip { len, .. } | Up::Opening { len, .. } => len,
                Up::More | Up::Opaque => break,
            };
            prop_assert!(len > 0);
            left = &left[len..];
        }
        let mut left = bytes;
        while let Down::Pass { len, .. } = session.down(left, false) {
            prop_assert!(len > 0);
            left = &left[len..];
        }
    }
}

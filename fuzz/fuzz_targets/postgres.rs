//! Any bytes of an app and a server, cut anywhere: a session is followed without a panic, and every
//! byte is accounted for.
#![no_main]

use brownout::dialect::{self, Down, Failure, Up};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>, u8, bool)| {
    let (app, server, size, whole) = input;
    let dialect = dialect::by_kind("postgres").expect("it is listed");
    let answer = dialect.failure(&Failure { class: Some("timeout"), ..Failure::default() });
    let mut session = dialect.session(false).expect("it has one");
    let start = b"\0\0\0\x12\0\x03\0\0user\0ann\0\0";
    let Up::Opening { len, .. } = session.up(start, true) else { panic!("it opens") };
    assert_eq!(len, start.len());
    let step = usize::from(size).max(1);
    let (mut at, mut seen) = (0, 0);
    'app: while seen < app.len() {
        seen = app.len().min(seen + step);
        while at < seen {
            match session.up(&app[at..seen], whole) {
                Up::Ask { len, .. } => {
                    assert!(len > 0);
                    at += len;
                    if size % 2 == 0 {
                        let _ = session.refuse(&answer, size % 3 == 0);
                    }
                }
                Up::Pass { len, .. } | Up::Skip { len, .. } => {
                    assert!(len > 0);
                    at += len;
                }
                // Nobody asks again behind this.
                Up::Opaque => break 'app,
                Up::More | Up::Opening { .. } => break,
            }
        }
        assert!(at <= seen);
    }
    let (mut at, mut seen) = (0, 0);
    'server: while seen < server.len() {
        seen = server.len().min(seen + step);
        while at < seen {
            match session.down(&server[at..seen], whole) {
                Down::Part { event, .. } => {
                    assert_eq!(&event.raw[..], &server[at..at + event.raw.len()]);
                    let _ = dialect.read_event(Default::default(), &event);
                    let _ = session.after_end(&event, 3, size % 2 == 0);
                    at += event.raw.len();
                }
                Down::Pass { len, .. } => {
                    assert!(len > 0);
                    at += len;
                }
                Down::Opaque => break 'server,
                Down::More => break,
            }
        }
    }
});

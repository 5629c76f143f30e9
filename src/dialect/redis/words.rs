//! What Redis says when it fails, word for word as in 7.x.

use http::StatusCode;

use crate::dialect::class::Class;
use crate::dialect::{Answer, Failure, Moment};
use crate::wire::resp;

const BUSY: &str =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const LOADING: &str = "LOADING Redis is loading the dataset in memory";
const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
    persist to disk. Commands that may modify the data set are disabled, because this instance is \
    configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error \
    option). Please check the Redis logs for details about the RDB error.";
const MAX_CLIENTS: &str = "ERR max number of clients reached";

/// The line for a failure; None where Redis has none.
fn line(failure: &Failure<'_>) -> Option<String> {
    let own = match failure.class {
        Some("busy") => Some(BUSY),
        Some("disk_full") => Some(MISCONF),
        Some("loading" | "not_loaded") => Some(LOADING),
        Some("oom") => Some(OOM),
        Some("readonly") => Some("READONLY You can't write against a read only replica."),
        Some("shard_unavailable") => Some("CLUSTERDOWN Hash slot not served"),
        Some("too_many_connections") => Some(MAX_CLIENTS),
        Some("moved") => {
            // A slot of the 16384 there are, at the port that follows the usual one.
            return Some(format!("MOVED {} 127.0.0.1:6380", failure.id % 16_384));
        }
        Some("deadlock" | "html" | "lock_timeout" | "serialization" | "shutdown") => return None,
        _ => None,
    };
    let text = own.unwrap_or_else(|| match Class::of(failure) {
        Class::Auth => "NOAUTH Authentication required.",
        Class::BadRequest => "ERR syntax error",
        Class::ContextLength => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        Class::Html | Class::ServerError => "ERR internal error",
        Class::NotFound => "ERR no such key",
        Class::Overloaded => BUSY,
        Class::Quota => OOM,
        // As a hosted Redis says it.
        Class::RateLimit | Class::SlowDown => "ERR max requests limit exceeded.",
        // As the search module says it.
        Class::Timeout => "Timeout limit was reached",
        Class::Unavailable => LOADING,
    });
    Some(text.to_owned())
}

/// When Redis can say a failure.
pub(super) fn moment(failure: &Failure<'_>) -> Moment {
    if failure.code.is_some() {
        return Moment::Never;
    }
    match line(failure) {
        None => Moment::Never,
        Some(text) if text == MAX_CLIENTS => Moment::Connecting,
        Some(_) => Moment::Asking,
    }
}

/// What HTTP would say of an error, for the measures: its first word tells.
pub(super) fn status_of(reply: &[u8]) -> u16 {
    let Some(text) = reply.strip_prefix(b"-") else { return 200 };
    let word = text.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    match word {
        b"MOVED" | b"ASK" => 307,
        b"NOAUTH" | b"NOPERM" | b"WRONGPASS" => 401,
        b"BUSY" | b"CLUSTERDOWN" | b"LOADING" | b"MASTERDOWN" | b"MISCONF" | b"OOM"
        | b"READONLY" | b"TRYAGAIN" => 503,
        b"Timeout" => 504,
        b"ERR" if text.starts_with(b"ERR max") => 429,
        b"ERR" if text.starts_with(b"ERR internal") => 500,
        _ => 400,
    }
}

/// The answer for a failure: an error line.
pub(super) fn failure(failure: &Failure<'_>) -> Answer {
    let line = match failure.message {
        // A message that begins with a word in capitals brings its own code.
        Some(message) if has_code(message) => message.to_owned(),
        Some(message) => format!("ERR {message}"),
        None => line(failure).unwrap_or_else(|| "ERR internal error".to_owned()),
    };
    let body = resp::error(&line);
    let status = StatusCode::from_u16(status_of(&body)).unwrap_or(StatusCode::BAD_REQUEST);
    Answer { status, headers: Vec::new(), body }
}

fn has_code(message: &str) -> bool {
    let word = message.split(' ').next().unwrap_or_default();
    word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{FAILURE_CLASSES, STORE_CLASSES};

    fn said(class: &str) -> String {
        let failure = Failure { class: Some(class), id: 7, ..Failure::default() };
        String::from_utf8(super::failure(&failure).body.to_vec()).unwrap()
    }

    #[test]
    fn classes_are_lines() {
        assert_eq!(said("loading"), "-LOADING Redis is loading the dataset in memory\r\n");
        assert_eq!(said("moved"), "-MOVED 7 127.0.0.1:6380\r\n");
        for class in FAILURE_CLASSES.iter().chain(STORE_CLASSES) {
            let line = said(class);
            assert!(line.starts_with('-') && line.ends_with("\r\n"), "{line}");
            assert!(line.matches('\n').count() == 1, "{line}");
        }
        let own = Failure { message: Some("WRONGTYPE x\r\ny"), ..Failure::default() };
        assert_eq!(failure(&own).body, &b"-WRONGTYPE x  y\r\n"[..]);
        let own = Failure { message: Some("nothing here"), ..Failure::default() };
        assert_eq!(failure(&own).body, &b"-ERR nothing here\r\n"[..]);
    }

    #[test]
    fn each_failure_has_its_moment() {
        let moment = |class| super::moment(&Failure { class: Some(class), ..Failure::default() });
        assert_eq!(moment("too_many_connections"), Moment::Connecting);
        assert_eq!(moment("loading"), Moment::Asking);
        assert_eq!(moment("deadlock"), Moment::Never);
    }
}

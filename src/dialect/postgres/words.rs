//! What the server says when it fails: severity, SQLSTATE and message as in PostgreSQL 15 to 18.

use bytes::Bytes;
use http::StatusCode;

use crate::dialect::class::Class;
use crate::dialect::{Answer, Failure, Moment};
use crate::wire::postgres as wire;

/// Messages that name the user or the verb have a place for it, which the session fills.
pub(super) const USER: &str = "{user}";
pub(super) const VERB: &str = "{verb}";

/// SQLSTATE, message, detail, hint.
type Words = (&'static str, &'static str, &'static str, &'static str);

const WORDS: &[Words] = &[
    ("08006", "connection failure", "", ""),
    ("22000", "different vector dimensions 1536 and 768", "", ""),
    ("25006", "cannot execute {verb} in a read-only transaction", "", ""),
    ("28000", "role \"{user}\" is not permitted to log in", "", ""),
    ("28P01", "password authentication failed for user \"{user}\"", "", ""),
    ("3D000", "database \"{user}\" does not exist", "", ""),
    ("40001", "could not serialize access due to concurrent update", "", ""),
    (
        "40P01",
        "deadlock detected",
        "Process 20211 waits for ShareLock on transaction 764; blocked by process 20214.\nProcess \
         20214 waits for ShareLock on transaction 763; blocked by process 20211.",
        "See server log for query details.",
    ),
    ("42501", "permission denied for table documents", "", ""),
    ("42601", "syntax error at end of input", "", ""),
    ("42P01", "relation \"documents\" does not exist", "", ""),
    (
        "53100",
        "could not extend file \"base/16384/16397\": No space left on device",
        "",
        "Check free disk space.",
    ),
    (
        "53200",
        "out of memory",
        "Failed on request of size 1048576 in memory context \"ExecutorState\".",
        "",
    ),
    ("53300", "sorry, too many clients already", "", ""),
    ("53400", "temporary file size exceeds \"temp_file_limit\" (1048576kB)", "", ""),
    (
        "54000",
        "index row size 2792 exceeds btree version 4 maximum 2704 for index \"documents_pkey\"",
        "",
        "",
    ),
    ("55P03", "canceling statement due to lock timeout", "", ""),
    ("57014", "canceling statement due to statement timeout", "", ""),
    ("57P01", "terminating connection due to administrator command", "", ""),
    (
        "57P02",
        "terminating connection because of crash of another server process",
        "The postmaster has commanded this server process to roll back the current transaction and \
         exit, because another server process exited abnormally and possibly corrupted shared memory.",
        "In a moment you should be able to reconnect to the database and repeat your command.",
    ),
    ("57P03", "the database system is starting up", "", ""),
    ("57P05", "terminating connection due to idle-session timeout", "", ""),
    ("58030", "could not read block 0 in file \"base/16384/16397\": Input/output error", "", ""),
    ("XX000", "cache lookup failed for relation 16397", "", ""),
    ("XX001", "invalid page in block 0 of relation base/16384/16397", "", ""),
];

/// The SQLSTATE of a failure; None where the server has no words for it.
fn code_of<'a>(failure: &Failure<'a>) -> Option<&'a str> {
    if let Some(code) = failure.code {
        return Some(code);
    }
    if let Some(code) = failure.class.and_then(store_class) {
        return Some(code);
    }
    let connecting = |at_start: &'static str, later: &'static str| {
        if failure.connecting { at_start } else { later }
    };
    if failure.class.is_none() && failure.status == Some(StatusCode::SERVICE_UNAVAILABLE) {
        return Some(connecting("57P03", "57P01"));
    }
    Some(match failure.class {
        Some("busy" | "moved" | "html" | "not_loaded" | "shard_unavailable") => return None,
        _ => match Class::of(failure) {
            Class::Auth => "28P01",
            Class::BadRequest => "42601",
            Class::ContextLength => "54000",
            Class::NotFound => "42P01",
            Class::Overloaded => connecting("53300", "53200"),
            Class::Quota => "53100",
            Class::RateLimit | Class::SlowDown if failure.quota.is_some() => "53400",
            Class::RateLimit | Class::SlowDown => "53300",
            Class::Html | Class::ServerError => "XX000",
            Class::Timeout => "57014",
            Class::Unavailable => connecting("57P03", "57P01"),
        },
    })
}

fn store_class(class: &str) -> Option<&'static str> {
    Some(match class {
        "deadlock" => "40P01",
        "disk_full" => "53100",
        "loading" => "57P03",
        "lock_timeout" => "55P03",
        "oom" => "53200",
        "readonly" => "25006",
        "serialization" => "40001",
        "shutdown" => "57P01",
        "too_many_connections" => "53300",
        _ => return None,
    })
}

/// When the server can say a failure.
pub(super) fn moment(failure: &Failure<'_>) -> Moment {
    let at_start = code_of(&Failure { connecting: true, ..failure.clone() });
    let later = code_of(&Failure { connecting: false, ..failure.clone() });
    match (at_start, later) {
        (None, _) | (_, None) => Moment::Never,
        (at_start, later) if at_start != later => Moment::Both,
        (Some(code), _) if only_at_start(code) => Moment::Connecting,
        _ => Moment::Asking,
    }
}

/// What the server says to those alone who connect.
fn only_at_start(code: &str) -> bool {
    matches!(code, "28000" | "28P01" | "3D000" | "53300" | "57P03")
}

/// Whether the server closes the connection after it.
fn is_fatal(code: &str) -> bool {
    only_at_start(code) || code.starts_with("57P") || code.starts_with("08")
}

/// What HTTP would say of it, for the measures.
pub(super) fn status_of(code: &[u8]) -> u16 {
    match code {
        b"53300" | b"53400" => 429,
        b"57014" | b"55P03" => 504,
        b"25006" => 503,
        [b'2', b'8', ..] => 401,
        [b'4', b'0', ..] => 409,
        [b'5', b'3' | b'7' | b'8', ..] | [b'X', b'X', ..] | [b'0', b'8', ..] => 503,
        _ => 400,
    }
}

/// The answer for a failure: an ErrorResponse.
pub(super) fn failure(failure: &Failure<'_>) -> Answer {
    let code = code_of(failure).unwrap_or("XX000");
    let body = match failure.message {
        Some(message) => error(code, message),
        None => known(code),
    };
    let status = StatusCode::from_u16(status_of(code.as_bytes()));
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Answer { status, headers: Vec::new(), body }
}

/// An error with a message of the user's own.
pub(super) fn error(code: &str, message: &str) -> Bytes {
    written(code, message, "", "")
}

/// An error in the server's words.
fn known(code: &str) -> Bytes {
    let words = WORDS.iter().find(|(known, ..)| *known == code);
    let (_, message, detail, hint) = words.copied().unwrap_or(("", "an error", "", ""));
    written(code, message, detail, hint)
}

fn written(code: &str, message: &str, detail: &str, hint: &str) -> Bytes {
    let severity = if is_fatal(code) { "FATAL" } else { "ERROR" };
    let mut fields = vec![(b'S', severity), (b'V', severity), (b'C', code), (b'M', message)];
    fields.extend([(b'D', detail), (b'H', hint)].into_iter().filter(|(_, text)| !text.is_empty()));
    wire::error(&fields)
}

/// The same error with the places in its message filled.
pub(super) fn filled(body: &Bytes, user: &str, verb: &str) -> Bytes {
    let payload = body.get(5..).unwrap_or_default();
    let text =
        |name| wire::field(payload, name).map(|field| String::from_utf8_lossy(field).into_owned());
    let (Some(code), Some(message)) = (text(b'C'), text(b'M')) else { return body.clone() };
    if !message.contains(USER) && !message.contains(VERB) {
        return body.clone();
    }
    error(&code, &message.replace(USER, user).replace(VERB, &verb.to_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{FAILURE_CLASSES, STORE_CLASSES};

    fn said(failure: &Failure<'_>) -> (String, String, String) {
        let answer = super::failure(failure);
        let text = |name| {
            let field = wire::field(&answer.body[5..], name).unwrap();
            String::from_utf8(field.to_vec()).unwrap()
        };
        (text(b'S'), text(b'C'), text(b'M'))
    }

    #[test]
    fn classes_are_put_into_sqlstates() {
        for (class, connecting, code, severity) in [
            ("timeout", false, "57014", "ERROR"),
            ("unavailable", false, "57P01", "FATAL"),
            ("unavailable", true, "57P03", "FATAL"),
            ("overloaded", true, "53300", "FATAL"),
            ("overloaded", false, "53200", "ERROR"),
            ("readonly", false, "25006", "ERROR"),
            ("deadlock", false, "40P01", "ERROR"),
        ] {
            let told = said(&Failure { class: Some(class), connecting, ..Failure::default() });
            assert_eq!((told.1.as_str(), told.0.as_str()), (code, severity), "{class}");
        }
        let told = said(&Failure { code: Some("57P03"), ..Failure::default() });
        assert_eq!(told.2, "the database system is starting up");
        let told = said(&Failure {
            code: Some("22012"),
            message: Some("division by zero"),
            ..Failure::default()
        });
        assert_eq!(told, ("ERROR".into(), "22012".into(), "division by zero".into()));
    }

    #[test]
    fn each_failure_has_its_moment() {
        let moment = |class| super::moment(&Failure { class: Some(class), ..Failure::default() });
        assert_eq!(moment("too_many_connections"), Moment::Connecting);
        assert_eq!(moment("overloaded"), Moment::Both);
        assert_eq!(moment("timeout"), Moment::Asking);
        assert_eq!(moment("moved"), Moment::Never);
        let code = super::moment(&Failure { code: Some("53300"), ..Failure::default() });
        assert_eq!(code, Moment::Connecting);
        for class in FAILURE_CLASSES.iter().chain(STORE_CLASSES) {
            let _ = said(&Failure { class: Some(class), ..Failure::default() });
            let _ = moment(class);
        }
    }

    #[test]
    fn names_are_filled_in() {
        let told = failure(&Failure { code: Some("25006"), ..Failure::default() }).body;
        let told = filled(&told, "ann", "insert");
        let message = wire::field(&told[5..], b'M').unwrap();
        assert_eq!(message, b"cannot execute INSERT in a read-only transaction");
        assert_eq!(wire::head(&told), Ok(Some((b'E', told.len()))));
    }
}

//! What a statement does, by its verb and its operators. Literals and comments are stepped over.

use crate::exchange::Operation;

/// Statements are read this far.
const READ: usize = 64 << 10;

/// Verb (lower case; empty for an empty statement) and operation; of several statements those of the
/// first that reads or writes, else of the first.
pub(super) fn read(sql: &[u8]) -> (String, Operation) {
    let mut first: Option<(String, Operation)> = None;
    let mut tokens = Tokens(&sql[..sql.len().min(READ)]);
    while !tokens.0.is_empty() {
        let statement = one(&mut tokens);
        if statement.1 != Operation::Other {
            return statement;
        }
        if !statement.0.is_empty() {
            first.get_or_insert(statement);
        }
    }
    first.unwrap_or_default()
}

/// Reads one statement.
fn one(tokens: &mut Tokens<'_>) -> (String, Operation) {
    let mut verb = String::new();
    let mut depth = 0i32;
    let (mut nearest, mut leaves) = (false, None);
    for token in tokens {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            Token::Distance => nearest = true,
            Token::End => break,
            Token::Word(word) => {
                let word = word.to_ascii_lowercase();
                // Behind the names of a WITH comes the verb; a SELECT may stand in brackets.
                let main = verb == "with" && depth <= 0;
                let verbs = ["select", "insert", "update", "delete", "merge"];
                if verb.is_empty() || main && verbs.contains(&&*word) {
                    verb = word;
                } else if verb == "copy" && leaves.is_none() && depth <= 0 {
                    leaves = match &*word {
                        "to" => Some(true),
                        "from" => Some(false),
                        _ => None,
                    };
                }
            }
        }
    }
    let operation = match &*verb {
        "select" | "with" if nearest => Operation::Search,
        "select" | "with" | "values" | "table" | "fetch" => Operation::Read,
        "copy" if leaves == Some(true) => Operation::Read,
        "insert" | "update" | "merge" | "copy" => Operation::Upsert,
        "delete" | "truncate" => Operation::Delete,
        _ => Operation::Other,
    };
    // What is no plain word is no verb.
    let verb = if verb.len() <= 32 && verb.is_ascii() { verb } else { String::new() };
    (verb, operation)
}

enum Token<'a> {
    Close,
    /// One of pgvector's operators.
    Distance,
    /// A semicolon.
    End,
    Open,
    Word(std::borrow::Cow<'a, str>),
}

/// The words, brackets and distance operators of a statement.
struct Tokens<'a>(&'a [u8]);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let first = *self.0.first()?;
            match first {
                b'(' => return self.take(1, Token::Open),
                b')' => return self.take(1, Token::Close),
                b';' => return self.take(1, Token::End),
                b'\'' | b'"' => self.skip_quoted(first),
                b'-' if self.0.starts_with(b"--") => {
                    self.skip(memchr::memchr(b'\n', self.0).unwrap_or(self.0.len()));
                }
                b'/' if self.0.starts_with(b"/*") => self.skip_comment(),
                b'$' => self.skip_dollar(),
                b'<' if self.is_distance() => return self.take(3, Token::Distance),
                _ if is_word(first) => {
                    let end =
                        self.0.iter().position(|byte| !is_word(*byte)).unwrap_or(self.0.len());
                    let word = String::from_utf8_lossy(&self.0[..end]);
                    self.skip(end);
                    return Some(Token::Word(word));
                }
                _ => self.skip(1),
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl<'a> Tokens<'a> {
    fn skip(&mut self, count: usize) {
        self.0 = &self.0[count.min(self.0.len())..];
    }

    fn take(&mut self, count: usize, token: Token<'a>) -> Option<Token<'a>> {
        self.skip(count);
        Some(token)
    }

    fn is_distance(&self) -> bool {
        let known: [&[u8]; 6] = [b"<->", b"<=>", b"<#>", b"<+>", b"<~>", b"<%>"];
        known.iter().any(|operator| self.0.starts_with(operator))
    }

    /// A doubled quote only ends one literal and begins the next.
    fn skip_quoted(&mut self, quote: u8) {
        self.skip(1);
        self.skip(memchr::memchr(quote, self.0).map_or(self.0.len(), |at| at + 1));
    }

    fn skip_comment(&mut self) {
        let mut depth = 0;
        while !self.0.is_empty() {
            if self.0.starts_with(b"/*") {
                depth += 1;
                self.skip(2);
            } else if self.0.starts_with(b"*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return;
                }
            } else {
                self.skip(1);
            }
        }
    }

    /// `$tag$ … $tag$`; `$1` is a parameter.
    fn skip_dollar(&mut self) {
        let tag = self.0[1..].iter().position(|byte| !is_word(*byte)).map(|at| at + 1);
        let numbered = self.0.get(1).is_some_and(u8::is_ascii_digit);
        match tag {
            Some(end) if self.0[end] == b'$' && !numbered => {
                let (tag, rest) = self.0.split_at(end + 1);
                let close = memchr::memmem::find(rest, tag);
                self.0 = close.map_or(&[], |at| &rest[at + tag.len()..]);
            }
            _ => self.skip(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn verbs_and_operators_tell_what_a_statement_does() {
        for (sql, verb, operation) in [
            ("SELECT 1", "select", Operation::Read),
            ("select id from d order by e <=> $1 limit 5", "select", Operation::Search),
            ("select id from d order by e<->'[1,2]'", "select", Operation::Search),
            ("select '<->'", "select", Operation::Read),
            ("select $a$ <-> $a$, $1", "select", Operation::Read),
            ("-- <->\n/* a /* b */ <=> */ (select 1)", "select", Operation::Read),
            (
                "with q as (select 1) select * from d order by e <#> (table q)",
                "select",
                Operation::Search,
            ),
            (
                "WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b TABLE x",
                "insert",
                Operation::Upsert,
            ),
            ("insert into d values ('a')", "insert", Operation::Upsert),
            ("COPY d FROM STDIN", "copy", Operation::Upsert),
            ("copy (select * from d) to stdout", "copy", Operation::Read),
            ("copy d (a, b) to stdout", "copy", Operation::Read),
            ("truncate d", "truncate", Operation::Delete),
            ("begin", "begin", Operation::Other),
            ("", "", Operation::Other),
            ("  ;", "", Operation::Other),
            ("begin; set x = ';'; insert into d values (1)", "insert", Operation::Upsert),
            ("begin; commit;", "begin", Operation::Other),
        ] {
            assert_eq!(read(sql.as_bytes()), (verb.to_owned(), operation), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "[$a'\"/*<>=() -]{0,40}") {
            let _ = read(&bytes);
            let _ = read(text.as_bytes());
        }
    }
}

//! `decisions.jsonl`: one line for each fault considered for an exchange. Formats only; where the
//! lines go is not known here.

use crate::measure::DecisionLine;

/// The line, with its end.
pub fn decision(line: &DecisionLine) -> String {
    let mut text =
        serde_json::to_string(line).expect("a decision has string keys and plain values only");
    text.push('\n');
    text
}

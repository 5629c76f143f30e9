//! Reads expectations: `metric op value [of phase] [during|after phase] [for duration]`.
//!
//! A sentence that reads also makes sense: the metric is known, its limit has a fitting unit.

use std::time::Duration;

use super::known::{self, Argument, Kind, Known, METRICS, nearest};
use super::limit::{example, plain_number, value};
use super::{BadSentence, Expectation, Function, Limit, Metric, Op, Window};
use crate::units::Span;

/// Samples that a verdict needs unless the file says otherwise.
pub const MIN_SAMPLES: u64 = 30;

const FUNCTIONS: &[&str] = &["avg", "count", "max", "min", "p50", "p90", "p95", "p99", "rate"];
const FORM: &str = "write for example `success_rate >= 97% during storm`";

pub(super) type Read<T> = Result<T, BadSentence>;

impl Expectation {
    /// Reads `metric op value [of phase] [during|after phase] [for duration]`.
    pub fn parse(text: &str) -> Read<Self> {
        Self::read(text).map_err(|wrong| wrong.within(text))
    }

    fn read(text: &str) -> Read<Self> {
        let mut words = Words { text, at: 0 };
        let (metric, known) = words.metric()?;
        let op = words.op()?;
        let limit = words.limit(&metric, known)?;
        let (window, hold) = words.tail(known)?;
        Ok(Self {
            text: text.trim().to_owned(),
            line: 0,
            metric,
            op,
            limit,
            window,
            hold,
            warn: false,
            min_samples: MIN_SAMPLES,
            confidence: None,
        })
    }
}

impl BadSentence {
    /// The same with a place that lies in the text and cuts no character.
    fn within(mut self, text: &str) -> Self {
        let whole = |at: &usize| text.is_char_boundary(*at);
        let last = text.len();
        self.at = (0..=self.at.min(last)).rev().find(whole).unwrap_or(0);
        let end = self.at.saturating_add(self.len).min(last);
        self.len = (end..=last).find(whole).unwrap_or(last) - self.at;
        self
    }
}

/// A sentence and how far it was read.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    /// Takes the characters that belong to a word; may be empty. Gives its place too.
    fn take(&mut self, belongs: impl Fn(char) -> bool) -> (usize, &'a str) {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        let at = self.at;
        self.at += end;
        (at, &rest[..end])
    }

    fn name(&mut self) -> (usize, &'a str) {
        self.take(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    }

    fn eat(&mut self, mark: char) -> bool {
        let found = self.rest().starts_with(mark);
        if found {
            self.at += mark.len_utf8();
        }
        found
    }

    fn close(&mut self, mark: char) -> Read<()> {
        if self.eat(mark) {
            return Ok(());
        }
        bad(self.at, self.next_len(), format!("`{mark}` is missing"), None)
    }

    /// Bytes up to the next blank, for pointing at what was not understood.
    fn next_len(&self) -> usize {
        let rest = &self.text[self.at..];
        rest.find(char::is_whitespace).unwrap_or(rest.len())
    }

    fn metric(&mut self) -> Read<(Metric, &'static Known)> {
        let (at, word) = self.name();
        if word.is_empty() {
            let reason = if self.text.trim().is_empty() {
                "an empty expectation".to_owned()
            } else {
                "an expectation begins with a metric".to_owned()
            };
            return bad(at, self.next_len(), reason, Some(FORM.to_owned()));
        }
        let inner = Known::named(word).is_none() && self.eat('(');
        if !inner {
            let (metric, known) = self.plain(at, word)?;
            if known.distribution {
                let reason = format!("`{word}` has many values; say which one counts");
                return bad(at, word.len(), reason, Some(format!("write `p95({word})`")));
            }
            return Ok((metric, known));
        }
        let function = function(at, word)?;
        let (inner_at, name) = self.name();
        let (mut metric, known) = self.plain(inner_at, name)?;
        let counted = matches!(function, Function::Count | Function::Rate);
        let countable = known.distribution || (counted && name == "requests");
        if !countable {
            let reason =
                format!("`{name}` is one number already, `{word}` has nothing to choose from");
            return bad(at, word.len(), reason, Some(format!("write `{}` alone", known.form())));
        }
        self.close(')')?;
        metric.function = Some(function);
        Ok((metric, known))
    }

    /// A metric's name with its labels and argument.
    fn plain(&mut self, at: usize, name: &str) -> Read<(Metric, &'static Known)> {
        let Some(known) = Known::named(name) else {
            return unknown_metric(at, name);
        };
        let labels_at = self.at;
        let labels = self.labels()?;
        if !known.labels && !labels.is_empty() {
            let reason = format!("`{name}` takes no labels");
            let hint = "failure_rate{kind=\"timeout\"} is the one with labels".to_owned();
            return bad(labels_at, self.at - labels_at, reason, Some(hint));
        }
        let argument_at = self.at;
        let mut dependency = None;
        if self.eat('(') {
            let (word_at, word) = self.name();
            if word.is_empty() {
                return bad(word_at, 1, "a name is missing in the brackets".to_owned(), None);
            }
            dependency = Some(word.to_owned());
            self.close(')')?;
        }
        let given = dependency.is_some();
        match known.argument {
            Argument::None if given => {
                let reason = format!("`{name}` is measured at the app, not at a dependency");
                bad(
                    argument_at,
                    self.at - argument_at,
                    reason,
                    Some(format!("write `{}`", known.form())),
                )
            }
            Argument::Dependency if !given => {
                let reason = format!("`{name}` of which dependency?");
                bad(at, name.len(), reason, Some(format!("write for example `{name}(llm)`")))
            }
            Argument::Fault if !given => {
                let reason = format!("`{name}` of which fault?");
                bad(at, name.len(), reason, Some(format!("write for example `{name}(storm)`")))
            }
            _ => {
                let name = name.to_owned();
                Ok((Metric { name, function: None, labels, dependency }, known))
            }
        }
    }

    fn labels(&mut self) -> Read<Vec<(String, String)>> {
        let mut labels = Vec::new();
        if !self.eat('{') {
            return Ok(labels);
        }
        loop {
            let (at, key) = self.name();
            if key != "kind" {
                let reason = format!("unknown label `{key}`");
                return bad(
                    at,
                    key.len().max(1),
                    reason,
                    Some("write {kind=\"timeout\"}".to_owned()),
                );
            }
            self.close('=')?;
            let (at, value) = self.quoted()?;
            if known::outcomes_of(value).is_none() {
                let kinds = known::kinds().collect::<Vec<_>>().join(", ");
                let hint = nearest(value, known::kinds())
                    .map_or(format!("kinds: {kinds}"), |near| {
                        format!("did you mean `{near}`? kinds: {kinds}")
                    });
                return bad(
                    at,
                    value.len().max(1),
                    format!("`{value}` is no kind of failure"),
                    Some(hint),
                );
            }
            labels.push((key.to_owned(), value.to_owned()));
            if !self.eat(',') {
                break;
            }
        }
        self.close('}')?;
        Ok(labels)
    }

    fn quoted(&mut self) -> Read<(usize, &'a str)> {
        let quote = if self.rest().starts_with('\'') { '\'' } else { '"' };
        if !self.eat(quote) {
            let reason = "a label's value stands in quotes".to_owned();
            return bad(
                self.at,
                self.next_len(),
                reason,
                Some("write {kind=\"timeout\"}".to_owned()),
            );
        }
        let at = self.at;
        let Some(end) = self.text[at..].find(quote) else {
            return bad(
                at - 1,
                self.text.len() - at + 1,
                "the quote is never closed".to_owned(),
                None,
            );
        };
        self.at = at + end + 1;
        Ok((at, &self.text[at..at + end]))
    }

    fn op(&mut self) -> Read<Op> {
        let (at, mark) = self.take(|c| matches!(c, '<' | '>' | '=' | '!' | '≤' | '≥' | '≠' | '~'));
        let right = match mark {
            "<" => return Ok(Op::Below),
            "<=" => return Ok(Op::AtMost),
            ">" => return Ok(Op::Above),
            ">=" => return Ok(Op::AtLeast),
            "==" => return Ok(Op::Equal),
            "!=" => return Ok(Op::NotEqual),
            "=" | "===" => "==",
            "=<" | "≤" => "<=",
            "=>" | "≥" => ">=",
            "<>" | "≠" | "!" => "!=",
            _ => "",
        };
        let (reason, hint) = if mark.is_empty() {
            let reason = if self.rest().is_empty() {
                "a comparison and a limit are missing"
            } else {
                "a comparison is missing"
            };
            (
                reason.to_owned(),
                "use <, <=, >, >=, == or !=, as in `success_rate >= 97%`".to_owned(),
            )
        } else if right.is_empty() {
            (format!("`{mark}` is no comparison"), "use <, <=, >, >=, == or !=".to_owned())
        } else {
            (format!("`{mark}` is no comparison"), format!("did you mean `{right}`?"))
        };
        bad(at, mark.len().max(self.next_len().min(1)), reason, Some(hint))
    }

    fn limit(&mut self, metric: &Metric, known: &Known) -> Read<Limit> {
        let (at, written) = self
            .take(|c| c.is_alphanumeric() || matches!(c, '.' | '%' | '/' | '+' | '-' | 'µ' | '×'));
        if written.is_empty() {
            let hint = Some(format!(
                "write for example `{} {}`",
                known.form(),
                example(metric.kind(known))
            ));
            return bad(at, self.next_len(), "the limit is missing".to_owned(), hint);
        }
        let (end, mut text) = (self.at, written.to_owned());
        // `97 %` and `2.5 s` are as good as `97%` and `2.5s`.
        let (_, unit) = self.take(|c| c.is_alphabetic() || c == '%' || c == '/');
        if text.parse::<f64>().is_ok() && (matches!(unit, "%" | "ms" | "s" | "m" | "x" | "/s")) {
            text.push_str(unit);
        } else {
            self.at = end;
        }
        let after_value = self.at;
        let (of_at, of) = self.name();
        if of == "of" {
            return self.of_phase(at, &text, known);
        }
        self.at = after_value;
        let _ = of_at;
        value(at, after_value - at, &text, metric, known)
    }

    fn of_phase(&mut self, at: usize, text: &str, known: &Known) -> Read<Limit> {
        let share = text.strip_suffix('%').and_then(|number| Some(plain_number(number)? / 100.0));
        let share = share.or_else(|| text.strip_suffix('x').and_then(plain_number));
        let phase = self.phase("of")?;
        let Some(share) = share else {
            let reason = format!("`{text} of {phase}` needs a percent");
            return bad(
                at,
                text.len(),
                reason,
                Some(format!("write for example `110% of {phase}`")),
            );
        };
        if matches!(known.name, "time_to_recover" | "time_to_failover") {
            let reason =
                format!("`{}` happens once and has no counterpart in `{phase}`", known.name);
            return bad(at, self.at - at, reason, Some("give a time, such as 30s".to_owned()));
        }
        Ok(Limit::OfPhase { share, phase })
    }

    fn phase(&mut self, before: &str) -> Read<String> {
        let (at, name) = self.name();
        if name.is_empty() {
            return bad(
                at,
                self.next_len(),
                format!("`{before}` which phase?"),
                Some(format!("write for example `{before} storm`")),
            );
        }
        Ok(name.to_owned())
    }

    fn tail(&mut self, known: &Known) -> Read<(Window, Option<Duration>)> {
        let (mut window, mut hold) = (Window::All, None);
        loop {
            let (at, word) = self.name();
            match word {
                "" if self.rest().is_empty() => return Ok((window, hold)),
                "during" | "after" if hold.is_some() => {
                    return bad(at, word.len(), format!("`{word}` stands before `for`"), None);
                }
                "during" | "after" if window != Window::All => {
                    return bad(
                        at,
                        word.len(),
                        "a sentence names one phase".to_owned(),
                        Some("write one expectation for each phase".to_owned()),
                    );
                }
                "during" => window = Window::During(self.phase(word)?),
                "after" => window = Window::After(self.phase(word)?),
                "for" if hold.is_some() => {
                    return bad(at, word.len(), "`for` stands there twice".to_owned(), None);
                }
                "for" => hold = Some(self.duration()?),
                _ => {
                    let len = self.text.len() - at;
                    let word = self.text[at..].split_whitespace().next().unwrap_or_default();
                    let near = match word {
                        "in" | "while" | "within" => Some("during"),
                        _ => nearest(word, ["during", "after", "for", "of"].into_iter()),
                    };
                    let hint = near.map_or("after the limit come `of PHASE`, `during PHASE` or `after PHASE`, `for 15s`".to_owned(), |near| format!("did you mean `{near}`?"));
                    return bad(
                        at,
                        len.min(word.len()).max(1),
                        format!("`{word}` is not understood here"),
                        Some(hint),
                    );
                }
            }
            if known.name == "time_to_recover" && matches!(window, Window::During(_)) {
                let Window::During(phase) = &window else { continue };
                let reason = format!("recovery begins when `{phase}` is over");
                return bad(at, word.len(), reason, Some(format!("write `after {phase}`")));
            }
        }
    }

    fn duration(&mut self) -> Read<Duration> {
        let (at, text) = self.take(|c| c.is_alphanumeric() || c == '.' || c == 'µ');
        match text.parse::<Span>() {
            Ok(Span(span)) if span > Duration::ZERO => Ok(span),
            Ok(_) => bad(
                at,
                text.len(),
                "`for` needs some time".to_owned(),
                Some("write for example `for 15s`".to_owned()),
            ),
            Err(wrong) => bad(at, text.len().max(1), wrong.to_string(), None),
        }
    }
}

impl Metric {
    /// In what this is measured, its function considered.
    pub(super) fn kind(&self, known: &Known) -> Kind {
        match self.function {
            Some(Function::Count) => Kind::Count,
            Some(Function::Rate) => Kind::PerSecond,
            _ => known.kind,
        }
    }
}

pub(super) fn bad<T>(at: usize, len: usize, reason: String, hint: Option<String>) -> Read<T> {
    Err(BadSentence { at, len, reason, hint })
}

fn unknown_metric<T>(at: usize, name: &str) -> Read<T> {
    let names = || METRICS.iter().map(|known| known.name);
    let all = names().collect::<Vec<_>>().join(", ");
    let hint = nearest(&name.replace('-', "_"), names())
        .map_or(format!("metrics: {all}"), |near| format!("did you mean `{near}`?"));
    bad(at, name.len().max(1), format!("unknown metric `{name}`"), Some(hint))
}

fn function(at: usize, word: &str) -> Read<Function> {
    match word {
        "avg" => return Ok(Function::Avg),
        "count" => return Ok(Function::Count),
        "max" => return Ok(Function::Max),
        "min" => return Ok(Function::Min),
        "rate" => return Ok(Function::Rate),
        _ => {}
    }
    let percent = word.strip_prefix('p').and_then(plain_number);
    if let Some(percent) = percent {
        if percent > 0.0 && percent < 100.0 {
            return Ok(Function::Percentile(percent));
        }
        let reason = format!("`{word}` is no percentile");
        return bad(at, word.len(), reason, Some("write p50, p95, p99, or max".to_owned()));
    }
    let near = match word {
        "mean" | "average" => Some("avg"),
        "median" => Some("p50"),
        "p" => Some("p95"),
        _ => nearest(word, FUNCTIONS.iter().copied())
            .or_else(|| nearest(&word.replace('-', "_"), METRICS.iter().map(|known| known.name))),
    };
    let hint = near
        .map_or("functions: p50, p95, p99, avg, min, max, rate, count".to_owned(), |near| {
            format!("did you mean `{near}`?")
        });
    bad(at, word.len(), format!("unknown function or metric `{word}`"), Some(hint))
}

#[cfg(test)]
mod tests;

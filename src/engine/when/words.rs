//! What a `when` means, in words, for `check` and reports.

use std::fmt;

use super::{Bursts, By, Counting, Each, Escalation, Per, SharedCause, Step, When};
use crate::units::Span;

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        if !self.windows.is_empty() {
            let windows: Vec<String> = self
                .windows
                .iter()
                .map(|window| match window.to {
                    Some(to) => format!("from {} to {}", Span(window.from), Span(to)),
                    None => format!("from {}", Span(window.from)),
                })
                .collect();
            parts.push(format!("{} after it is armed", windows.join(" and ")));
        }
        if let Some(every) = self.every {
            let mut text = format!("{} of each {}", Span(every.length), Span(every.period));
            if !every.offset.is_zero() {
                text.push_str(&format!(", {} after it is armed", Span(every.offset)));
            }
            parts.push(text);
        }
        if let Some(flapping) = &self.flapping {
            parts.push(format!("{} up, {} down", Span(flapping.up), Span(flapping.down)));
        }
        if let Some(after) = &self.after {
            let within =
                after.within.map_or_else(String::new, |within| format!(" within {}", Span(within)));
            let hits = if after.hits == 1 { "hit" } else { "hits" };
            let mut text = format!("after {} {hits} of {}{within}", after.hits, after.fault);
            if !after.delay.is_zero() {
                text.push_str(&format!(" and {}", Span(after.delay)));
            }
            if let Some(lasting) = after.lasting {
                text.push_str(&format!(", for {}", Span(lasting)));
            }
            parts.push(text);
        }
        parts.extend(self.bursts.as_ref().map(ToString::to_string));
        let each = self.per.word();
        parts.extend(self.counts.iter().map(|counting| format!("{counting}{each}")));
        f.write_str(&parts.join("; "))
    }
}

impl Per {
    fn word(self) -> &'static str {
        match self {
            Self::ApiKey => " of each API key",
            Self::Call => " of each call",
            Self::Fault => "",
            Self::Session => " of each session",
            Self::User => " of each user",
        }
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(step) => write!(f, "one request in {step}"),
            Self::First(1) => f.write_str("the first request"),
            Self::First(most) => write!(f, "the first {most} requests"),
            Self::Nth(which) => {
                let which: Vec<String> = which.iter().map(|bounds| format!("{bounds}")).collect();
                write!(f, "the requests number {}", which.join(", "))
            }
        }
    }
}

impl fmt::Display for Bursts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.by {
            By::Requests => " requests",
            By::Time => "s",
        };
        let Self { good, bad, percent_good, percent_bad, .. } = self;
        write!(
            f,
            "{percent_bad} % for about {bad}{unit}, then {percent_good} % for about {good}{unit}"
        )
    }
}

impl fmt::Display for Escalation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = match self.each {
            Step::Hits(hits) => format!("{hits} hits"),
            Step::Time(time) => Span(time).to_string(),
        };
        write!(f, "{} points more each {each} up to {} %", self.by, self.to)
    }
}

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = match self.each {
            Each::Identity(per) => per.word().trim_start_matches(" of ").to_owned(),
            Each::Time(time) => format!("each {}", Span(time)),
        };
        write!(f, "drawn once for {each} with all that share {}", self.name)
    }
}

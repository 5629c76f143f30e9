//! Prints expectations in the form they are read in.

use std::fmt;
use std::time::Duration;

use super::limit::tidy;
use super::{Expectation, Function, Limit, Metric, Op, Unit, Window};
use crate::units::Span;

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.metric, self.op, self.limit)?;
        match &self.window {
            Window::After(phase) => write!(f, " after {phase}")?,
            Window::All => {}
            Window::During(phase) => write!(f, " during {phase}")?,
        }
        self.hold.map_or(Ok(()), |hold| write!(f, " for {}", Span(hold)))
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = self.function {
            write!(f, "{function}(")?;
        }
        f.write_str(&self.name)?;
        if !self.labels.is_empty() {
            let labels: Vec<String> =
                self.labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
            write!(f, "{{{}}}", labels.join(","))?;
        }
        if let Some(dependency) = &self.dependency {
            write!(f, "({dependency})")?;
        }
        f.write_str(if self.function.is_some() { ")" } else { "" })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Avg => f.write_str("avg"),
            Self::Count => f.write_str("count"),
            Self::Max => f.write_str("max"),
            Self::Min => f.write_str("min"),
            Self::Percentile(percent) => write!(f, "p{percent}"),
            Self::Rate => f.write_str("rate"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Below => "<",
            Self::Equal => "==",
            Self::NotEqual => "!=",
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfPhase { share, phase } => write!(f, "{}% of {phase}", tidy(share * 100.0)),
            Self::Value { value, unit } => match unit {
                Unit::None => write!(f, "{value}"),
                Unit::Percent => write!(f, "{}%", tidy(value * 100.0)),
                Unit::PerSecond => write!(f, "{value}/s"),
                Unit::Seconds => {
                    write!(f, "{}", Span(Duration::try_from_secs_f64(*value).unwrap_or_default()))
                }
                Unit::Times => write!(f, "{value}x"),
            },
        }
    }
}

//! Adds time before an answer: a slow network or a busy dependency.

use std::time::Duration;

use http::request;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Arming, Effect, Fault, Impossible, Invalid, Orders, Spec};
use crate::units::Span;

/// Adds time before an answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Time to add, for example 250ms.
    pub add: Option<Span>,
}

impl Spec for Latency {
    const NAME: &'static str = "latency";
    const SUMMARY: &'static str = "a slow network or a busy dependency";
    const EXAMPLE: &'static str = "{ add: 250ms }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        Ok(Box::new(Loaded { add: self.add.unwrap_or_default().0 }))
    }
}

#[derive(Debug)]
struct Loaded {
    add: Duration,
}

impl Fault for Loaded {
    fn arm(&self, _: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        Ok(Box::new(Delay(self.add)))
    }
}

struct Delay(Duration);

impl Effect for Delay {
    fn on_request(&mut self, _: Duration, _: &mut request::Parts, out: &mut Orders) {
        out.wait(self.0);
    }
}

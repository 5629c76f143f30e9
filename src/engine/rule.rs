//! A fault as the file has it: where, when and how often it acts, and with which effects.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::selector::Selector;
use super::when::{Escalation, SharedCause, When};
use crate::fault::Fault;
use crate::units::Ramp;

/// A named fault as loaded from the file: where it acts, how often, and with which effects.
#[derive(Debug)]
pub struct Rule {
    /// Its name in the file.
    pub name: Arc<str>,
    /// The dependencies it targets, resolved to names.
    pub targets: Vec<Arc<str>>,
    /// How the file names the target, for reports.
    pub target_text: String,
    /// Its `where`.
    pub selector: Selector,
    /// Of matching exchanges.
    pub percent: Ramp,
    /// A percent that rises in steps.
    pub escalation: Option<Escalation>,
    /// Whether the same ones suffer all along.
    pub sticky: Option<Sticky>,
    /// What it draws together with other faults.
    pub cause: Option<SharedCause>,
    /// Its `when`.
    pub when: When,
    /// It acts on requests that ask for it alone.
    pub opt_in: bool,
    /// It is counted what it would hit; it never acts.
    pub shadow: bool,
    /// Key in the file (`latency`) and the loaded fault, in catalogue order.
    pub effects: Vec<(&'static str, Box<dyn Fault>)>,
}

impl Default for Rule {
    /// A rule that targets nothing and does nothing, to all.
    fn default() -> Self {
        Self {
            name: Arc::default(),
            targets: Vec::new(),
            target_text: String::new(),
            selector: Selector::default(),
            percent: Ramp { from: 100.0, to: 100.0 },
            escalation: None,
            sticky: None,
            cause: None,
            when: When::default(),
            opt_in: false,
            shadow: false,
            effects: Vec::new(),
        }
    }
}

impl Rule {
    /// Whether it is meant for each exchange, at any time, with effects that are seen.
    pub(super) fn is_for_all(&self) -> bool {
        self.selector.is_empty()
            && self.sticky.is_none()
            && self.cause.is_none()
            && self.when.is_empty()
            && !self.opt_in
            && !self.shadow
    }
}

/// What a decision sticks to: the same identity meets the same fate all along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// By the key that the request carries.
    ApiKey,
    /// By `identify.session`.
    Session,
    /// By `identify.user`.
    User,
}

//! The names of tools that were not offered.

use super::calls::Calls;
use crate::dialect::{Offered, Slot};
use crate::fault::answer::Opened;

/// Gives calls another tool's name.
pub(super) struct Names {
    name: Option<String>,
    offered: Vec<String>,
}

impl Names {
    pub(super) fn new(name: Option<String>, offered: &[Offered]) -> Self {
        Self { name, offered: offered.iter().map(|tool| tool.name.clone()).collect() }
    }

    /// Whether a call got another name.
    pub(super) fn change(&self, opened: &mut Opened, calls: &Calls) -> bool {
        let mut changed = false;
        for spot in opened.outline.clone().each(Slot::CallName) {
            let Some(old) = spot.text(&opened.payload).filter(|old| !old.is_empty()) else {
                continue;
            };
            let chosen = calls.of(opened, spot).is_some_and(|call| calls.is_chosen(call));
            let new = self.of(&old);
            if chosen && new != old {
                opened.edits.set_text(spot.span.clone(), &new);
                changed = true;
            }
        }
        changed
    }

    fn of(&self, old: &str) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let versions = 2..;
        let mut names = versions.map(|version| format!("{old}_v{version}"));
        // There are more numbers than tools.
        names.find(|name| !self.offered.contains(name)).unwrap_or_else(|| old.to_owned())
    }
}

//! When effects want to be told of the time although nothing has come.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::net::{Clock, Sleep};

/// The alarm of one answer.
#[derive(Default)]
pub(super) struct Due(Option<(Duration, Sleep)>);

impl Due {
    /// Ready once at the time `due`; never while there is none.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<Duration>,
        clock: &dyn Clock,
    ) -> Poll<()> {
        let Some(due) = due else {
            self.0 = None;
            return Poll::Pending;
        };
        if self.0.as_ref().is_none_or(|(set, _)| *set != due) {
            self.0 = Some((due, clock.sleep_until(due)));
        }
        let Some((_, sleep)) = &mut self.0 else { return Poll::Pending };
        let rung = sleep.as_mut().poll(cx);
        if rung.is_ready() {
            self.0 = None;
        }
        rung
    }
}

impl std::fmt::Debug for Due {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Due").field(&self.0.as_ref().map(|(at, _)| at)).finish()
    }
}

//! `safety`: what stops a run.

use std::time::Duration;

use super::sentence::Defaults;
use super::{Lowering, way};
use crate::config::diagnostic::Mistake;
use crate::config::plan::{Phase, Probe, Safety};
use crate::config::schema::{self, AbortWhen};
use crate::units::Span;

impl Lowering<'_> {
    pub(super) fn safety(
        &mut self,
        safety: Option<schema::Safety>,
        phases: &[Phase],
        defaults: &Defaults,
    ) -> Safety {
        let Some(safety) = safety else { return Safety::default() };
        let mut abort_when = Vec::new();
        let mut probes = Vec::new();
        for (number, one) in safety.abort_when.unwrap_or_default().into_iter().enumerate() {
            match one {
                AbortWhen::Sentence(text) => {
                    let item = way!["safety", "abort_when", number];
                    abort_when.extend(self.sentence(item, &text, defaults));
                }
                AbortWhen::Probe(probe) => probes.extend(self.probe(number, probe)),
            }
        }
        for (key, span) in [("max_duration", safety.max_duration), ("heartbeat", safety.heartbeat)]
        {
            if span.is_some_and(|span| span.0.is_zero()) {
                self.error(way!["safety", key], format!("`{key}` must be longer than nothing"));
            }
        }
        if let Some(percent) = safety.max_affected
            && percent.0 > 0.0
            && percent.0 < 1.0
        {
            let place = self.place(way!["safety", "max_affected"]);
            let text = format!("`max_affected: {}` is less than one in 100", percent.0);
            let meant = format!("did you mean {}?", percent.0 * 100.0);
            self.found.warn(Mistake::at(place, text).label(meant));
        }
        let planned: Duration = phases.iter().map(|phase| phase.duration).sum();
        if let Some(longest) = safety.max_duration
            && longest.0 < planned
        {
            let place = self.place(way!["safety", "max_duration"]);
            let text = format!("the phases take {} together", Span(planned));
            let label = format!("stops the run after {longest}");
            self.found.warn(Mistake::at(place, text).label(label));
        }
        Safety {
            abort_when,
            probes,
            max_affected: safety.max_affected.map(crate::units::Percent::share),
            max_duration: safety.max_duration.map(|span| span.0),
            heartbeat: safety.heartbeat.map(|span| span.0),
            steer_by_header: safety.steer_by_header.unwrap_or_default(),
        }
    }

    fn probe(&mut self, number: usize, probe: Option<schema::Probe>) -> Option<Probe> {
        let Some(probe) = probe else {
            self.error(way!["safety", "abort_when", number], "a map here needs a `probe`");
            return None;
        };
        let path = way!["safety", "abort_when", number, "probe", "http"];
        let Some(text) = probe.http else {
            if !self.absence_is_told(way!["safety", "abort_when", number, "probe"], "http") {
                self.error(
                    way!["safety", "abort_when", number, "probe"],
                    "a probe needs a URL: http: http://localhost:8000/healthz",
                );
            }
            return None;
        };
        let url = self.url(path, &text, "http://localhost:8000/healthz")?;
        let expect_status = probe.expect_status.unwrap_or(200);
        if !(100..600).contains(&expect_status) {
            let path = way!["safety", "abort_when", number, "probe", "expect_status"];
            self.error(path, format!("{expect_status} is no status; write 100 to 599"));
        }
        let every = probe.every.map_or(Duration::from_secs(5), |span| span.0);
        if every < Duration::from_millis(100) {
            let path = way!["safety", "abort_when", number, "probe", "every"];
            self.error(path, "a probe can be asked every 100ms at most");
        }
        let failures = probe.failures.unwrap_or(3);
        if failures == 0 {
            let path = way!["safety", "abort_when", number, "probe", "failures"];
            self.error(path, "`failures` must be above 0");
        }
        Some(Probe { url, expect_status, every, failures })
    }
}

//! `phases` and `recovered`.

use std::time::Duration;

use super::sentence::Defaults;
use super::{Lowering, Step, way};
use crate::config::diagnostic::{Mistake, nearest};
use crate::config::plan::{Phase, Recovered};
use crate::config::schema;

/// The phases of a file that names none.
pub(super) const IMPLIED: &[&str] = &["baseline", "fault", "recovery"];

impl Lowering<'_> {
    pub(super) fn phases(
        &mut self,
        phases: Option<Vec<schema::Phase>>,
        duration: Option<Duration>,
        has_workload: bool,
        defaults: &Defaults,
    ) -> Vec<Phase> {
        let Some(phases) = phases else {
            return self.implied_phases(duration, has_workload);
        };
        if phases.is_empty() && !self.was_refused(way!["phases"]) && self.all_readable() {
            self.error(way!["phases"], "`phases` is empty");
        }
        if duration.is_some() {
            let place = self.key_place(way!["workload", "duration"]);
            let text = "`workload.duration` is not used: the phases say how long the run lasts";
            self.found.warn(Mistake::at(place, text));
        }
        let mut lowered: Vec<Phase> = Vec::new();
        let mut armed_before = false;
        for (number, phase) in phases.into_iter().enumerate() {
            let name = self.phase_name(number, phase.name, &lowered);
            let length = self.phase_duration(number, &name, phase.duration);
            let faults = self.phase_faults(number, &name, phase.faults.unwrap_or_default());
            let until_recovered = phase.until.is_some();
            if until_recovered && !armed_before {
                let place = self.place(way!["phases", number, "until"]);
                let text = format!("`{name}` waits for recovery, but no fault comes before it");
                self.found.warn(Mistake::at(place, text));
            }
            armed_before |= !faults.is_empty();
            let gate = phase.gate.unwrap_or_default();
            let gate = gate
                .iter()
                .enumerate()
                .filter_map(|(at, text)| {
                    self.sentence(way!["phases", number, "gate", at], text, defaults)
                })
                .collect();
            lowered.push(Phase { name, duration: length, faults, until_recovered, gate });
        }
        let total =
            lowered.iter().try_fold(Duration::ZERO, |sum, phase| sum.checked_add(phase.duration));
        if total.is_none_or(|total| total > Duration::from_secs(31 * 86_400)) {
            self.error(way!["phases"], "the phases take more than a month together");
        }
        if !self.told_within(way!["phases"]) {
            self.check_unused_faults(&lowered);
        }
        lowered
    }

    /// Whether all phases could be read (else an empty list follows from another mistake).
    fn all_readable(&self) -> bool {
        self.node(way!["phases"]).is_none_or(|node| node.items().iter().all(|item| !item.refused))
    }

    fn implied_phases(&mut self, duration: Option<Duration>, has_workload: bool) -> Vec<Phase> {
        if !has_workload || self.was_refused(way!["phases"]) {
            return Vec::new();
        }
        let Some(duration) = duration else {
            if !self.absence_is_told(way!["workload"], "duration")
                && !self.absence_is_told(&[], "phases")
                && !self.was_refused(way!["workload"])
            {
                let place = self.key_place(way!["workload"]);
                self.found.error(
                    Mistake::at(place, "nothing says how long the run lasts")
                        .label("give it a duration: 3m, or write `phases`"),
                );
            }
            return Vec::new();
        };
        let third = duration / 3;
        let faults: Vec<_> = self.names.faults.iter().map(|name| (name.clone(), None)).collect();
        IMPLIED
            .iter()
            .map(|name| Phase {
                name: (*name).to_owned(),
                duration: third,
                faults: if *name == "fault" { faults.clone() } else { Vec::new() },
                until_recovered: false,
                gate: Vec::new(),
            })
            .collect()
    }

    fn phase_name(&mut self, number: usize, name: Option<String>, others: &[Phase]) -> String {
        let path = way!["phases", number, "name"];
        let Some(name) = name else {
            if !self.absence_is_told(way!["phases", number], "name") {
                self.error(way!["phases", number], "a phase needs a `name`");
            }
            return format!("phase {}", number + 1);
        };
        let place = self.place(path);
        if self.is_secret(path) {
            let text = "the name of a phase cannot come from the environment";
            self.found.error(Mistake::at(place, text));
            return format!("phase {}", number + 1);
        }
        self.check_name("phase", &name, place);
        if others.iter().any(|other| other.name == name) {
            self.error(path, format!("two phases are called `{name}`"));
        }
        name
    }

    fn phase_duration(
        &mut self,
        number: usize,
        name: &str,
        duration: Option<crate::units::Span>,
    ) -> Duration {
        let path = way!["phases", number, "duration"];
        match duration {
            None => {
                if !self.absence_is_told(way!["phases", number], "duration") {
                    let place = self.place(way!["phases", number]);
                    let mistake =
                        Mistake::at(place, format!("the phase `{name}` needs a `duration`"));
                    self.found.error(mistake.label("write for example duration: 90s"));
                }
                Duration::ZERO
            }
            Some(span) => {
                if span.0.is_zero() {
                    self.error(path, format!("the phase `{name}` lasts no time"));
                }
                span.0
            }
        }
    }

    fn phase_faults(
        &mut self,
        number: usize,
        phase: &str,
        faults: Vec<schema::PhaseFault>,
    ) -> Vec<(String, Option<crate::units::Ramp>)> {
        let mut armed: Vec<(String, Option<crate::units::Ramp>)> = Vec::new();
        for (at, fault) in faults.into_iter().enumerate() {
            let item = way!["phases", number, "faults", at];
            if !self.names.faults.contains(&fault.name) {
                let place = self.node(item).map_or(self.place(item), |node| {
                    node.entries().first().map_or(node.place, |entry| entry.key_place)
                });
                let shown = self.quoted(item, &fault.name);
                let known: Vec<&str> = self.names.faults.iter().map(String::as_str).collect();
                let text = format!("unknown fault {shown} in phase `{phase}`");
                let mut mistake = Mistake::at(place, text);
                if let Some(near) = nearest(&fault.name, known.iter().copied()) {
                    mistake = mistake.label(format!("did you mean `{near}`?"));
                }
                self.found.error(match known.is_empty() {
                    true => mistake.hint("the file has no `faults`"),
                    false => mistake.hint(format!("faults: {}", known.join(", "))),
                });
                continue;
            }
            if armed.iter().any(|(name, _)| *name == fault.name) {
                let text = format!("the phase `{phase}` arms `{}` twice", fault.name);
                self.error(item, text);
                continue;
            }
            if let Some(percent) = fault.percent {
                let path = way!["phases", number, "faults", at, &fault.name, "percent"];
                self.check_percent(path, percent);
            }
            armed.push((fault.name, fault.percent));
        }
        armed
    }

    fn check_unused_faults(&mut self, phases: &[Phase]) {
        for fault in self.names.faults.clone() {
            let used =
                phases.iter().any(|phase| phase.faults.iter().any(|(name, _)| *name == fault));
            if !used {
                let place = self.key_place(way!["faults", &fault]);
                let text = format!("no phase arms the fault `{fault}`");
                self.found.warn(Mistake::at(place, text).label("never acts in a run"));
            }
        }
    }

    pub(super) fn recovered(
        &mut self,
        recovered: Option<schema::Recovered>,
        phases: &[Phase],
    ) -> Recovered {
        let recovered = recovered.unwrap_or_default();
        let metrics =
            recovered.metric.map_or_else(|| vec!["success_rate".to_owned()], |list| list.0);
        for (at, metric) in metrics.iter().enumerate() {
            let list = self.node(way!["recovered", "metric", at]).is_some();
            let item: &[Step<'_>] =
                if list { way!["recovered", "metric", at] } else { way!["recovered", "metric"] };
            self.metric(item, metric);
        }
        if let Some(phase) = recovered.within.as_ref().and_then(|within| within.phase.as_ref())
            && phase != "baseline"
            && !phases.is_empty()
            && !phases.iter().any(|known| known.name == *phase)
        {
            self.unknown_phase(way!["recovered", "within"], phase, None);
        }
        Recovered {
            metrics,
            within: recovered.within.map_or(0.05, |within| within.percent.share()),
            hold: recovered.r#for.map(|span| span.0),
        }
    }
}

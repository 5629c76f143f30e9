//! `when`, `escalate`, `shared_cause`, `opt_in`: at which times, and on which of the matching requests.

use std::time::Duration;

use super::{Lowering, Step, shared, way};
use crate::config::diagnostic::{Mistake, nearest};
use crate::config::schema::{self, Every, PerCause, Stay};
use crate::engine::Rule;
use crate::engine::identify::Identify;
use crate::engine::when::{
    After, Bursts, By, Counting, Each, Escalation, Flapping, MOST_HITS, Per, Periodic, SharedCause,
    Step as Steps, When, Window,
};
use crate::units::Ramp;

/// The shortest time that anything here goes by.
const SHORTEST: Duration = Duration::from_millis(10);
/// How long a shared cause lasts when nothing is said.
const USUAL_CAUSE: Duration = Duration::from_secs(5);

impl Lowering<'_> {
    pub(super) fn when(&mut self, name: &str, when: schema::When, identify: &Identify) -> When {
        let way = |key: &'static str| ["faults", name, "when", key];
        let per = when.per.unwrap_or_default();
        self.check_per(way!["faults", name, "when", "per"], per, identify);
        let by_requests = when.bursts.as_ref().is_some_and(|bursts| {
            [&bursts.good, &bursts.bad].iter().any(|stay| matches!(stay, Some(Stay::Requests(_))))
        });
        let mut counts = Vec::new();
        if let Some(first) = when.first {
            self.check_from_one(&way("first"), first);
            counts.push(Counting::First(first));
        }
        if let Some(nth) = when.nth {
            if !nth.0.iter().all(|bounds| bounds.counts() && !bounds.hold(0.0)) {
                let [a, b, c, d] = way("nth");
                let mistake = Mistake::at(self.place(way![a, b, c, d]), "requests count from 1");
                self.found.error(mistake.label("write for example 7, [2, 5] or 10.."));
            }
            counts.push(Counting::Nth(nth.0));
        }
        let mut every = None;
        match when.every {
            Some(Every::Nth(step)) => {
                self.check_from_one(&way("every"), step);
                counts.push(Counting::Every(step));
            }
            Some(Every::Time { period, length }) => {
                let offset = when.offset.map_or(Duration::ZERO, |span| span.0);
                every = self.periodic(&way("every"), Periodic { period, length, offset });
            }
            None => {}
        }
        if when.offset.is_some() && !matches!(when.every, Some(Every::Time { .. })) {
            let [a, b, c, d] = way("offset");
            let text = "`offset` belongs to a time that comes again";
            let mistake = Mistake::at(self.place(way![a, b, c, d]), text);
            self.found.error(mistake.label("write for example every: 30s for 5s"));
        }
        if when.per.is_some() && counts.is_empty() && !by_requests {
            let [a, b, c, d] = way("per");
            let text = "`per` says what requests are counted for, and nothing is counted";
            let mistake = Mistake::at(self.place(way![a, b, c, d]), text);
            self.found.error(mistake.label("add for example first: 2"));
        }
        let windows = when.window.map_or_else(Vec::new, |list| list.0);
        When {
            windows: windows.iter().map(|one| Window { from: one.from, to: one.to }).collect(),
            every,
            flapping: when.flapping.and_then(|flapping| self.flapping(name, &flapping)),
            after: when.after.and_then(|after| self.after(name, after)),
            bursts: when.bursts.and_then(|bursts| self.bursts(name, &bursts)),
            counts,
            per,
        }
    }

    fn check_from_one(&mut self, keys: &[&str; 4], number: u64) {
        if number == 0 {
            let [a, b, c, d] = *keys;
            self.error(way![a, b, c, d], format!("`{d}` counts from 1"));
        }
    }

    /// An identity that is counted by must be known.
    fn check_per(&mut self, path: &[Step<'_>], per: Per, identify: &Identify) {
        let (missing, key) = match per {
            Per::User => (identify.user.is_none(), "user"),
            Per::Session => (identify.session.is_none(), "session"),
            _ => return,
        };
        if missing && !self.was_refused(way!["identify", key]) {
            self.needs_identify(path, key);
        }
    }

    fn periodic(&mut self, keys: &[&str; 4], every: Periodic) -> Option<Periodic> {
        let [a, b, c, d] = *keys;
        if every.period < SHORTEST || every.length.is_zero() {
            self.error(way![a, b, c, d], "a time that comes again lasts 10ms at least");
            return None;
        }
        if every.length >= every.period {
            let mistake = Mistake::at(
                self.place(way![a, b, c, d]),
                "it would act all the time: the part is no shorter than the whole",
            );
            self.found.error(mistake.label("write for example every: 30s for 5s"));
            return None;
        }
        Some(every)
    }

    /// A time that must be there.
    fn lasting(
        &mut self,
        keys: [&str; 5],
        span: Option<crate::units::Span>,
        example: &str,
    ) -> Option<Duration> {
        let [a, b, c, d, e] = keys;
        let Some(span) = span else {
            if !self.absence_is_told(way![a, b, c, d], e) {
                let place = self.key_place(way![a, b, c, d]);
                let mistake = Mistake::at(place, format!("`{d}` needs `{e}`"));
                self.found.error(mistake.label(format!("write for example {e}: {example}")));
            }
            return None;
        };
        if span.0 < SHORTEST {
            self.error(way![a, b, c, d, e], format!("`{e}` is 10ms at least"));
            return None;
        }
        Some(span.0)
    }

    fn flapping(&mut self, name: &str, flapping: &schema::Flapping) -> Option<Flapping> {
        let up = self.lasting(["faults", name, "when", "flapping", "up"], flapping.up, "20s");
        let down = self.lasting(["faults", name, "when", "flapping", "down"], flapping.down, "5s");
        let jitter = flapping.jitter.unwrap_or_default();
        if jitter.0 > 50.0 {
            let path = way!["faults", name, "when", "flapping", "jitter"];
            self.error(path, "`jitter` is 50% of the shorter time at most");
        }
        Some(Flapping { up: up?, down: down?, jitter: jitter.share() })
    }

    fn bursts(&mut self, name: &str, bursts: &schema::Bursts) -> Option<Bursts> {
        let mut stays = Vec::new();
        for (key, stay, example) in [("good", bursts.good, "30s"), ("bad", bursts.bad, "5s")] {
            let path = way!["faults", name, "when", "bursts", key];
            match stay {
                None if self.absence_is_told(way!["faults", name, "when", "bursts"], key) => {}
                None => {
                    let place = self.key_place(way!["faults", name, "when", "bursts"]);
                    let mistake = Mistake::at(place, format!("`bursts` needs `{key}`"));
                    self.found.error(mistake.label(format!("write for example {key}: {example}")));
                }
                Some(Stay::Time(time)) if time < SHORTEST => {
                    self.error(path, format!("`{key}` is 10ms at least"));
                }
                Some(Stay::Requests(0)) => {
                    self.error(path, format!("`{key}` is 1 request at least"))
                }
                Some(Stay::Time(time)) => stays.push((By::Time, time.as_secs_f64())),
                Some(Stay::Requests(number)) => stays.push((By::Requests, number as f64)),
            }
        }
        let percent_good = bursts.percent_good.map_or(0.0, |percent| percent.0);
        let percent_bad = bursts.percent_bad.map_or(100.0, |percent| percent.0);
        let [(by, good), (other, bad)] = stays[..] else { return None };
        if by != other {
            let mistake = Mistake::at(
                self.place(way!["faults", name, "when", "bursts", "bad"]),
                "one state goes by time and the other by requests",
            );
            self.found.error(mistake.label("give both in the same"));
            return None;
        }
        if percent_good >= percent_bad {
            let place = self.key_place(way!["faults", name, "when", "bursts"]);
            let text = format!(
                "`percent_bad` ({percent_bad}) is not above `percent_good` ({percent_good})"
            );
            self.found.warn(Mistake::at(place, text));
        }
        Some(Bursts { good, bad, by, percent_good, percent_bad })
    }

    fn after(&mut self, name: &str, after: schema::After) -> Option<After> {
        let path = way!["faults", name, "when", "after", "fault"];
        let Some(fault) = after.fault else {
            if !self.absence_is_told(way!["faults", name, "when", "after"], "fault") {
                let place = self.key_place(way!["faults", name, "when", "after"]);
                let mistake =
                    Mistake::at(place, "`after` does not say which fault sets this one off");
                self.found
                    .error(mistake.label("write for example after: { fault: NAME, hits: 10 }"));
            }
            return None;
        };
        if fault == name {
            self.error(path, format!("the fault `{name}` cannot set itself off"));
            return None;
        }
        if !self.names.faults.contains(&fault) {
            let known: Vec<String> = self.names.faults.clone();
            let text = format!("unknown fault {}", self.quoted(path, &fault));
            let mut mistake = Mistake::at(self.place(path), text);
            if let Some(near) = nearest(&fault, known.iter().map(String::as_str)) {
                mistake = mistake.label(format!("did you mean `{near}`?"));
            }
            self.found.error(mistake.hint(format!("faults: {}", known.join(", "))));
            return None;
        }
        let hits = after.hits.unwrap_or(1);
        if !(1..=MOST_HITS).contains(&hits) {
            let path = way!["faults", name, "when", "after", "hits"];
            self.error(path, format!("`hits` is 1 to {MOST_HITS}"));
        }
        Some(After {
            fault: shared(&fault),
            hits,
            within: after.within.map(|span| span.0),
            delay: after.delay.map_or(Duration::ZERO, |span| span.0),
            lasting: after.r#for.map(|span| span.0),
        })
    }

    pub(super) fn escalation(
        &mut self,
        name: &str,
        escalate: &schema::Escalate,
        percent: Option<Ramp>,
    ) -> Option<Escalation> {
        let place = self.key_place(way!["faults", name, "escalate"]);
        for (key, given, example) in [
            ("by", escalate.by.is_some(), "by: 10"),
            ("each", escalate.each.is_some(), "each: 30s"),
        ] {
            if !given && !self.absence_is_told(way!["faults", name, "escalate"], key) {
                let mistake = Mistake::at(place, format!("`escalate` needs `{key}`"));
                self.found.error(mistake.label(format!("write for example {example}")));
            }
        }
        let (by, each) = (escalate.by?.0, escalate.each?);
        let to = escalate.to.map_or(100.0, |percent| percent.0);
        let Some(percent) = percent else {
            let mistake = Mistake::at(place, format!("`{name}` acts on everything from the start"));
            self.found.error(mistake.label("say where it begins, such as percent: 5"));
            return None;
        };
        if by <= 0.0 || to <= percent.from.max(percent.to) {
            let text = format!("from {percent} nothing rises by {by} up to {to}");
            self.found.error(Mistake::at(place, text));
        }
        let each = match each {
            schema::Step::Hits(hits) => Steps::Hits(hits),
            schema::Step::Time(time) => Steps::Time(time),
        };
        if matches!(each, Steps::Hits(0)) || matches!(each, Steps::Time(time) if time < SHORTEST) {
            let path = way!["faults", name, "escalate", "each"];
            self.error(path, "a step takes 1 hit or 10ms at least");
        }
        Some(Escalation { by, each, to })
    }

    pub(super) fn cause(
        &mut self,
        name: &str,
        cause: schema::SharedCause,
        identify: &Identify,
    ) -> Option<SharedCause> {
        let path = way!["faults", name, "shared_cause"];
        let Some(group) = cause.name.filter(|group| !group.trim().is_empty()) else {
            let mistake = Mistake::at(self.key_place(path), "a shared cause has no name");
            self.found.error(mistake.label("write for example shared_cause: region-eu"));
            return None;
        };
        let each = match cause.per {
            None => Each::Time(USUAL_CAUSE),
            Some(PerCause::Identity(per)) => {
                self.check_per(way!["faults", name, "shared_cause", "per"], per, identify);
                Each::Identity(per)
            }
            Some(PerCause::Time(time)) => {
                if time < SHORTEST {
                    self.error(
                        way!["faults", name, "shared_cause", "per"],
                        "`per` is 10ms at least",
                    );
                }
                Each::Time(time)
            }
        };
        Some(SharedCause { name: shared(&group), each })
    }

    /// What faults say about each other.
    pub(super) fn check_together(&mut self, rules: &[Rule], steered: bool) {
        for rule in rules {
            let name = &*rule.name;
            if rule.opt_in && !steered {
                let place = self.place(way!["faults", name, "opt_in"]);
                let mistake = Mistake::at(place, "requests may not ask for faults in this file");
                self.found.error(mistake.label("add safety: { steer_by_header: true }"));
            }
            if rule.cause.is_some() && rule.sticky.is_some() {
                let place = self.place(way!["faults", name, "sticky"]);
                let text = "`sticky` and `shared_cause` both say what is drawn for once";
                let mistake = Mistake::at(place, text);
                self.found.error(mistake.label("write shared_cause: { name: …, per: user }"));
            }
            self.check_cause(rule, rules);
            self.check_circle(rule, rules);
        }
    }

    fn check_cause(&mut self, rule: &Rule, rules: &[Rule]) {
        let Some(cause) = &rule.cause else { return };
        let others = rules.iter().filter(|other| other.name != rule.name);
        let same: Vec<&Rule> = others
            .filter(|other| other.cause.as_ref().is_some_and(|it| it.name == cause.name))
            .collect();
        let place = self.place(way!["faults", &*rule.name, "shared_cause"]);
        if same.is_empty() {
            let text = format!("no other fault shares the cause `{}`", cause.name);
            self.found.warn(Mistake::at(place, text));
        }
        let place_of = |name: &str| rules.iter().position(|one| *one.name == *name);
        // Told once, at the one that stands first.
        let differs = |other: &&&Rule| {
            other.cause.as_ref().is_some_and(|it| it.each != cause.each)
                && place_of(&rule.name) < place_of(&other.name)
        };
        if let Some(other) = same.iter().find(differs) {
            let text = format!(
                "`{}` and `{}` share a cause and differ in its `per`",
                rule.name, other.name
            );
            self.found.error(Mistake::at(place, text).label("say the same in both"));
        }
    }

    /// Faults that wait for each other never begin.
    fn check_circle(&mut self, rule: &Rule, rules: &[Rule]) {
        let next = |of: &Rule| {
            let after = of.when.after.as_ref()?;
            rules.iter().find(|other| other.name == after.fault)
        };
        let mut way_round = vec![format!("`{}`", rule.name)];
        let mut at = next(rule);
        while let Some(other) = at.filter(|_| way_round.len() <= rules.len()) {
            way_round.push(format!("`{}`", other.name));
            let is_first = || {
                rules
                    .iter()
                    .find(|one| way_round.contains(&format!("`{}`", one.name)))
                    .is_some_and(|first| first.name == rule.name)
            };
            if other.name == rule.name && is_first() {
                let place = self.place(way!["faults", &*rule.name, "when", "after"]);
                let text = format!(
                    "faults that wait for each other never begin: {}",
                    way_round.join(" → ")
                );
                self.found.error(Mistake::at(place, text));
                return;
            }
            at = next(other);
        }
    }
}

//! Sentences: `expect`, gates and `abort_when`. Their grammar is the verdict's; here their names
//! are checked and their mistakes get a place inside the sentence.

use super::{Lowering, Step, way};
use crate::config::diagnostic::{Mistake, nearest};
use crate::config::place::Place;
use crate::config::plan::Phase;
use crate::config::schema::{Expect, Severity};
use crate::units::Percent;
use crate::verdict::{Argument, BadSentence, Expectation, Known, Limit, MIN_SAMPLES, Window};

/// What the file says for all expectations.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    pub(super) confidence: Option<Percent>,
    pub(super) min_samples: Option<u64>,
}

impl Lowering<'_> {
    pub(super) fn expectations(
        &mut self,
        expect: Option<Vec<Expect>>,
        phases: &[Phase],
        has_workload: bool,
        defaults: &Defaults,
    ) -> Vec<Expectation> {
        let expect = expect.unwrap_or_default();
        self.check_confidence(way!["confidence"], defaults.confidence);
        if !expect.is_empty() && !has_workload && !self.was_refused(way!["workload"]) {
            let place = self.key_place(way!["expect"]);
            let text =
                "expectations without a `workload`: only what passes the proxies is measured";
            self.found.warn(Mistake::at(place, text));
        }
        let mut lowered = Vec::new();
        for (number, one) in expect.into_iter().enumerate() {
            let item = way!["expect", number];
            let Some(check) = &one.check else {
                if !self.absence_is_told(item, "check") {
                    self.error(item, "an expectation needs a `check`");
                }
                continue;
            };
            let check_path = way!["expect", number, "check"];
            let at: &[Step<'_>] = if one.as_map { check_path } else { item };
            let Some(mut expectation) = self.sentence(at, check, defaults) else { continue };
            self.check_confidence(way!["expect", number, "confidence"], one.confidence);
            expectation.warn = one.severity == Some(Severity::Warn);
            if let Some(samples) = one.min_samples {
                expectation.min_samples = samples;
            }
            if let Some(confidence) = one.confidence {
                expectation.confidence = Some(confidence.share());
            }
            self.check_after(at, check, &expectation, phases);
            lowered.push(expectation);
        }
        lowered
    }

    fn check_confidence(&mut self, path: &[Step<'_>], confidence: Option<Percent>) {
        if let Some(confidence) = confidence
            && !(50.0..100.0).contains(&confidence.0)
        {
            let mistake = Mistake::at(self.place(path), "a confidence is from 50% to below 100%");
            self.found.error(mistake.label("write for example 95%"));
        }
    }

    /// Reads a sentence and checks its names; a mistake is shown at its place in the sentence.
    pub(super) fn sentence(
        &mut self,
        path: &[Step<'_>],
        text: &str,
        defaults: &Defaults,
    ) -> Option<Expectation> {
        let mut expectation = match Expectation::parse(text) {
            Ok(expectation) => expectation,
            Err(bad) => {
                self.bad_sentence(path, text, bad);
                return None;
            }
        };
        expectation.line = self.place(path).line;
        expectation.min_samples = defaults.min_samples.unwrap_or(MIN_SAMPLES);
        expectation.confidence = defaults.confidence.map(Percent::share);
        let mut known = true;
        for phase in phases_named(&expectation) {
            if !self.names.phases.iter().any(|name| name == phase) {
                self.unknown_phase(path, phase, Some(text));
                known = false;
            }
        }
        known &= self.check_argument(path, text, &expectation);
        known.then_some(expectation)
    }

    fn bad_sentence(&mut self, path: &[Step<'_>], text: &str, bad: BadSentence) {
        if self.is_secret(path) {
            let mistake =
                Mistake::at(self.place(path), "what the environment gives does not fit here");
            self.found.error(mistake.hint("its value is not shown, since it may be a secret"));
            return;
        }
        let place = self.word_at(path, text, bad.at.min(text.len()), bad.len);
        let mut mistake = Mistake::at(place, bad.reason);
        mistake.hints.extend(bad.hint);
        self.found.error(mistake);
    }

    /// A name in a sentence, unless it may come from the environment.
    fn name_in(&self, path: &[Step<'_>], name: &str) -> String {
        match self.is_secret(path) {
            true => "from the environment".to_owned(),
            false => format!("`{name}`"),
        }
    }

    /// What stands in brackets after a metric: a dependency, or a fault.
    fn check_argument(&mut self, path: &[Step<'_>], text: &str, expectation: &Expectation) -> bool {
        let Some(name) = &expectation.metric.dependency else { return true };
        let of_fault = Known::named(&expectation.metric.name)
            .is_some_and(|known| known.argument == Argument::Fault);
        let (what, many, known) = match of_fault {
            true => ("fault", "faults", &self.names.faults),
            false => ("dependency", "dependencies", &self.names.dependencies),
        };
        if known.contains(name) {
            return true;
        }
        let at = text.find(&format!("({name})")).map_or(0, |at| at + 1);
        let place = self.word_at(path, text, at, name.len());
        let mistake = Mistake::at(place, format!("unknown {what} {}", self.name_in(path, name)));
        let mistake = mistake.meant(name, many, known.iter().map(String::as_str));
        self.found.error(mistake);
        false
    }

    /// A phase that the file does not have.
    pub(super) fn unknown_phase(&mut self, path: &[Step<'_>], phase: &str, text: Option<&str>) {
        let place = match text.and_then(|text| find_word(text, phase).map(|at| (text, at))) {
            Some((text, at)) => self.word_at(path, text, at, phase.len()),
            None => self.place(path),
        };
        let known: Vec<&str> = self.names.phases.iter().map(String::as_str).collect();
        let mut mistake =
            Mistake::at(place, format!("unknown phase {}", self.name_in(path, phase)));
        if let Some(near) = nearest(phase, known.iter().copied()) {
            mistake = mistake.label(format!("did you mean `{near}`?"));
        }
        self.found.error(mistake.hint(format!("phases: {}", known.join(", "))));
    }

    /// A metric that stands alone (`recovered.metric`): judged as the beginning of a sentence.
    pub(super) fn metric(&mut self, path: &[Step<'_>], metric: &str) {
        let limits = ["0%", "0s", "0", "0x", "0/s"];
        let mut refused = None;
        for limit in limits {
            match Expectation::parse(&format!("{metric} >= {limit}")) {
                Ok(_) => return,
                Err(bad) if bad.at < metric.len() => refused = Some(bad),
                Err(bad) => {
                    refused.get_or_insert(bad);
                }
            }
        }
        let Some(bad) = refused else { return };
        self.bad_sentence(path, metric, bad);
    }

    /// `after` the last phase there is nothing to judge.
    fn check_after(
        &mut self,
        path: &[Step<'_>],
        text: &str,
        expectation: &Expectation,
        phases: &[Phase],
    ) {
        if let (Window::After(name), Some(last)) = (&expectation.window, phases.last())
            && *name == last.name
        {
            let at = find_word(text, name).unwrap_or(0);
            let place = self.word_at(path, text, at, name.len());
            let text = format!("`{name}` is the last phase: nothing comes after it");
            self.found.error(Mistake::at(place, text).label("add a phase, such as `recovery`"));
        }
    }

    /// The place of a part of a sentence; the whole sentence when it is not written in one line.
    fn word_at(&self, path: &[Step<'_>], text: &str, at: usize, len: usize) -> Place {
        let place = self.place(path);
        let written = self.sources.slice(place);
        match written.find(text) {
            Some(offset) if offset <= 1 => self.sources.within(place, offset + at, len),
            _ => place,
        }
    }
}

fn phases_named(expectation: &Expectation) -> Vec<&str> {
    let mut named = Vec::new();
    if let Limit::OfPhase { phase, .. } = &expectation.limit {
        named.push(phase.as_str());
    }
    match &expectation.window {
        Window::After(phase) | Window::During(phase) => named.push(phase),
        Window::All => {}
    }
    named
}

/// Where a word stands in a sentence, looked for from its end.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.rmatch_indices(word)
        .find(|(at, _)| {
            let before = text[..*at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !before.is_some_and(part) && !after.is_some_and(part)
        })
        .map(|(at, _)| at)
}

//! Walks the phases: arms and disarms, watches the app, the person and the safety rules.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::app::Running;
use super::progress::{Event, Progress};
use super::run::Options;
use super::safety::Watchman;
use super::{Book, Error, Stop, World};
use crate::config::plan::{Phase, Plan};
use crate::engine::{Arming, Engine};
use crate::load::{Driver, Handle};
use crate::measure::recovery::{self, Rule};
use crate::net::Clock;
use crate::units::Ramp;
use crate::verdict::Ending;
use crate::workload;

/// How often the phases look at the clock and at what happened.
const TICK: Duration = Duration::from_millis(100);
/// What progress calls now.
const LATELY: Duration = Duration::from_secs(5);
/// How long load may run before a dependency without any call is worth a word.
const QUIET: Duration = Duration::from_secs(10);
/// How long the last answers are awaited at the most.
const LONGEST_FINISH: Duration = Duration::from_secs(30);
/// The same after Ctrl-C.
const SHORT_FINISH: Duration = Duration::from_secs(2);

/// What the driver can tell at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DriverFacts {
    pub(super) planned: u64,
    pub(super) shed: u64,
    /// Share of one core that this process used.
    pub(super) cpu: Option<f64>,
}

/// The run while it lasts.
pub(super) struct Conductor<'a> {
    world: &'a World,
    phases: &'a [Phase],
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    book: Arc<Book>,
    progress: Progress,
    driver: Handle,
    watchman: Watchman<'a>,
    rule: Rule,
    /// Where the run's own time begins, on the clock.
    origin: Duration,
    timeout: Duration,
    /// Dependencies and the address that the app should call, until their first call was seen.
    silent: Vec<(Arc<str>, String)>,
    cpu_before: Option<Duration>,
    /// Set once the run has disarmed everything for good.
    over: bool,
}

impl<'a> Conductor<'a> {
    /// Starts the load.
    pub(super) fn start(
        plan: &'a Plan,
        workload: &workload::Plan,
        world: &'a World,
        options: &Options,
    ) -> Result<Self, Error> {
        let origin = world.clock.now();
        world.book.begin(origin);
        if !plan.phases.is_empty() {
            arm(&world.engine, &plan.phases, 0, origin, &options.progress);
        }
        let driver = Driver::start(
            workload,
            options.seed,
            Arc::clone(&world.clock),
            world.recorder.clone(),
            None,
        )
        .map_err(|error| Error::Plan(error.to_string()))?;
        options.progress.tell(Event::LoadBegan { app: workload.app.to_string() });
        Ok(Self {
            world,
            phases: &plan.phases,
            engine: Arc::clone(&world.engine),
            clock: Arc::clone(&world.clock),
            book: Arc::clone(&world.book),
            progress: options.progress.clone(),
            driver,
            watchman: Watchman::new(&plan.safety),
            rule: recovery_rule(plan)?,
            origin,
            timeout: workload.timeout,
            silent: world
                .endpoints
                .iter()
                .map(|end| (Arc::clone(&end.name), end.url.clone().unwrap_or_default()))
                .collect(),
            cpu_before: super::record::cpu_time(),
            over: false,
        })
    }

    /// Walks the phases until they are done or something ends the run.
    pub(super) async fn conduct(
        &mut self,
        app: &mut Running,
        stop: &mut watch::Receiver<Stop>,
    ) -> Ending {
        for index in 0..self.phases.len() {
            self.begin(index);
            let end = tokio::select! {
                end = self.stay(index) => end,
                how = app.ended() => Some(Ending::Broken(how)),
                () = Stop::Soon.wished(stop) => Some(Ending::Interrupted),
            };
            self.leave(index, end.is_none());
            if let Some(end) = end.or_else(|| self.gate(index)) {
                return end;
            }
        }
        Ending::Complete
    }

    /// Ends the load and waits for the last answers.
    pub(super) async fn finish(
        mut self,
        end: &Ending,
        stop: &mut watch::Receiver<Stop>,
    ) -> DriverFacts {
        self.over = true;
        self.engine.disarm_all();
        self.driver.stop();
        self.book.end_phases(self.now());
        self.progress.tell(Event::Finishing);
        let patience = match end {
            Ending::Complete | Ending::Gate(_) => self.timeout.min(LONGEST_FINISH),
            Ending::Safety(_) | Ending::Broken(_) | Ending::Interrupted => {
                self.timeout.min(SHORT_FINISH)
            }
        };
        tokio::select! {
            () = self.driver.finished() => {}
            () = self.clock.sleep(patience) => {}
            () = Stop::Now.wished(stop) => {}
        }
        self.driver.cancel();
        let cancelled = tokio::time::timeout(SHORT_FINISH, self.driver.finished()).await;
        if cancelled.is_err() {
            tracing::warn!("the driver's last requests did not end when cancelled");
        }
        let wall = self.now().as_secs_f64();
        let cpu = super::record::cpu_time()
            .zip(self.cpu_before)
            .map(|(now, before)| now.saturating_sub(before).as_secs_f64() / wall.max(0.001));
        DriverFacts { planned: self.driver.planned(), shed: self.driver.shed(), cpu }
    }

    /// Time since the load began.
    fn now(&self) -> Duration {
        self.clock.now().saturating_sub(self.origin)
    }

    fn begin(&self, index: usize) {
        let phase = &self.phases[index];
        // The first phase was armed, and began, before the first request could be sent.
        let at = if index == 0 { Duration::ZERO } else { self.now() };
        if index > 0 {
            arm(&self.engine, self.phases, index, self.clock.now(), &self.progress);
        }
        let faults: Vec<String> = phase.faults.iter().map(|(name, _)| name.clone()).collect();
        let texts: Vec<String> = phase
            .faults
            .iter()
            .map(|(name, percent)| match percent {
                Some(ramp) => format!("{name} {ramp} %"),
                None => name.clone(),
            })
            .collect();
        self.book.begin_phase(&phase.name, at, faults, texts.clone());
        self.progress.tell(Event::PhaseBegan {
            index,
            name: phase.name.clone(),
            duration: phase.duration,
            faults: texts,
        });
    }

    /// Stays in a phase until its time is over; Some when the run must end.
    async fn stay(&mut self, index: usize) -> Option<Ending> {
        let phase = &self.phases[index];
        let began = self.now();
        loop {
            self.clock.sleep(TICK.min(phase.duration)).await;
            let now = self.now();
            let in_phase = now.saturating_sub(began);
            self.engine.expire(self.clock.now());
            self.show(index, in_phase, now);
            if let Some(reason) = self.watchman.alarm(&self.book, now) {
                return Some(Ending::Safety(reason));
            }
            if let Some(reason) = self.book.app_is_gone(now).or_else(|| self.world.broken()) {
                return Some(Ending::Broken(reason));
            }
            if in_phase >= phase.duration {
                return None;
            }
            if phase.until_recovered && self.has_recovered(index, now) {
                return None;
            }
        }
    }

    fn leave(&self, index: usize, goes_on: bool) {
        let next = self.phases.get(index + 1).filter(|_| goes_on);
        for (name, percent) in &self.phases[index].faults {
            let stays = next.is_some_and(|next| {
                carries_over(&self.phases[index], name, *percent) && arms(next, name, *percent)
            });
            if !stays {
                self.engine.disarm(name);
            }
        }
    }

    /// A phase's gate, judged at its end.
    fn gate(&self, index: usize) -> Option<Ending> {
        let phase = &self.phases[index];
        if phase.gate.is_empty() {
            return None;
        }
        let judged = self.book.judge(&phase.gate, &self.rule, &self.engine);
        let failed =
            judged.into_iter().find(|one| one.verdict != crate::measure::record::Verdict::Pass)?;
        Some(Ending::Gate(format!(
            "the gate of phase `{}` did not hold: {} (observed {})",
            phase.name, failed.text, failed.observed_text
        )))
    }

    fn has_recovered(&self, index: usize, now: Duration) -> bool {
        let Some(faulty) = self.phases[..index].iter().rposition(|phase| !phase.faults.is_empty())
        else {
            return false;
        };
        self.book.read(|ledger| recovery::recovered_by(ledger, &self.rule, faulty, now))
    }

    fn show(&mut self, index: usize, in_phase: Duration, now: Duration) {
        let in_flight = self.driver.in_flight();
        let lately = Box::new(self.book.read(|ledger| ledger.now(now, LATELY)));
        self.progress.tell(Event::Tick { index, in_phase, elapsed: now, in_flight, now: lately });
        if now < QUIET || self.silent.is_empty() {
            return;
        }
        let called = self.book.read(crate::measure::Ledger::dependencies);
        for (name, url) in std::mem::take(&mut self.silent) {
            if !called.contains(&name) {
                self.progress.tell(Event::Notice(format!(
                    "  no request reached `{name}` ({url}) yet. Does your app still call its provider directly? \
                     It must be given {url} before its client is built"
                )));
            }
        }
    }
}

impl Drop for Conductor<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.engine.disarm_all();
        }
    }
}

/// Arms the faults of a phase that the one before it has not left armed.
fn arm(engine: &Engine, phases: &[Phase], index: usize, from: Duration, progress: &Progress) {
    for (name, percent) in &phases[index].faults {
        if index > 0 && carries_over(&phases[index - 1], name, *percent) {
            continue;
        }
        let until = from + armed_for(&phases[index..], name, *percent);
        let arming = Arming { percent: *percent, from, until: Some(until) };
        if let Err(reason) = engine.arm(name, arming) {
            progress.tell(Event::Notice(reason));
        }
    }
}

/// A fault that the next phases arm in the same way stays armed, its state kept.
fn armed_for(phases: &[Phase], name: &str, percent: Option<Ramp>) -> Duration {
    let mut length = phases.first().map_or(Duration::ZERO, |phase| phase.duration);
    for pair in phases.windows(2) {
        if !carries_over(&pair[0], name, percent) || !arms(&pair[1], name, percent) {
            break;
        }
        length += pair[1].duration;
    }
    length + TICK
}

/// Whether a phase arms this fault with this percent.
fn arms(phase: &Phase, name: &str, percent: Option<Ramp>) -> bool {
    phase.faults.iter().any(|(other, theirs)| other == name && *theirs == percent)
}

/// Whether a fault armed so in `phase` may stay armed into the next; a ramp ends with its phase.
fn carries_over(phase: &Phase, name: &str, percent: Option<Ramp>) -> bool {
    percent.is_none_or(|ramp| ramp.from == ramp.to) && arms(phase, name, percent)
}

/// The plan's `recovered:` as the measures want it.
pub(super) fn recovery_rule(plan: &Plan) -> Result<Rule, Error> {
    let recovered = &plan.recovered;
    Rule::new(&recovered.metrics, recovered.within, recovered.hold).map_err(Error::Plan)
}

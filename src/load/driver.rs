//! Starts requests when users would: on intended times whatever the answers do (open loop), or
//! as many users at once (closed loop). What cannot be sent is counted, never queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{Client, Turn};
use crate::dice::Dice;
use crate::measure::{Observation, Outcome, Recorder, Sample};
use crate::net::pool::Options;
use crate::net::{BadOrigin, Clock, ConnectOptions, Origin, Pool, TrustError};
use crate::workload::prompt::Source;
use crate::workload::session::{Script, Session, Starts};
use crate::workload::template::{BadTemplate, Renderer, Said};
use crate::workload::{Arrivals, Plan};

/// A user whose request fails at once looks at the error for a moment before asking again, so that
/// a closed loop of users without think times does not turn into a storm.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// After this many starts in one go, others get their turn on this thread.
const STARTS_IN_A_ROW: u32 = 32;

/// Why a driver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the app cannot be asked: {0}")]
    App(#[from] BadOrigin),
    #[error("the request cannot be filled in: {}", all(.0))]
    Template(Vec<BadTemplate>),
    #[error("there are no prompts to ask")]
    NoPrompts,
    #[error(transparent)]
    Trust(#[from] TrustError),
}

fn all(bad: &[BadTemplate]) -> String {
    bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Servers close idle connections after five seconds or more: ours go first, so that no request
/// meets one that is being closed.
const IDLE: Duration = Duration::from_secs(4);

/// The load driver.
#[derive(Debug)]
pub struct Driver {
    client: Client,
    script: Script,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
    /// No more requests are started.
    stop: CancellationToken,
    /// No request is started at or after this time.
    end: Option<Duration>,
    /// None in a closed loop, whose users are the limit.
    max_in_flight: Option<usize>,
    in_flight: AtomicUsize,
    planned: AtomicU64,
    shed: AtomicU64,
}

/// A driver at work. Dropping it cancels what is in flight.
#[derive(Debug)]
pub struct Handle {
    driver: Arc<Driver>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Driver {
    /// Starts to drive, from now until `end` (a time of the clock) or until it is stopped.
    pub fn start(
        plan: &Plan,
        seed: u64,
        clock: Arc<dyn Clock>,
        recorder: Recorder,
        end: Option<Duration>,
    ) -> Result<Handle, Error> {
        let connect = ConnectOptions { timeout: plan.timeout, ..ConnectOptions::default() };
        // A user whose connection is closed without an answer has failed: nothing is sent twice.
        let options = Options { connect, idle: IDLE, resend: false, ..Options::default() };
        let pool = Pool::new(origin(&plan.app)?, options)?;
        Self::start_over(pool, plan, seed, clock, recorder, end)
    }

    fn start_over(
        pool: Pool<Full<Bytes>>,
        plan: &Plan,
        seed: u64,
        clock: Arc<dyn Clock>,
        recorder: Recorder,
        end: Option<Duration>,
    ) -> Result<Handle, Error> {
        let dice = Dice::from_seed(seed).fork("workload");
        let renderer = Renderer::new(plan).map_err(Error::Template)?;
        let prompts = Source::new(&plan.prompts).ok_or(Error::NoPrompts)?;
        let script = Script::new(plan, &dice);
        let cancel = CancellationToken::new();
        let client = Client::new(
            plan,
            renderer,
            prompts,
            script.clone(),
            pool,
            clock.clone(),
            cancel.clone(),
        );
        let starts = Starts::new(plan, &dice);
        let driver = Arc::new(Self {
            client,
            script,
            clock,
            recorder,
            stop: CancellationToken::new(),
            end,
            max_in_flight: starts.is_some().then_some(plan.max_in_flight.max(1)),
            in_flight: AtomicUsize::new(0),
            planned: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        });
        let tasks = TaskTracker::new();
        match (&plan.arrivals, starts) {
            (Arrivals::Users { users }, _) => driver.start_users(*users, &tasks),
            (Arrivals::Rate { .. }, Some(starts)) => {
                let (driver, sessions) = (driver.clone(), tasks.clone());
                tasks.spawn(async move { driver.start_sessions(starts, sessions).await });
            }
            (Arrivals::Rate { .. }, None) => {}
        }
        tasks.close();
        Ok(Handle { driver, tasks, cancel })
    }

    /// The open loop: every session starts at its intended time.
    async fn start_sessions(self: Arc<Self>, starts: Starts, tasks: TaskTracker) {
        let began = self.clock.now();
        let mut in_a_row = 0;
        for start in starts {
            let at = began.saturating_add(start.at);
            if self.is_over(at) {
                break;
            }
            if at > self.clock.now() {
                if !self.wait_until(at).await {
                    break;
                }
                in_a_row = 0;
            }
            in_a_row += 1;
            if in_a_row % STARTS_IN_A_ROW == 0 {
                tokio::task::yield_now().await;
            }
            let driver = self.clone();
            tasks.spawn(async move { driver.hold_session(start.session, start.turn, at).await });
        }
    }

    /// One session of the open loop: later turns follow the answer and the think time.
    async fn hold_session(self: Arc<Self>, session: Session, first: u32, mut at: Duration) {
        let mut history = Vec::new();
        for turn in first..session.turns {
            if turn > first && !self.wait_until(at).await {
                return;
            }
            let (end, _) = self.take_turn(session, turn, at, &mut history).await;
            at = end + self.script.think_time(session.number, turn);
        }
    }

    /// The closed loop: every user holds one session after the other.
    fn start_users(self: &Arc<Self>, users: u64, tasks: &TaskTracker) {
        let began = self.clock.now();
        for user in 0..users {
            let driver = self.clone();
            tasks.spawn(async move {
                let at = began + driver.script.first_start(user);
                driver.be_user(user, users, at).await;
            });
        }
    }

    async fn be_user(&self, user: u64, users: u64, mut at: Duration) {
        for nth in 0.. {
            let session = self.script.session(user + nth * users);
            let mut history = Vec::new();
            for turn in 0..session.turns {
                if !self.wait_until(at).await {
                    return;
                }
                let (end, outcome) = self.take_turn(session, turn, at, &mut history).await;
                let next = end + self.script.think_time(session.number, turn);
                at = match outcome {
                    Outcome::Ok => next,
                    _ => next.max(at + AFTER_ERROR),
                };
            }
        }
    }

    /// Asks one turn, unless too many are in flight; tells when and how it ended.
    async fn take_turn(
        &self,
        session: Session,
        turn: u32,
        at: Duration,
        history: &mut Vec<Said>,
    ) -> (Duration, Outcome) {
        self.planned.fetch_add(1, Ordering::Relaxed);
        let asked = Turn { session, turn, at, history };
        let Some(slot) = self.take_slot() else {
            self.shed.fetch_add(1, Ordering::Relaxed);
            return self.record(self.client.unsent(&asked, Outcome::ShedByDriver));
        };
        let asked = self.client.ask(asked).await;
        drop(slot);
        history.extend(asked.said);
        self.record(asked.sample)
    }

    fn record(&self, sample: Sample) -> (Duration, Outcome) {
        let told = (sample.end, sample.outcome);
        self.recorder.record(Observation::Sample(Box::new(sample)));
        told
    }

    fn take_slot(&self) -> Option<Slot<'_>> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(&self.in_flight);
        self.max_in_flight.is_none_or(|max| before < max).then_some(slot)
    }

    /// Whether a request intended for this time is not started any more.
    fn is_over(&self, at: Duration) -> bool {
        self.stop.is_cancelled() || self.end.is_some_and(|end| at >= end)
    }

    /// Waits for a request's intended time; false when it will not be started.
    async fn wait_until(&self, at: Duration) -> bool {
        if self.is_over(at) {
            return false;
        }
        if at <= self.clock.now() {
            return true;
        }
        tokio::select! {
            () = self.clock.sleep_until(at) => !self.is_over(at),
            () = self.stop.cancelled() => false,
        }
    }
}

/// Path and query belong to the request.
fn origin(app: &url::Url) -> Result<Origin, BadOrigin> {
    let mut app = app.clone();
    app.set_path("");
    app.set_query(None);
    app.set_fragment(None);
    Origin::new(&app)
}

/// One of the requests in flight.
struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handle {
    /// Starts no more requests; those in flight go on to their end or timeout.
    pub fn stop(&self) {
        self.driver.stop.cancel();
    }

    /// Starts no more requests and ends those in flight as cancelled by the driver.
    pub fn cancel(&self) {
        self.driver.stop.cancel();
        self.cancel.cancel();
    }

    /// Waits until nothing more is started and nothing is in flight.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }

    /// Requests in flight now.
    pub fn in_flight(&self) -> usize {
        self.driver.in_flight.load(Ordering::Relaxed)
    }

    /// Requests whose intended start has come, the shed ones included.
    pub fn planned(&self) -> u64 {
        self.driver.planned.load(Ordering::Relaxed)
    }

    /// Requests never sent since too many were in flight.
    pub fn shed(&self) -> u64 {
        self.driver.shed.load(Ordering::Relaxed)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::PausedClock;
    use crate::workload::{Answer, Prompts, Sessions, Shape, Stage, Template};

    fn plan(arrivals: Arrivals) -> Plan {
        let app: url::Url = "http://app/chat?key=1".parse().unwrap();
        Plan {
            request: Template::for_app(&app),
            app,
            answer: Answer::default(),
            prompts: Prompts::Preset("rag-support"),
            arrivals,
            sessions: Sessions::default(),
            timeout: Duration::from_secs(60),
            first_token_timeout: None,
            max_in_flight: 1000,
            good_ttft: None,
            good_latency: None,
        }
    }

    /// Ten minutes against an app that refuses every connection.
    async fn refused(arrivals: Arrivals) -> Vec<Sample> {
        let plan = plan(arrivals);
        let pool = Pool::in_memory(origin(&plan.app).unwrap(), || None);
        let clock: Arc<dyn Clock> = Arc::new(PausedClock::new());
        let (recorder, mut tap) = Recorder::channel(100_000);
        let end = Some(Duration::from_secs(600));
        let handle = Driver::start_over(pool, &plan, 1, clock, recorder, end).unwrap();
        handle.finished().await;
        std::iter::from_fn(|| tap.try_next())
            .filter_map(|seen| match seen {
                Observation::Sample(sample) => Some(*sample),
                _ => None,
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn no_arrival_is_early_late_or_lost() {
        let stages = vec![Stage { to: 5.0, over: Duration::ZERO }];
        let samples = refused(Arrivals::Rate { stages, shape: Shape::Constant }).await;
        assert_eq!(samples.len(), 3000);
        for (index, sample) in samples.iter().enumerate() {
            let intended = Duration::from_secs_f64((index as f64 + 0.5) / 5.0);
            assert!(sample.scheduled.abs_diff(intended) < Duration::from_micros(1));
            assert!(sample.issued >= sample.scheduled);
            assert!(sample.issued - sample.scheduled <= Duration::from_millis(1));
            assert_eq!(sample.outcome, Outcome::Refused);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failing_users_do_not_storm() {
        let samples = refused(Arrivals::Users { users: 2 }).await;
        assert_eq!(samples.len(), 2 * 6000);
    }

    #[tokio::test]
    async fn mistakes_are_told_at_the_start() {
        let start = |plan: &Plan| {
            let clock: Arc<dyn Clock> = Arc::new(PausedClock::new());
            Driver::start(plan, 1, clock, Recorder::none(), None).map(drop)
        };
        let good = plan(Arrivals::Users { users: 1 });
        let bad = Plan { app: "ftp://app/".parse().unwrap(), ..good.clone() };
        assert!(start(&bad).unwrap_err().to_string().contains("write http://"));
        let bad = Plan { prompts: Prompts::Preset("chta"), ..good.clone() };
        assert!(start(&bad).unwrap_err().to_string().contains("no prompts"));
        let mut bad = good;
        bad.request.path = Some("/${usr.id}".into());
        assert!(start(&bad).unwrap_err().to_string().contains("did you mean `${user.id}`?"));
    }
}

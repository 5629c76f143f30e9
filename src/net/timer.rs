//! The timer thread: one per process, it wakes tasks at their instant. Tokio's own timers tick in
//! milliseconds and come 1 ms late on average; this one is late by a tenth of that, never early.

#![expect(clippy::disallowed_types, reason = "the thread sleeps in real time")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// An exact alarm rings this much before its time when no other exact one waits, and the task that
/// it wakes waits out the rest: it takes about as long until a sleeping machine runs it. With others
/// waiting the machine does not sleep, and would have no time to spare.
const LEAD: Duration = Duration::from_micros(300);

/// The same for a sleep of [`LONG`] and more, behind which caches have been lost too.
const LONG_LEAD: Duration = Duration::from_micros(600);
const LONG: Duration = Duration::from_millis(10);

/// What is done meanwhile may take this long.
const MEANWHILE: Duration = Duration::from_micros(250);

/// Dropped alarms are swept out once this many have gathered and they are half of all.
const SWEEP_FROM: usize = 256;

struct Timer {
    alarms: Mutex<Alarms>,
    changed: Condvar,
    /// Alarms in the heap whose sleep was dropped.
    dropped: AtomicUsize,
}

/// Those that wait, the next one first.
#[derive(Default)]
struct Alarms {
    heap: BinaryHeap<Reverse<Alarm>>,
    /// So many of them are exact.
    exact: usize,
}

struct Alarm {
    at: Instant,
    /// How much before its time it rings when it is the only one that asks for it; nothing for one
    /// that is not exact.
    lead: Duration,
    bell: Arc<Bell>,
}

impl Alarms {
    fn push(&mut self, alarm: Alarm) {
        self.exact += usize::from(alarm.is_exact());
        self.heap.push(Reverse(alarm));
    }

    /// When the next one rings.
    fn next(&self) -> Option<Instant> {
        let Reverse(next) = self.heap.peek()?;
        Some(next.rings(self.exact == 1))
    }

    fn pop(&mut self) -> Option<Alarm> {
        let Reverse(alarm) = self.heap.pop()?;
        self.exact -= usize::from(alarm.is_exact());
        Some(alarm)
    }

    /// Drops those that nobody waits for.
    fn sweep(&mut self) {
        self.heap.retain(|Reverse(alarm)| matches!(*alarm.bell.0.lock(), Ring::Waiting(_)));
        self.exact = self.heap.iter().filter(|Reverse(alarm)| alarm.is_exact()).count();
    }
}

impl Alarm {
    fn is_exact(&self) -> bool {
        !self.lead.is_zero()
    }

    /// When it rings; `alone` says that no other exact one waits.
    fn rings(&self, alone: bool) -> Instant {
        match alone {
            true => self.at.checked_sub(self.lead).unwrap_or(self.at),
            false => self.at,
        }
    }
}

/// What the thread and the sleeping task share.
#[derive(Default)]
struct Bell(Mutex<Ring>);

#[derive(Default)]
enum Ring {
    #[default]
    Dropped,
    Rung,
    Waiting(Waker),
}

impl Timer {
    /// The process's timer; its thread starts at the first use.
    fn shared() -> &'static Self {
        static TIMER: OnceLock<Timer> = OnceLock::new();
        static STARTED: OnceLock<()> = OnceLock::new();
        let timer = TIMER.get_or_init(|| Self {
            alarms: Mutex::default(),
            changed: Condvar::new(),
            dropped: AtomicUsize::new(0),
        });
        STARTED.get_or_init(|| {
            let spawned =
                std::thread::Builder::new().name("timer".to_owned()).spawn(|| Self::shared().run());
            if let Err(error) = spawned {
                // Without threads there is no runtime either; nothing would ever be woken.
                tracing::error!(%error, "the timer thread cannot start");
            }
        });
        timer
    }

    fn add(&self, at: Instant, lead: Duration, waker: &Waker) -> Arc<Bell> {
        let bell = Arc::new(Bell(Mutex::new(Ring::Waiting(waker.clone()))));
        let mut alarms = self.alarms.lock();
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > SWEEP_FROM && dropped > alarms.heap.len() / 2 {
            alarms.sweep();
            self.dropped.store(0, Ordering::Relaxed);
        }
        let before = alarms.next();
        alarms.push(Alarm { at, lead, bell: Arc::clone(&bell) });
        let sooner = before.is_none_or(|before| alarms.next() < Some(before));
        drop(alarms);
        if sooner {
            self.changed.notify_one();
        }
        bell
    }

    fn run(&self) {
        let mut due = Vec::new();
        let mut alarms = self.alarms.lock();
        loop {
            let now = Instant::now();
            while alarms.next().is_some_and(|rings| rings <= now) {
                due.extend(alarms.pop().map(|alarm| alarm.bell));
            }
            if !due.is_empty() {
                drop(alarms);
                due.drain(..).for_each(|bell| bell.ring());
                alarms = self.alarms.lock();
            } else if let Some(rings) = alarms.next() {
                self.changed.wait_until(&mut alarms, rings);
            } else {
                self.changed.wait(&mut alarms);
            }
        }
    }
}

impl Bell {
    fn ring(&self) {
        let mut ring = self.0.lock();
        if let Ring::Waiting(waker) = std::mem::replace(&mut *ring, Ring::Rung) {
            drop(ring);
            waker.wake();
        }
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// A sleep until an instant; dropping it cancels it.
pub(super) struct SleepUntil {
    at: Instant,
    lead: Duration,
    meanwhile: Option<fn()>,
    bell: Option<Arc<Bell>>,
}

impl SleepUntil {
    pub(super) fn new(at: Instant) -> Self {
        Self { at, lead: Duration::ZERO, meanwhile: None, bell: None }
    }

    /// One that takes up to [`LONG_LEAD`] of CPU time to be on time, when it is the only one of its
    /// kind. Behind a long wait, `meanwhile` is done in that time.
    pub(super) fn exactly(at: Instant, meanwhile: Option<fn()>) -> Self {
        let long = at.saturating_duration_since(Instant::now());
        let (lead, meanwhile) = match long >= LONG {
            true => (LONG_LEAD, meanwhile),
            false => (LEAD.min(long / 4), None),
        };
        Self { at, lead, meanwhile, bell: None }
    }
}

impl Future for SleepUntil {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(bell) = &self.bell else {
            if Instant::now() >= self.at {
                return Poll::Ready(());
            }
            self.bell = Some(Timer::shared().add(self.at, self.lead, cx.waker()));
            return Poll::Pending;
        };
        if let Ring::Waiting(waker) = &mut *bell.0.lock() {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        if let Some(meanwhile) = self.meanwhile.take()
            && Instant::now() + MEANWHILE <= self.at
        {
            meanwhile();
        }
        while Instant::now() < self.at {
            std::hint::spin_loop();
        }
        Poll::Ready(())
    }
}

impl Drop for SleepUntil {
    fn drop(&mut self) {
        if let Some(bell) = &self.bell {
            let mut ring = bell.0.lock();
            if let Ring::Waiting(_) = *ring {
                *ring = Ring::Dropped;
                Timer::shared().dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn many_sleepers_wake_in_time_and_never_early() {
        let start = Instant::now();
        let sleepers: Vec<_> = (0..200u64)
            .map(|number| {
                tokio::spawn(async move {
                    let at = start + Duration::from_micros(500 + number * 137 % 20_000);
                    SleepUntil::new(at).await;
                    Instant::now().checked_duration_since(at)
                })
            })
            .collect();
        for sleeper in sleepers {
            let late = sleeper.await.unwrap().expect("woken early");
            assert!(late < Duration::from_secs(2), "late by {late:?}");
        }
    }

    #[tokio::test]
    async fn exact_sleeps_are_never_early() {
        for micros in [50, 200, 400, 3_000, 20_000] {
            let at = Instant::now() + Duration::from_micros(micros);
            SleepUntil::exactly(at, None).await;
            let late = Instant::now().checked_duration_since(at).expect("woken early");
            assert!(late < Duration::from_secs(2), "late by {late:?}");
        }
    }

    #[test]
    fn only_an_exact_alarm_that_is_alone_rings_before_its_time() {
        let at = Instant::now() + Duration::from_secs(1);
        let alarm = |lead| Alarm { at, lead, bell: Arc::default() };
        let mut alarms = Alarms::default();
        alarms.push(alarm(Duration::ZERO));
        assert_eq!(alarms.next(), Some(at));
        alarms.pop();
        alarms.push(alarm(LEAD));
        assert_eq!(alarms.next(), Some(at - LEAD));
        alarms.push(Alarm { at: at + LEAD, ..alarm(Duration::ZERO) });
        assert_eq!(alarms.next(), Some(at - LEAD), "others may be late");
        alarms.push(alarm(LEAD));
        assert_eq!(alarms.next(), Some(at));
        alarms.pop();
        assert_eq!(alarms.next(), Some(at - LEAD));
        alarms.sweep();
        assert_eq!((alarms.next(), alarms.exact), (None, 0), "nobody waits");
    }

    #[tokio::test]
    async fn only_a_long_exact_sleep_has_time_for_something_meanwhile() {
        static DONE: AtomicUsize = AtomicUsize::new(0);
        let done: Option<fn()> = Some(|| {
            DONE.fetch_add(1, Ordering::Relaxed);
        });
        let in_ms = |time| Instant::now() + Duration::from_millis(time);
        assert!(SleepUntil::exactly(in_ms(9), done).meanwhile.is_none());
        let long = SleepUntil::exactly(in_ms(60), done);
        assert_eq!((long.lead, long.meanwhile.is_some()), (LONG_LEAD, true));
        long.await;
        assert!(DONE.load(Ordering::Relaxed) <= 1, "not while others wait");
    }

    #[tokio::test]
    async fn dropped_sleeps_are_swept() {
        let far = Instant::now() + Duration::from_secs(3600);
        for _ in 0..4 * SWEEP_FROM {
            let mut sleep = Box::pin(SleepUntil::new(far));
            assert!(futures_poll(sleep.as_mut()).is_pending());
        }
        let left = Timer::shared().alarms.lock().heap.len();
        assert!(left < 3 * SWEEP_FROM, "{left} alarms are left");
    }

    #[tokio::test]
    async fn an_earlier_sleep_overtakes_a_later_one() {
        let far = tokio::spawn(SleepUntil::new(Instant::now() + Duration::from_secs(3600)));
        tokio::task::yield_now().await;
        SleepUntil::new(Instant::now() + Duration::from_millis(2)).await;
        far.abort();
    }

    fn futures_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }
}

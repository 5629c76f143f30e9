//! A delayed exchange in memory, from the app's request to its answer, with nobody at either end.
//! What a process has not done for a while it does slowly: its code and tables are in no cache,
//! and at first not even in memory. It touches no real connection, no tally and no journal.

use std::future::Future as _;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Once};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_util::sync::CancellationToken;

use super::connection::{self, Dependency};
use super::route::Route;
use crate::dialect;
use crate::engine::identify::Identify;
use crate::engine::{Arming, Engine, Rule, Selector};
use crate::fault::{Latency, Spec as _};
use crate::measure::Recorder;
use crate::net::{Clock, Origin, Pool, Sleep, Stream};
use crate::units::{Ramp, Span};

const REQUEST: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nhost: rehearsal\r\n\
    content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
    connection: close\r\ncontent-length: 2\r\n\r\n{}";
/// More than any of both takes.
const ROOM: usize = 4 << 10;
/// More than it takes.
const POLLS: usize = 32;

/// No time passes here.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep_until(&self, _: Duration) -> Sleep {
        Box::pin(std::future::ready(()))
    }
}

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    let latency = Latency { add: Some(Span(Duration::from_millis(1))), ..Latency::default() };
    let rule = Rule {
        name: "rehearsal".into(),
        targets: vec!["rehearsal".into()],
        target_text: "rehearsal".into(),
        selector: Selector::default(),
        percent: Ramp { from: 100.0, to: 100.0 },
        effects: latency.build().map(|fault| (Latency::NAME, fault)).into_iter().collect(),
        ..Rule::default()
    };
    let engine = Engine::new(0, vec![rule], Recorder::none());
    let _ = engine.arm("rehearsal", Arming::default());
    Arc::new(engine)
});

/// Has the process's first exchange with a delay be its second: rehearses once, at leisure, and has
/// the timer's thread started.
pub(super) fn begin(clock: &Arc<dyn Clock>) {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let clock = Arc::clone(clock);
        tokio::spawn(async move {
            rehearse();
            clock.hold(Duration::from_millis(1), None).await;
        });
    });
}

/// Goes through it once, now: some 100 µs of CPU time.
pub(super) fn rehearse() {
    if !is_whole() {
        tracing::debug!("a rehearsal came to no end");
    }
}

/// Goes through it once; whether that led to an answer.
fn is_whole() -> bool {
    let mut going = pin!(tokio::task::unconstrained(exchange()));
    let mut cx = Context::from_waker(Waker::noop());
    // In memory nothing is waited for, so being polled is enough.
    for _ in 0..POLLS {
        if let Poll::Ready(answered) = going.as_mut().poll(&mut cx) {
            return answered;
        }
    }
    false
}

/// Whether there was an answer.
async fn exchange() -> bool {
    let (mut app, proxy) = duplex(ROOM);
    let (ours, mut upstream) = duplex(ROOM);
    let Some(dependency) = dependency(Stream::Memory(Box::new(ours))) else { return false };
    let route = Arc::new(Route::Fixed(Arc::new(dependency)));
    let served =
        connection::serve(Stream::Memory(Box::new(proxy)), route, CancellationToken::new(), None);
    let answered = async {
        let mut asked = [0; ROOM];
        let _ = upstream.read(&mut asked).await;
        let _ = upstream.write_all(ANSWER).await;
        std::future::pending::<()>().await;
    };
    let asked = async {
        let _ = app.write_all(REQUEST).await;
        let mut answer = [0; ROOM];
        app.read(&mut answer).await.is_ok_and(|count| answer[..count].starts_with(b"HTTP/1.1 200"))
    };
    tokio::select! {
        biased;
        answered = asked => answered,
        _ = served => false,
        () = answered => false,
    }
}

fn dependency(upstream: Stream) -> Option<Dependency> {
    let upstream = Mutex::new(Some(upstream));
    let origin = Origin::new(&"http://rehearsal".parse().ok()?).ok()?;
    let engine = Arc::clone(&ENGINE);
    Some(Dependency {
        name: "rehearsal".into(),
        hosts: Vec::new(),
        own_host: None,
        path: String::new(),
        gate: engine.gate("rehearsal"),
        dialect: dialect::by_kind("openai")?,
        identify: Identify::default(),
        pool: Pool::in_memory(origin, move || upstream.lock().take()),
        engine,
        recorder: Recorder::none(),
        clock: Arc::new(Still),
        drain: CancellationToken::new(),
        mark_faults: false,
        latest: Arc::default(),
        _keeps: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_comes_to_its_end_by_being_polled() {
        assert!(is_whole(), "the app has got its answer");
        let name = &ENGINE.rules()[0].name;
        let (_, tally) = ENGINE.tallies().into_iter().find(|(rule, _)| rule == name).unwrap();
        assert!(tally.hit >= 1, "the fault acts: {tally:?}");
    }
}

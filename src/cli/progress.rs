//! Shows a run's progress on stderr: one redrawn line on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;

use super::args::Progress;
use super::terminal;
use crate::experiment::Event;
use crate::measure::Now;
use crate::units::Span;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows events until the run is over.
pub(crate) async fn show(mut events: UnboundedReceiver<Event>, wish: Progress) {
    let bars = match wish {
        Progress::None => {
            while let Some(event) = events.recv().await {
                if let Event::Notice(text) = event {
                    terminal::note(&text);
                }
            }
            return;
        }
        Progress::Auto => {
            std::io::stderr().is_terminal()
                && std::env::var_os("CI").is_none()
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
        Progress::Bars => true,
        Progress::Lines => false,
    };
    let mut screen = Screen {
        bar: bars.then(new_bar),
        phase: String::new(),
        length: Duration::ZERO,
        said: None,
    };
    while let Some(event) = events.recv().await {
        screen.take(event);
    }
    if let Some(bar) = &screen.bar {
        bar.finish_and_clear();
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("  {prefix} {bar:20} {msg}") {
        bar.set_style(style.progress_chars("█▉░"));
    }
    bar
}

struct Screen {
    bar: Option<ProgressBar>,
    phase: String,
    length: Duration,
    /// When the last line was written.
    said: Option<Duration>,
}

impl Screen {
    fn take(&mut self, event: Event) {
        match event {
            Event::Listening { endpoints, gateways, admin, seed } => {
                for end in &endpoints {
                    self.say(&format!(
                        "  {:<12} {}  ->  {}",
                        end.name,
                        end.url.as_deref().unwrap_or("through a gateway"),
                        end.upstream
                    ));
                }
                for (name, url) in &gateways {
                    self.say(&format!("  {:<12} {url}  (gateway)", name));
                }
                if let Some(admin) = admin {
                    self.say(&format!("  {:<12} http://{admin}", "admin"));
                }
                self.say(&format!("  {:<12} {seed}", "seed"));
            }
            Event::Waiting { target } => self.say(&format!("  waiting for {target}")),
            Event::LoadBegan { app } => self.say(&format!("  {:<12} {app}\n", "app")),
            Event::PhaseBegan { name, duration, faults, .. } => self.begin(name, duration, &faults),
            Event::Tick { in_phase, elapsed, in_flight, now, .. } => {
                self.tick(in_phase, elapsed, &figures(&now, in_flight));
            }
            Event::Notice(text) => self.say(&text),
            Event::Finishing => {
                if let Some(bar) = &self.bar {
                    bar.set_message("waiting for the last answers");
                }
            }
        }
    }

    fn begin(&mut self, name: String, length: Duration, faults: &[String]) {
        let with = if faults.is_empty() {
            String::new()
        } else {
            format!("  armed: {}", faults.join(", "))
        };
        self.say(&format!("  ▸ {name} · {}{with}", Span(length)));
        self.phase = name;
        self.length = length;
        self.said = None;
        if let Some(bar) = &self.bar {
            bar.set_length(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
            bar.set_prefix(format!("{:<10}", self.phase));
        }
    }

    fn tick(&mut self, in_phase: Duration, elapsed: Duration, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(in_phase.as_millis()).unwrap_or(u64::MAX));
            bar.set_message(message.to_owned());
        } else if self.said.is_none_or(|said| elapsed >= said + LINE_EVERY) {
            if self.said.is_some() {
                self.say(&format!("    {:>4.0} s  {message}", elapsed.as_secs_f64()));
            }
            self.said = Some(elapsed);
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| terminal::note(text)),
            None => terminal::note(text),
        }
    }
}

/// The five numbers to watch.
fn figures(now: &Now, in_flight: usize) -> String {
    let share =
        |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{:.1} %", v * 100.0));
    let seconds = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.2} s"));
    let times = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.2}x"));
    format!(
        "success {} · TTFT p95 {} · calls per answer {} · in flight {} · {:.0} tokens/s",
        share(now.success_rate),
        seconds(now.ttft_p95),
        times(now.amplification),
        in_flight,
        now.tokens_per_second
    )
}

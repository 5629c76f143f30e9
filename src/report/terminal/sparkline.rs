//! Success over the run in one line, with the phases and the time to recover beneath it.

use std::fmt::Write;

use crate::measure::record::Record;
use crate::report::{digest, text, timeline};

use super::paint::Pen;

const LABEL: usize = 11;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) fn draw(record: &Record, pen: Pen, width: usize, out: &mut String) {
    let series = timeline::success(record);
    let Some(lowest) = series.iter().filter_map(|value| *value).reduce(f64::min) else { return };
    let floor = timeline::success_floor(lowest);
    let columns = (width - LABEL).min(series.len().max(1) * 4);
    let line: String = (0..columns)
        .map(|column| {
            // The worst second under the column: thinning must hide no dip.
            let from = column * series.len() / columns;
            let to = ((column + 1) * series.len() / columns).max(from + 1).min(series.len());
            let worst = series[from..to].iter().filter_map(|value| *value).reduce(f64::min);
            worst.map_or(' ', |value| level(value, floor))
        })
        .collect();
    let label = pen.dim(&format!("{:LABEL$}", "success"));
    let _ = writeln!(out, "{label}{}", pen.plain(line.trim_end()));

    let scale = Scale { seconds: span(record), columns };
    let ruler = pen.dim(&pen.plain(&phases(record, &scale)));
    let _ = writeln!(out, "{:LABEL$}{}", "", ruler.trim_end());
    if let Some(recovery) = bracket(record, &scale, width) {
        let _ = writeln!(out, "{:LABEL$}{}", "", pen.plain(&recovery));
    }
    let legend = format!("▁ {:.0} %  █ 100 %", floor * 100.0);
    let _ = writeln!(out, "{:LABEL$}{}\n", "", pen.dim(&legend));
}

struct Scale {
    seconds: f64,
    columns: usize,
}

impl Scale {
    fn column(&self, at: f64) -> usize {
        let share = if self.seconds > 0.0 { at / self.seconds } else { 0.0 };
        (share.clamp(0.0, 1.0) * self.columns as f64).round() as usize
    }
}

fn span(record: &Record) -> f64 {
    record.timeline.last().map_or(0.0, |second| second.at_s + 1.0)
}

fn level(value: f64, floor: f64) -> char {
    let share = ((value - floor) / (1.0 - floor)).clamp(0.0, 1.0);
    // Only all of them is the full block.
    let step = if value >= 1.0 { 7 } else { ((share * 8.0) as usize).min(6) };
    LEVELS[step]
}

/// `│baseline      │storm`: each name where its phase begins, cut to its room.
fn phases(record: &Record, scale: &Scale) -> String {
    let mut line = String::new();
    let mut at = 0;
    for phase in &record.phases {
        let from = scale.column(phase.start_s).max(at);
        let room = scale.column(phase.end_s).saturating_sub(from);
        if room == 0 {
            continue;
        }
        let name = text::line(&phase.name, room.saturating_sub(2).max(1));
        let piece = if room > 3 { format!("│{name}") } else { "│".into() };
        line.extend(std::iter::repeat_n(' ', from - at));
        at = from + piece.chars().count();
        line.push_str(&piece);
    }
    line
}

/// `←──── 21.0 s ────→ limit < 10s`, for the slowest recovery.
fn bracket(record: &Record, scale: &Scale, width: usize) -> Option<String> {
    let recovery = record
        .recovery
        .iter()
        .filter(|it| it.time_to_recover_s.is_some_and(|time| time > 0.0 && time.is_finite()))
        .max_by(|a, b| {
            a.time_to_recover_s.unwrap_or(0.0).total_cmp(&b.time_to_recover_s.unwrap_or(0.0))
        })?;
    let from = scale.column(recovery.fault_end_s);
    let to = scale.column(recovery.fault_end_s + recovery.time_to_recover_s?);
    let time = digest::recovery_time(recovery);
    let body = (to - from.min(to)).saturating_sub(2);
    let mut label = format!(" {time} ");
    if body > label.chars().count() + 2 {
        let dashes = body - label.chars().count();
        label = format!("←{}{label}{}→", "─".repeat(dashes / 2), "─".repeat(dashes - dashes / 2));
    } else {
        label = format!("←{}→ {time}", "─".repeat(body));
    }
    label.push_str(" to recover");
    if let Some(limit) = digest::recovery_limit(record, &recovery.after) {
        let _ = write!(label, ", limit {limit}");
    }
    let start = from.min((width - LABEL).saturating_sub(label.chars().count()));
    Some(format!("{:start$}{label}", ""))
}

//! The one chart: what users felt, over what was done to the dependencies, on one time axis. Only
//! geometry; the markup is in `templates/report/chart.svg`.

use std::borrow::Cow;

use crate::measure::record::{Expected, Phase, Record, Verdict};
use crate::report::digest::{self, Measure};
use crate::report::timeline::{self, Bin};
use crate::report::{numbers, text};

use super::lanes::{self, Lanes, Palette};
use super::scale::{self, Axis, Time};

pub(super) const WIDTH: f64 = 1170.0;
const LEFT: f64 = 112.0;
const RIGHT: f64 = 24.0;
/// Points that the lines have at most, rows of their table.
pub(super) const MOST_BINS: usize = 600;

/// Everything that is drawn.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) plot: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) span: f64,
    pub(super) group: usize,
    pub(super) description: String,
    pub(super) phases: Vec<PhaseMark>,
    pub(super) panels: Vec<Panel>,
    pub(super) brackets: Vec<Bracket>,
    pub(super) lanes: Lanes,
    pub(super) moments: Vec<Label>,
    pub(super) palette: Palette,
}

/// A phase: its band, hatched once for each armed fault.
#[derive(Debug)]
pub(super) struct PhaseMark {
    pub(super) x: f64,
    pub(super) width: f64,
    pub(super) middle: f64,
    pub(super) name: String,
    pub(super) faults: String,
    pub(super) title: String,
    /// Indices of the hatches.
    pub(super) hatches: Vec<usize>,
}

/// One measure over time.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) note: Cow<'static, str>,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) ticks: Vec<Label>,
    pub(super) lines: Vec<Line>,
    pub(super) limits: Vec<Limit>,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) d: String,
}

/// A text at a place (`x` on the time axis, `y` elsewhere).
#[derive(Debug)]
pub(super) struct Label {
    pub(super) at: f64,
    pub(super) text: String,
}

/// The limit of an expectation, over its phase.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) x1: f64,
    pub(super) x2: f64,
    pub(super) y: f64,
    pub(super) text: String,
    pub(super) text_x: f64,
    pub(super) text_y: f64,
}

/// From the fault's end to recovery.
#[derive(Debug)]
pub(super) struct Bracket {
    pub(super) x1: f64,
    pub(super) x2: f64,
    pub(super) y: f64,
    pub(super) censored: bool,
    pub(super) class: &'static str,
    pub(super) text: String,
    pub(super) text_x: f64,
    pub(super) anchor: &'static str,
}

/// Draws the record; None when there is no time to draw over.
pub(super) fn chart(record: &Record) -> Option<Chart> {
    let (bins, group) = timeline::bins(record, MOST_BINS);
    let span = span(record, &bins, group)?;
    let time = Time { left: LEFT, width: WIDTH - LEFT - RIGHT, span };
    let palette = Palette::of(record);
    let top = 44.0;
    let mut y = top;

    let success = success_panel(record, &bins, group, &time, y + 16.0);
    y = success.bottom + if record.recovery.is_empty() { 12.0 } else { 6.0 };
    let brackets = brackets(record, &time, &mut y);
    let mut panels = vec![success];
    let speed = speed_panel(record, &bins, group, &time, y + 22.0);
    y = speed.bottom;
    panels.push(speed);
    if bins.iter().any(|bin| bin.amplification.is_some()) {
        let panel = amplification_panel(record, &bins, group, &time, y + 30.0);
        y = panel.bottom;
        panels.push(panel);
    }
    let lanes = lanes::lanes(record, &palette, &time, y + 14.0);
    let bottom = lanes.bottom;
    Some(Chart {
        width: WIDTH,
        height: bottom + 22.0,
        left: time.left,
        right: time.right(),
        plot: time.width,
        top,
        bottom,
        span,
        group,
        description: description(record),
        phases: phases(record, &palette, &time),
        panels,
        brackets,
        lanes,
        moments: moments(&time),
        palette,
    })
}

fn span(record: &Record, bins: &[Bin], group: usize) -> Option<f64> {
    let seconds = bins.last().map_or(0.0, |bin| bin.at + group as f64);
    let phases = record.phases.iter().map(|phase| phase.end_s);
    let span = phases.chain([record.duration_s, seconds]).filter(|it| it.is_finite());
    span.reduce(f64::max).filter(|span| *span > 0.0)
}

fn moments(time: &Time) -> Vec<Label> {
    let step = scale::time_step(time.span, 10);
    (0..=(time.span / step) as usize)
        .map(|n| n as f64 * step)
        .map(|at| Label { at: time.x(at), text: numbers::clock(at) })
        .collect()
}

fn phases(record: &Record, palette: &Palette, time: &Time) -> Vec<PhaseMark> {
    record
        .phases
        .iter()
        .enumerate()
        .map(|(n, phase)| {
            let x = time.x(phase.start_s);
            let width = (time.x(phase.end_s) - x).max(0.0);
            let words = if phase.fault_text.is_empty() { &phase.faults } else { &phase.fault_text };
            let faults = text::line(&words.join(" + "), 400);
            let name = text::line(&phase.name, 400);
            let mut title = format!(
                "{name}, {} to {}",
                numbers::clock(phase.start_s),
                numbers::clock(phase.end_s)
            );
            if !faults.is_empty() {
                title.push_str(&format!(": {faults}"));
            }
            PhaseMark {
                x,
                width,
                middle: x + width / 2.0,
                name: phase_label(&name, n, width),
                faults: if width >= 60.0 {
                    text::cut(&faults, (width / 6.4) as usize)
                } else {
                    String::new()
                },
                title,
                hatches: phase.faults.iter().map(|it| palette.hatch(it)).take(3).collect(),
            }
        })
        .collect()
}

/// The name where it fits or can be cut decently, else the number it has in the table of phases.
fn phase_label(name: &str, n: usize, width: f64) -> String {
    let fits = ((width - 6.0) / 8.4).max(0.0) as usize;
    match () {
        () if name.chars().count() <= fits || fits >= 10 => text::cut(name, fits),
        () if width >= 16.0 => (n + 1).to_string(),
        () => String::new(),
    }
}

fn success_panel(record: &Record, bins: &[Bin], group: usize, time: &Time, top: f64) -> Panel {
    let limits = limits_of(record, Measure::Success);
    let lowest = bins
        .iter()
        .filter_map(|bin| bin.success)
        .chain(limits.iter().map(|it| it.limit))
        .fold(1.0, f64::min);
    let low = timeline::success_floor(lowest);
    let axis = Axis { top, height: 96.0, low, high: 1.0 };
    let step = if low == 0.0 { 0.25 } else { (1.0 - low) / 2.0 };
    let ticks = (0..=((1.0 - low) / step).round() as usize)
        .map(|n| low + n as f64 * step)
        .map(|value| Label { at: axis.y(value), text: format!("{:.0} %", value * 100.0) })
        .collect();
    let class = "l success";
    let note = match timeline::window(record) {
        window if group > window => "worst moment of each point".into(),
        1 => "each second".into(),
        window => format!("over the last {window} s").into(),
    };
    Panel {
        title: "Success rate".into(),
        note,
        top,
        bottom: axis.bottom(),
        ticks,
        lines: vec![Line { class, d: path(bins, group, time, &axis, |bin| bin.success) }],
        limits: drawn_limits(record, &limits, time, &axis),
    }
}

fn speed_panel(record: &Record, bins: &[Bin], group: usize, time: &Time, top: f64) -> Panel {
    let streamed = digest::streamed(record);
    let (title, measure) = if streamed {
        ("Time to first token", Measure::Ttft)
    } else {
        ("Latency", Measure::Latency)
    };
    let [p50, p95]: [fn(&Bin) -> Option<f64>; 2] = match streamed {
        true => [|bin| bin.ttft_p50, |bin| bin.ttft_p95],
        false => [|bin| bin.latency_p50, |bin| bin.latency_p95],
    };
    let highest = bins.iter().flat_map(|bin| [p50(bin), p95(bin)]).flatten().fold(0.0, f64::max);
    let limits: Vec<&Expected> = limits_of(record, measure)
        .into_iter()
        .filter(|it| highest == 0.0 || it.limit <= highest * 4.0)
        .collect();
    let (axis, ticks) = from_zero(highest, &limits, top, 80.0, numbers::seconds);
    Panel {
        title: title.into(),
        note: "solid p95, dotted p50".into(),
        top,
        bottom: axis.bottom(),
        ticks,
        lines: vec![
            Line { class: "l speed dotted", d: path(bins, group, time, &axis, p50) },
            Line { class: "l speed", d: path(bins, group, time, &axis, p95) },
        ],
        limits: drawn_limits(record, &limits, time, &axis),
    }
}

fn amplification_panel(
    record: &Record,
    bins: &[Bin],
    group: usize,
    time: &Time,
    top: f64,
) -> Panel {
    let limits = limits_of(record, Measure::Amplification);
    let highest = bins.iter().filter_map(|bin| bin.amplification).fold(1.0, f64::max);
    let (axis, ticks) =
        from_zero(highest, &limits, top, 54.0, |value| format!("{}×", numbers::plain(value)));
    Panel {
        title: "Retry amplification".into(),
        note: "calls per answer, 1× as in the baseline".into(),
        top,
        bottom: axis.bottom(),
        ticks,
        lines: vec![Line {
            class: "l amplification",
            d: path(bins, group, time, &axis, |bin| bin.amplification),
        }],
        limits: drawn_limits(record, &limits, time, &axis),
    }
}

/// An axis from 0 to a round number above everything on it.
fn from_zero(
    highest: f64,
    limits: &[&Expected],
    top: f64,
    height: f64,
    format: fn(f64) -> String,
) -> (Axis, Vec<Label>) {
    let highest = limits.iter().map(|it| it.limit).fold(highest, f64::max);
    let step = scale::step(if highest > 0.0 { highest } else { 1.0 }, 3);
    let steps = (highest / step - 1e-9).ceil().max(1.0);
    let axis = Axis { top, height, low: 0.0, high: steps * step };
    let ticks = (0..=steps as usize)
        .map(|n| n as f64 * step)
        .map(|value| Label { at: axis.y(value), text: tidy(&format(value)) })
        .collect();
    (axis, ticks)
}

/// `2.00 s` on an axis is `2 s`.
fn tidy(text: &str) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text.into(),
    }
}

fn path(
    bins: &[Bin],
    group: usize,
    time: &Time,
    axis: &Axis,
    value: fn(&Bin) -> Option<f64>,
) -> String {
    scale::line(bins.iter().map(|bin| {
        let middle = bin.at + group as f64 / 2.0;
        (time.x(middle), value(bin).filter(|it| it.is_finite()).map(|it| axis.y(it)))
    }))
}

/// The expectations on a measure whose limit is a number of its own (not of another phase).
fn limits_of(record: &Record, measure: Measure) -> Vec<&Expected> {
    record
        .expectations
        .iter()
        .filter(|it| measure.is_meant_by(it) && it.limit.is_finite())
        .filter(|it| digest::sentence(&it.text).is_some_and(|it| !it.limit.contains(" of ")))
        .collect()
}

/// The limits of a panel; where two would write over each other, only the first has its words.
fn drawn_limits(record: &Record, all: &[&Expected], time: &Time, axis: &Axis) -> Vec<Limit> {
    let mut drawn: Vec<Limit> = Vec::new();
    for mut next in all.iter().filter_map(|it| limit(record, it, time, axis)) {
        let near = |it: &Limit| {
            (it.text_y - next.text_y).abs() < 13.0 && (it.text_x - next.text_x).abs() < 80.0
        };
        if drawn.iter().any(near) {
            next.text.clear();
        }
        drawn.push(next);
    }
    drawn
}

/// None when the phase it speaks of did not happen.
fn limit(record: &Record, expected: &Expected, time: &Time, axis: &Axis) -> Option<Limit> {
    let (x1, x2) = match &expected.phase {
        None => (time.left, time.right()),
        Some(name) => {
            let phase = record.phases.iter().find(|it| it.name == *name)?;
            (time.x(phase.start_s), time.x(phase.end_s))
        }
    };
    let y = axis.y(expected.limit);
    let words = digest::sentence(&expected.text)
        .map(|it| format!("{} {}", pretty(it.op), it.limit))
        .unwrap_or_default();
    let wide = x2 - x1 > 70.0;
    Some(Limit {
        x1,
        x2,
        y,
        text: if wide { text::cut(&words, 24) } else { String::new() },
        text_x: x1 + 5.0,
        text_y: if y - axis.top < 14.0 { y + 12.0 } else { y - 4.0 },
    })
}

/// A comparison as it is printed.
pub(super) fn pretty(op: &str) -> &str {
    match op {
        ">=" => "≥",
        "<=" => "≤",
        "!=" => "≠",
        "==" => "=",
        _ => op,
    }
}

/// The brackets, in as many rows as their texts need; moves `y` below them.
fn brackets(record: &Record, time: &Time, y: &mut f64) -> Vec<Bracket> {
    const ROW: f64 = 20.0;
    const MOST_ROWS: usize = 4;
    let mut rows: Vec<f64> = Vec::new();
    let mut drawn = Vec::new();
    for recovery in &record.recovery {
        let Some(length) = recovery.time_to_recover_s.filter(|it| it.is_finite()) else { continue };
        if length <= 0.0 && !recovery.censored {
            continue;
        }
        let x1 = time.x(recovery.fault_end_s);
        let x2 = time.x(recovery.fault_end_s + length);
        let expected = digest::recovery_expectation(record, &recovery.after);
        let mut words = format!("time to recover {}", digest::recovery_time(recovery));
        if let Some(limit) = digest::recovery_limit(record, &recovery.after) {
            words.push_str(&format!(" (limit {limit})"));
        }
        let verdict = expected.map(|it| it.verdict);
        if let Some(verdict) = verdict {
            words.push_str(&format!(" {}", digest::mark(verdict)));
        }
        let long = words.chars().count() as f64 * 6.6;
        let (text_x, anchor, from, to) = match () {
            () if x2 + 8.0 + long <= time.right() => (x2 + 8.0, "start", x1, x2 + 8.0 + long),
            () if x1 - 8.0 - long >= time.left => (x1 - 8.0, "end", x1 - 8.0 - long, x2),
            () => (time.right(), "end", time.left, time.right()),
        };
        let row = rows.iter().position(|end| *end < from).unwrap_or(rows.len());
        if row >= MOST_ROWS {
            continue;
        }
        if row == rows.len() {
            rows.push(to);
        } else {
            rows[row] = to;
        }
        drawn.push(Bracket {
            x1,
            x2,
            y: *y + 12.0 + row as f64 * ROW,
            censored: recovery.censored,
            class: match verdict {
                Some(Verdict::Fail) => "bracket fail",
                Some(Verdict::Pass) => "bracket pass",
                _ => "bracket",
            },
            text: words,
            text_x,
            anchor,
        });
    }
    *y += rows.len() as f64 * ROW;
    drawn
}

/// The chart in words, for those who do not see it.
fn description(record: &Record) -> String {
    let mut words = Vec::new();
    for measure in [Measure::Success, speed(record), Measure::Amplification] {
        let way = digest::journey(record, measure);
        let Some(worst) = way.worst else { continue };
        let mut sentence = format!("{}: ", measure.label());
        if let Some(healthy) = way.baseline {
            sentence.push_str(&format!("{} at first, ", measure.format(healthy)));
        }
        let phase: Option<&Phase> = way.worst_phase;
        let name = phase.map(|it| text::line(&it.name, 100)).unwrap_or_default();
        sentence.push_str(&format!("{} in {name}", measure.format(worst)));
        if let Some(again) = way.recovered {
            sentence.push_str(&format!(", {} at the end", measure.format(again)));
        }
        words.push(sentence);
    }
    for recovery in &record.recovery {
        let after = text::line(&recovery.after, 100);
        words.push(format!("Time to recover after {after}: {}", digest::recovery_time(recovery)));
    }
    if words.is_empty() {
        return "Nothing was measured.".into();
    }
    format!("{}.", words.join(". "))
}

/// The time that users feel: to the first token where answers stream, else to the end.
pub(super) fn speed(record: &Record) -> Measure {
    if digest::streamed(record) { Measure::Ttft } else { Measure::Latency }
}

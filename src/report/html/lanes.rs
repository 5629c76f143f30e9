//! The dependencies beneath the chart: one strip each, a tick for each fault that acted, a hollow
//! one for each error of the dependency's own. A fault is told by colour, glyph and row.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::measure::record::{Lane, Record};
use crate::report::{numbers, text};

use super::scale::Time;

/// Colours, hatches and glyphs repeat after this many faults.
pub(super) const LOOKS: usize = 6;
const MOST_LANES: usize = 24;
const ROW: f64 = 12.0;

/// Which look each fault has.
#[derive(Debug)]
pub(super) struct Palette {
    pub(super) faults: Vec<Look>,
}

/// A fault in the legend.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) raw: String,
    pub(super) name: String,
    pub(super) index: usize,
    /// Its glyph, in a box of 14 by 12.
    pub(super) glyph: String,
    pub(super) filled: bool,
}

impl Palette {
    pub(super) fn of(record: &Record) -> Self {
        let mut names: Vec<&str> = record.faults.iter().map(|fault| fault.name.as_str()).collect();
        let armed = record.phases.iter().flat_map(|phase| phase.faults.iter());
        let acted = record.lanes.iter().flat_map(|lane| lane.ticks.iter());
        for name in armed.chain(acted.filter_map(|tick| tick.fault.as_ref())) {
            if !names.contains(&name.as_str()) && names.len() < 200 {
                names.push(name);
            }
        }
        let faults = names
            .into_iter()
            .enumerate()
            .map(|(n, name)| Look {
                raw: name.into(),
                name: text::line(name, 60),
                index: n % LOOKS,
                glyph: glyph(n % LOOKS, 7.0, 6.0),
                filled: is_filled(n % LOOKS),
            })
            .collect();
        Self { faults }
    }

    pub(super) fn hatch(&self, fault: &str) -> usize {
        self.faults.iter().find(|look| look.raw == fault).map_or(0, |look| look.index)
    }
}

/// All strips.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) strips: Vec<Strip>,
    pub(super) left_out: usize,
    pub(super) own_errors: bool,
    pub(super) bottom: f64,
}

#[derive(Debug)]
pub(super) struct Strip {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) y: f64,
    pub(super) height: f64,
    pub(super) middle: f64,
    pub(super) marks: Vec<Marks>,
}

/// All ticks of one kind in a strip, as one path.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) class: String,
    pub(super) d: String,
    pub(super) title: String,
}

pub(super) fn lanes(record: &Record, palette: &Palette, time: &Time, top: f64) -> Lanes {
    let mut y = top;
    let strips: Vec<Strip> = record
        .lanes
        .iter()
        .take(MOST_LANES)
        .map(|lane| {
            let strip = strip(lane, palette, time, y);
            y += strip.height + 4.0;
            strip
        })
        .collect();
    let own = |lane: &Lane| lane.ticks.iter().any(|tick| tick.fault.is_none());
    Lanes {
        strips,
        left_out: record.lanes.len().saturating_sub(MOST_LANES),
        own_errors: record.lanes.iter().any(own),
        bottom: y,
    }
}

fn strip(lane: &Lane, palette: &Palette, time: &Time, y: f64) -> Strip {
    let mut rows = Vec::new();
    for look in &palette.faults {
        let places: Vec<f64> = lane
            .ticks
            .iter()
            .filter(|tick| tick.fault.as_deref() == Some(&look.raw))
            .map(|tick| time.x(tick.at_s))
            .collect();
        if !places.is_empty() {
            let fill = if look.filled { "filled" } else { "stroked" };
            rows.push((
                format!("tick f{} {fill}", look.index),
                Some(look.index),
                places,
                look.name.clone(),
            ));
        }
    }
    let own: Vec<f64> =
        lane.ticks.iter().filter(|tick| tick.fault.is_none()).map(|it| time.x(it.at_s)).collect();
    if !own.is_empty() {
        rows.push(("tick own".into(), None, own, "errors of its own".into()));
    }
    let height = 4.0 + ROW * rows.len().max(1) as f64;
    let marks: Vec<Marks> = rows
        .into_iter()
        .enumerate()
        .map(|(n, (class, look, places, what))| Marks {
            class,
            title: format!("{what}: {}", numbers::of(places.len() as u64, "tick", "ticks")),
            d: ticks(&places, look, y + 2.0 + ROW * (n as f64 + 0.5)),
        })
        .collect();
    let name = text::line(&lane.dependency, 200);
    let told: Vec<&str> = marks.iter().map(|it| it.title.as_str()).collect();
    Strip {
        title: if told.is_empty() {
            format!("{name}: nothing happened")
        } else {
            format!("{name}: {}", told.join(", "))
        },
        name: text::cut(&name, 13),
        y,
        height,
        middle: y + height / 2.0 + 4.0,
        marks,
    }
}

/// One glyph at each place; places that fall on the same half pixel are drawn once.
fn ticks(places: &[f64], look: Option<usize>, y: f64) -> String {
    let halves: BTreeSet<i64> = places.iter().map(|x| (x * 2.0).round() as i64).collect();
    let mut d = String::new();
    for half in halves {
        let x = half as f64 / 2.0;
        d.push_str(&look.map_or_else(|| hollow(x, y), |look| glyph(look, x, y)));
    }
    d
}

fn is_filled(look: usize) -> bool {
    matches!(look, 2 | 3)
}

fn glyph(look: usize, x: f64, y: f64) -> String {
    let mut d = String::new();
    let _ = match look {
        0 => write!(d, "M{x} {:.1}v10", y - 5.0),
        1 => write!(d, "M{x} {:.1}v3.5m0 3v3.5", y - 5.0),
        2 => write!(d, "M{x} {:.1}l3.5 4-3.5 4-3.5-4z", y - 4.0),
        3 => write!(d, "M{:.1} {:.1}h7l-3.5-7z", x - 3.5, y + 3.5),
        4 => write!(d, "M{:.1} {:.1}l6 6m0-6l-6 6", x - 3.0, y - 3.0),
        _ => write!(d, "M{:.1} {:.1}h6m-6 4h6", x - 3.0, y - 2.0),
    };
    d
}

/// A small ring.
fn hollow(x: f64, y: f64) -> String {
    format!("M{:.1} {y:.1}a3 3 0 1 0 6 0a3 3 0 1 0-6 0", x - 3.0)
}

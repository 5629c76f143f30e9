//! Places on the drawing: axes, ticks that people like, lines with gaps.

use std::fmt::Write;

/// A vertical axis: `low` at the bottom, `high` at the top.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) top: f64,
    pub(super) height: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Axis {
    pub(super) fn y(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        let share = if span > 0.0 { (value - self.low) / span } else { 0.0 };
        self.top + self.height * (1.0 - share.clamp(0.0, 1.0))
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }
}

/// The time axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) left: f64,
    pub(super) width: f64,
    /// Seconds from edge to edge, above 0.
    pub(super) span: f64,
}

impl Time {
    pub(super) fn x(&self, at: f64) -> f64 {
        let share = if at.is_finite() { (at / self.span).clamp(0.0, 1.0) } else { 0.0 };
        self.left + self.width * share
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }
}

/// Steps of 1, 2, 2.5 or 5 times a power of ten: about `wanted` of them up to `high`.
pub(super) fn step(high: f64, wanted: usize) -> f64 {
    if !high.is_finite() || high <= 0.0 {
        return 1.0;
    }
    let rough = high / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|it| it * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

/// Seconds between the marks of a time axis.
pub(super) fn time_step(span: f64, wanted: usize) -> f64 {
    const NICE: [f64; 17] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0,
        7_200.0, 14_400.0, 43_200.0, 86_400.0,
    ];
    let rough = span / wanted.max(1) as f64;
    NICE.into_iter().find(|it| *it >= rough).unwrap_or(rough.ceil())
}

/// The `d` of a line through these points, broken where a value is missing; a lone point is a dot.
pub(super) fn line(points: impl Iterator<Item = (f64, Option<f64>)>) -> String {
    let mut d = String::new();
    let mut run = 0;
    for (x, y) in points {
        let Some(y) = y else {
            close(&mut d, run);
            run = 0;
            continue;
        };
        let command = if run == 0 { 'M' } else { 'L' };
        let _ = write!(d, "{command}{x:.1} {y:.1}");
        run += 1;
    }
    close(&mut d, run);
    d
}

fn close(d: &mut String, run: usize) {
    if run == 1 {
        d.push_str("h.01");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_gaps() {
        let points = [(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(4.0))];
        assert_eq!(line(points.into_iter()), "M0.0 1.0L1.0 2.0M3.0 4.0h.01");
        assert_eq!(line(std::iter::empty()), "");
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(step(5.2, 3), 2.0);
        assert_eq!(step(1.0, 4), 0.25);
        assert_eq!(step(0.0, 4), 1.0);
        assert_eq!(step(f64::NAN, 4), 1.0);
        assert_eq!(time_step(75.0, 8), 10.0);
        assert_eq!(time_step(3_600.0, 8), 600.0);
        assert_eq!(time_step(1e9, 8), 125_000_000.0);
    }

    #[test]
    fn nothing_leaves_the_drawing() {
        let axis = Axis { top: 10.0, height: 100.0, low: 0.0, high: 1.0 };
        assert_eq!(axis.y(2.0), 10.0);
        assert_eq!(axis.y(-1.0), 110.0);
        assert_eq!(Axis { high: 0.0, ..axis }.y(0.0), 110.0);
        let time = Time { left: 50.0, width: 100.0, span: 10.0 };
        assert_eq!((time.x(-1.0), time.x(99.0), time.x(f64::NAN)), (50.0, 150.0, 50.0));
    }
}

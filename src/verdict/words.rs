//! Numbers as people read them: `88.2 %`, `5.2 s`, `2.07x`, `7.0 points under`.

use super::{Kind, Op};

/// The unit that a record names for a kind of metric.
pub(super) fn unit(kind: Kind) -> &'static str {
    match kind {
        Kind::Count => "",
        Kind::PerSecond => "/s",
        Kind::Seconds => "s",
        Kind::Share => "%",
        Kind::Times => "x",
    }
}

/// A value in its unit.
pub(super) fn shown(value: f64, kind: Kind) -> String {
    match kind {
        Kind::Count => rounded(value),
        Kind::PerSecond => format!("{}/s", rounded(value)),
        Kind::Seconds => seconds(value),
        Kind::Share => percent(value),
        Kind::Times => format!("{value:.2}x"),
    }
}

/// A share of 1 as a percent that never rounds to all or nothing.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if whole(percent) {
        return format!("{percent:.0} %");
    }
    let digits = (1..4).find(|digits| {
        let shown = format!("{percent:.digits$}").parse().unwrap_or(percent);
        shown != 0.0 && shown != 100.0
    });
    format!("{percent:.*} %", digits.unwrap_or(4))
}

/// A time in seconds, or in milliseconds below a tenth.
pub fn seconds(value: f64) -> String {
    match value {
        v if whole(v) => format!("{v:.0} s"),
        v if v < 0.0995 => format!("{:.0} ms", (v * 1000.0).max(1.0)),
        v if v < 0.995 => format!("{v:.2} s"),
        v if v < 9.95 => format!("{v:.1} s"),
        v => format!("{v:.0} s"),
    }
}

/// A whole number, but for the noise of binary fractions.
fn whole(value: f64) -> bool {
    (value - value.round()).abs() < 1e-9
}

fn rounded(value: f64) -> String {
    if whole(value) { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// The distance to the limit, without its direction.
fn distance(value: f64, kind: Kind) -> String {
    match kind {
        Kind::Share if value * 100.0 < 0.1 => format!("{:.2} points", value * 100.0),
        Kind::Share => format!("{:.1} points", value * 100.0),
        Kind::Times => format!("{value:.2}"),
        _ => shown(value, kind),
    }
}

/// Where the observed value lies, seen from the limit.
pub(super) fn margin(observed: f64, limit: f64, op: Op, kind: Kind, good: bool) -> String {
    let apart = distance((observed - limit).abs(), kind);
    let same = (observed - limit).abs() < 1e-9;
    match (good, op) {
        (true, Op::Equal) => "as asked".to_owned(),
        (true, Op::NotEqual) => format!("{apart} away"),
        (true, _) if same => "at the limit".to_owned(),
        (true, _) => format!("{apart} to spare"),
        (false, _) if same => "at the limit, not beyond".to_owned(),
        (false, _) if observed < limit => format!("{apart} under"),
        (false, _) => format!("{apart} over"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        for (value, kind, text) in [
            (0.882, Kind::Share, "88.2 %"),
            (1.0, Kind::Share, "100 %"),
            (0.0, Kind::Share, "0 %"),
            (0.9996, Kind::Share, "99.96 %"),
            (0.0001, Kind::Share, "0.01 %"),
            (1.07, Kind::Share, "107 %"),
            (0.058, Kind::Seconds, "58 ms"),
            (0.9, Kind::Seconds, "0.90 s"),
            (5.21, Kind::Seconds, "5.2 s"),
            (21.0, Kind::Seconds, "21 s"),
            (5.0, Kind::Seconds, "5 s"),
            (73.6, Kind::Seconds, "74 s"),
            (2.07, Kind::Times, "2.07x"),
            (12.0, Kind::Count, "12"),
            (4.25, Kind::PerSecond, "4.2/s"),
        ] {
            assert_eq!(shown(value, kind), text);
        }
    }

    #[test]
    fn margins_read_well() {
        for (observed, limit, op, kind, good, text) in [
            (0.88, 0.95, Op::AtLeast, Kind::Share, false, "7.0 points under"),
            (2.07, 1.5, Op::Below, Kind::Times, false, "0.57 over"),
            (21.0, 10.0, Op::Below, Kind::Seconds, false, "11 s over"),
            (0.9996, 1.0, Op::AtLeast, Kind::Share, false, "0.04 points under"),
            (0.984, 0.98, Op::AtLeast, Kind::Share, true, "0.4 points to spare"),
            (0.9, 2.5, Op::Below, Kind::Seconds, true, "1.6 s to spare"),
            (3.0, 0.0, Op::Equal, Kind::Count, false, "3 over"),
            (0.0, 0.0, Op::Equal, Kind::Count, true, "as asked"),
            (2.5, 2.5, Op::Below, Kind::Seconds, false, "at the limit, not beyond"),
            (0.95, 0.95, Op::AtLeast, Kind::Share, true, "at the limit"),
        ] {
            assert_eq!(margin(observed, limit, op, kind, good), text);
        }
    }
}

//! Numbers as people read them, in one place, so that every report says the same. Never rounds a
//! number over a bound it has not reached (99.97 % is not 100 %), never prints NaN.

/// What stands where there is no number.
pub(super) const DASH: &str = "–";

/// Seconds with about three digits: `58 ms`, `0.90 s`, `74.2 s`, `312 s`.
pub(super) fn seconds(value: f64) -> String {
    let size = value.abs();
    match () {
        () if !value.is_finite() => DASH.into(),
        () if size == 0.0 => "0 s".into(),
        () if size < 0.000_95 => format!("{:.2} ms", value * 1e3),
        () if size < 0.009_95 => format!("{:.1} ms", value * 1e3),
        () if size < 0.099_5 => format!("{:.0} ms", value * 1e3),
        () if size < 9.995 => format!("{value:.2} s"),
        () if size < 99.95 => format!("{value:.1} s"),
        () => format!("{value:.0} s"),
    }
}

/// Seconds that were counted in whole ones: `21 s`, and `2.50 s` where they were not.
pub(super) fn whole_seconds(value: f64) -> String {
    if value == value.round() && value.is_finite() {
        return format!("{value:.0} s");
    }
    seconds(value)
}

/// A share of 1 as percent: `88.2 %`.
pub(super) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return DASH.into();
    }
    let value = share * 100.0;
    if value == 0.0 || value == 100.0 {
        return format!("{value:.0} %");
    }
    let one = format!("{value:.1}");
    if !touches_bound(&one) {
        return format!("{one} %");
    }
    let two = format!("{value:.2}");
    match two.as_str() {
        "100.00" if value < 100.0 => ">99.99 %".into(),
        "0.00" if value > 0.0 => "<0.01 %".into(),
        _ => format!("{two} %"),
    }
}

/// Whether a rounded percentage claims a bound: all, or nothing.
fn touches_bound(text: &str) -> bool {
    matches!(text, "100.0" | "0.0" | "-0.0")
}

/// A factor: `2.07×`.
pub(super) fn times(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}×") } else { DASH.into() }
}

/// A rate or a ratio, always with two decimals so that columns align.
pub(super) fn two(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { DASH.into() }
}

/// A plain number with few digits: `7`, `4.38`, `1,204`.
pub(super) fn plain(value: f64) -> String {
    match value {
        _ if !value.is_finite() => DASH.into(),
        _ if value == value.round() && value.abs() < 1e15 => {
            let whole = count(value.abs() as u64);
            if value < 0.0 { format!("-{whole}") } else { whole }
        }
        _ if value.abs() < 10.0 => format!("{value:.2}"),
        _ if value.abs() < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A count with separators: `1,655`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A run's length: `75 s`, `6 m 30 s`, `1 h 02 m`.
pub(super) fn length(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return DASH.into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0 if seconds > 0.0 => format!("{seconds:.1} s"),
        0..=99 => format!("{whole} s"),
        100..=3599 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
    }
}

/// A moment of the run: `1:05`, `1:02:05`.
pub(super) fn clock(seconds: f64) -> String {
    let whole = if seconds.is_finite() { seconds.max(0.0).round() as u64 } else { 0 };
    let (hours, minutes, rest) = (whole / 3600, whole % 3600 / 60, whole % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{rest:02}")
    } else {
        format!("{minutes}:{rest:02}")
    }
}

/// One or many: `1 request`, `75 requests`.
pub(super) fn of(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

/// The number, or a dash.
pub(super) fn or_dash(value: Option<f64>, format: impl FnOnce(f64) -> String) -> String {
    value.map_or_else(|| DASH.into(), format)
}

/// The 95 % interval of a share (Wilson), None without trials.
pub(super) fn wilson(hits: u64, trials: u64) -> Option<[f64; 2]> {
    crate::measure::statistics::wilson(hits.min(trials), trials, 0.95)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_about_three_digits() {
        let cases = [
            (0.0, "0 s"),
            (0.000_42, "0.42 ms"),
            (0.0042, "4.2 ms"),
            (0.058, "58 ms"),
            (0.0999, "0.10 s"),
            (0.9, "0.90 s"),
            (4.1, "4.10 s"),
            (9.999, "10.0 s"),
            (21.04, "21.0 s"),
            (312.4, "312 s"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(seconds(value), text, "{value}");
        }
        assert_eq!(whole_seconds(21.0), "21 s");
        assert_eq!(whole_seconds(f64::INFINITY), "–");
    }

    #[test]
    fn a_percentage_never_claims_what_it_has_not_reached() {
        let cases = [
            (1.0, "100 %"),
            (0.0, "0 %"),
            (0.882, "88.2 %"),
            (0.9996, "99.96 %"),
            (0.999_99, ">99.99 %"),
            (0.000_01, "<0.01 %"),
            (0.05, "5.0 %"),
            (1.07, "107.0 %"),
            (f64::NAN, "–"),
        ];
        for (share, text) in cases {
            assert_eq!(percent(share), text, "{share}");
        }
    }

    #[test]
    fn counts_lengths_and_moments() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_655), "1,655");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(length(75.0), "75 s");
        assert_eq!(length(390.0), "6 m 30 s");
        assert_eq!(length(3_725.0), "1 h 02 m");
        assert_eq!(length(f64::NAN), "–");
        assert_eq!(clock(65.0), "1:05");
        assert_eq!(clock(3_725.0), "1:02:05");
        assert_eq!(plain(-1_204.0), "-1,204");
        assert_eq!(plain(4.376), "4.38");
    }

    #[test]
    fn wilson_is_the_textbook_interval() {
        let [low, high] = wilson(118, 592).unwrap();
        assert!((low - 0.1691).abs() < 1e-3 && (high - 0.2334).abs() < 1e-3, "{low} {high}");
        assert_eq!(wilson(0, 0), None);
        let [low, high] = wilson(75, 75).unwrap();
        assert!(low > 0.95);
        assert_eq!(high, 1.0, "all of them are no less than all that were wanted");
    }
}

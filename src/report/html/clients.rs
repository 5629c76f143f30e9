//! The table about the app's clients: how they retry, wait, and give up.

use crate::measure::record::Record;
use crate::report::numbers;

use super::ledgers::names;
use super::table::{Cell, Table};

const MOST_ROWS: usize = 1_000;

pub(super) fn clients(record: &Record) -> Table {
    let mut table = Table::new(
        "How the app's clients behaved, by phase",
        &[
            "Dependency",
            "Phase",
            "#Attempts, most",
            "#On average",
            "Waits before retries",
            "#No back-off",
            "#Herds",
            "#Needless",
            "#Overlapping",
            "#Longest silence",
            "#Cuts kept",
            "#Wasted tokens",
        ],
        "No call reached a dependency.",
    );
    for name in names(record) {
        for phase in &record.phases {
            let Some(it) = phase.dependencies.get(name) else { continue };
            if it.calls == 0 || table.rows.len() >= MOST_ROWS {
                continue;
            }
            let client = &it.client;
            let waits: Vec<String> = client.waits_s.iter().map(|it| numbers::length(*it)).collect();
            table.row(vec![
                Cell::header(name),
                Cell::text(&phase.name),
                Cell::count(client.attempts_max),
                Cell::measured(client.attempts_mean, numbers::two, it.calls),
                Cell::text(&if waits.is_empty() { numbers::DASH.into() } else { waits.join(", ") }),
                Cell::count(client.retries_without_backoff),
                Cell::measured(client.retry_synchrony, numbers::two, it.retries),
                Cell::count(client.needless_retries),
                Cell::count(client.overlapping_retries),
                Cell::measured(client.longest_silence_s, numbers::length, it.calls),
                Cell::count(client.unrepeated_cuts),
                Cell::count(client.wasted_tokens),
            ]);
        }
    }
    table
}

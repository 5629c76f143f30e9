//! Every effect on every dialect, streamed and not: what an app gets of a recorded answer, to the
//! byte. The results stand in `matrix/wire/`, one file for each recording; after a change that is
//! meant, `BROWNOUT_WRITE_MATRIX=1 cargo test --test it matrix` writes them anew, to be read in the
//! diff.

mod player;
mod recording;
mod variants;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use brownout::dialect::{self, Failure, Moment};
use brownout::fault::KINDS;

use self::player::{Outcome, Played, play};
use self::recording::Recording;

const MEANT: &str = "If it is meant: BROWNOUT_WRITE_MATRIX=1 cargo test --test it matrix";

const PAGE: &str = "# Effects and kinds

Which effect acts on which kind of dependency. The page is written by the test that plays every effect
on recorded answers of every kind, streamed and whole (`tests/it/matrix.rs`); what the app then gets
stands there to the byte. An effect that cannot act on an exchange says so in the run's ledger
(`impossible`), so that it is never taken for one that did.

| effect | acts on | does not, and why |
|---|---|---|
";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/matrix").join(name)
}

/// What each variant of each effect makes of a recording.
fn sheet(recording: &Recording) -> (String, BTreeMap<&'static str, Outcome>) {
    let mut text = format!("{} {}, {}\n", recording.method, recording.path, recording.kind);
    let mut outcomes: BTreeMap<&'static str, Outcome> = BTreeMap::new();
    for (effect, options) in variants::all() {
        for options in options {
            let Played { wire, outcome, .. } = play(recording, effect, options, &[]);
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{effect}: {options}\n{wire}");
            let best = outcomes.entry(effect).or_insert_with(|| outcome.clone());
            if outcome > *best {
                *best = outcome;
            }
        }
    }
    (text, outcomes)
}

#[test]
fn what_each_effect_does_to_each_recording_is_exact() {
    let mut wrong = Vec::new();
    for recording in Recording::all() {
        let (got, _) = sheet(&recording);
        compare(&format!("wire/{}", recording.name), &got, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}\n{MEANT}", wrong.join("\n"));
}

/// Compares with the sheet of that name, or writes it.
fn compare(name: &str, got: &str, wrong: &mut Vec<String>) {
    let file = folder(&format!("{name}.txt"));
    if env::var_os("BROWNOUT_WRITE_MATRIX").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, got).unwrap();
    }
    let wanted = fs::read_to_string(&file).unwrap_or_default();
    if let Some((line, got, wanted)) = first_difference(got, &wanted) {
        wrong.push(format!("{}:{line}\n   is {got}\nwas {wanted}", file.display()));
    }
}

fn first_difference(got: &str, wanted: &str) -> Option<(usize, String, String)> {
    let (mut got, mut wanted) = (got.lines(), wanted.lines());
    for line in 1.. {
        match (got.next(), wanted.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => {
                let text = |line: Option<&str>| line.unwrap_or("(nothing)").to_owned();
                return Some((line, text(one), text(other)));
            }
        }
    }
    None
}

/// Each class of failure in a dialect's words.
fn failures(kind: &str) -> String {
    let dialect = dialect::by_kind(kind).unwrap();
    let mut text = format!("{kind}\n");
    for class in dialect::FAILURE_CLASSES.iter().chain(dialect::STORE_CLASSES) {
        let failure = Failure {
            class: Some(class),
            model: Some("some-model"),
            retry_after: Some(Duration::from_millis(6500)),
            id: 0x0123_4567_89ab_cdef,
            ..Failure::default()
        };
        if dialect.moment(&failure) == Moment::Never {
            continue;
        }
        let answer = dialect.failure(&failure);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{class}: {}", answer.status.as_u16());
        for (name, value) in &answer.headers {
            let _ = writeln!(text, "  {name}: {value}");
        }
        let _ = writeln!(text, "  {}", player::shown(&answer.body));
    }
    text
}

#[test]
fn what_each_kind_says_of_each_failure_is_exact() {
    let mut wrong = Vec::new();
    for kind in dialect::KINDS {
        if dialect::speaks_http(dialect::by_kind(kind).unwrap()) && *kind != "grpc" {
            compare(&format!("failures/{kind}"), &failures(kind), &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}\n{MEANT}", wrong.join("\n"));
}

#[test]
fn every_kind_has_a_recording() {
    let recorded: BTreeSet<String> = Recording::all().into_iter().map(|it| it.kind).collect();
    for kind in dialect::KINDS {
        let raw = !dialect::speaks_http(dialect::by_kind(kind).unwrap());
        let called = ["grpc", "auto"].contains(kind);
        assert!(raw || called || recorded.contains(*kind), "`{kind}` has no recording");
    }
}

/// What each effect does to each kind, best of its recordings: the page `docs/effects.md`.
#[test]
fn the_page_of_effects_is_up_to_date() {
    let mut kinds: BTreeMap<String, BTreeMap<&'static str, Outcome>> = BTreeMap::new();
    for recording in Recording::all() {
        let (_, outcomes) = sheet(&recording);
        let known = kinds.entry(recording.kind.clone()).or_default();
        for (effect, outcome) in outcomes {
            let best = known.entry(effect).or_insert_with(|| outcome.clone());
            if outcome > *best {
                *best = outcome;
            }
        }
    }
    let mut page = String::from(PAGE);
    for kind in KINDS {
        let mut works = Vec::new();
        let mut not: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, outcomes) in &kinds {
            match outcomes.get(kind.name) {
                Some(Outcome::Hit) => works.push(format!("`{name}`")),
                Some(Outcome::Impossible(reason)) => not.entry(reason).or_default().push(name),
                Some(Outcome::LetGo) | None => {}
            }
        }
        let works = match works.len() {
            0 => "below HTTP, whatever the kind".to_owned(),
            count if count == kinds.len() => "all kinds".to_owned(),
            _ => works.join(", "),
        };
        let not = not.iter().map(|(reason, kinds)| format!("{}: {reason}", kinds.join(", ")));
        let not = not.collect::<Vec<_>>().join("<br>");
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| [`{0}`](faults.md#{0}) | {works} | {not} |", kind.name);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/effects.md");
    if env::var_os("BROWNOUT_WRITE_MATRIX").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/effects.md is not up to date. {MEANT}");
}

#[test]
fn each_effect_acts_somewhere() {
    let mut acted: BTreeSet<&str> = BTreeSet::new();
    for recording in Recording::all() {
        let (_, outcomes) = sheet(&recording);
        acted.extend(outcomes.into_iter().filter(|(_, it)| *it == Outcome::Hit).map(|(it, _)| it));
    }
    for kind in KINDS {
        // They act below HTTP.
        let below = ["tls", "slow_close"].contains(&kind.name);
        assert!(below || acted.contains(kind.name), "`{}` acts on no recording", kind.name);
    }
}

/// The same answer, cut into other pieces on its way here, becomes the same bytes.
#[test]
fn the_same_seed_gives_the_same_bytes_however_the_answer_was_cut() {
    for recording in Recording::all() {
        for (effect, options) in
            variants::all().flat_map(|(effect, all)| all.into_iter().map(move |it| (effect, it)))
        {
            if variants::minds_pieces(effect, options) {
                continue;
            }
            let whole = play(&recording, effect, options, &[]);
            for cuts in [&[1][..], &[7, 1, 30], &[64]] {
                let cut = play(&recording, effect, options, cuts);
                assert_eq!(
                    cut.sent, whole.sent,
                    "{} {effect}: {options} cut by {cuts:?}",
                    recording.name
                );
            }
        }
    }
}

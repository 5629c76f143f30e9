//! `report.html`: offline, safe, readable by everybody, and honest.

use brownout::measure::record::{Quantiles, Record};
use brownout::report;
use proptest::prelude::*;

use super::markup::Element;
use super::samples;

/// The elements that the page is made of; anything else came from outside.
const ELEMENTS: [&str; 48] = [
    "document", "html", "head", "meta", "title", "style", "body", "main", "header", "section",
    "footer", "div", "p", "span", "strong", "small", "h1", "h2", "ul", "li", "a", "code", "pre",
    "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "desc",
    "defs", "pattern", "rect", "path", "g", "text", "tspan", "script", "circle", "line", "b",
    "button", "em", "i",
];

#[test]
fn nothing_is_fetched_and_no_foreign_text_becomes_markup() {
    for (name, record) in samples::all() {
        let html = report::html(&record);
        let page = Element::read(&html);
        for element in page.all() {
            assert!(ELEMENTS.contains(&element.name.as_str()), "{name}: <{}>", element.name);
            for (attribute, value) in &element.attributes {
                assert!(!attribute.starts_with("on"), "{name}: {attribute}");
                assert!(!matches!(attribute.as_str(), "src" | "srcset" | "style"), "{name}");
                if attribute == "href" {
                    assert!(value.starts_with("#line-"), "{name}: {value}");
                }
                if attribute == "fill" {
                    assert!(value.starts_with("url(#h"), "{name}: {value}");
                }
            }
        }
        assert_eq!(page.named("script").len(), 1, "{name}");
        let style = page.named("style")[0].words();
        assert!(!style.contains("url(") && !style.contains("@import"), "{name}");
        let script = page.named("script")[0].words();
        for call in ["fetch(", "XMLHttp", "import(", "innerHTML", "eval(", "WebSocket"] {
            assert!(!script.contains(call), "{name}: {call}");
        }
        let odd = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!html.contains(odd) && !html.contains('\u{202e}'), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_text_anywhere_stays_text(text in any::<String>(), markup in "[<>&\"'/ a-z=!-]{0,60}") {
        let mut record = samples::failing();
        record.name.clone_from(&markup);
        record.headline.clone_from(&text);
        record.source.text = format!("{markup}\n{text}");
        record.reproduce.clone_from(&markup);
        record.phases[1].name.clone_from(&markup);
        record.phases[1].faults = vec![text.clone(), markup.clone()];
        record.faults[0].name.clone_from(&text);
        record.errors[0].message.clone_from(&markup);
        record.lanes[0].dependency.clone_from(&markup);
        record.expectations[0].text.clone_from(&markup);
        record.dependencies[0].upstream = text;
        let page = Element::read(&report::html(&record));
        prop_assert!(page.all().iter().all(|it| ELEMENTS.contains(&it.name.as_str())));
        Element::read(&report::junit(&record));
        prop_assert!(report::terminal(&record, &report::Style::default()).contains("FAIL"));
        prop_assert!(report::markdown(&record).contains("FAIL"));
    }
}

#[test]
fn an_hour_fits_in_two_megabytes() {
    let html = report::html(&samples::hour());
    assert!(html.len() < 2_000_000, "{}", html.len());
    assert!(html.contains("Each row covers 6 s"));
    let mut wide = samples::hour();
    let model = wide.lanes[0].clone();
    wide.lanes = vec![model; 24];
    wide.source.text = "key: value # comment\n".repeat(100_000);
    let html = report::html(&wide);
    assert!(html.len() < 2_000_000, "{}", html.len());
    assert!(html.contains("The rest of the file is left out here."));
}

#[test]
fn the_first_screen_tells_the_story() {
    let page = Element::read(&report::html(&samples::failing()));
    let bar = page.named("header")[0].words();
    for words in ["✗", "FAIL", "rag-demo", "3 of 6 expectations failed", "375 requests", "seed 42"]
    {
        assert!(bar.contains(words), "{words} is missing in {bar}");
    }
    assert!(!bar.contains("partial"));
    let tiles = page.all().into_iter().find(|it| it.attribute("class") == Some("tiles")).unwrap();
    let tiles: Vec<String> = tiles.children.iter().map(Element::words).collect();
    assert_eq!(
        tiles,
        [
            "Success rate88.0 %100 % → 88.0 % → 92.7 % limit ≥ 95% during storm✗FAIL",
            "TTFT p955.20 s0.90 s → 5.20 s → 0.97 s limit ≤ 110% of baseline during recovery✓PASS",
            "Completeness98.3 %100 % → 98.3 % → 100 % limit ≥ 98% during storm✓PASS",
            "Retry amplification (llm)2.07×1.00× → 2.07× → 1.14× limit &#60; 1.5 during storm✗FAIL",
            "Time to recover21 srecovered limit &#60; 10s after storm✗FAIL",
        ]
    );
    let chart = page.named("svg")[0].words();
    assert!(chart.contains("time to recover 21 s (limit &#60; 10s) ✗"), "{chart}");
    for words in ["baseline", "storm: rate_limit 60/min", "limit ≥ 95%", "embeddings", "0:40"] {
        assert!(chart.contains(words), "{words}");
    }
}

#[test]
fn a_partial_run_says_so_in_the_bar() {
    let page = Element::read(&report::html(&samples::aborted()));
    let bar = page.named("header")[0].words();
    assert!(bar.contains("■") && bar.contains("ABORTED") && bar.contains("partial"), "{bar}");
    let html = report::html(&samples::aborted());
    assert!(html.contains("12 observations were dropped"));
    assert!(html.contains("send lag p99 was 48 ms"));
    // Nothing streams here: the tile and the panel tell the latency instead.
    assert!(html.contains("<h2>Latency p95</h2>") && !html.contains("<h2>TTFT p95</h2>"));
}

#[test]
fn a_fault_that_never_acted_is_told_first() {
    let html = report::html(&samples::inconclusive());
    // A reason of the verdict tells it in the bar; the doubts do not say it again.
    let bar = |record: &Record| Element::read(&report::html(record)).named("header")[0].words();
    assert!(bar(&samples::inconclusive()).contains("the fault `storm` hit nothing"));
    assert!(!html.contains("fault storm never acted"));
    let mut silent = samples::inconclusive();
    silent.reasons.clear();
    let told = report::html(&silent);
    assert!(told.contains("fault storm never acted: its `where` matched none"), "doubts");
    // What the table of expectations says is not said in the bar as well.
    assert!(!bar(&samples::failing()).contains("7.0 points under"));
    assert!(html.contains("class=\"mark inconclusive\""), "ledger");
}

#[test]
fn the_control_row_counts_what_no_fault_caused() {
    let control = |record: &Record| {
        let page = Element::read(&report::html(record));
        let row = page.all().into_iter().find(|it| it.attribute("class") == Some("control"));
        row.unwrap().children.iter().map(Element::words).collect::<Vec<_>>()
    };
    let row = control(&samples::failing());
    assert_eq!(row[1], "not caused by any injected fault");
    assert_eq!(
        (row[3].as_str(), row[4].as_str()),
        ("all of them after a fault first acted: its aftermath", "11")
    );
    let mut record = samples::failing();
    record.errors[0].phase = "baseline".into();
    record.errors[0].during_fault = false;
    assert!(control(&record)[3].starts_with("9 before any fault"));
    assert_eq!(control(&samples::passing())[4], "0");
    assert!(control(&samples::empty())[3].contains("no request was made"));
}

#[test]
fn numbers_are_honest() {
    for (name, record) in samples::all() {
        let page = Element::read(&report::html(&record));
        let body = page.named("main")[0].words().to_lowercase();
        for wrong in [" nan", "inf ", "null", "infinity"] {
            assert!(!body.contains(wrong), "{name}: {wrong}");
        }
        for cell in page.named("td") {
            if cell.attribute("class") == Some("n") && cell.words() == "–" {
                assert_ne!(cell.attribute("title"), Some("n = 0"), "{name}");
            }
        }
    }
    let mut record = samples::failing();
    record.phases[0].ttft = Quantiles {
        p50: Some(9.0),
        p95: Some(9.0),
        p99: Some(9.0),
        max: Some(1.5),
        n: 7,
        ..Quantiles::default()
    };
    let html = report::html(&record);
    assert!(!html.contains("9.00 s"), "a percentile above the maximum");
    assert!(html.contains("title=\"n = 7\">1.50 s"), "n stands in the title");
}

#[test]
fn everybody_can_read_it() {
    for (name, record) in samples::all() {
        let page = Element::read(&report::html(&record));
        assert_eq!(page.named("html")[0].attribute("lang"), Some("en"));
        for svg in page.named("svg") {
            let hidden = svg.attribute("aria-hidden") == Some("true");
            let told = svg.children.iter().any(|it| it.name == "title")
                && svg.children.iter().any(|it| it.name == "desc" && !it.text.is_empty());
            assert!(hidden || told, "{name}: a drawing without words");
        }
        if !page.named("svg").is_empty() {
            assert!(page.all().iter().any(|it| it.attribute("id") == Some("seconds")), "{name}");
        }
        for table in page.named("table") {
            assert_eq!(table.children[0].name, "caption", "{name}");
            assert!(!table.children[0].text.is_empty(), "{name}");
            let scoped = |it: &&Element| matches!(it.attribute("scope"), Some("col" | "row"));
            assert!(table.named("th").iter().all(scoped), "{name}: a header without scope");
            for row in table.named("tbody")[0].children.iter() {
                assert!(row.children.iter().any(|it| it.name == "th"), "{name}: a nameless row");
                let columns = table.named("thead")[0].children[0].children.len();
                assert_eq!(row.children.len(), columns, "{name}: {}", row.words());
            }
        }
        let mut ids: Vec<&str> = page.all().iter().filter_map(|it| it.attribute("id")).collect();
        let total = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), total, "{name}: an id twice");
    }
}

#[test]
fn text_stands_out_from_its_ground() {
    let css = include_str!("../../../templates/report/style.css");
    let themes: Vec<&str> = css.split(":root{").skip(1).collect();
    assert_eq!(themes.len(), 2, "light and dark");
    for theme in themes {
        let color = |name: &str| {
            let start = theme.find(&format!("--{name}:#")).unwrap() + name.len() + 4;
            let hex: String = theme[start..].chars().take_while(char::is_ascii_hexdigit).collect();
            let hex = if hex.len() == 3 { hex.chars().flat_map(|c| [c, c]).collect() } else { hex };
            luminance(u32::from_str_radix(&hex, 16).unwrap())
        };
        for ground in ["card", "bg", "faint"] {
            for ink in ["ink", "soft", "link", "fail", "pass", "open", "stop"] {
                let ratio = contrast(color(ink), color(ground));
                assert!(ratio >= 4.5, "{ink} on {ground}: {ratio:.2}");
            }
            for mark in ["f0", "f1", "f2", "f3", "f4", "f5", "blue", "rust", "plum"] {
                let ratio = contrast(color(mark), color(ground));
                assert!(ratio >= 3.0, "{mark} on {ground}: {ratio:.2}");
            }
        }
    }
}

fn luminance(rgb: u32) -> f64 {
    let part = |shift: u32| {
        let value = f64::from(rgb >> shift & 255) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(16) + 0.7152 * part(8) + 0.0722 * part(0)
}

fn contrast(a: f64, b: f64) -> f64 {
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn a_line_of_the_file_is_found_from_its_expectation() {
    let page = Element::read(&report::html(&samples::failing()));
    for link in page.named("a") {
        let id = link.attribute("href").unwrap().trim_start_matches('#');
        let line = page.all().into_iter().find(|it| it.attribute("id") == Some(id)).unwrap();
        assert!(line.words().contains("  - "), "{id}: {}", line.words());
    }
    assert!(!page.named("a").is_empty());
}

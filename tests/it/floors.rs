//! Holds the stacking of the modules: a module uses lower floors only, and files stay short.

use std::fs;
use std::path::{Path, PathBuf};

/// Each floor may use the ones above it in this list, never its own neighbours or those below.
const FLOORS: &[&[&str]] = &[
    &["units", "dice", "exchange"],
    &["wire"],
    &["dialect"],
    &["fault"],
    &["engine", "workload", "measure"],
    &["net"],
    &["proxy", "load", "sim", "demo", "verdict", "report"],
    &["config"],
    &["experiment", "admin"],
    &["cli"],
];

/// Neighbours on a floor that may look at each other, with the reason.
const SIDEWAYS: &[(&str, &str)] = &[
    // An exchange is keyed by the hash that decisions are drawn from.
    ("exchange", "dice"),
    // The engine and the planes hand their observations to the measures.
    ("engine", "measure"),
    // A run serves the admin API while it lasts.
    ("experiment", "admin"),
];

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found
}

#[test]
fn modules_use_lower_floors_only() {
    let mut wrong = Vec::new();
    for file in sources() {
        let relative = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let own = floor_of(module).unwrap_or_else(|| panic!("`{module}` has no floor"));
        let text = fs::read_to_string(&file).unwrap();
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        for (number, line) in text[..tests].lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let names = used
                    .strip_prefix('{')
                    .map_or_else(|| vec![used], |list| list.split(',').map(str::trim).collect());
                for name in names {
                    let used =
                        name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                    let Some(floor) = floor_of(used) else { continue };
                    let allowed =
                        used == module || floor < own || SIDEWAYS.contains(&(module, used));
                    if !allowed {
                        wrong.push(format!("{}:{} uses {used}", relative.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "modules may use lower floors only:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > 500)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "a file has at most 500 lines:\n{}", long.join("\n"));
}

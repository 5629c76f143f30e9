//! The reusable profiles in `faults/`: each is a fault that loads, says what it mimics, and has a
//! name of its own; each kind of fault has one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use brownout::fault::{EffectSpecs, KINDS};
use serde_json::{Map, Value};

/// Keys of a profile besides its effects.
const KEYS: &[&str] = &["where", "percent", "sticky", "when"];
const WHERE: &[&str] = &["path", "method", "header", "model", "stream", "operation", "user"];

/// Folder, name and text of each profile.
fn profiles() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults");
    let mut found = Vec::new();
    for folder in fs::read_dir(root).unwrap() {
        let folder = folder.unwrap().path();
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert_eq!(file.extension().and_then(|end| end.to_str()), Some("yaml"), "{file:?}");
            found.push((name(&folder), name(&file), fs::read_to_string(&file).unwrap()));
        }
    }
    found.sort();
    found
}

/// The effect keys of a profile as YAML reads them.
fn effects(text: &str) -> Map<String, Value> {
    let fault: Map<String, Value> = serde_yaml::from_str(text).unwrap();
    fault.into_iter().filter(|(key, _)| !KEYS.contains(&key.as_str())).collect()
}

#[test]
fn each_profile_loads_and_builds() {
    let all = profiles();
    assert!(all.len() >= 20, "{} profiles", all.len());
    for (folder, name, text) in all {
        let fault: Map<String, Value> =
            serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{folder}/{name}: {error}"));
        let selects = fault.get("where").and_then(Value::as_object).cloned().unwrap_or_default();
        for key in selects.keys() {
            assert!(WHERE.contains(&key.as_str()), "{folder}/{name}: `where` has no `{key}`");
        }
        let effects: EffectSpecs = serde_json::from_value(effects(&text).into())
            .unwrap_or_else(|error| panic!("{folder}/{name}: {error}"));
        let built = effects.build();
        assert!(!built.is_empty(), "{folder}/{name} does nothing");
        for (effect, result) in built {
            if let Err(error) = result {
                panic!("{folder}/{name}: {effect}: {error}");
            }
        }
    }
}

#[test]
fn each_profile_says_what_it_mimics_and_what_a_good_app_does() {
    for (folder, name, text) in profiles() {
        let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(comment.len() >= 3, "{folder}/{name} begins with a comment");
        assert!(comment.iter().any(|line| line.contains("A good app")), "{folder}/{name}");
        for line in &comment {
            assert!(line.len() <= 105, "{folder}/{name}: {line}");
        }
    }
}

#[test]
fn names_are_unique_without_their_folder() {
    let mut folders = BTreeMap::new();
    for (folder, name, _) in profiles() {
        if let Some(other) = folders.insert(name.clone(), folder.clone()) {
            panic!("`{name}` is in `{folder}` and in `{other}`");
        }
    }
    assert_eq!(folders.get("brownout").map(String::as_str), Some("vector_db"));
}

#[test]
fn each_kind_has_a_profile() {
    let used: BTreeSet<String> = profiles()
        .iter()
        .flat_map(|(_, _, text)| effects(text).into_iter().map(|(k, _)| k))
        .collect();
    for kind in KINDS {
        assert!(used.contains(kind.name), "no profile uses `{}`", kind.name);
    }
}

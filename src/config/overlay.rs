//! Lays one tree over another: `--profile NAME` and `--set a.b.c=value`.

use super::diagnostic::{Collector, Mistake, nearest};
use super::mask::setting_shown;
use super::place::{Place, SourceKind, Sources};
use super::tree::{Entry, Node, Value, parse};

/// Lays `over` on `base`: maps are merged, phases are merged by their names, anything else is
/// replaced; `null` takes a key away.
pub(super) fn merge(base: &mut Node, over: Node, found: &mut Collector) {
    merge_at(base, over, "", found);
}

fn merge_at(base: &mut Node, over: Node, key: &str, found: &mut Collector) {
    match (&mut base.value, over.value) {
        (Value::Map(below), Value::Map(above)) => {
            for entry in above {
                let at = below.iter().position(|other| other.key == entry.key);
                match (at, &entry.value.value) {
                    (Some(at), Value::Null) => {
                        below.remove(at);
                    }
                    (None, Value::Null) => {}
                    (Some(at), _) => {
                        let other = &mut below[at];
                        if !matches!(
                            (&other.value.value, &entry.value.value),
                            (Value::Map(_), Value::Map(_))
                        ) {
                            other.key_place = entry.key_place;
                        }
                        merge_at(&mut other.value, entry.value, &entry.key, found);
                    }
                    (None, _) => below.push(entry),
                }
            }
        }
        (Value::List(below), Value::List(above))
            if key == "phases" && above.iter().all(|phase| name_of(phase).is_some()) =>
        {
            for phase in above {
                let name = name_of(&phase).unwrap_or_default().to_owned();
                match below.iter_mut().find(|other| name_of(other) == Some(&name)) {
                    Some(other) => merge_at(other, phase, "", found),
                    None => found.error(no_such_phase(&name, phase.place, below)),
                }
            }
        }
        (_, value) => *base = Node { value, ..over },
    }
}

fn name_of(phase: &Node) -> Option<&str> {
    phase.get("name").and_then(Node::text)
}

fn no_such_phase(name: &str, place: Place, phases: &[Node]) -> Mistake {
    Mistake::at(place, format!("there is no phase `{name}` to change")).meant(
        name,
        "phases",
        phases.iter().filter_map(name_of),
    )
}

/// Carries out `--set a.b.c=value`.
pub(super) fn set(root: &mut Node, text: &str, sources: &mut Sources, found: &mut Collector) {
    let name = format!("--set {}", setting_shown(text));
    let Some((path, value)) = text.split_once('=') else {
        let source = sources.add(&name, text, SourceKind::Setting);
        let place = sources.at_offset(source, 0);
        found.error(
            Mistake::at(place, format!("`{name}` lacks a value"))
                .label("write --set faults.storm.percent=50"),
        );
        return;
    };
    let source = sources.add(&name, value, SourceKind::Setting);
    let place = sources.at_offset(source, 0);
    let keys: Vec<&str> = path.trim().split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        let text = format!("`{path}` is no path of keys; write for example faults.storm.percent");
        found.error(Mistake::at(place, text));
        return;
    }
    match parse(sources, source, value) {
        Ok(node) => {
            if let Err(mistake) = put(root, &keys, node, place) {
                found.error(mistake);
            }
        }
        Err(mistake) => found.error(Mistake { place: Some(place), ..*mistake }),
    }
}

fn put(node: &mut Node, keys: &[&str], value: Node, place: Place) -> Result<(), Mistake> {
    let Some((key, rest)) = keys.split_first() else {
        *node = value;
        return Ok(());
    };
    match &mut node.value {
        Value::Map(entries) => {
            if rest.is_empty() && value.value == Value::Null {
                entries.retain(|entry| entry.key != *key);
                return Ok(());
            }
            let at = match entries.iter().position(|entry| entry.key == *key) {
                Some(at) => at,
                None => {
                    let value = Node::new(Value::Map(Vec::new()), place);
                    entries.push(Entry { key: (*key).to_owned(), key_place: place, value });
                    entries.len() - 1
                }
            };
            if rest.is_empty() {
                entries[at].key_place = place;
            }
            put(&mut entries[at].value, rest, value, place)
        }
        Value::List(items) => {
            let at = match key.parse::<usize>() {
                Ok(at) => Some(at).filter(|at| *at < items.len()),
                Err(_) => items.iter().position(|item| name_of(item) == Some(*key)),
            };
            match at {
                Some(at) => put(&mut items[at], rest, value, place),
                None => {
                    let names: Vec<&str> = items.iter().filter_map(name_of).collect();
                    let near = nearest(key, names.iter().copied());
                    let text = format!("the list has no item `{key}`");
                    let mistake = Mistake::at(place, text);
                    Err(match near {
                        Some(near) => mistake.label(format!("did you mean `{near}`?")),
                        None if names.is_empty() => {
                            mistake.label(format!("it has {} items, from 0", items.len()))
                        }
                        None => mistake.hint(format!("there are: {}", names.join(", "))),
                    })
                }
            }
        }
        Value::Null => {
            *node = Node::new(Value::Map(Vec::new()), place);
            put(node, keys, value, place)
        }
        _ => {
            let what = node.described();
            Err(Mistake::at(place, format!("`{key}` cannot be set inside {what}")))
        }
    }
}

//! A value in a JSON body, found by a JSONPath (RFC 9535) whose cost has an end.

use std::fmt;

use serde_json::Value;
use serde_json_path::JsonPath;

use super::super::pattern::Pattern;
use crate::units::Bounds;

/// The longest path, in bytes.
const LONGEST: usize = 200;

/// What a path is to find.
#[derive(Clone, Debug)]
pub struct Probe {
    path: JsonPath,
    wanted: Wanted,
}

/// What one of the values found must be.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// This boolean or `null`.
    Equal(Value),
    /// A number within limits.
    Number(Bounds),
    /// A text or a number that is written so; `*` also fits lists and maps.
    Text(Pattern),
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPath(String);

/// Reads a path. Each node of the body may be visited a few times, never once for each other node:
/// so `..`, filters and lists of selectors may each stand there once.
pub fn json_path(text: &str) -> Result<JsonPath, BadPath> {
    let text = text.trim();
    let several = |what: &str, most: usize| text.matches(what).count() > most;
    if text.len() > LONGEST {
        return Err(BadPath(format!("it has {} bytes, and {LONGEST} are allowed", text.len())));
    }
    for (what, most, name) in [
        ("..", 1, "`..` stands in it more than once"),
        ("?", 1, "it has more than one filter"),
        (",", 1, "it has more than one `,`"),
        ("$", 1, "`$` stands in it more than once"),
    ] {
        if several(what, most) {
            return Err(BadPath(format!("{name}, which could cost too much on each request")));
        }
    }
    for function in ["match(", "search("] {
        if text.contains(function) {
            return Err(BadPath(format!(
                "`{function})` is not to be had in a path; give the value a pattern instead"
            )));
        }
    }
    JsonPath::parse(text).map_err(|error| BadPath(error.to_string()))
}

impl Probe {
    pub fn new(path: JsonPath, wanted: Wanted) -> Self {
        Self { path, wanted }
    }

    /// Whether the body has such a value; a body that is no JSON has none.
    pub(super) fn fits(&self, body: Option<&Value>) -> bool {
        let Some(body) = body else { return false };
        self.path.query(body).all().into_iter().any(|value| self.wanted.fits(value))
    }
}

impl Wanted {
    fn fits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Equal(wanted), value) => wanted == value,
            (Self::Number(bounds), Value::Number(number)) => {
                number.as_f64().is_some_and(|number| bounds.hold(number))
            }
            (Self::Number(_), _) => false,
            (Self::Text(pattern), Value::String(text)) => pattern.fits(text),
            (Self::Text(pattern), Value::Number(number)) => pattern.fits(&number.to_string()),
            (Self::Text(pattern), Value::Bool(value)) => {
                pattern.fits(if *value { "true" } else { "false" })
            }
            (Self::Text(pattern), Value::Array(_) | Value::Object(_)) => is_anything(pattern),
            (Self::Text(_), Value::Null) => false,
        }
    }
}

fn is_anything(pattern: &Pattern) -> bool {
    matches!(pattern, Pattern::Glob(glob) if glob.text() == "*")
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wanted {
            Wanted::Equal(value) => write!(f, "{} is {value}", self.path),
            Wanted::Number(bounds) => write!(f, "{} is {bounds}", self.path),
            Wanted::Text(pattern) => write!(f, "{} is {pattern}", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    fn fits(path: &str, wanted: Wanted, body: &Value) -> bool {
        Probe::new(json_path(path).unwrap(), wanted).fits(Some(body))
    }

    fn glob(text: &str) -> Wanted {
        Wanted::Text(Pattern::glob(text).unwrap())
    }

    #[test]
    fn values_are_what_is_wanted() {
        let body = json!({
            "metadata": { "tier": "gold", "n": 4100, "beta": true, "gone": null },
            "messages": [{ "role": "system" }, { "role": "user" }],
        });
        assert!(fits("$.metadata.tier", glob("gold"), &body));
        assert!(!fits("$.metadata.tier", glob("silver"), &body));
        assert!(fits("$.metadata.n", Wanted::Number("> 4000".parse().unwrap()), &body));
        assert!(!fits("$.metadata.tier", Wanted::Number("> 4000".parse().unwrap()), &body));
        assert!(fits("$.metadata.beta", Wanted::Equal(json!(true)), &body));
        assert!(fits("$.metadata.gone", Wanted::Equal(json!(null)), &body));
        assert!(!fits("$.metadata.gone", glob("*"), &body), "null is nothing");
        assert!(fits("$.messages[*].role", glob("user"), &body), "any of them");
        assert!(fits("$.messages", glob("*"), &body) && !fits("$.nothing", glob("*"), &body));
        assert!(fits("$..[?@.role == 'system']", glob("*"), &body));
        assert!(!Probe::new(json_path("$.a").unwrap(), glob("*")).fits(None));
    }

    #[test]
    fn paths_that_could_cost_too_much_are_refused() {
        for text in [
            "$..a..b",
            "$[?@.a][?@.b]",
            "$[*,*][*,*][*,*]",
            "$[*][?count($[*]) > 1]",
            "$[?match(@.a, 'x')]",
        ] {
            assert!(json_path(text).is_err(), "{text}");
        }
        assert!(json_path(&format!("$.{}", "a".repeat(300))).is_err());
        assert!(json_path("metadata.tier").is_err());
    }

    #[test]
    fn the_dearest_path_on_the_largest_body_ends_soon() {
        let body = json!({ "a": vec![json!({ "b": [1, 2, 3] }); 50_000] });
        let begun = Instant::now();
        for path in ["$..*", "$..[?@.b[1] == 2]", "$..[?count(@.*) > 3]", "$[*,*][*][*][*]"] {
            fits(path, glob("nowhere"), &body);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

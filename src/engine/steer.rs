//! What a request asks of faults by its own headers, where the file lets it (`safety.steer_by_header`):
//! `x-brownout-fault: NAME` asks for a fault, `x-brownout-skip: 1` keeps all of them off. They are for
//! brownout alone and go no further.

use http::HeaderMap;

use super::Rule;
use super::selector::Aspect;

/// Asks for faults by their names: those with `opt_in` act on no other requests.
const ASKS: &str = "x-brownout-fault";
/// Keeps faults off: `1` all of them, else those named.
const SKIPS: &str = "x-brownout-skip";

/// What a request asks of faults.
#[derive(Debug)]
pub(super) struct Steer<'a> {
    asked: Vec<&'a str>,
    skipped: Vec<&'a str>,
}

impl<'a> Steer<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        Self { asked: words(headers, ASKS), skipped: words(headers, SKIPS) }
    }

    /// Why a fault may not act.
    pub(super) fn bars(&self, rule: &Rule) -> Option<Aspect> {
        let names = |words: &[&str]| words.iter().any(|word| *word == &*rule.name);
        let all = self.skipped.iter().any(|word| matches!(*word, "1" | "true" | "all" | "*"));
        if all || names(&self.skipped) {
            return Some(Aspect::Skip);
        }
        (rule.opt_in && !names(&self.asked)).then_some(Aspect::OptIn)
    }
}

/// The words of all lines of a header.
fn words<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty()).collect()
}

/// Takes off what is for brownout alone; true when there was any.
pub fn strip(headers: &mut HeaderMap) -> bool {
    let asked = headers.remove(ASKS).is_some();
    headers.remove(SKIPS).is_some() || asked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(lines: &[(&'static str, &str)], opt_in: bool) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Steer::of(&headers)
            .bars(&Rule { name: "storm".into(), opt_in, ..Rule::default() })
            .map(Aspect::name)
    }

    #[test]
    fn requests_ask_for_faults_and_keep_them_off() {
        assert_eq!(bars(&[], false), None);
        assert_eq!(bars(&[], true), Some("opt_in"));
        assert_eq!(bars(&[("x-brownout-fault", "other")], true), Some("opt_in"));
        assert_eq!(bars(&[("x-brownout-fault", "other, storm")], true), None);
        let twice = [("x-brownout-fault", "other"), ("x-brownout-fault", "storm")];
        assert_eq!(bars(&twice, true), None);
        for all in ["1", "true", "all"] {
            assert_eq!(bars(&[("x-brownout-skip", all)], false), Some("x-brownout-skip"));
        }
        assert_eq!(bars(&[("x-brownout-skip", "storm")], false), Some("x-brownout-skip"));
        assert_eq!(bars(&[("x-brownout-skip", "other")], false), None);
        let both = [("x-brownout-fault", "storm"), ("x-brownout-skip", "1")];
        assert_eq!(bars(&both, true), Some("x-brownout-skip"), "off is stronger");
    }
}

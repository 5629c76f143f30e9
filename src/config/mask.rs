//! Hides credentials that stand in the file itself, so that neither a snippet nor the copy of the
//! file in a report shows them.

use super::place::Sources;
use super::tree::Node;
use crate::load::without_keys;

/// Whether a header or key of this name holds a credential. Counts of tokens and the time to the
/// first one are none.
pub(super) fn is_credential(header: &str) -> bool {
    let name = header.to_lowercase();
    let token = name.contains("token") && !name.contains("tokens") && !name.contains("first_token");
    token
        || ["authorization", "cookie", "api-key", "apikey", "api_key", "secret", "password"]
            .iter()
            .any(|word| name.contains(word))
}

/// A `PATH=VALUE` of the command line as others may see it.
pub(crate) fn setting_shown(setting: &str) -> String {
    let Some((path, value)) = setting.split_once('=') else { return without_keys(setting) };
    let word = |c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_');
    let names = path.rsplit('.').next().into_iter().chain(match value.trim_start() {
        map if map.starts_with(['{', '[']) => map.split(word),
        _ => "".split(word),
    });
    match names.into_iter().any(is_credential) {
        true => format!("{path}=…"),
        false => format!("{path}={}", without_keys(value)),
    }
}

/// The stretches of the main text that no one else may see, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Mask {
    stretches: Vec<(usize, usize)>,
}

impl Mask {
    /// Finds credentials: sensitive headers' values, and passwords in URLs, wherever they stand.
    pub(super) fn of(root: &Node, sources: &Sources) -> Self {
        let mut mask = Self::default();
        mask.walk(root, false, sources);
        mask.stretches.sort_unstable();
        mask
    }

    fn walk(&mut self, node: &Node, credential: bool, sources: &Sources) {
        for item in node.items() {
            self.walk(item, credential, sources);
        }
        for entry in node.entries() {
            self.walk(&entry.value, is_credential(&entry.key), sources);
        }
        if node.place.source != 0 || !node.entries().is_empty() || !node.items().is_empty() {
            return;
        }
        let (start, written) = (node.place.start as usize, sources.slice(node.place));
        if credential && node.text().is_some() && !written.contains("${") && !written.is_empty() {
            self.stretches.push((start, start + written.len()));
        } else if let Some((from, to)) = userinfo(written) {
            self.stretches.push((start + from, start + to));
        }
    }

    /// The main text, or a part that begins at `from`, with what is hidden shown as asterisks.
    pub(super) fn apply(&self, text: &str, from: usize) -> String {
        let hidden = |at: usize| {
            self.stretches.iter().any(|(start, end)| (*start..*end).contains(&(from + at)))
        };
        text.char_indices()
            .map(|(at, c)| if !c.is_whitespace() && hidden(at) { '*' } else { c })
            .collect()
    }
}

/// Where `user:password` stands in a URL.
fn userinfo(text: &str) -> Option<(usize, usize)> {
    let begin = text.find("://")? + 3;
    let rest = &text[begin..];
    let authority = &rest[..rest.find(['/', '?', '#', ' ']).unwrap_or(rest.len())];
    let end = authority.rfind('@')?;
    (!authority[..end].contains("${")).then_some((begin, begin + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_names() {
        for name in ["Authorization", "x-api-key", "X-Auth-Token", "session_token", "Cookie"] {
            assert!(is_credential(name), "{name}");
        }
        for name in [
            "time_to_first_token",
            "first_token_timeout",
            "tokens_per_second",
            "max_tokens",
            "name",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn settings_show_no_credentials() {
        for (setting, shown) in [
            ("faults.cut.percent=50", "faults.cut.percent=50"),
            ("a.headers.x-token=Zx81", "a.headers.x-token=…"),
            ("a.headers={authorization: Bearer x}", "a.headers=…"),
            ("a.b=sk-abcdefgh", "a.b=sk-…"),
            ("workload.app=http://u:pw@host/x", "workload.app=http://…@host/x"),
            (
                "faults.slow.slow_stream.time_to_first_token=+3s",
                "faults.slow.slow_stream.time_to_first_token=+3s",
            ),
        ] {
            assert_eq!(setting_shown(setting), shown);
        }
    }
}

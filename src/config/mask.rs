//! Hides credentials that stand in the file itself, so that neither a snippet nor the copy of the
//! file in a report shows them.

use super::place::Sources;
use super::tree::Node;

/// Whether a header of this name holds a credential.
pub(super) fn is_credential(header: &str) -> bool {
    let name = header.to_lowercase();
    ["authorization", "cookie", "api-key", "apikey", "api_key", "token", "secret", "password"]
        .iter()
        .any(|word| name.contains(word))
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

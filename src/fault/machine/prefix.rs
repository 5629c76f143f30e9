//! What of a prompt has been read before, as a prefix cache knows it: block by block from the start.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dice::hash_bytes;

/// Bytes of a request's body that stand for one block of tokens (16 tokens of 4 bytes, the block of
/// vLLM).
const BLOCK: usize = 64;
/// Tokens in a block.
const TOKENS: u64 = 16;

/// A prompt to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::fault) struct Prompt {
    pub(in crate::fault) tokens: u32,
    /// A hash of each block and all before it.
    pub(in crate::fault) blocks: Arc<[u64]>,
}

impl Prompt {
    /// The blocks of a request's body.
    pub(in crate::fault) fn blocks_of(body: &[u8]) -> Arc<[u64]> {
        let chain = |so_far: &mut u64, block: &[u8]| {
            *so_far = so_far.rotate_left(23) ^ hash_bytes(block);
            Some(*so_far)
        };
        body.chunks(BLOCK).scan(0, chain).collect()
    }
}

/// What has been read before.
#[derive(Clone, Debug)]
pub(in crate::fault) enum PrefixCache {
    /// So much of every prompt, 0 to 1.
    Share(f64),
    Blocks(Blocks),
}

/// Blocks read before; the ones that were used least lately are forgotten.
#[derive(Clone, Debug)]
pub(in crate::fault) struct Blocks {
    most: usize,
    used: HashMap<u64, u64>,
    reads: u64,
}

impl PrefixCache {
    pub(in crate::fault) fn of_tokens(tokens: u64) -> Self {
        let most = usize::try_from(tokens / TOKENS).unwrap_or(usize::MAX).max(1);
        Self::Blocks(Blocks { most, used: HashMap::new(), reads: 0 })
    }

    /// Reads a prompt and says which share of it was known.
    pub(super) fn read(&mut self, prompt: &Prompt) -> f64 {
        match self {
            Self::Share(share) => *share,
            Self::Blocks(blocks) => blocks.read(&prompt.blocks),
        }
    }
}

impl Blocks {
    fn read(&mut self, blocks: &[u64]) -> f64 {
        if blocks.is_empty() {
            return 0.0;
        }
        let known = blocks.iter().take_while(|block| self.used.contains_key(*block)).count();
        self.reads += 1;
        self.used.extend(blocks.iter().map(|block| (*block, self.reads)));
        if self.used.len() > self.most {
            self.forget();
        }
        known as f64 / blocks.len() as f64
    }

    /// Forgets an eighth more than must be, so that a full cache costs little for each prompt.
    fn forget(&mut self) {
        let keep = self.most - self.most / 8;
        let mut by_use: Vec<(u64, u64)> =
            self.used.iter().map(|(block, use_)| (*use_, *block)).collect();
        by_use.sort_unstable();
        let over = by_use.len().saturating_sub(keep);
        for (_, block) in &by_use[..over] {
            self.used.remove(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_alike_is_known_and_what_was_used_least_is_forgotten() {
        let mut cache = PrefixCache::of_tokens(160);
        let prompt =
            |text: &str| Prompt { tokens: 100, blocks: Prompt::blocks_of(text.as_bytes()) };
        let (system, other) = ("s".repeat(256), "o".repeat(256));
        let read = |cache: &mut PrefixCache, text: &str| cache.read(&prompt(text));
        assert_eq!(read(&mut cache, &system), 0.0);
        let longer = format!("{system}{}", "q".repeat(256));
        assert_eq!(read(&mut cache, &longer), 0.5, "the first half was read before");
        assert_eq!(read(&mut cache, &longer), 1.0);
        assert_eq!(read(&mut cache, &format!("x{system}")), 0.0, "another start");
        read(&mut cache, &other);
        assert!(read(&mut cache, &longer) < 1.0, "ten blocks hold no more");
        assert_eq!(PrefixCache::Share(0.6).read(&prompt("a")), 0.6);
    }
}

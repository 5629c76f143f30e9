//! Counts how often each key was seen, in bounded memory.

use std::collections::HashMap;
use std::mem;

use crate::exchange::ExchangeKey;

/// Keys that are remembered for certain; up to twice as many are.
const REMEMBERED: usize = 512 * 1024;

/// How often each key of each dependency was seen. When a generation is full, the one before it is
/// forgotten: a key not seen for half a million others counts from 0 again.
#[derive(Debug, Default)]
pub(super) struct Ordinals {
    young: HashMap<(usize, ExchangeKey), u32>,
    old: HashMap<(usize, ExchangeKey), u32>,
}

impl Ordinals {
    /// How often the key was seen before, counted up by this call.
    pub(super) fn next(&mut self, dependency: usize, key: ExchangeKey) -> u32 {
        self.next_within(REMEMBERED, dependency, key)
    }

    fn next_within(&mut self, most: usize, dependency: usize, key: ExchangeKey) -> u32 {
        let place = (dependency, key);
        if let Some(seen) = self.young.get_mut(&place) {
            let ordinal = *seen;
            *seen = seen.saturating_add(1);
            return ordinal;
        }
        let ordinal = self.old.get(&place).copied().unwrap_or(0);
        if self.young.len() >= most {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(place, ordinal.saturating_add(1));
        ordinal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_count_up_by_dependency() {
        let mut ordinals = Ordinals::default();
        let key = ExchangeKey(7);
        let counted: Vec<u32> = (0..3).map(|_| ordinals.next(0, key)).collect();
        assert_eq!(counted, [0, 1, 2]);
        assert_eq!((ordinals.next(1, key), ordinals.next(0, ExchangeKey(8))), (0, 0));
    }

    #[test]
    fn memory_is_bounded_and_recent_keys_stay() {
        let mut ordinals = Ordinals::default();
        for number in 0..1000 {
            ordinals.next_within(10, 0, ExchangeKey(number));
            assert!(ordinals.young.len() + ordinals.old.len() <= 21);
        }
        assert_eq!(ordinals.next_within(10, 0, ExchangeKey(999)), 1);
        assert_eq!(ordinals.next_within(10, 0, ExchangeKey(0)), 0, "forgotten");
    }
}

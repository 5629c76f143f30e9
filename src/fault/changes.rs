//! How much of a body an effect changed, told from what went in and what came out: pieces left out,
//! put in, or altered. Held and regrouped bytes are no change.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::exchange::Item;

/// Pieces that are waited for; beyond, the oldest count as left out.
const MOST_OWED: usize = 1024;

/// Bytes and pieces changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    pub bytes: u64,
    /// Events, or pieces of a body that is no stream of events.
    pub events: u64,
}

/// The books of one effect.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// What went in and has not come out, the oldest first.
    owed: VecDeque<Bytes>,
    changed: Changed,
    /// The effect counts for itself.
    told: bool,
}

impl Changes {
    /// So far; what is still owed has not been left out yet.
    pub(super) fn so_far(&self) -> Changed {
        self.changed
    }

    /// The effect says what it changed; from now on only its own word counts.
    pub(super) fn tell(&mut self, changed: Changed) {
        if !self.told {
            *self = Self { told: true, ..Self::default() };
        }
        self.changed.bytes += changed.bytes;
        self.changed.events += changed.events;
    }

    /// A piece that the effect is shown.
    pub(super) fn went_in(&mut self, item: &Item) {
        if self.told {
            return;
        }
        if self.owed.len() >= MOST_OWED {
            self.leave_out(1);
        }
        self.owed.push_back(bytes_of(item).clone());
    }

    /// A piece that it sends.
    pub(super) fn came_out(&mut self, item: &Item) {
        let mut sent = bytes_of(item).clone();
        if self.told || sent.is_empty() {
            return;
        }
        if let Some(place) = self.owed.iter().position(|owed| begins(owed, &sent)) {
            self.leave_out(place);
        } else if !self.follows(&sent) {
            return self.altered(&sent);
        }
        while let Some(owed) = self.owed.front_mut().filter(|_| !sent.is_empty()) {
            let both = owed.len().min(sent.len());
            if owed[..both] != sent[..both] {
                return self.altered(&sent);
            }
            owed.advance(both);
            sent.advance(both);
            if owed.is_empty() {
                self.owed.pop_front();
            }
        }
        if !sent.is_empty() {
            self.add(sent.len());
        }
    }

    /// Whether it is the bytes that are owed next.
    fn follows(&self, sent: &Bytes) -> bool {
        self.owed.front().is_some_and(|owed| owed.first() == sent.first())
    }

    /// Nothing more comes out.
    pub(super) fn ends(&mut self) {
        self.leave_out(self.owed.len());
    }

    fn leave_out(&mut self, pieces: usize) {
        for piece in self.owed.drain(..pieces) {
            self.changed.events += 1;
            self.changed.bytes += piece.len() as u64;
        }
    }

    /// Something else in the place of the oldest piece, or beside it.
    fn altered(&mut self, sent: &Bytes) {
        let Some(owed) = self.owed.pop_front() else { return self.add(sent.len()) };
        let start = owed.iter().zip(sent).take_while(|(a, b)| a == b).count();
        let (owed, sent) = (&owed[start..], &sent[start..]);
        let end = owed.iter().rev().zip(sent.iter().rev()).take_while(|(a, b)| a == b).count();
        self.add(owed.len().max(sent.len()) - end);
    }

    fn add(&mut self, bytes: usize) {
        self.changed.events += 1;
        self.changed.bytes += bytes as u64;
    }
}

/// The bytes that tell a piece: those of the wire, or its payload where a codec frames it later.
fn bytes_of(item: &Item) -> &Bytes {
    match item {
        Item::Event(event) if event.raw.is_empty() => &event.data,
        item => item.raw(),
    }
}

/// Whether `sent` is the very memory that `owed` begins with.
fn begins(owed: &Bytes, sent: &Bytes) -> bool {
    !owed.is_empty() && owed.as_ptr() == sent.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: &Bytes) -> Item {
        Item::Bytes(bytes.clone())
    }

    fn pieces(count: usize) -> Vec<Bytes> {
        (0..count).map(|number| Bytes::from(format!("piece {number};"))).collect()
    }

    fn changed(bytes: u64, events: u64) -> Changed {
        Changed { bytes, events }
    }

    #[test]
    fn held_cut_and_joined_pieces_are_no_change() {
        let all = pieces(4);
        let mut changes = Changes::default();
        all.iter().for_each(|piece| changes.went_in(&item(piece)));
        changes.came_out(&item(&all[0].slice(..3)));
        changes.came_out(&item(&all[0].slice(3..)));
        let joined = Bytes::from([&all[1][..], &all[2], &all[3]].concat());
        changes.came_out(&item(&joined));
        changes.ends();
        assert_eq!(changes.so_far(), Changed::default());
    }

    #[test]
    fn what_is_left_out_put_in_or_altered_is_counted() {
        let all = pieces(4);
        let mut changes = Changes::default();
        changes.went_in(&item(&all[0]));
        changes.went_in(&item(&all[1]));
        changes.came_out(&item(&all[1]));
        assert_eq!(changes.so_far(), changed(8, 1), "the first was left out");
        changes.came_out(&item(&all[1]));
        assert_eq!(changes.so_far(), changed(16, 2), "the second came twice");
        changes.went_in(&item(&all[2]));
        changes.came_out(&item(&Bytes::from_static(b"piece X;")));
        assert_eq!(changes.so_far(), changed(17, 3), "one byte of the third");
        changes.went_in(&item(&all[3]));
        changes.ends();
        assert_eq!(changes.so_far(), changed(25, 4), "the fourth never came");
    }

    #[test]
    fn an_effects_own_word_counts_alone() {
        let all = pieces(2);
        let mut changes = Changes::default();
        changes.went_in(&item(&all[0]));
        changes.tell(changed(3, 1));
        changes.ends();
        changes.came_out(&item(&all[1]));
        assert_eq!(changes.so_far(), changed(3, 1));
    }

    proptest::proptest! {
        #[test]
        fn any_cutting_of_the_same_bytes_is_no_change(
            body in proptest::collection::vec(0u8..4, 1..60),
            into in proptest::collection::vec(1usize..9, 1..30),
            out in proptest::collection::vec(1usize..9, 1..30),
        ) {
            let cut = |sizes: &[usize]| {
                let (mut left, mut list, mut sizes) = (&body[..], Vec::new(), sizes.iter().cycle());
                while !left.is_empty() {
                    let (piece, rest) = left.split_at((*sizes.next().unwrap()).min(left.len()));
                    list.push(Item::Bytes(Bytes::copy_from_slice(piece)));
                    left = rest;
                }
                list
            };
            let mut changes = Changes::default();
            cut(&into).iter().for_each(|piece| changes.went_in(piece));
            cut(&out).iter().for_each(|piece| changes.came_out(piece));
            changes.ends();
            proptest::prop_assert_eq!(changes.so_far(), Changed::default());
        }
    }
}

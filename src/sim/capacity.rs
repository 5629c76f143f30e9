//! What a simulated machine can do at once: slots, and a line in front of them that is served in
//! order. A slot is free again the moment its holder is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots and the line in front of them.
#[derive(Debug)]
pub(super) struct Capacity {
    slots: Arc<Semaphore>,
    size: usize,
    queue_limit: usize,
    waiting: AtomicUsize,
    admitted: AtomicU64,
    refused: AtomicU64,
}

/// A place at the machine; dropping it lets the next in line in.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// The line was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// How busy a simulated dependency is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Requests worked on.
    pub busy: usize,
    /// Requests waiting in line.
    pub waiting: usize,
    /// Requests that got a slot since the start.
    pub admitted: u64,
    /// Requests turned away because the line was full.
    pub refused: u64,
}

impl Capacity {
    pub(super) fn new(slots: usize, queue_limit: usize) -> Self {
        let size = slots.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(size)),
            size,
            queue_limit,
            waiting: AtomicUsize::new(0),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Takes a slot, waiting in line for it; [`Full`] when the line is at its limit.
    pub(super) async fn enter(&self) -> Result<Slot, Full> {
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.queue().await?,
        };
        self.admitted.fetch_add(1, Relaxed);
        Ok(Slot { _permit: permit })
    }

    async fn queue(&self) -> Result<OwnedSemaphorePermit, Full> {
        let place = Place::take(&self.waiting);
        if place.ahead >= self.queue_limit {
            self.refused.fetch_add(1, Relaxed);
            return Err(Full);
        }
        // The semaphore is never closed, so a failure cannot come; to refuse is the safe reading.
        Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Full)
    }

    pub(super) fn load(&self) -> Load {
        Load {
            busy: self.size - self.slots.available_permits(),
            waiting: self.waiting.load(Relaxed),
            admitted: self.admitted.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}

/// A place in line, given up when dropped: a client that hangs up does not hold it.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    ahead: usize,
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, ahead: waiting.fetch_add(1, Relaxed) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_line_is_served_in_order_and_has_an_end() {
        let capacity = Arc::new(Capacity::new(1, 2));
        let first = capacity.enter().await.unwrap();
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let waiters: Vec<_> = (0..2)
            .map(|number| {
                let (capacity, order) = (Arc::clone(&capacity), Arc::clone(&order));
                tokio::spawn(async move {
                    let _slot = capacity.enter().await.unwrap();
                    order.lock().push(number);
                })
            })
            .collect();
        while capacity.load().waiting < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(capacity.enter().await.unwrap_err(), Full);
        assert_eq!(capacity.load(), Load { busy: 1, waiting: 2, admitted: 1, refused: 1 });
        drop(first);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*order.lock(), [0, 1]);
        assert_eq!(capacity.load(), Load { busy: 0, waiting: 0, admitted: 3, refused: 1 });
    }

    #[tokio::test]
    async fn whoever_leaves_the_line_gives_up_the_place() {
        let capacity = Arc::new(Capacity::new(1, 1));
        let _first = capacity.enter().await.unwrap();
        let waiter = tokio::spawn({
            let capacity = Arc::clone(&capacity);
            async move { capacity.enter().await.map(drop) }
        });
        while capacity.load().waiting < 1 {
            tokio::task::yield_now().await;
        }
        waiter.abort();
        let _ = waiter.await;
        assert_eq!(capacity.load().waiting, 0);
    }
}

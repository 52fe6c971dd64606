//! Where a shard keeps its objects: numbered slots that stay where they are, and queues through them.

use std::sync::Arc;

use super::{object::Object, purge::Mark};

/// What a shard knows of an object without looking at it.
pub(super) struct Slot<M> {
    /// `None` while nobody has it.
    pub(super) object: Option<Arc<Object<M>>>,
    /// The high half of the hash.
    pub(super) hash: u64,
    /// Seconds since 1970.
    pub(super) used: u32,
    pub(super) mark: Mark,
    /// Hits since it came into its queue, up to three.
    pub(super) hits: u8,
    pub(super) queue: Which,
    before: u32,
    /// In a queue, the one towards its end. Of a free slot, the next free one.
    behind: u32,
}

/// The queue an object is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Probation,
    Main,
}

/// Pages of slots: growing moves nothing, and takes no more than a page too much.
pub(super) struct Slots<M> {
    pages: Vec<Box<[Slot<M>]>>,
    free: u32,
}

impl<M> Slots<M> {
    pub(super) fn new() -> Self {
        Self {
            pages: Vec::new(),
            free: NONE,
        }
    }

    /// All there are, free ones included.
    pub(super) fn len(&self) -> u32 {
        (self.pages.len() * PAGE) as u32
    }

    pub(super) fn at(&self, number: u32) -> &Slot<M> {
        &self.pages[number as usize / PAGE][number as usize % PAGE]
    }

    pub(super) fn at_mut(&mut self, number: u32) -> &mut Slot<M> {
        &mut self.pages[number as usize / PAGE][number as usize % PAGE]
    }

    /// The number of a slot that nobody has.
    pub(super) fn acquire(&mut self) -> u32 {
        if self.free == NONE {
            self.grow();
        }
        let number = self.free;
        self.free = self.at(number).behind;
        number
    }

    fn grow(&mut self) {
        let first = self.len();
        let next = |number: u32| {
            if number as usize % PAGE + 1 == PAGE {
                NONE
            } else {
                number + 1
            }
        };
        let page = (first..first + PAGE as u32).map(|number| Slot::free(next(number)));
        self.pages.push(page.collect());
        self.free = first;
    }

    /// Leaves a slot to others. It must not be in a queue.
    pub(super) fn release(&mut self, number: u32) {
        *self.at_mut(number) = Slot::free(self.free);
        self.free = number;
    }
}

impl<M> Slot<M> {
    fn free(behind: u32) -> Self {
        Self {
            object: None,
            hash: 0,
            used: 0,
            mark: Mark::default(),
            hits: 0,
            queue: Which::Probation,
            before: NONE,
            behind,
        }
    }
}

/// First in, first out, but whoever is in it may leave at any time.
pub(super) struct Queue {
    first: u32,
    last: u32,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }

    /// The one that is to leave next.
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn push<M>(&mut self, slots: &mut Slots<M>, number: u32) {
        let slot = slots.at_mut(number);
        (slot.before, slot.behind) = (self.last, NONE);
        match self.last {
            NONE => self.first = number,
            last => slots.at_mut(last).behind = number,
        }
        self.last = number;
    }

    pub(super) fn remove<M>(&mut self, slots: &mut Slots<M>, number: u32) {
        let slot = slots.at(number);
        let (before, behind) = (slot.before, slot.behind);
        match before {
            NONE => self.first = behind,
            before => slots.at_mut(before).behind = behind,
        }
        match behind {
            NONE => self.last = before,
            behind => slots.at_mut(behind).before = before,
        }
    }
}

/// Slots of a page.
const PAGE: usize = 16;
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(slots: &Slots<()>, queue: &Queue) -> Vec<u32> {
        let mut order = Vec::new();
        let mut at = queue.first;
        while at != NONE {
            order.push(at);
            at = slots.at(at).behind;
        }
        order
    }

    #[test]
    fn a_queue_keeps_its_order_when_the_first_the_last_and_one_between_leave() {
        let mut slots = Slots::new();
        let mut queue = Queue::new();
        let numbers: Vec<_> = (0..5).map(|_| slots.acquire()).collect();
        for number in &numbers {
            queue.push(&mut slots, *number);
        }
        assert_eq!(order(&slots, &queue), numbers);
        for leaving in [0, 4, 2] {
            queue.remove(&mut slots, numbers[leaving]);
        }
        assert_eq!(order(&slots, &queue), [numbers[1], numbers[3]]);
        queue.push(&mut slots, numbers[0]);
        assert_eq!(queue.first(), Some(numbers[1]));
        for number in [numbers[1], numbers[3], numbers[0]] {
            queue.remove(&mut slots, number);
        }
        assert_eq!(queue.first(), None);
    }

    #[test]
    fn released_slots_are_used_again_before_there_are_more() {
        let mut slots = Slots::<()>::new();
        let numbers: Vec<_> = (0..PAGE).map(|_| slots.acquire()).collect();
        slots.release(numbers[7]);
        assert_eq!(slots.acquire(), numbers[7]);
        assert_eq!(slots.len() as usize, PAGE);
        slots.acquire();
        assert_eq!(slots.len() as usize, 2 * PAGE);
    }
}

//! Remembers who left lately, in eight bytes each.

/// Hashes of objects that were evicted on probation, with when that was, counted in evictions.
///
/// A newer one takes the place of an older one with the same low bits. What is forgotten too early costs
/// one more probation, nothing else.
pub(super) struct Ghost {
    cells: Box<[Cell]>,
    clock: u32,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    hash: u32,
    /// Zero: empty.
    left: u32,
}

impl Ghost {
    pub(super) fn new() -> Self {
        Self {
            cells: Box::default(),
            clock: 0,
        }
    }

    /// Notes that one has left a shard that has so many others.
    pub(super) fn note(&mut self, hash: u64, others: usize) {
        if others > self.cells.len() {
            self.grow(others);
        }
        self.clock = self.clock.wrapping_add(1).max(1);
        let cell = Cell {
            hash: hash as u32,
            left: self.clock,
        };
        self.put(cell);
    }

    /// Whether this one left not long ago: as many evictions as there are objects, at most.
    pub(super) fn forget(&mut self, hash: u64, others: usize) -> bool {
        let Some(place) = self.place(hash as u32) else {
            return false;
        };
        let cell = self.cells[place];
        if cell.left == 0 || cell.hash != hash as u32 {
            return false;
        }
        self.cells[place] = Cell::default();
        (self.clock.wrapping_sub(cell.left) as usize) < others.max(FEWEST)
    }

    fn grow(&mut self, others: usize) {
        let length = others.next_power_of_two().max(FEWEST);
        let old = std::mem::replace(&mut self.cells, vec![Cell::default(); length].into());
        for cell in old.iter().filter(|cell| cell.left != 0) {
            self.put(*cell);
        }
    }

    fn put(&mut self, cell: Cell) {
        if let Some(place) = self.place(cell.hash) {
            self.cells[place] = cell;
        }
    }

    fn place(&self, hash: u32) -> Option<usize> {
        Some(hash as usize & self.cells.len().checked_sub(1)?)
    }
}

const FEWEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_left_lately_is_known_once_and_who_left_long_ago_is_not() {
        let mut ghost = Ghost::new();
        assert!(!ghost.forget(1, 100));
        ghost.note(1, 100);
        assert!(ghost.forget(1, 100));
        assert!(!ghost.forget(1, 100));
        ghost.note(1, 100);
        for other in 0..200 {
            ghost.note(2 + 128 * other, 100);
        }
        assert!(!ghost.forget(1, 100));
    }
}

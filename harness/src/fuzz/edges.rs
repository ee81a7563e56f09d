//! How many of the guest's edges were reached, for whoever watches a run:
//! libFuzzer's own number counts an edge once for each class of counts.

use std::time::{Duration, Instant};

use latefork_vmm::layout::{COVERAGE_MAP, COVERAGE_SIZE};
use latefork_vmm::memory::{GuestRam, MemoryError};

/// Between two lines.
const PAUSE: Duration = Duration::from_millis(500);

/// The edges that any program reached.
#[derive(Debug)]
pub(super) struct Edges {
    /// 1 for each cell of the map that was ever counted.
    seen: Vec<u8>,
    /// The map after the last program.
    map: Vec<u8>,
    reached: usize,
    told: Option<(Instant, usize)>,
}

impl Default for Edges {
    fn default() -> Self {
        Self {
            seen: vec![0; COVERAGE_SIZE],
            map: vec![0; COVERAGE_SIZE],
            reached: 0,
            told: None,
        }
    }
}

impl Edges {
    /// Takes in what the last program reached; says how many there are, if that
    /// has changed and the last time is a while ago.
    pub(super) fn look(&mut self, ram: &GuestRam) -> Result<(), MemoryError> {
        ram.read(COVERAGE_MAP, &mut self.map)?;
        self.add();
        let due = self
            .told
            .is_none_or(|(when, count)| count != self.reached && when.elapsed() >= PAUSE);
        if due {
            self.tell();
        }
        Ok(())
    }

    fn add(&mut self) {
        for (seen, cell) in self.seen.iter_mut().zip(&self.map) {
            *seen |= u8::from(*cell != 0);
        }
        self.reached = self.seen.iter().map(|seen| usize::from(*seen)).sum();
    }

    fn tell(&mut self) {
        eprintln!("latefork: edges {}", self.reached);
        self.told = Some((Instant::now(), self.reached));
    }
}

impl Drop for Edges {
    fn drop(&mut self) {
        if self.told.is_some_and(|(_, count)| count != self.reached) {
            self.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_counts_once_however_often_and_by_whom_it_is_reached() {
        let mut edges = Edges::default();
        for (cell, count) in [(7, 1), (7, 200), (9, 1)] {
            edges.map.fill(0);
            edges.map[cell] = count;
            edges.add();
        }
        assert_eq!(edges.reached, 2);
    }
}

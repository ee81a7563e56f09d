//! Which pages KVM watches for writes, and which it lets the guest write freely.
//!
//! KVM learns of a write by a fault: the page is write-protected after each
//! look at the log, and the guest's first write leaves it. A guest that starts
//! from one moment again and again writes much the same pages each time, so
//! that these faults would be nine of ten exits. A page that is written often is
//! therefore left unprotected (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2): its bit stays
//! set in the log, and a restore copies it whether it was written or not, which
//! costs less than the fault.
//!
//! What is often changes with the programs, so all pages are watched again now
//! and then.

/// Looks at the log after which all pages are watched again.
const PERIOD: u32 = 512;
/// A page counts as often written after so many looks that showed it, ...
const LEAST: u8 = 4;
/// ... if that is at least one of so many. A fault costs at least as much as
/// this many copies of a page.
const ONE_OF: u32 = 4;

/// The pages of one slot.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Pages that are not watched: a bit each, page 0 first.
    free: Vec<u64>,
    /// In how many looks of this period a page was seen.
    seen: Vec<u8>,
    /// Looks in this period.
    looks: u32,
}

impl Watched {
    /// Takes in a look at the log. What stays in `log` are the pages that are
    /// to be watched again; says whether there are any.
    pub(super) fn look(&mut self, log: &mut [u64]) -> bool {
        self.free.resize(log.len(), 0);
        self.seen.resize(log.len() * 64, 0);
        self.looks += 1;
        if self.looks > PERIOD {
            // Every page of the log, the free ones too, is watched again.
            self.free.fill(0);
            self.seen.fill(0);
            self.looks = 1;
        }
        let mut any = false;
        for (index, word) in log.iter_mut().enumerate() {
            *word &= !self.free[index];
            let mut rest = *word;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                let seen = &mut self.seen[index * 64 + bit as usize];
                *seen = seen.saturating_add(1);
                if *seen >= LEAST && u32::from(*seen) * ONE_OF >= self.looks {
                    self.free[index] |= 1 << bit;
                    *word &= !(1 << bit);
                }
            }
            any |= *word != 0;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pages that are watched again after a look that shows `pages`.
    fn look(watched: &mut Watched, pages: &[usize]) -> Vec<usize> {
        let mut log = [0_u64; 2];
        pages
            .iter()
            .for_each(|page| log[page / 64] |= 1 << (page % 64));
        let any = watched.look(&mut log);
        let left: Vec<usize> = (0..128)
            .filter(|page| log[page / 64] >> (page % 64) & 1 == 1)
            .collect();
        assert_eq!(any, !left.is_empty());
        left
    }

    #[test]
    fn a_page_that_is_written_each_time_is_watched_no_longer() {
        let mut watched = Watched::default();
        for _ in 1..LEAST {
            assert_eq!(look(&mut watched, &[3, 70]), [3, 70]);
        }
        // From now on the log shows it always, as nobody clears it.
        assert_eq!(look(&mut watched, &[3]), [0; 0]);
        assert_eq!(look(&mut watched, &[3, 70]), [0; 0]);
        assert_eq!(look(&mut watched, &[3, 70, 71]), [71]);
    }

    #[test]
    fn a_page_that_is_seldom_written_stays_watched() {
        let mut watched = Watched::default();
        for turn in 0..PERIOD {
            let seldom = turn % (ONE_OF + 1) == ONE_OF;
            let pages: &[usize] = if seldom { &[9] } else { &[] };
            assert_eq!(look(&mut watched, pages), pages, "look {turn}");
        }
    }

    #[test]
    fn after_a_period_every_page_is_watched_again() {
        let mut watched = Watched::default();
        for _ in 0..PERIOD {
            look(&mut watched, &[5]);
        }
        assert_eq!(look(&mut watched, &[5, 6]), [5, 6]);
    }
}

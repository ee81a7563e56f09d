//! The kernel's own account of async calls: how each ended, as the guest kernel
//! counts it in its event block (`uapi/linux/harness.h`).

use latefork_wire::trace::Detail;

use crate::shared::{ROW_WORDS, Reporter, get, set, shared};
use crate::sys;
use crate::victim::{PR_HARNESS, PR_HARNESS_READ};

/// Bytes of the coverage map, which lies before the event block.
const MAP_BYTES: u32 = 0x1_0000;
/// Bytes of a descriptor's row: 32 ways, 4 outcomes each.
const ROW_BYTES: u32 = 128;
/// HARNESS_HOW_SYNC: the call did not sleep.
const SYNC: u32 = 2;

/// Reports what grew in the row of descriptor `index`.
pub fn look(reporter: Reporter, index: u32) {
    let Some((now, before)) = read(index).zip(shared().counted.get(index as usize)) else {
        return;
    };
    for (word, (now, before)) in now.iter().zip(before).enumerate() {
        let old = get(before);
        if *now == old {
            continue;
        }
        set(before, *now);
        let how = word as u32;
        if how == SYNC {
            continue;
        }
        for outcome in 0..4 {
            let byte = |word: u32| word >> (8 * outcome) & 0xff;
            let count = byte(*now).saturating_sub(byte(old));
            if count > 0 {
                let cell = index * ROW_BYTES + how * 4 + outcome;
                reporter.report(Detail::Kernel {
                    cell,
                    count,
                    how,
                    outcome,
                });
            }
        }
    }
}

/// Takes what the kernel has counted so far as what is known: nothing of an
/// earlier program becomes this one's.
pub fn forget() {
    for (index, row) in shared().counted.iter().enumerate() {
        for (word, now) in row.iter().zip(read(index as u32).unwrap_or_default()) {
            set(word, now);
        }
    }
}

/// A row; `None` where the kernel has no such block.
fn read(index: u32) -> Option<[u32; ROW_WORDS]> {
    let mut row = [0_u32; ROW_WORDS];
    let room = row.as_mut_ptr() as u32;
    let offset = MAP_BYTES + index * ROW_BYTES;
    let read = sys::prctl(&[PR_HARNESS, PR_HARNESS_READ, room, offset, ROW_BYTES]);
    (read == 0).then_some(row)
}

//! The kernel's own account of async calls: how each ended, as the guest kernel
//! counts it in its event block (`uapi/linux/harness.h`).

use latefork_wire::trace::Detail;

use crate::kernel;
use crate::shared::{ROW_WORDS, Reporter, get, set, shared};

/// Bytes of the coverage map, which lies before the event block.
const MAP_BYTES: u32 = 0x1_0000;
/// Bytes of a descriptor's row: 32 ways, 4 outcomes each.
const ROW_BYTES: u32 = 128;
/// HARNESS_HOW_SYNC: the call did not sleep.
const SYNC: u32 = 2;

/// Reports what grew in the row of descriptor `index`. Only a call that was more
/// than synchronous is worth a look: the kernel shows the number of those.
pub fn look(reporter: Reporter, index: u32) {
    let events = kernel::events();
    if let Some((now, looked)) = events.zip(shared().looked.get(index as usize)) {
        if now == get(looked) {
            return;
        }
        set(looked, now);
    }
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
    for looked in &shared().looked {
        set(looked, kernel::events().unwrap_or_default());
    }
    for (index, row) in shared().counted.iter().enumerate() {
        for (word, now) in row.iter().zip(read(index as u32).unwrap_or_default()) {
            set(word, now);
        }
    }
}

/// A row; `None` where the kernel has no such block.
fn read(index: u32) -> Option<[u32; ROW_WORDS]> {
    let mut row = [0_u32; ROW_WORDS];
    kernel::read_blocks(&mut row, MAP_BYTES + index * ROW_BYTES).then_some(row)
}

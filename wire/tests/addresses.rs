//! Pointer classes: the addresses that they become, and what lies there.

use latefork_wire::Field;
use latefork_wire::layout::{CALLS, EDGES, KERNEL_START, PAGE, SLOTS, slot, slot_of};
use latefork_wire::op::{OpIndex, Thread};
use latefork_wire::resolve::{Ground, Owner, Resolved, Role, address, ground};
use latefork_wire::value::{Place, Pointer};
use proptest::prelude::*;

struct Others;

impl Resolved for Others {
    fn status_of(&self, op: OpIndex) -> u32 {
        slot_of(op.number()) + slot::STATUS
    }

    fn args_of(&self, op: OpIndex) -> u32 {
        slot_of(op.number()) + slot::ARGS
    }
}

fn resolve(place: Place, param: u8, op: u8, role: Role) -> u32 {
    let owner = Owner {
        op: OpIndex::new(op),
        thread: Thread::new(1),
        role,
    };
    address(Pointer::new(place, param), owner, &Others)
}

const ROLES: [Role; 3] = [Role::Status, Role::Args, Role::Buffer];

proptest! {
    /// A class means what it says, whatever its parameter.
    #[test]
    fn classes_keep_their_promise(param in any::<u8>(), op in 0_u8..64, role in 0_usize..3) {
        let role = ROLES[role];
        let at = |place| ground(resolve(place, param, op, role));
        let own = resolve(Place::Own, 0, op, role);
        for place in [Place::Own, Place::Unaligned, Place::Shared, Place::OverArgs, Place::Stack] {
            prop_assert_eq!(at(place), Ground::Plain);
        }
        for place in [Place::Null, Place::Kernel, Place::Unmapped, Place::Wrap] {
            prop_assert_eq!(at(place), Ground::Nothing);
        }
        prop_assert_eq!(at(Place::ReadOnly), Ground::View(own));
        prop_assert_eq!(at(Place::WriteOnly), Ground::View(own));
        prop_assert_eq!(at(Place::Slot), Ground::Map);
        let slow = matches!(at(Place::Slow), Ground::Slow { .. });
        prop_assert!(slow);
        let seam = resolve(Place::SlowSeam, param, op, role);
        prop_assert_eq!(ground(seam), Ground::Plain);
        let beyond = matches!(ground(seam + 32), Ground::Slow { .. });
        prop_assert!(beyond);
        prop_assert!(resolve(Place::KernelSeam, param, op, role) < KERNEL_START);
        prop_assert!(resolve(Place::KernelSeam, param, op, role) + 256 >= KERNEL_START);
    }

    /// The parameter of an edge pointer is how many bytes fit, less 1.
    #[test]
    fn edge_leaves_so_many_bytes(param in any::<u8>(), op in 0_u8..64, role in 0_usize..3) {
        let start = resolve(Place::Edge, param, op, ROLES[role]);
        prop_assert_eq!(ground(start + u32::from(param)), Ground::Plain);
        prop_assert_eq!(ground(start + u32::from(param) + 1), Ground::Nothing);
        prop_assert_eq!((start + u32::from(param) + 1 - EDGES) % PAGE, 0);
    }

    /// No class reaches the agent's own memory.
    #[test]
    fn no_pointer_reaches_the_agent(bytes in any::<[u8; 2]>(), op in 0_u8..64) {
        let pointer = Pointer::get(&bytes);
        for role in ROLES {
            let found = resolve(pointer.place, pointer.param, op, role);
            prop_assert!(!(0x0804_8000..0x0900_0000).contains(&found));
            prop_assert!(!(0x2100_0000..0x2108_0000).contains(&found));
        }
    }
}

#[test]
fn slots_hold_their_parts_without_overlap() {
    let parts = [
        (slot::CONTINUATIONS, 4),
        (slot::LATCH, 4),
        (slot::CARRY, 4),
        (slot::SECOND, 4),
        (slot::RESULT, 4),
        (slot::FLAGS, 4),
        (slot::STATUS_CANARY, 16),
        (slot::STATUS, 4),
        (slot::STATUS_TAIL, 12),
        (slot::ARGS_CANARY, 8),
        (slot::ARGS, 32),
        (slot::ARGS_TAIL, 8),
        (slot::BUFFER_CANARY, 16),
        (slot::BUFFER, slot::BUFFER_BYTES),
        (slot::BUFFER_TAIL, 16),
        (slot::X87, 108),
        (slot::REGISTERS, 60),
    ];
    for pair in parts.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
    }
    const { assert!(slot::REGISTERS + 60 <= 512) };
    assert_eq!(slot_of(63) + 512, CALLS + SLOTS * 512);
}

//! New steps and set-ups, with what each target prefers.

use arbitrary::{Result, Unstructured};
use latefork_wire::Record;
use latefork_wire::op::{Op, OpCode, PAYLOAD, PrivilegeCase, Thread};
use latefork_wire::program::{HEADER, Setup, Step};

use super::call;

/// What a target's programs are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// Pointers of every class, and pages that come and go under a call.
    HostileArgs,
    /// Calls through the call itself.
    Nested,
    /// Limits, privileges and allocations that fail.
    CloneFailure,
    /// Signals, ends, images and tracers under a worker.
    Lifecycle,
    /// All of it.
    Everything,
}

/// Operations that every target needs: calls, what they wait for, what ends
/// the wait.
const COMMON: &[OpCode] = &[
    OpCode::Async,
    OpCode::Async,
    OpCode::Async,
    OpCode::Create,
    OpCode::Feed,
    OpCode::Fuse,
    OpCode::AwaitHeld,
    OpCode::AwaitStatus,
    OpCode::Sleep,
];

impl Bias {
    /// The operations that the target is about.
    const fn favourites(self) -> &'static [OpCode] {
        match self {
            Self::HostileArgs => &[
                OpCode::Map,
                OpCode::Protect,
                OpCode::Unmap,
                OpCode::Discard,
                OpCode::Poke,
                OpCode::Touch,
            ],
            Self::Nested => &[OpCode::Prepare, OpCode::Prepare, OpCode::Poke],
            Self::CloneFailure => &[
                OpCode::Privilege,
                OpCode::Rlimit,
                OpCode::KernelLimit,
                OpCode::Fault,
                OpCode::Send,
                OpCode::Spawn,
            ],
            Self::Lifecycle => &[
                OpCode::Handle,
                OpCode::Send,
                OpCode::Mask,
                OpCode::AltStack,
                OpCode::Timer,
                OpCode::Fork,
                OpCode::Wait,
                OpCode::Exec,
                OpCode::Exit,
                OpCode::ExitGroup,
                OpCode::Ptrace,
                OpCode::Unmap,
                OpCode::AwaitWorker,
                OpCode::Arm,
            ],
            Self::Everything => OpCode::ALL,
        }
    }

    /// How many of 16 pointers lie anywhere.
    pub(super) const fn hostility(self) -> u8 {
        match self {
            Self::HostileArgs => 8,
            Self::Nested | Self::Everything => 3,
            Self::CloneFailure | Self::Lifecycle => 1,
        }
    }

    /// How many of 16 calls go through the call itself.
    pub(super) const fn nesting(self) -> u8 {
        match self {
            Self::Nested => 8,
            Self::Everything => 2,
            Self::HostileArgs | Self::CloneFailure | Self::Lifecycle => 1,
        }
    }

    /// How many of 16 calls have a point at which they fail.
    pub(super) const fn failures(self) -> u8 {
        match self {
            Self::CloneFailure => 8,
            Self::Everything => 2,
            Self::HostileArgs | Self::Nested | Self::Lifecycle => 1,
        }
    }

    /// A new step for place `at`.
    pub(super) fn step(self, at: usize, chance: &mut Unstructured<'_>) -> Result<Step> {
        let codes = match chance.int_in_range(0..=7)? {
            0..=3 => COMMON,
            4..=6 => self.favourites(),
            _ => OpCode::ALL,
        };
        let code = *chance.choose(codes)?;
        let mut payload = [0; PAYLOAD];
        chance.fill_buffer(&mut payload)?;
        // Small numbers mean more than large ones: counts, ticks, slots.
        if chance.arbitrary()? {
            payload.iter_mut().for_each(|byte| *byte %= 8);
        }
        let mut op = Op::decode(code as u8, &payload);
        if let Some(call) = call::of_mut(&mut op) {
            *call = call::any(self, at, chance)?;
        }
        let thread = if chance.ratio(3, 4)? { 0 } else { 3 };
        let thread = Thread::new(chance.int_in_range(0..=thread)?);
        Ok(Step { thread, op })
    }

    /// Changes one part of the set-up.
    pub(super) fn setup(self, setup: &mut Setup, chance: &mut Unstructured<'_>) -> Result<()> {
        if self == Self::CloneFailure && chance.arbitrary()? {
            // A limit near the few tasks that a program has.
            setup.nproc = chance.int_in_range(0..=8)?;
            setup.privilege = *chance.choose(PrivilegeCase::ALL)?;
            return Ok(());
        }
        let mut bytes = [0; HEADER - 1];
        setup.put(&mut bytes);
        let place = chance.choose_index(Setup::SIZE)?;
        bytes[place] = chance.arbitrary()?;
        *setup = Setup::get(&bytes);
        Ok(())
    }
}

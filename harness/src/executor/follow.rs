//! Following a program's calls from outside, on the software engine: a
//! breakpoint at the entry of `async` in the kernel, where a call's schedule
//! begins to count and where its cells begin to be watched.
//!
//! Breakpoints and watches stop the machine between two instructions and change
//! nothing in the guest: a followed run retires the same instructions as one
//! that is not. A schedule does change the run: the same in every replay.

use latefork_cpu::{Cpu, Instructions, LinearAddr, WatchKind, WatchRange};
use latefork_vmm::engine::Access;
use latefork_vmm::machine::Machine;
use latefork_wire::call::DESCRIPTORS;
use latefork_wire::layout::{CALLS, CALLS_BYTES, KERNEL_START, SLOT};
use latefork_wire::op::Op;
use latefork_wire::program::Program;
use latefork_wire::resolve::{Ground, ground};
use vm_memory::GuestAddress;

/// Offsets of registers in Linux's `struct pt_regs` of i386
/// (arch/x86/include/asm/ptrace.h).
const BX: u32 = 0;
const DX: u32 = 8;
const SI: u32 = 12;
const BP: u32 = 20;
/// EAX, in which the kernel passes a first argument (-mregparm=3).
const EAX: usize = 0;
/// Most arguments that the kernel passes on.
const MOST_ARGUMENTS: u8 = 6;
/// Accesses that are kept of one run: a flood of calls says no more.
const MOST_ACCESSES: usize = 4096;

/// What is watched besides the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// Nothing.
    Nothing,
    /// Which words of argument blocks the kernel reads, and which statuses it
    /// writes. Costs an exit for each access.
    Cells,
}

/// One access of the kernel to a call's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellAccess {
    /// The operation whose cells these are.
    pub op: u8,
    /// Which cell.
    pub cell: Cell,
}

/// What the kernel accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// It read the argument block, from this byte on: a word, or less where the
    /// kernel copies byte by byte.
    Argument(u8),
    /// It wrote the status.
    Status,
}

/// A watch on cells of an operation.
#[derive(Clone, Copy, Debug)]
struct CellWatch {
    number: u32,
    op: u8,
    /// First byte of the argument block; `None` where this is the status.
    args: Option<u32>,
}

/// Follows the calls of one run.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    program: &'a Program,
    entry: LinearAddr,
    watching: Watching,
    /// Operations that were entered, as bits.
    entered: u64,
    /// Points that lie ahead, in retired instructions since power-on.
    due: Vec<u64>,
    watches: Vec<CellWatch>,
    accesses: Vec<CellAccess>,
}

impl<'a> Follower<'a> {
    /// Begins to follow; `None` where there is nothing to be done, or the
    /// engine cannot.
    pub(super) fn start(
        machine: &mut Machine,
        program: &'a Program,
        entry: Option<LinearAddr>,
        watching: Watching,
    ) -> Option<Self> {
        if program.schedule.is_empty() && watching == Watching::Nothing {
            return None;
        }
        let entry = entry?;
        machine.engine_mut().soft()?.add_breakpoint(entry);
        Some(Self {
            program,
            entry,
            watching,
            entered: 0,
            due: Vec::new(),
            watches: Vec::new(),
            accesses: Vec::new(),
        })
    }

    /// Takes away what was set; gives what was seen.
    pub(super) fn stop(self, machine: &mut Machine) -> Vec<CellAccess> {
        if let Some(cpu) = machine.engine_mut().soft() {
            cpu.remove_breakpoint(self.entry);
            for watch in &self.watches {
                cpu.remove_watch(watch.number);
            }
        }
        machine.set_schedule(&[]);
        self.accesses
    }

    /// The machine stopped before the instruction at `address`.
    pub(super) fn at_breakpoint(&mut self, machine: &mut Machine, address: LinearAddr) {
        if address != self.entry {
            return;
        }
        let Some(frame) = kernel_register(machine, EAX) else {
            return;
        };
        let slot = read_kernel(machine, frame.wrapping_add(BP));
        let Some(op) = slot.and_then(|slot| self.operation(slot)) else {
            return;
        };
        let bit = 1_u64 << (op % 64);
        if self.entered & bit != 0 {
            return;
        }
        self.entered |= bit;
        self.schedule(machine, op);
        if self.watching == Watching::Cells {
            self.watch(machine, op, frame);
        }
    }

    /// The operation whose slot this is: the agent's stub holds it in EBP while
    /// it makes a call. A call inside a call has no slot there.
    fn operation(&self, slot: u32) -> Option<u8> {
        let offset = slot.checked_sub(CALLS)?;
        if offset >= CALLS_BYTES || !offset.is_multiple_of(SLOT) {
            return None;
        }
        let op = u8::try_from(offset / SLOT).ok()?;
        let step = self.program.steps.get(usize::from(op))?;
        matches!(step.op, Op::Async(_) | Op::Prepare(_)).then_some(op)
    }

    /// Adds the points that count from here.
    fn schedule(&mut self, machine: &mut Machine, op: u8) {
        let now = machine.retired().0;
        self.due.retain(|due| *due > now);
        let points = self.program.schedule.iter();
        let mine = points.filter(|point| point.op.number() == op);
        self.due
            .extend(mine.map(|point| now + u64::from(point.after.get())));
        let due: Vec<Instructions> = self.due.iter().copied().map(Instructions).collect();
        machine.set_schedule(&due);
    }

    /// Watches the words that the descriptor claims, and the status, where both
    /// lie in memory that is always there.
    fn watch(&mut self, machine: &mut Machine, op: u8, frame: u32) {
        let word = |offset: u32| read_kernel(machine, frame.wrapping_add(offset));
        let (Some(index), Some(status), Some(args)) = (word(BX), word(DX), word(SI)) else {
            return;
        };
        let row = DESCRIPTORS.get(usize::try_from(index).unwrap_or(usize::MAX));
        let claims = row.map_or(0, |row| row.claims);
        let Some(cpu) = machine.engine_mut().soft() else {
            return;
        };
        if (1..=MOST_ARGUMENTS).contains(&claims) && is_plain(args) {
            let number = add_watch(cpu, args, u32::from(claims) * 4, WatchKind::Read);
            let args = Some(args);
            self.watches.push(CellWatch { number, op, args });
        }
        if is_plain(status) {
            let number = add_watch(cpu, status, 4, WatchKind::Write);
            let args = None;
            self.watches.push(CellWatch { number, op, args });
        }
    }

    /// An instruction accessed what a watch covers.
    pub(super) fn at_watch(&mut self, machine: &mut Machine, hit: &Hit) {
        let Some(cpu) = machine.engine_mut().soft() else {
            return;
        };
        // What the agent itself does in user mode is its own affair.
        if cpu.user_registers().cpl != 0 || self.accesses.len() >= MOST_ACCESSES {
            return;
        }
        let known = self.watches.iter().find(|watch| watch.number == hit.watch);
        let Some(watch) = known else {
            return;
        };
        let cell = match (watch.args, hit.access) {
            (Some(args), Access::Read) => {
                let offset = hit.address.0.saturating_sub(args);
                Cell::Argument(u8::try_from(offset).unwrap_or(u8::MAX))
            }
            (None, Access::Write) => Cell::Status,
            _ => return,
        };
        let op = watch.op;
        self.accesses.push(CellAccess { op, cell });
    }
}

/// A hit of a watch, as the machine reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) watch: u32,
    pub(super) address: LinearAddr,
    pub(super) access: Access,
}

fn add_watch(cpu: &mut Cpu, at: u32, len: u32, kind: WatchKind) -> u32 {
    cpu.add_watch(WatchRange::Linear(LinearAddr(at), len), kind)
}

fn is_plain(at: u32) -> bool {
    matches!(ground(at), Ground::Plain)
}

/// A general register, if the CPU runs the kernel.
fn kernel_register(machine: &mut Machine, which: usize) -> Option<u32> {
    let registers = machine.engine_mut().soft()?.user_registers();
    (registers.cpl == 0).then(|| registers.gpr[which])
}

/// The word at a linear address of the kernel's direct mapping.
fn read_kernel(machine: &Machine, linear: u32) -> Option<u32> {
    let physical = linear.checked_sub(KERNEL_START)?;
    let mut bytes = [0; 4];
    let at = GuestAddress(u64::from(physical));
    machine.ram().read(at, &mut bytes).ok()?;
    Some(u32::from_le_bytes(bytes))
}

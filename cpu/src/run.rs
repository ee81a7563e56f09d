//! The run loop: blocks at full speed, single instructions where something
//! has to be looked at between two of them.

use crate::Cpu;
use crate::address::{Instructions, LinearAddr, PAGE_OFFSET};
use crate::block::{Block, Key};
use crate::decode::{Extent, Place, decode};
use crate::exception::ExceptionClass;
use crate::exit::Exit;
use crate::flags;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::paging::Access;
use crate::registers::dr;
use crate::segment::seg;
use crate::state::{Core, Mode, Raised, Shadow, Stop};
use crate::system;
use crate::tlb::Tlb;

/// Why the block loop gives up control.
enum Pause {
    /// Look for interrupts and the like, then go on.
    Boundary,
    /// Execute one instruction alone first.
    Single,
    /// Leave `run`.
    Exit(Exit),
}

/// The page that instructions are fetched from.
#[derive(Clone, Copy)]
struct FetchPage {
    page: u32,
    frame: u32,
}

impl FetchPage {
    const NONE: Self = Self { page: 1, frame: 0 };

    /// The key of the block at EIP, if the page is this one or the TLB has it.
    #[inline(always)]
    fn follow(&mut self, core: &Core) -> Option<Key> {
        let linear = core.linear_eip();
        let page = linear & !PAGE_OFFSET;
        if page != self.page {
            let entry = &core.tlb.code[Tlb::code_index(linear)];
            if entry.read[(core.user & 1) as usize] != page {
                return None;
            }
            *self = Self {
                page,
                frame: entry.frame,
            };
        }
        Some(Key::new(self.frame, linear, core.mode))
    }
}

/// Executes ops until one does not go on with the next; returns the last one.
#[inline(always)]
fn execute<'a>(core: &mut Core, memory: &Memory<'_>, ops: &'a [Op]) -> (Flow, &'a Op) {
    for op in ops {
        let flow = (op.handler)(core, memory, op);
        if flow != Flow::Next {
            return (flow, op);
        }
    }
    (Flow::Next, &ops[0])
}

impl Cpu {
    /// Executes until `budget` instructions have been retired or something
    /// needs the host. The budget is kept exactly; a budget of 0 only looks
    /// for a pending interrupt.
    pub fn run(&mut self, memory: &Memory<'_>, budget: Instructions) -> Exit {
        let deadline = self.core.retired.saturating_add(budget.0);
        self.core.deadline = deadline;
        self.core.io.resume();
        let mut resumed = self.core.io.in_progress();
        loop {
            self.core.deadline = deadline;
            if !resumed && let Some(exit) = self.boundary(memory) {
                return exit;
            }
            let pause = if resumed || self.core.needs_single_steps() {
                resumed = false;
                self.single(memory)
            } else if self.core.hooks.breakpoints.is_empty() {
                self.blocks::<false>(memory)
            } else {
                self.blocks::<true>(memory)
            };
            let pause = match pause {
                Pause::Single => self.single(memory),
                other => other,
            };
            if let Pause::Exit(exit) = pause {
                return exit;
            }
        }
    }

    /// What is looked at between instructions.
    fn boundary(&mut self, memory: &Memory<'_>) -> Option<Exit> {
        let core = &mut *self.core;
        if let Some(vector) = core.pending_vector {
            core.stepping = true;
            let delivered = system::deliver_interrupt(core, memory, vector);
            core.stepping = false;
            if delivered.is_err() {
                return Some(core.exit_of_stop());
            }
            core.pending_vector = None;
            core.halted = false;
            core.shadow = Shadow::None;
            core.io.clear();
            self.drop_written(memory);
        }
        let core = &mut *self.core;
        if core.interrupt_line && core.interrupts_enabled() && core.shadow == Shadow::None {
            return Some(Exit::InterruptWindow);
        }
        if core.halted {
            return Some(Exit::Halted);
        }
        (core.retired >= core.deadline).then_some(Exit::Budget)
    }

    /// Drops the blocks that instructions have written to.
    fn drop_written(&mut self, memory: &Memory<'_>) {
        while let Some((address, len)) = self.core.code.written.pop() {
            self.cache.written(&mut self.core, memory, address, len);
        }
    }

    /// Executes whole blocks; with `BREAKPOINTS`, only those that have none.
    fn blocks<const BREAKPOINTS: bool>(&mut self, memory: &Memory<'_>) -> Pause {
        self.core.shadow = Shadow::None;
        let mut fetch = FetchPage::NONE;
        let mut index = match self.enter(memory, &mut fetch, Extent::Block) {
            Ok(index) => index,
            Err(raised) => return self.raised_between(memory, raised),
        };
        loop {
            let core = &mut *self.core;
            let block = &self.cache.blocks[index as usize];
            if !core.has_room_for(block) || BREAKPOINTS && core.has_breakpoint_in(block) {
                return if core.retired < core.deadline {
                    Pause::Single
                } else {
                    Pause::Boundary
                };
            }
            let (flow, op) = execute(core, memory, &block.ops);
            let link = if flow == Flow::Next {
                core.eip = core.eip.wrapping_add(block.len);
                core.retired += u64::from(block.count);
                &block.link
            } else if flow <= Flow::Indirect {
                core.retired += u64::from(op.ordinal) + u64::from(op.retires);
                &op.link
            } else {
                let op = op.clone();
                return self.left(memory, flow, &op);
            };
            // The same way as last time, or some other known block?
            if let Some(key) = fetch.follow(core) {
                let hint = link.get();
                if self.cache.is(hint, key) {
                    index = hint;
                    continue;
                }
                if let Some(known) = self.cache.recent(key) {
                    link.set(known);
                    index = known;
                    continue;
                }
            }
            if core.retired >= core.deadline {
                // Nothing of the next instruction may show: neither a fault
                // of its fetch nor an accessed bit.
                return Pause::Boundary;
            }
            index = match self.enter(memory, &mut fetch, Extent::Block) {
                Ok(next) => next,
                Err(raised) => return self.raised_between(memory, raised),
            };
        }
    }

    /// Leaves the block loop after `op` for the reason in `flow`.
    #[inline]
    fn left(&mut self, memory: &Memory<'_>, flow: Flow, op: &Op) -> Pause {
        let core = &mut *self.core;
        core.retired += u64::from(op.ordinal);
        if flow == Flow::End {
            core.retired += 1;
            return Pause::Boundary;
        }
        core.eip = op.start_eip(core);
        if flow == Flow::Again {
            return Pause::Boundary;
        }
        self.raised(memory)
    }

    /// The block at EIP, decoded if need be.
    #[inline(never)]
    fn enter(
        &mut self,
        memory: &Memory<'_>,
        fetch: &mut FetchPage,
        extent: Extent,
    ) -> Result<u32, Raised> {
        let core = &mut *self.core;
        let eip = core.eip;
        if eip > core.segments[seg::CS as usize].limit {
            return Err(core.gp(0));
        }
        let linear = core.linear_eip();
        if linear & !PAGE_OFFSET != fetch.page {
            let frame = core.translate(memory, linear, Access::Fetch, core.user)?;
            *fetch = FetchPage {
                page: linear & !PAGE_OFFSET,
                frame,
            };
        }
        let single = if extent == Extent::Single {
            Key::SINGLE
        } else {
            0
        };
        let key = Key::new(fetch.frame, linear, Mode(core.mode.0 | single));
        if let Some(index) = self.cache.recent(key) {
            return Ok(index);
        }
        let crossing = match self.cache.recent(key.crossing()) {
            Some(index) => Some(index),
            None => {
                if let Some(index) = self.cache.find(key) {
                    return Ok(index);
                }
                self.cache.find(key.crossing())
            }
        };
        if let Some(index) = crossing
            && self.still_valid(memory, index, linear)?
        {
            return Ok(index);
        }
        let place = Place {
            eip,
            linear,
            frame: fetch.frame,
        };
        let new = decode(&mut self.core, memory, place, extent)?;
        Ok(self.cache.insert(&mut self.core, new, crossing))
    }

    /// A block that crosses into a second page is right only while that page
    /// is mapped to the same place.
    fn still_valid(
        &mut self,
        memory: &Memory<'_>,
        index: u32,
        linear: u32,
    ) -> Result<bool, Raised> {
        let block = &self.cache.blocks[index as usize];
        let core = &mut *self.core;
        let last = core.eip.wrapping_add(block.len - 1);
        if last > core.segments[seg::CS as usize].limit || last < core.eip {
            return Err(core.gp(0));
        }
        let next = (linear & !PAGE_OFFSET).wrapping_add(PAGE_OFFSET + 1);
        let second = core.translate(memory, next, Access::Fetch, core.user)?;
        Ok(block.second_frame == Some(second))
    }

    /// An exception of the fetch at `Core::eip`. With the budget spent it is
    /// left for the next run, which fetches again.
    fn raised_between(&mut self, memory: &Memory<'_>, _: Raised) -> Pause {
        if self.core.retired >= self.core.deadline {
            self.core.take_stop();
            return Pause::Boundary;
        }
        self.raised(memory)
    }

    /// Handles `Core::stop`; EIP and the count of retired instructions are up
    /// to date.
    fn raised(&mut self, memory: &Memory<'_>) -> Pause {
        let core = &mut *self.core;
        match core.take_stop() {
            Stop::Exception(exception) => {
                core.shadow = Shadow::None;
                core.debug_hits = 0;
                core.hooks.hit = None;
                if system::deliver_exception(core, memory, exception).is_ok() {
                    // A fault counts like the instruction that it took the
                    // place of: else a guest whose handlers fault at their
                    // first instruction would run forever within a budget.
                    if exception.class() != ExceptionClass::Trap {
                        core.retired += 1;
                    }
                    core.io.clear();
                    self.drop_written(memory);
                    return Pause::Boundary;
                }
                match core.take_stop() {
                    Stop::Exit(exit) => {
                        core.io.used = 0;
                        Pause::Exit(exit)
                    }
                    _ => Pause::Single,
                }
            }
            Stop::Exit(exit) => {
                core.io.used = 0;
                Pause::Exit(exit)
            }
            Stop::Restep | Stop::None => Pause::Single,
        }
    }

    /// Executes one instruction (one iteration of a REP instruction) with
    /// everything that can be asked about it.
    fn single(&mut self, memory: &Memory<'_>) -> Pause {
        if self.core.retired >= self.core.deadline {
            return Pause::Boundary;
        }
        if let Some(address) = self.breakpoint() {
            return Pause::Exit(Exit::Breakpoint { address });
        }
        self.core.stepping = true;
        self.core.deadline = self.core.retired + 1;
        let pause = self.single_stepping(memory);
        self.core.stepping = false;
        pause
    }

    fn single_stepping(&mut self, memory: &Memory<'_>) -> Pause {
        let core = &mut *self.core;
        let from = core.linear_eip();
        let before = core.retired;
        let trap = core.system_flags & flags::TF != 0;
        let shadow = core.shadow;
        if shadow != Shadow::MovSs
            && core.system_flags & flags::RF == 0
            && core.dr[7] & dr::ENABLES != 0
        {
            let hits = core.instruction_breakpoints(from);
            if hits != 0 {
                core.dr[6] = core.dr[6] & !0xf | hits;
                let _raised = core.raise(crate::Exception::DebugFault);
                return self.raised(memory);
            }
        }
        let mut fetch = FetchPage::NONE;
        let index = match self.enter(memory, &mut fetch, Extent::Single) {
            Ok(index) => index,
            Err(raised) => return self.raised_between(memory, raised),
        };
        let core = &mut *self.core;
        let block = &self.cache.blocks[index as usize];
        let last = core.eip.wrapping_add(block.len - 1);
        if last > core.segments[seg::CS as usize].limit || last < core.eip {
            let _raised = core.gp(0);
            return self.raised(memory);
        }
        core.entered_handler = false;
        core.io.used = 0;
        core.shadow = Shadow::None;
        let op = &block.ops[0];
        let flow = (op.handler)(core, memory, op);
        match flow {
            Flow::Raised => {
                core.shadow = shadow;
                return self.raised(memory);
            }
            Flow::Next => {
                core.eip = core.eip.wrapping_add(block.len);
                core.retired += 1;
            }
            Flow::Again => {}
            Flow::Jump | Flow::Indirect | Flow::End => core.retired += 1,
        }
        debug_assert_eq!(core.retired, before + 1);
        core.io.clear();
        if flow != Flow::Again {
            core.system_flags &= !flags::RF | core.resume_kept();
        }
        let transfer = matches!(flow, Flow::Jump | Flow::Indirect)
            || flow == Flow::End && core.linear_eip() != from.wrapping_add(u32::from(op.len));
        self.drop_written(memory);
        self.after_single(memory, trap, transfer.then_some(from))
    }

    /// Debug traps, watches and the edge callback after an instruction.
    fn after_single(&mut self, memory: &Memory<'_>, trap: bool, edge: Option<u32>) -> Pause {
        let core = &mut *self.core;
        if let Some(from) = edge
            && let Some(callback) = &mut core.hooks.edge
        {
            let to = core.segments[seg::CS as usize].base.wrapping_add(core.eip);
            callback(LinearAddr(from), LinearAddr(to), core.retired);
        }
        let mut causes = std::mem::take(&mut core.debug_hits);
        if trap && !core.entered_handler {
            causes |= dr::BS;
        }
        let hit = core.hooks.hit.take();
        // After a load of SS the trap waits for the next instruction.
        if causes != 0 && core.shadow != Shadow::MovSs {
            core.dr[6] |= causes;
            let _raised = core.raise(crate::Exception::DebugTrap);
            let pause = self.raised(memory);
            if let Pause::Exit(exit) = pause {
                return Pause::Exit(exit);
            }
        }
        match hit {
            Some(hit) => Pause::Exit(Exit::Watch {
                watch: hit.watch,
                address: LinearAddr(hit.address),
                write: hit.write,
            }),
            None => Pause::Boundary,
        }
    }

    /// A host breakpoint at EIP that has not just been reported.
    fn breakpoint(&mut self) -> Option<LinearAddr> {
        let core = &mut *self.core;
        if core.hooks.breakpoints.is_empty() {
            return None;
        }
        let at = core.linear_eip();
        if core.hooks.passed.take() == Some(at) || !core.hooks.breakpoints.contains(&at) {
            return None;
        }
        core.hooks.passed = Some(at);
        Some(LinearAddr(at))
    }
}

impl Core {
    /// Whether all of a block may run: inside the budget and the code segment.
    #[inline(always)]
    fn has_room_for(&self, block: &Block) -> bool {
        let last = self.eip.wrapping_add(block.len - 1);
        last <= self.segments[seg::CS as usize].limit
            && last >= self.eip
            && self.deadline - self.retired >= u64::from(block.count)
    }

    /// Whether a host breakpoint is in the linear addresses of a block at EIP.
    fn has_breakpoint_in(&self, block: &Block) -> bool {
        let first = self.linear_eip();
        let last = first.saturating_add(block.len - 1);
        self.hooks.breakpoints.range(first..=last).next().is_some()
    }

    /// Whether anything wants to be asked after every instruction.
    fn needs_single_steps(&self) -> bool {
        // A shadow matters only if there is something to hold back: the line
        // does not change during a run.
        let held_back = self.interrupt_line && self.interrupts_enabled();
        self.system_flags & (flags::TF | flags::RF) != 0
            || self.dr[7] & dr::ENABLES != 0
            || self.shadow != Shadow::None && held_back
            || self.hooks.edge.is_some()
    }

    /// The exit for which a delivery stopped.
    fn exit_of_stop(&mut self) -> Exit {
        self.io.used = 0;
        match self.take_stop() {
            Stop::Exit(exit) => exit,
            _ => Exit::TripleFault,
        }
    }

    #[inline(always)]
    fn linear_eip(&self) -> u32 {
        self.windows[seg::CS as usize].base.wrapping_add(self.eip)
    }

    /// RF stays set after the instructions that load it (IRET sets it for the
    /// next one): they say so with this bit.
    fn resume_kept(&mut self) -> u32 {
        if std::mem::take(&mut self.keep_resume) {
            flags::RF
        } else {
            0
        }
    }

    /// DR6 bits of the instruction breakpoints at a linear address.
    fn instruction_breakpoints(&self, linear: u32) -> u32 {
        (0..4usize).fold(0, |hits, n| {
            let enabled = self.dr[7] >> (2 * n) & 3 != 0;
            let execute = self.dr[7] >> (16 + 4 * n) & 0xf == 0;
            hits | u32::from(enabled && execute && self.dr[n] == linear) << n
        })
    }
}

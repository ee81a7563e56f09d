//! One instruction at a time, with everything that can be asked about it:
//! breakpoints, watches, single-step traps, the edge callback, the log of I/O.

use super::Pause;
use super::fetch::FetchPage;
use crate::Cpu;
use crate::address::LinearAddr;
use crate::decode::Extent;
use crate::exit::Exit;
use crate::flags;
use crate::memory::Memory;
use crate::op::Flow;
use crate::registers::dr;
use crate::segment::seg;
use crate::state::{Core, Shadow};

impl Cpu {
    /// Executes one instruction (one iteration of a REP instruction) with
    /// everything that can be asked about it.
    pub(super) fn single(&mut self, memory: &Memory<'_>) -> Pause {
        if self.core.trap_is_due() {
            // Its delivery was begun before, and waited for an answer.
            self.core.stepping = true;
            let pause = self.debug_trap(memory);
            self.core.stepping = false;
            return pause;
        }
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
        let (shadow, held) = (core.shadow, core.debug_hits);
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
        let block = self.cache.block(index);
        let last = core.eip.wrapping_add(block.len() - 1);
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
                // What it did itself is done again, or not at all.
                core.shadow = shadow;
                core.debug_hits = held;
                return self.raised(memory);
            }
            Flow::Next => {
                core.eip = core.eip.wrapping_add(block.len());
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
        // The single step of a load of SS is lost; its data breakpoints, and
        // those of the load before it, wait for the next instruction (SDM
        // vol. 3, 6.8.3), even if that is INT n and enters a handler.
        if trap && !core.entered_handler && core.shadow != Shadow::MovSs {
            core.debug_hits |= dr::BS;
        }
        if core.trap_is_due() {
            return self.debug_trap(memory);
        }
        self.watched()
    }

    /// Delivers the trap for `Core::debug_hits`. If that takes memory-mapped
    /// accesses it is begun anew in the next run, from the same state.
    fn debug_trap(&mut self, memory: &Memory<'_>) -> Pause {
        let core = &mut *self.core;
        let (causes, hit) = (core.debug_hits, core.hooks.hit.take());
        core.dr[6] |= causes;
        core.debug_hits = 0;
        let _raised = core.raise(crate::Exception::DebugTrap);
        let pause = self.raised(memory);
        let core = &mut *self.core;
        core.hooks.hit = hit.or(core.hooks.hit.take());
        match pause {
            Pause::Boundary => self.watched(),
            undelivered => {
                core.debug_hits = causes;
                undelivered
            }
        }
    }

    /// The exit for a watched access, if there was one.
    fn watched(&mut self) -> Pause {
        match self.core.hooks.hit.take() {
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
    /// Whether anything wants to be asked after every instruction.
    pub(super) fn needs_single_steps(&self) -> bool {
        // A shadow matters only if there is something to hold back: the line
        // does not change during a run.
        let held_back = self.interrupt_line && self.interrupts_enabled();
        self.system_flags & (flags::TF | flags::RF) != 0
            || self.dr[7] & dr::ENABLES != 0
            || self.debug_hits != 0
            || self.shadow != Shadow::None && held_back
            || self.hooks.edge.is_some()
    }

    /// Whether a debug trap is to be delivered before the next instruction.
    fn trap_is_due(&self) -> bool {
        self.debug_hits != 0 && self.shadow != Shadow::MovSs
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

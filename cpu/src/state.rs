//! The CPU's state as the handlers see it.

use crate::exception::Exception;
use crate::exit::Exit;
use crate::flags::{self, LazyFlags};
use crate::io::IoLog;
use crate::memory::Word;
use crate::model::CpuModel;
use crate::op::Op;
use crate::registers::{Msrs, cr0, dr, gpr};
use crate::segment::{DescriptorTable, Segment, SegmentWindow, attr, seg};
use crate::simd::SimdState;
use crate::tlb::Tlb;
use crate::x87::Fpu;

/// Proof that [`Core::stop`] was set: the instruction cannot go on.
#[derive(Debug)]
#[must_use]
pub(crate) struct Raised(());

/// Why the instruction cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No reason.
    None,
    /// A guest exception, to be delivered.
    Exception(Exception),
    /// Something for the host; the instruction starts again afterwards.
    Exit(Exit),
    /// Execute this instruction once more, alone (see `Core::stepping`).
    Restep,
}

/// What blocks depend on besides their bytes: sizes and flat segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u8);

impl Mode {
    /// CS has 32-bit operands and addresses by default.
    pub(crate) const CODE32: u8 = 1;
    /// DS, ES and SS are flat: base 0, all 4 GiB readable and writable.
    pub(crate) const FLAT: u8 = 2;
    /// The stack pointer is ESP.
    pub(crate) const STACK32: u8 = 4;

    pub(crate) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// How much of a fused op is done: where the instruction is that raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Bytes of the instructions before it.
    pub(crate) bytes: u8,
    /// How many they are.
    pub(crate) count: u8,
}

/// What keeps interrupts and debug traps off for one instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shadow {
    /// Nothing.
    #[default]
    None,
    /// The instruction before was STI (with IF clear before).
    Sti,
    /// The instruction before loaded SS by MOV or POP.
    MovSs,
}

/// Everything except the block cache. The fields stand in this order so that
/// what every instruction touches is together.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Core {
    /// The general registers; number 8 is always zero, for absent bases and
    /// indexes; the rest is never used.
    pub(crate) regs: [u32; 16],
    /// The arithmetic flags.
    pub(crate) flags: LazyFlags,
    /// All other flags, including the fixed one.
    pub(crate) system_flags: u32,
    /// EIP where the current block started; between blocks, EIP.
    pub(crate) eip: u32,
    /// Instructions retired before the current block.
    pub(crate) retired: u64,
    /// `run` stops when `retired` reaches this.
    pub(crate) deadline: u64,
    /// 0 to 3.
    pub(crate) cpl: u8,
    /// 1 at CPL 3, else 0: which of the TLB's permissions count.
    pub(crate) user: u8,
    pub(crate) mode: Mode,
    /// The instruction runs alone, with every check and the log of I/O.
    pub(crate) stepping: bool,
    pub(crate) shadow: Shadow,
    pub(crate) halted: bool,
    /// Set by an instruction that has loaded EFLAGS.RF for the next one (IRET,
    /// task switch), so that its own retirement does not clear it.
    pub(crate) keep_resume: bool,
    /// The current instruction has entered a handler (INT n and its kin): its
    /// own single-step trap is dropped, as TF was cleared on the way.
    pub(crate) entered_handler: bool,
    /// What an op that raised has done before; else nothing.
    pub(crate) done: Done,
    /// The level of INTR.
    pub(crate) interrupt_line: bool,
    /// An acknowledged interrupt that `run` delivers first.
    pub(crate) pending_vector: Option<u8>,
    pub(crate) stop: Stop,
    /// Derived from `segments`.
    pub(crate) windows: [SegmentWindow; 8],
    /// ES, CS, SS, DS, FS, GS. Change them with [`Core::set_segment`].
    pub(crate) segments: [Segment; 6],
    pub(crate) ldtr: Segment,
    pub(crate) tr: Segment,
    pub(crate) gdtr: DescriptorTable,
    pub(crate) idtr: DescriptorTable,
    pub(crate) cr0: u32,
    pub(crate) cr2: u32,
    pub(crate) cr3: u32,
    pub(crate) cr4: u32,
    /// DR0 to DR3, then DR6 and DR7 at their numbers.
    pub(crate) dr: [u32; 8],
    /// DR6 bits of traps that the current instruction has caused, or that a
    /// load of SS holds back, or whose delivery waits for an answer.
    pub(crate) debug_hits: u32,
    pub(crate) msrs: Msrs,
    /// PAE: the four page-directory-pointer entries loaded with CR3.
    pub(crate) pdpte: [u64; 4],
    pub(crate) model: CpuModel,
    pub(crate) fpu: Fpu,
    pub(crate) simd: SimdState,
    pub(crate) io: IoLog,
    /// Which 64-byte granules of each page of RAM hold decoded code.
    pub(crate) code: crate::code_map::CodeMap,
    pub(crate) hooks: crate::hooks::Hooks,
    pub(crate) tlb: Tlb,
}

impl Core {
    /// The state after RESET (SDM vol. 3, table 9-1).
    pub(crate) fn new(model: CpuModel) -> Self {
        let mut core = Self {
            regs: [0; 16],
            flags: LazyFlags::default(),
            system_flags: flags::FIXED_ONE,
            eip: 0xfff0,
            retired: 0,
            deadline: 0,
            cpl: 0,
            user: 0,
            mode: Mode::default(),
            stepping: false,
            shadow: Shadow::None,
            halted: false,
            keep_resume: false,
            entered_handler: false,
            done: Done::default(),
            interrupt_line: false,
            pending_vector: None,
            stop: Stop::None,
            windows: [SegmentWindow::new(&Segment::null(0)); 8],
            segments: [Segment::real(0); 6],
            ldtr: Segment {
                selector: 0,
                attributes: attr::PRESENT | 2,
                base: 0,
                limit: 0xffff,
            },
            tr: Segment {
                selector: 0,
                attributes: attr::PRESENT | 11,
                base: 0,
                limit: 0xffff,
            },
            gdtr: DescriptorTable {
                base: 0,
                limit: 0xffff,
            },
            idtr: DescriptorTable {
                base: 0,
                limit: 0xffff,
            },
            cr0: cr0::CD | cr0::NW | cr0::ET,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            dr: [0, 0, 0, 0, 0, 0, dr::DR6_ONES, dr::DR7_ONES],
            debug_hits: 0,
            msrs: Msrs {
                pat: 0x0007_0406_0007_0406,
                ..Msrs::default()
            },
            pdpte: [0; 4],
            model,
            fpu: Fpu::default(),
            simd: SimdState::default(),
            io: IoLog::default(),
            code: crate::code_map::CodeMap::default(),
            hooks: crate::hooks::Hooks::default(),
            tlb: Tlb::default(),
        };
        core.regs[gpr::EDX] = model.signature();
        core.segments[seg::CS as usize] = Segment {
            selector: 0xf000,
            base: 0xffff_0000,
            ..Segment::real(0)
        };
        core.update_mode();
        core
    }

    // ---- raising -------------------------------------------------------

    /// Ends the instruction with a guest exception.
    #[cold]
    #[inline(never)]
    pub(crate) fn raise(&mut self, exception: Exception) -> Raised {
        self.stop = Stop::Exception(exception);
        Raised(())
    }

    /// `#GP` with an error code.
    #[cold]
    pub(crate) fn gp(&mut self, code: u16) -> Raised {
        self.raise(Exception::GeneralProtection(code))
    }

    /// `#UD`.
    #[cold]
    pub(crate) fn ud(&mut self) -> Raised {
        self.raise(Exception::InvalidOpcode)
    }

    /// Leaves `run`; the instruction starts again in the next one.
    #[cold]
    #[inline(never)]
    pub(crate) fn exit(&mut self, exit: Exit) -> Raised {
        self.stop = Stop::Exit(exit);
        Raised(())
    }

    /// In the middle of a block: have this instruction executed alone.
    /// Returns `Ok` when that is the case already.
    #[inline]
    pub(crate) fn need_stepping(&mut self) -> Result<(), Raised> {
        if self.stepping {
            return Ok(());
        }
        self.stop = Stop::Restep;
        Err(Raised(()))
    }

    /// Takes the reason of a `Raised`.
    pub(crate) fn take_stop(&mut self) -> Stop {
        std::mem::replace(&mut self.stop, Stop::None)
    }

    // ---- registers -----------------------------------------------------

    /// A general register of the size of `W` by its number in the instruction
    /// (for bytes: AL CL DL BL AH CH DH BH).
    #[inline(always)]
    pub(crate) fn reg<W: Word>(&self, number: u8) -> u32 {
        if W::BYTES == 1 {
            self.regs[(number & 3) as usize] >> ((number & 4) << 1) & 0xff
        } else {
            W::cut(self.regs[(number & 15) as usize]).zext()
        }
    }

    /// Writes a general register; a size below 32 bits leaves the rest.
    #[inline(always)]
    pub(crate) fn set_reg<W: Word>(&mut self, number: u8, value: u32) {
        match W::BYTES {
            1 => {
                let shift = (number & 4) << 1;
                let reg = &mut self.regs[(number & 3) as usize];
                *reg = *reg & !(0xff << shift) | (value & 0xff) << shift;
            }
            2 => {
                let reg = &mut self.regs[(number & 15) as usize];
                *reg = *reg & 0xffff_0000 | value & 0xffff;
            }
            _ => self.regs[(number & 15) as usize] = value,
        }
    }

    /// Instructions retired before `op`, which is being executed.
    pub(crate) fn retired_at(&self, op: &Op) -> u64 {
        self.retired + u64::from(op.ordinal)
    }

    /// The value that RDTSC would read at `op`.
    pub(crate) fn tsc_at(&self, op: &Op) -> u64 {
        self.retired_at(op).wrapping_add(self.msrs.tsc_offset)
    }

    // ---- flags ---------------------------------------------------------

    /// EFLAGS.
    pub(crate) fn eflags(&self) -> u32 {
        self.system_flags | self.flags.bits()
    }

    /// Replaces all of EFLAGS; the caller has applied the rules about which
    /// bits may change.
    pub(crate) fn set_eflags(&mut self, value: u32) {
        self.flags = LazyFlags::from_bits(value);
        let before = self.system_flags;
        self.system_flags = value & !flags::ARITHMETIC | flags::FIXED_ONE;
        if (before ^ self.system_flags) & flags::AC != 0 {
            self.refresh_fast_paths();
        }
    }

    /// IF is set.
    pub(crate) fn interrupts_enabled(&self) -> bool {
        self.system_flags & flags::IF != 0
    }

    /// IOPL.
    #[allow(clippy::cast_possible_truncation)] // two bits
    pub(crate) fn iopl(&self) -> u8 {
        (self.system_flags >> 12 & 3) as u8
    }

    // ---- modes ---------------------------------------------------------

    /// CR0.PE is set.
    pub(crate) fn protected(&self) -> bool {
        self.cr0 & cr0::PE != 0
    }

    /// Loads a segment register, hidden part and all, without checks. The
    /// handler must return [`crate::op::Flow::End`] if `Core::mode` changed.
    pub(crate) fn set_segment(&mut self, which: u8, segment: Segment) {
        let which = which as usize % 6;
        let old = std::mem::replace(&mut self.segments[which], segment);
        // Windows and mode come from the rest; between the rings of a system
        // with flat segments nothing else changes.
        let ignored = attr::DPL | attr::ACCESSED;
        let range = |of: &Segment| (of.base, of.limit, of.attributes & !ignored);
        if range(&old) != range(&segment) {
            self.update_window(which);
            self.update_mode_bits();
        }
    }

    /// Sets the current privilege level.
    pub(crate) fn set_cpl(&mut self, cpl: u8) {
        self.cpl = cpl & 3;
        self.user = u8::from(self.cpl == 3);
    }

    /// Sets CR0; consequences for the TLB are included, checks are not.
    pub(crate) fn set_cr0(&mut self, value: u32) {
        let changed = self.cr0 ^ value;
        self.cr0 = value;
        if changed & (cr0::PG | cr0::PE | cr0::WP) != 0 {
            self.tlb.flush_all();
        }
        if changed & cr0::AM != 0 {
            self.refresh_fast_paths();
        }
        self.update_mode();
    }

    /// Derives what depends on segments and CR0.
    pub(crate) fn update_mode(&mut self) {
        for which in 0..self.segments.len() {
            self.update_window(which);
        }
        self.update_mode_bits();
    }

    fn update_window(&mut self, which: usize) {
        let mut window = SegmentWindow::new(&self.segments[which]);
        if !self.protected() {
            // Real mode checks limits but not types.
            let readable = window.read.0 <= window.read.1;
            let range = if readable { window.read } else { window.write };
            (window.read, window.write) = (range, range);
        }
        self.windows[which] = window;
    }

    fn update_mode_bits(&mut self) {
        let flat = |which: u8| self.windows[which as usize].is_flat();
        let mut mode = 0;
        if self.segments[seg::CS as usize].has(attr::BIG) {
            mode |= Mode::CODE32;
        }
        if self.segments[seg::SS as usize].has(attr::BIG) {
            mode |= Mode::STACK32;
        }
        if flat(seg::DS) && flat(seg::ES) && flat(seg::SS) {
            mode |= Mode::FLAT;
        }
        self.mode = Mode(mode);
    }

    /// Mask for the stack pointer.
    pub(crate) fn stack_mask(&self) -> u32 {
        if self.mode.has(Mode::STACK32) {
            u32::MAX
        } else {
            0xffff
        }
    }
}

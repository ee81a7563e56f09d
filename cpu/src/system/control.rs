//! Control registers, the TLB instructions, and the tables: MOV CR, LMSW,
//! SMSW, CLTS, INVLPG, LGDT and kin (SDM vol. 3, 2.5 and 4.10.4).

use crate::exception::Exception;
use crate::memory::{Memory, Word};
use crate::op::{Flow, Op};
use crate::registers::{cr0, cr4, gpr};
use crate::segment::DescriptorTable;
use crate::state::{Core, Raised};
use crate::system::selector::Selector;

/// Bits of CR0 that exist; the others read as zero whatever is written.
const CR0_BITS: u32 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::ET
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;

/// Bits of CR3: the directory, PWT and PCD; with PAE the low bits are part of
/// the address of the page-directory-pointer table.
const CR3_PWT_PCD: u32 = 0x18;

impl Core {
    /// The bits of CR4 that this model has; others raise `#GP(0)`.
    fn cr4_bits(&self) -> u32 {
        let basic = cr4::TSD | cr4::DE | cr4::PSE | cr4::PAE | cr4::PGE;
        if self.model.has_sse() {
            basic | cr4::OSFXSR | cr4::OSXMMEXCPT
        } else {
            basic
        }
    }

    /// Loads CR3 in a task switch, where nothing can be refused any more: bad
    /// page-directory-pointer entries count as absent.
    pub(crate) fn switch_cr3(&mut self, memory: &Memory<'_>, value: u32) {
        if self.cr4 & cr4::PAE != 0 {
            self.pdpte = Self::read_pdptes(memory, value).unwrap_or_default();
        }
        self.cr3 = value;
        self.tlb.flush_not_global();
    }

    fn write_cr0(&mut self, memory: &Memory<'_>, value: u32) -> Result<(), Raised> {
        let value = value & CR0_BITS | cr0::ET;
        let paging_without_protection = value & (cr0::PG | cr0::PE) == cr0::PG;
        let write_back_uncached = value & (cr0::NW | cr0::CD) == cr0::NW;
        if paging_without_protection || write_back_uncached {
            return Err(self.gp(0));
        }
        if value & !self.cr0 & cr0::PG != 0 {
            self.load_pdptes(memory, self.cr3, self.cr4)?;
        }
        self.set_cr0(value);
        Ok(())
    }

    /// With PAE paging on (as `cr4` says), the entries at `cr3` are checked and
    /// kept.
    fn load_pdptes(&mut self, memory: &Memory<'_>, cr3: u32, cr4: u32) -> Result<(), Raised> {
        if cr4 & cr4::PAE == 0 {
            return Ok(());
        }
        match Self::read_pdptes(memory, cr3) {
            Some(entries) => {
                self.pdpte = entries;
                Ok(())
            }
            None => Err(self.gp(0)),
        }
    }

    fn write_cr3(&mut self, memory: &Memory<'_>, value: u32) -> Result<(), Raised> {
        if self.cr0 & cr0::PG != 0 {
            self.load_pdptes(memory, value, self.cr4)?;
        }
        let pae = self.cr4 & cr4::PAE != 0;
        self.cr3 = if pae {
            value & !7
        } else {
            value & (!0xfff | CR3_PWT_PCD)
        };
        self.tlb.flush_not_global();
        Ok(())
    }

    fn write_cr4(&mut self, memory: &Memory<'_>, value: u32) -> Result<(), Raised> {
        if value & !self.cr4_bits() != 0 {
            return Err(self.gp(0));
        }
        let changed = self.cr4 ^ value;
        if self.cr0 & cr0::PG != 0 && changed & (cr4::PAE | cr4::PSE | cr4::PGE) != 0 {
            self.load_pdptes(memory, self.cr3, value)?;
        }
        self.cr4 = value;
        if changed & (cr4::PAE | cr4::PSE | cr4::PGE) != 0 {
            self.tlb.flush_all();
        }
        Ok(())
    }
}

/// MOV r32, CRn.
pub(crate) fn read_control(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    if core.require_ring0().is_err() {
        return Flow::Raised;
    }
    let value = match op.src {
        0 => core.cr0,
        2 => core.cr2,
        3 => core.cr3,
        4 => core.cr4,
        _ => {
            let _raised = core.ud();
            return Flow::Raised;
        }
    };
    core.regs[op.dst as usize & 7] = value;
    Flow::Next
}

/// MOV CRn, r32.
pub(crate) fn write_control(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let write = |core: &mut Core| {
        if !matches!(op.dst, 0 | 2 | 3 | 4) {
            return Err(core.ud());
        }
        core.require_ring0()?;
        let value = core.regs[op.src as usize & 7];
        match op.dst {
            0 => core.write_cr0(memory, value)?,
            2 => core.cr2 = value,
            3 => core.write_cr3(memory, value)?,
            _ => core.write_cr4(memory, value)?,
        }
        Ok(core.end(op))
    };
    write(core).into()
}

/// LMSW: PE can be set but not cleared.
pub(crate) fn lmsw<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let lmsw = |core: &mut Core| {
        core.require_ring0()?;
        let word = u32::from(core.word_operand::<MEMORY>(memory, op, op.dst)?);
        let low = cr0::MP | cr0::EM | cr0::TS;
        let value = core.cr0 & !low | word & (low | cr0::PE);
        core.write_cr0(memory, value)?;
        Ok(core.end(op))
    };
    lmsw(core).into()
}

/// SMSW: the low word to memory, as much of CR0 as fits to a register.
pub(crate) fn smsw<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    core.store_word_operand::<MEMORY>(memory, op, core.cr0)
        .into()
}

/// CLTS.
pub(crate) fn clts(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    if core.require_ring0().is_err() {
        return Flow::Raised;
    }
    core.set_cr0(core.cr0 & !cr0::TS);
    core.end(op)
}

/// INVLPG.
pub(crate) fn invlpg(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    if core.require_ring0().is_err() {
        return Flow::Raised;
    }
    let base = core.windows[op.seg as usize & 7].base;
    let linear = base.wrapping_add(op.ea(core));
    core.tlb.flush_page(linear);
    core.end(op)
}

/// INVD, WBINVD: there is no cache.
pub(crate) fn cache_control(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.require_ring0().into()
}

/// Which table a load or store is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Global,
    Interrupt,
}

/// LGDT.
pub(crate) fn lgdt(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    load_table(core, memory, op, Table::Global).into()
}

/// LIDT.
pub(crate) fn lidt(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    load_table(core, memory, op, Table::Interrupt).into()
}

fn load_table(core: &mut Core, memory: &Memory<'_>, op: &Op, table: Table) -> Result<(), Raised> {
    core.require_ring0()?;
    let at = op.ea(core);
    core.readable(op.seg, at, 6)?;
    let limit = core.load::<u16>(memory, op.seg, at)?;
    let base = core.load::<u32>(memory, op.seg, at.wrapping_add(2))?;
    // With 16-bit operands the base has 24 bits.
    let base = if op.has(Op::OPERAND32) {
        base
    } else {
        base & 0x00ff_ffff
    };
    let loaded = DescriptorTable { base, limit };
    match table {
        Table::Global => core.gdtr = loaded,
        Table::Interrupt => core.idtr = loaded,
    }
    Ok(())
}

/// SGDT.
pub(crate) fn sgdt(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    store_table(core, memory, op, core.gdtr).into()
}

/// SIDT.
pub(crate) fn sidt(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    store_table(core, memory, op, core.idtr).into()
}

/// All 32 bits of the base are stored, whatever the operand size.
fn store_table(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    table: DescriptorTable,
) -> Result<(), Raised> {
    let at = op.ea(core);
    let linear = core.writable(op.seg, at, 6)?;
    core.probe_write(memory, linear, 6, core.user)?;
    core.store::<u16>(memory, op.seg, at, table.limit)?;
    core.store::<u32>(memory, op.seg, at.wrapping_add(2), table.base)
}

fn require_tasks(core: &mut Core) -> Result<(), Raised> {
    if core.real_segments() {
        Err(core.raise(Exception::InvalidOpcode))
    } else {
        Ok(())
    }
}

/// LLDT.
pub(crate) fn lldt<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let lldt = |core: &mut Core| {
        require_tasks(core)?;
        core.require_ring0()?;
        let selector = core.word_operand::<MEMORY>(memory, op, op.dst)?;
        core.load_ldt_register(memory, Selector(selector))
    };
    lldt(core).into()
}

/// LTR.
pub(crate) fn ltr<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let ltr = |core: &mut Core| {
        require_tasks(core)?;
        core.require_ring0()?;
        let selector = core.word_operand::<MEMORY>(memory, op, op.dst)?;
        core.load_task_register(memory, Selector(selector))
    };
    ltr(core).into()
}

/// SLDT.
pub(crate) fn sldt<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let sldt = |core: &mut Core| {
        require_tasks(core)?;
        core.store_word_operand::<MEMORY>(memory, op, u32::from(core.ldtr.selector))
    };
    sldt(core).into()
}

/// STR.
pub(crate) fn str<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let str = |core: &mut Core| {
        require_tasks(core)?;
        core.store_word_operand::<MEMORY>(memory, op, u32::from(core.tr.selector))
    };
    str(core).into()
}

/// Where RDTSC, CPUID and the MSR instructions put 64 bits.
pub(crate) fn set_edx_eax(core: &mut Core, value: u64) {
    core.regs[gpr::EAX] = u32::low_bits(value);
    core.regs[gpr::EDX] = u32::low_bits(value >> 32);
}

//! Linear to physical addresses: 32-bit paging with 4-MiB pages, PAE paging
//! with 2-MiB pages and NX (SDM vol. 3, chapter 4).

use crate::address::PAGE_OFFSET;
use crate::exception::Exception;
use crate::memory::{Memory, Word};
use crate::registers::{EFER_NXE, cr0, cr4};
use crate::state::{Core, Raised};
use crate::tlb::{Permissions, Side};

/// What an access wants to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Fetch,
}

/// Bits of the page-fault error code.
mod code {
    pub(super) const PRESENT: u16 = 1;
    pub(super) const WRITE: u16 = 2;
    pub(super) const USER: u16 = 4;
    pub(super) const RESERVED: u16 = 8;
    pub(super) const FETCH: u16 = 16;
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 36 to 62: beyond the physical addresses that CPUID promises.
const PAE_RESERVED: u64 = 0x7fff_fff0_0000_0000;

/// A page-table entry that a walk has used.
#[derive(Clone, Copy)]
struct Used {
    address: u64,
    value: u64,
}

/// What a walk found.
struct Found {
    frame: u32,
    permissions: Permissions,
    /// Directory entry (PDE), then table entry (PTE) unless the page is large.
    used: [Option<Used>; 2],
}

impl Core {
    fn pae(&self) -> bool {
        self.cr4 & cr4::PAE != 0
    }

    fn nxe(&self) -> bool {
        self.pae() && self.msrs.efer & EFER_NXE != 0
    }

    /// The physical page of `linear`, from the TLB or the page tables.
    ///
    /// `user` is 1 for an access with user rights. Raises `#PF`.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn translate(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        access: Access,
        user: u8,
    ) -> Result<u32, Raised> {
        let side = if access == Access::Fetch {
            Side::Code
        } else {
            Side::Data
        };
        if let Some(entry) = self.tlb.lookup(side, linear) {
            // An entry that does not allow the access is not the last word:
            // the tables are walked again, as the fault would drop it anyway.
            let clean = access == Access::Write && !entry.permissions.has(Permissions::DIRTY);
            if !clean && self.allowed(entry.permissions, access, user) {
                return Ok(entry.frame);
            }
        }
        self.walk(memory, linear, access, user, side)
    }

    fn allowed(&self, permissions: Permissions, access: Access, user: u8) -> bool {
        let user_ok = user == 0 || permissions.has(Permissions::USER);
        let write_ok = access != Access::Write
            || permissions.has(Permissions::WRITE)
            || user == 0 && self.cr0 & cr0::WP == 0;
        let fetch_ok = access != Access::Fetch || !permissions.has(Permissions::NO_EXECUTE);
        user_ok && write_ok && fetch_ok
    }

    #[cold]
    #[inline(never)]
    fn walk(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        access: Access,
        user: u8,
        side: Side,
    ) -> Result<u32, Raised> {
        if self.cr0 & cr0::PG == 0 {
            self.tlb
                .insert(side, linear, linear >> 12, Permissions::ALL);
            return Ok(linear >> 12);
        }
        let found = if self.pae() {
            self.walk_pae(memory, linear)
        } else {
            self.walk_32(memory, linear)
        };
        let mut found = match found {
            Ok(found) if self.allowed(found.permissions, access, user) => found,
            Ok(_) => return Err(self.page_fault(linear, access, user, code::PRESENT)),
            Err(bits) => return Err(self.page_fault(linear, access, user, bits)),
        };
        self.mark_used(memory, &mut found, access)?;
        self.tlb
            .insert(side, linear, found.frame, found.permissions);
        Ok(found.frame)
    }

    fn page_fault(&mut self, linear: u32, access: Access, user: u8, bits: u16) -> Raised {
        let mut code = bits;
        if access == Access::Write {
            code |= code::WRITE;
        }
        if user != 0 {
            code |= code::USER;
        }
        if access == Access::Fetch && self.nxe() {
            code |= code::FETCH;
        }
        // A fault drops the entries for its address (SDM vol. 3, 4.10.4.1).
        self.tlb.flush_page(linear);
        self.raise(Exception::PageFault {
            address: linear,
            code,
        })
    }

    /// Sets the accessed bits, and the dirty bit for a write.
    fn mark_used(
        &mut self,
        memory: &Memory<'_>,
        found: &mut Found,
        access: Access,
    ) -> Result<(), Raised> {
        let leaf = if found.used[1].is_some() { 1 } else { 0 };
        for (level, used) in found.used.iter().enumerate() {
            let Some(used) = used else { continue };
            let mut value = used.value | ACCESSED;
            if level == leaf && access == Access::Write {
                value |= DIRTY;
                found.permissions.0 |= Permissions::DIRTY;
            }
            if value != used.value {
                // Both bits are in the low byte.
                self.write_physical(memory, used.address, 1, value)?;
            }
        }
        Ok(())
    }

    #[allow(clippy::cast_possible_truncation)] // 32-bit entries
    fn walk_32(&self, memory: &Memory<'_>, linear: u32) -> Result<Found, u16> {
        let pde_at = u64::from(self.cr3 & !PAGE_OFFSET) + u64::from(linear >> 22) * 4;
        let pde = u64::from(table_entry::<u32>(memory, pde_at));
        if pde & PRESENT == 0 {
            return Err(0);
        }
        let directory = Used {
            address: pde_at,
            value: pde,
        };
        if pde & LARGE != 0 && self.cr4 & cr4::PSE != 0 {
            // PSE-36 is not offered: bits 13 to 21 must be zero.
            if pde & 0x003f_e000 != 0 {
                return Err(code::PRESENT | code::RESERVED);
            }
            let frame = (pde as u32 & 0xffc0_0000 | linear & 0x003f_ffff) >> 12;
            let permissions = self.permissions(pde, pde).and(Permissions::PIECE_4M);
            return Ok(Found {
                frame,
                permissions,
                used: [Some(directory), None],
            });
        }
        let pte_at = (pde & 0xffff_f000) + u64::from(linear >> 12 & 0x3ff) * 4;
        let pte = u64::from(table_entry::<u32>(memory, pte_at));
        if pte & PRESENT == 0 {
            return Err(0);
        }
        let table = Used {
            address: pte_at,
            value: pte,
        };
        let permissions = self.permissions(pde & pte, pte);
        let frame = pte as u32 >> 12;
        Ok(Found {
            frame,
            permissions,
            used: [Some(directory), Some(table)],
        })
    }

    #[allow(clippy::cast_possible_truncation)] // frame numbers of 24 bits
    fn walk_pae(&self, memory: &Memory<'_>, linear: u32) -> Result<Found, u16> {
        let reserved = if self.nxe() {
            PAE_RESERVED
        } else {
            PAE_RESERVED | NO_EXECUTE
        };
        let pdpte = self.pdpte[(linear >> 30) as usize];
        if pdpte & PRESENT == 0 {
            return Err(0);
        }
        let pde_at = (pdpte & 0xf_ffff_f000) + u64::from(linear >> 21 & 0x1ff) * 8;
        let pde = table_entry::<u64>(memory, pde_at);
        if pde & PRESENT == 0 {
            return Err(0);
        }
        let directory = Used {
            address: pde_at,
            value: pde,
        };
        if pde & LARGE != 0 {
            if pde & (reserved | 0x001f_e000) != 0 {
                return Err(code::PRESENT | code::RESERVED);
            }
            let frame = ((pde & 0xf_ffe0_0000) >> 12) as u32 | linear >> 12 & 0x1ff;
            let permissions = self
                .permissions(pde, pde)
                .or_no_execute(pde)
                .and(Permissions::PIECE_2M);
            return Ok(Found {
                frame,
                permissions,
                used: [Some(directory), None],
            });
        }
        if pde & reserved != 0 {
            return Err(code::PRESENT | code::RESERVED);
        }
        let pte_at = (pde & 0xf_ffff_f000) + u64::from(linear >> 12 & 0x1ff) * 8;
        let pte = table_entry::<u64>(memory, pte_at);
        if pte & PRESENT == 0 {
            return Err(0);
        }
        if pte & reserved != 0 {
            return Err(code::PRESENT | code::RESERVED);
        }
        let table = Used {
            address: pte_at,
            value: pte,
        };
        let permissions = self.permissions(pde & pte, pte).or_no_execute(pde | pte);
        let frame = ((pte & 0xf_ffff_f000) >> 12) as u32;
        Ok(Found {
            frame,
            permissions,
            used: [Some(directory), Some(table)],
        })
    }

    /// `rights` is the AND of all levels, `leaf` the entry that maps the page.
    fn permissions(&self, rights: u64, leaf: u64) -> Permissions {
        let mut bits = 0;
        if rights & USER != 0 {
            bits |= Permissions::USER;
        }
        if rights & WRITABLE != 0 {
            bits |= Permissions::WRITE;
        }
        if leaf & DIRTY != 0 {
            bits |= Permissions::DIRTY;
        }
        if leaf & GLOBAL != 0 && self.cr4 & cr4::PGE != 0 {
            bits |= Permissions::GLOBAL;
        }
        Permissions(bits)
    }

    /// Reads the four page-directory-pointer entries at `cr3`, as a load of
    /// CR3 with PAE does. `None`: a reserved bit is set in a present one, and
    /// the load raises `#GP(0)`.
    pub(crate) fn read_pdptes(memory: &Memory<'_>, cr3: u32) -> Option<[u64; 4]> {
        let base = u64::from(cr3 & !0x1f);
        let mut pdptes = [0; 4];
        for (pdpte, at) in pdptes.iter_mut().zip((base..).step_by(8)) {
            *pdpte = table_entry::<u64>(memory, at);
            if *pdpte & PRESENT != 0 && *pdpte & (PAE_RESERVED | NO_EXECUTE | 0x1e6) != 0 {
                return None;
            }
        }
        Some(pdptes)
    }
}

impl Permissions {
    fn and(self, bit: u32) -> Self {
        Self(self.0 | bit)
    }

    fn or_no_execute(self, entries: u64) -> Self {
        // Without NXE the bit is reserved and never gets here.
        if entries & NO_EXECUTE != 0 {
            Self(self.0 | Self::NO_EXECUTE)
        } else {
            self
        }
    }
}

/// A page-table entry; memory that nothing backs holds zeros (not present).
#[allow(clippy::cast_possible_truncation)] // offsets in a page
fn table_entry<W: Word>(memory: &Memory<'_>, address: u64) -> W {
    let page = memory.page((address >> 12) as u32);
    page.and_then(|(cells, _)| W::get(cells, address as usize & 0xfff))
        .unwrap_or_default()
}

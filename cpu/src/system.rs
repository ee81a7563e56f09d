//! System instructions, control transfers through descriptors, and delivery of
//! exceptions and interrupts.

use iced_x86::Instruction;

use crate::exception::Exception;
use crate::exit::Exit;
use crate::lower::{Context, Lowered};
use crate::memory::Memory;
use crate::state::{Core, Raised};

/// The handler of an instruction of this family.
pub(crate) fn lower(_: &Instruction, _: Context) -> Option<Lowered> {
    None
}

/// Delivers an exception. `Core::eip` is what has to be saved: the faulting
/// instruction's own for a fault, the next one's for a trap. An exception
/// during delivery becomes a double fault, then [`Exit::TripleFault`]. `Err`:
/// `Core::stop` holds an exit or `Restep`, and nothing was changed.
pub(crate) fn deliver_exception(
    core: &mut Core,
    _: &Memory<'_>,
    _: Exception,
) -> Result<(), Raised> {
    Err(core.exit(Exit::TripleFault))
}

/// Delivers an external interrupt between two instructions.
pub(crate) fn deliver_interrupt(core: &mut Core, _: &Memory<'_>, _: u8) -> Result<(), Raised> {
    Err(core.exit(Exit::TripleFault))
}

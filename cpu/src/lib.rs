//! A deterministic 32-bit x86 CPU.
//!
//! [`Cpu`] executes guest code on memory that is lent to it for one
//! [`Cpu::run`]. The crate has no I/O, no clock, no global state and no unsafe
//! code: the same state, memory and answers give the same instructions
//! retired, the same state and the same memory, on any host.
//!
//! # Map
//! * `state` (registers and modes), `segment`, `registers`, `flags`,
//!   `exception`, `exit`: what there is. `memory`, `tlb`, `paging`, `access`,
//!   `io`: how instructions reach memory and I/O.
//! * `decode` makes blocks of `op::Op`s from bytes, `lower` chooses the
//!   handlers, `block` keeps the blocks, `run` executes them.
//! * `integer`, `system`, `x87`, `simd`: the instructions.
//!
//! # Adding an instruction
//! 1. `lower::is_allowed` must hold for its iced `Code` (by CPUID feature).
//! 2. The family's `lower(&Instruction, Context) -> Option<Lowered>` returns
//!    its handler: `lower::Lowered::next` if it always goes on with the next
//!    instruction, `lower::Lowered::end` if it may jump, or change mode, IF,
//!    TF or paging.
//! 3. The handler is a `fn(&mut Core, &Memory, &Op) -> Flow`; its operands are
//!    in the `Op` already (`op::Op` says where). Memory operands:
//!    `core.load::<u32>(memory, op.seg, op.ea(core))?` and `core.store`; by
//!    linear address `core.load_linear(memory, linear, SUPERVISOR or
//!    core.user)`, `core.store_linear`; to be sure before several stores,
//!    `core.writable(...)` and `core.probe_write`. Ports: `core.port_in`.
//! 4. To raise: `return Err(core.gp(0))`, `core.raise(Exception::...)`; a
//!    function that returns `Result<(), Raised>` or `Result<Flow, Raised>`
//!    becomes a handler with `.into()`.
//! 5. EIP: see `op::Handler`. A handler that changed mode, segments, paging,
//!    IF or TF sets `core.eip` and returns `op::Flow::End`.
#![forbid(unsafe_code)]

mod access;
mod address;
mod arch;
mod block;
mod code_map;
#[cfg(feature = "test-support")]
pub mod conformance;
mod cpu;
mod decode;
mod exception;
mod exit;
pub mod flags;
mod float;
#[cfg(test)]
mod golden;
mod hooks;
mod integer;
mod io;
mod lower;
mod memory;
mod model;
mod op;
mod paging;
pub mod registers;
mod run;
mod save;
pub mod segment;
pub mod simd;
mod state;
mod system;
#[cfg(feature = "test-support")]
pub mod testing;
#[cfg(test)]
mod tests;
mod tlb;
pub mod x87;

pub use address::{Instructions, LinearAddr, PhysAddr};
pub use arch::UserRegisters;
pub use cpu::Cpu;
pub use exception::{Exception, ExceptionClass};
pub use exit::Exit;
pub use hooks::{EdgeCallback, WatchKind, WatchRange};
pub use lower::{allowed_codes, is_allowed};
pub use memory::{Memory, Region, RegionKind};
pub use model::CpuModel;
pub use save::{CpuState, PendingIo, StateError, TlbEntry};
pub use state::Shadow;

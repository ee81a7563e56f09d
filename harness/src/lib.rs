//! All that knows about the system call: the executor, which runs a program in
//! the guest and brings its trace back; the oracles, which judge it; and what
//! tells one finding from another.
//!
//! ```text
//! guest ─► template ─► executor ─► execution ─► oracle, complaint ─► verdict
//! ```
//! * [`guest`]: kernel, initramfs and command line. [`template`]: that guest,
//!   booted until its agent is ready, as a snapshot in memory or in a file.
//! * [`link`]: frames on the agent's stream. [`executor`]: restore, send a
//!   program, run until the trace is whole.
//! * [`oracle`]: which outcomes a program allows, by property. [`complaint`]:
//!   what the kernel says of itself on the console. [`verdict`]: both together.
//! * [`replay`]: what is recorded of a run, and whether another gives the same.
//!   [`minimize`]: smaller programs with the same finding.
//! * [`engines`]: whether two engines give the same. [`pair`]: what one finds,
//!   confirmed on the other.
//! * [`profile`]: where instructions go, by the kernel's [`symbols`].
//! * [`fuzz`]: all of that for one input of a fuzz target. [`mutate`]: how
//!   inputs are made from others.
//!
//! The crate knows nothing of how the machine runs its CPU.

pub mod complaint;
pub mod engines;
pub mod executor;
pub mod fuzz;
pub mod guest;
pub mod link;
pub mod minimize;
pub mod mutate;
pub mod oracle;
pub mod pair;
pub mod profile;
pub mod replay;
pub mod symbols;
pub mod template;
pub mod verdict;

pub use executor::{Ending, Execution, Executor};
pub use guest::Guest;
pub use template::Template;
pub use verdict::{Finding, Verdict};

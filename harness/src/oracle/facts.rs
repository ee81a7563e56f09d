//! What a program says of itself, that several oracles rely on.

use latefork_wire::op::{Handling, Op};
use latefork_wire::program::Program;

/// Whether any step is one of those.
pub(super) fn any(program: &Program, is: impl Fn(&Op) -> bool) -> bool {
    program.steps.iter().any(|step| is(&step.op))
}

/// Whether steps run one after the other, in the order of the program: one
/// thread, no children, no calls from handlers.
pub(super) fn is_sequential(program: &Program) -> bool {
    let one = program.steps.iter().all(|step| step.thread.number() == 0);
    one && !any(program, |op| match op {
        Op::Fork(_) => true,
        Op::Handle(handle) => matches!(handle.how, Handling::Call | Handling::CallOnStack),
        _ => false,
    })
}

/// Whether a step can end a thread or replace the image.
pub(super) fn may_leave(program: &Program) -> bool {
    any(program, |op| {
        matches!(op, Op::Exit(_) | Op::ExitGroup(_) | Op::Exec(_))
    })
}

//! Several instructions as one op.
//!
//! A kernel executes more different code than the host's predictor of indirect
//! jumps can hold, so that dispatch costs several times what an instruction
//! does. An op that executes two or more is worth its handler: comparisons with
//! their jumps (`compare`), runs of PUSH or POP (`run`), pairs of frequent
//! instructions (`pair`), and the counting of an edge (`count`).
//!
//! Nothing of this shows: such an op is as if its instructions were executed
//! one after the other. If one of them raises, those before it are done and
//! [`crate::state::Core::done`] says so. Where only some of them fit (the
//! budget, single steps), blocks of one instruction are used instead.

mod compare;
mod count;
mod pair;
mod part;
mod run;
mod shape;

use iced_x86::{ConditionCode, Instruction};

use self::shape::Shape;
use crate::lower::Context;
use crate::op::{Flow, Op};
use crate::state::{Core, Done};

pub(crate) use compare::fuse;
pub(crate) use count::{count_edge, may_count};

/// An instruction, or a comparison and its jump, before it is known what it is
/// fused with.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) op: Op,
    /// The first instruction.
    pub(crate) instruction: Instruction,
    /// The condition of the jump that is fused with it.
    pub(crate) condition: Option<ConditionCode>,
}

/// Makes as few ops as can be of the instructions of a block.
pub(crate) fn combine(drafts: &[Draft], context: Context) -> Vec<Op> {
    let shapes: Vec<Shape> = drafts
        .iter()
        .map(|draft| shape::of(draft, context))
        .collect();
    // From each place on: the fewest ops, and how many drafts the first takes.
    let mut best = vec![(0, 1); drafts.len() + 1];
    for at in (0..drafts.len()).rev() {
        let longest = run::longest(&shapes[at..]);
        let pair = usize::from(pair::can(&shapes[at..]));
        best[at] = (1..=longest.max(1 + pair))
            .map(|taken| (best[at + taken].0 + 1, taken))
            .filter(|&(_, taken)| taken <= longest || taken <= 1 + pair)
            .min_by_key(|&(ops, taken)| (ops, std::cmp::Reverse(taken)))
            .unwrap_or((0, 1));
    }
    let mut ops = Vec::with_capacity(best[0].0);
    let mut at = 0;
    while at < drafts.len() {
        let taken = best[at].1;
        let (drafts, shapes) = (&drafts[at..at + taken], &shapes[at..at + taken]);
        ops.push(one_op(drafts, shapes));
        at += taken;
    }
    ops
}

/// The op for these drafts together.
fn one_op(drafts: &[Draft], shapes: &[Shape]) -> Op {
    let mut op = drafts[0].op.clone();
    if drafts.len() > 1 {
        op.len = drafts.iter().map(|draft| draft.op.len).sum();
        op.retires = drafts.iter().map(|draft| draft.op.retires).sum();
        if !run::make(&mut op, shapes) {
            pair::make(&mut op, shapes);
        }
    }
    op
}

/// The flow of an op whose first `count` instructions, of `bytes` bytes, are
/// done, when the next one raised.
#[inline(always)]
fn raised_after(core: &mut Core, bytes: u8, count: u8) -> Flow {
    core.done = Done { bytes, count };
    Flow::Raised
}

/// As [`raised_after`], where the next one is to be executed alone.
#[cold]
fn apart_after(core: &mut Core, bytes: u8, count: u8) -> Flow {
    match core.need_stepping() {
        Ok(()) => Flow::Next,
        Err(_) => raised_after(core, bytes, count),
    }
}

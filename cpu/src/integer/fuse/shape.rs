//! What an instruction is, as a part of a fused op.

use iced_x86::{Code, ConditionCode, Instruction, Mnemonic, OpKind};

use super::Draft;
use crate::integer::operand::{Kind, kind, size};
use crate::lower::Context;
use crate::op::Op;

/// The frequent instructions that do not jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Load,
    LoadByte,
    Store,
    Move,
    Push,
    Pop,
    Add,
    Sub,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

/// All that can be the second of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It goes on with the next instruction.
    Plain(Class),
    /// A conditional jump.
    Jcc(ConditionCode),
    /// A comparison of two registers, and the conditional jump after it.
    CompareJcc(ConditionCode),
    /// The same with TEST.
    TestJcc(ConditionCode),
    /// A relative jump.
    Jump,
    /// A relative call.
    Call,
    /// A near return that drops nothing.
    Ret,
    /// Anything else: never fused.
    Other,
}

/// A form, with its operands as [`super::part::Place`] gives them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) form: Form,
    pub(super) reg: u8,
    pub(super) other: u8,
    pub(super) word: u32,
    /// Bytes.
    pub(super) len: u8,
}

/// The register that is always zero.
const ZERO: u8 = 8;

/// The shape of a draft.
pub(super) fn of(draft: &Draft, context: Context) -> Shape {
    let op = &draft.op;
    let mut shape = Shape {
        form: Form::Other,
        reg: op.dst,
        other: ZERO,
        word: 0,
        len: op.len,
    };
    if context.flat_stack() && op.has(Op::ADDRESS32) {
        shape.form = match op.retires {
            1 => one(&mut shape, draft, context),
            2 => compare_and_jump(&mut shape, draft, context),
            _ => Form::Other,
        };
    }
    shape
}

/// The form of a single instruction.
fn one(shape: &mut Shape, draft: &Draft, context: Context) -> Form {
    if let Some(form) = jump(&draft.instruction) {
        shape.word = draft.op.imm;
        return form;
    }
    plain(shape, draft, context).map_or(Form::Other, Form::Plain)
}

fn jump(i: &Instruction) -> Option<Form> {
    if i.code() == Code::Retnd {
        return Some(Form::Ret);
    }
    if i.op_count() != 1 || i.op_kind(0) != OpKind::NearBranch32 {
        return None;
    }
    match i.mnemonic() {
        Mnemonic::Jmp => Some(Form::Jump),
        Mnemonic::Call => Some(Form::Call),
        _ if i.is_jcc_short_or_near() => Some(Form::Jcc(i.condition_code())),
        _ => None,
    }
}

fn plain(shape: &mut Shape, draft: &Draft, context: Context) -> Option<Class> {
    let (op, i) = (&draft.op, &draft.instruction);
    let kinds = (kind(i, 0, context), kind(i, 1, context));
    if kinds.0 == Kind::Other || size(i, 0) != 4 {
        return None;
    }
    let class = match (i.mnemonic(), kinds) {
        (Mnemonic::Push, (Kind::Register, Kind::Absent)) => return Some(Class::Push),
        (Mnemonic::Pop, (Kind::Register, Kind::Absent)) => return Some(Class::Pop),
        (Mnemonic::Mov, (Kind::Register, Kind::Based)) => Class::Load,
        (Mnemonic::Movzx, (Kind::Register, Kind::Based)) if size(i, 1) == 1 => Class::LoadByte,
        (Mnemonic::Mov, (Kind::Based, Kind::Register)) => Class::Store,
        (Mnemonic::Lea, (Kind::Register, Kind::Based)) => Class::Move,
        (Mnemonic::Shl, (Kind::Register, Kind::Immediate)) if op.imm & 31 != 0 => Class::Shl,
        (Mnemonic::Shr, (Kind::Register, Kind::Immediate)) if op.imm & 31 != 0 => Class::Shr,
        (mnemonic, (Kind::Register, Kind::Register | Kind::Immediate)) => match mnemonic {
            Mnemonic::Mov => Class::Move,
            Mnemonic::Add => Class::Add,
            Mnemonic::Sub => Class::Sub,
            Mnemonic::And => Class::And,
            Mnemonic::Or => Class::Or,
            Mnemonic::Xor => Class::Xor,
            _ => return None,
        },
        _ => return None,
    };
    if class == Class::Store {
        shape.reg = op.src;
    }
    (shape.other, shape.word) = match kinds {
        (_, Kind::Immediate) => (ZERO, op.imm),
        (_, Kind::Register) if class != Class::Store => (op.src, 0),
        _ => (op.base, op.disp),
    };
    Some(class)
}

/// The form of a comparison that [`super::fuse`] has joined with its jump.
fn compare_and_jump(shape: &mut Shape, draft: &Draft, context: Context) -> Form {
    let (op, i) = (&draft.op, &draft.instruction);
    let registers = [kind(i, 0, context), kind(i, 1, context)] == [Kind::Register; 2];
    let Some(condition) = draft.condition.filter(|_| registers && size(i, 0) == 4) else {
        return Form::Other;
    };
    // Where `compare` puts a displacement if there is no memory operand.
    (shape.other, shape.word) = (op.src, op.disp);
    if i.mnemonic() == Mnemonic::Test {
        Form::TestJcc(condition)
    } else {
        Form::CompareJcc(condition)
    }
}

//! Calls: through `async`, plain, and in the control run; what their cells
//! hold before, at the return, and at the end.

use core::sync::atomic::Ordering::{Acquire, Release};

use latefork_wire::call::{ASYNC_INDEX, Call, Watch};
use latefork_wire::layout::{STATUS_UNWRITTEN, slot, slot_of};
use latefork_wire::op::OpIndex;
use latefork_wire::resolve::Role;
use latefork_wire::trace::Detail;

use super::values::{arguments, pointer};
use super::{Context, Flow, account, control, registers, table};
use crate::memory;
use crate::rt::{self, Keep};
use crate::shared::{CallState, Pending, Reporter, get, set, shared};
use crate::sys;

/// The system call number of `async`, fixed when the agent is built.
pub const ASYNC_NUMBER: u32 = match option_env!("LATEFORK_ASYNC_NUMBER") {
    Some(text) => decimal(text),
    None => 463,
};

const fn decimal(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut number = 0;
    while at < bytes.len() {
        assert!(
            bytes[at].is_ascii_digit(),
            "LATEFORK_ASYNC_NUMBER is a number"
        );
        number = number * 10 + (bytes[at] - b'0') as u32;
        at += 1;
    }
    number
}

/// Descriptors that can change a file or a semaphore: write, open, semtimedop,
/// splice.
const CHANGES_FILES: [u32; 4] = [2, 3, 17, 20];

/// A call with everything resolved.
#[derive(Clone, Copy)]
pub struct Ready {
    pub index: u32,
    pub flags: u32,
    pub status: u32,
    pub args: u32,
    pub values: [u32; 6],
}

/// Tries of a task that prepares a call which others look at meanwhile.
const LOCK_TRIES: u32 = 16;

/// Fills the call's cells and remembers where they are.
///
/// Until `phase` says so nobody looks at the status: a thread that waits for it
/// would take what the cell held before for one.
pub fn prepare(context: Context, call: &Call) -> Ready {
    let state = shared().call(context.op);
    withdraw(state);
    memory::prepare_slot(context.op);
    let status = pointer(context, call.status, Role::Status);
    let args = pointer(context, call.args, Role::Args);
    // Known before the arguments are resolved: they may point to them.
    set(&state.status, status);
    set(&state.args, args);
    set(&state.index, call.index.value());
    set(&state.bytes, u32::from(call.watch == Watch::Bytes));
    set(&state.thread, u32::from(context.thread));
    let (values, buffer) = arguments(context, call);
    set(&state.buffer, buffer);
    memory::stage(status, &STATUS_UNWRITTEN.to_le_bytes(), context.lane());
    stage_arguments(context, args, &values, call);
    set(
        &state.seen,
        memory::peek(status, context.lane()).unwrap_or(STATUS_UNWRITTEN),
    );
    set(&state.changes, 0);
    set(&state.args_hash, args_hash(context.op));
    publish(state, 1);
    Ready {
        index: call.index.value(),
        flags: call.flags.value(),
        status,
        args,
        values,
    }
}

/// Takes a call out of everybody's sight. Whoever has the lock gives it back
/// soon, unless it is code of this thread that a signal handler interrupted:
/// for that nobody waits.
fn withdraw(state: &CallState) {
    for _ in 0..LOCK_TRIES {
        if state.try_lock() {
            break;
        }
        sys::sched_yield();
    }
    set(&state.phase, 0);
}

/// Shows the call again, with `seen` and `changes` as they are now.
fn publish(state: &CallState, phase: u32) {
    state.phase.store(phase, Release);
    state.unlock();
}

/// Writes only what the descriptor claims, so that nothing lies behind it.
fn stage_arguments(context: Context, args: u32, values: &[u32; 6], call: &Call) {
    let claims = call.descriptor().map_or(6, |row| row.claims.min(6));
    let mut block = [0; 24];
    for (bytes, value) in block.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    memory::stage(args, &block[..usize::from(claims) * 4], context.lane());
}

fn args_hash(op: OpIndex) -> u32 {
    latefork_wire::trace::hash((0..8).map(|word| memory::slot_word(op, slot::ARGS + word * 4)))
}

/// Makes the call, once or more, as the run's flavour says.
pub fn run(context: Context, call: &Call) -> Flow {
    let ready = prepare(context, call);
    for round in 0..call.times() {
        issue(context, call, &ready, round);
    }
    Flow::Reported
}

/// Makes the prepared call of `op` in a signal handler.
pub fn run_prepared(context: Context, op: OpIndex) {
    let state = shared().call(op);
    let latefork_wire::op::Op::Prepare(call) = shared().program().step(op.index()).op else {
        return;
    };
    if get(&state.phase) == 0 {
        return;
    }
    let context = Context { op, ..context };
    let ready = prepare(context, &call);
    issue(context, &call, &ready, 0);
}

fn issue(context: Context, call: &Call, ready: &Ready, round: u32) {
    let shared = shared();
    let state = shared.call(context.op);
    if round > 0 {
        withdraw(state);
        memory::clear_counters(context.op);
        memory::stage(
            ready.status,
            &STATUS_UNWRITTEN.to_le_bytes(),
            context.lane(),
        );
        set(&state.seen, STATUS_UNWRITTEN);
        publish(state, 2);
    }
    let from = sys::gettid();
    set(&state.from, from);
    state.phase.store(2, Release);
    if CHANGES_FILES.contains(&ready.index) {
        set(&shared.touched, 1);
    }
    shared.set_pending(context.op, Pending::Yes);
    context.reporter().report_as(
        from,
        Detail::Issued {
            status: ready.status,
            args: ready.args,
            index: ready.index,
            buffer: get(&state.buffer),
            round,
            hash: memory::buffer_hash(context.op, ready.index),
        },
    );
    report_result(context.op, context.lane(), When::Issued);
    let rows = call.watch.table().then(|| table::read_all(context));
    let value = match shared.is_control() {
        true => control::make(context, ready),
        false => make(context, call, ready),
    };
    let tid = sys::gettid();
    arrived(context, from, tid);
    note_return(context, value, from, tid);
    if value == 0 && tid == from {
        account::look(context.reporter(), ready.index);
    }
    if let Some(rows) = rows {
        table::compare(context, &rows);
    }
    if (value as i32) < 0 {
        shared.set_pending(context.op, Pending::No);
    }
}

/// The system call itself, through the counting stub.
fn make(context: Context, call: &Call, ready: &Ready) -> u32 {
    let watched = call.watch.registers();
    let keep = if watched {
        Keep::Registers
    } else {
        Keep::Nothing
    };
    let mut sse = if watched { registers::Sse::new() } else { None };
    let mut frame = registers::frame(context.op, ready, keep, sse.as_mut());
    let fault = FailNth::arm(call.fail_nth);
    // SAFETY: ebp is this operation's slot.
    let value = unsafe { rt::stub(&mut frame, keep) };
    fault.disarm();
    if watched {
        registers::compare(context, &frame, value, sse.as_ref());
    }
    value
}

/// fail-nth of the task, armed for the next system call alone.
struct FailNth {
    fd: Option<sys::Fd>,
}

impl FailNth {
    fn arm(nth: u8) -> Self {
        if nth == 0 {
            return Self { fd: None };
        }
        let fd = sys::open("/proc/thread-self/fail-nth", sys::O_RDWR | sys::O_CLOEXEC);
        if fd < 0 {
            crate::shared::agent_error(latefork_wire::trace::AgentFault::Unsupported, fd);
            return Self { fd: None };
        }
        let digits = [b'0' + nth / 100, b'0' + nth / 10 % 10, b'0' + nth % 10];
        sys::write(fd, &digits);
        Self { fd: Some(fd) }
    }

    /// The descriptor belongs to the task that armed it: the worker, if the
    /// call forked.
    fn disarm(self) {
        if let Some(fd) = self.fd {
            sys::write(fd, b"0");
            sys::close(fd);
        }
    }
}

/// The continuation is here: who is who from now on.
fn arrived(context: Context, from: u32, tid: u32) {
    let shared = shared();
    if !crate::shared::in_child() {
        set(&shared.threads[usize::from(context.thread)].now, tid);
    }
    if tid != from {
        shared.add_worker(from);
    }
}

fn note_return(context: Context, value: u32, from: u32, tid: u32) {
    let state = shared().call(context.op);
    let seen = memory::peek(get(&state.status), context.lane());
    let hash = memory::buffer_hash(context.op, get(&state.index));
    context.reporter().report_as(
        tid,
        Detail::Returned {
            value,
            from,
            continuations: memory::slot_word(context.op, slot::CONTINUATIONS),
            status: seen.unwrap_or(STATUS_UNWRITTEN),
            hash,
            canaries: memory::damaged_canaries(context.op),
        },
    );
    report_result(context.op, context.lane(), When::Returned);
    notice(context.op, context.lane(), 0);
}

/// When a result buffer is looked at: the numbers of `result` events.
#[derive(Clone, Copy)]
enum When {
    Issued = 0,
    Returned = 1,
    Status = 2,
    End = 3,
}

/// Reports what lies in the call's result buffer, unless that is the own one,
/// whose hash stands in the other events.
fn report_result(op: OpIndex, lane: u32, when: When) {
    let state = shared().call(op);
    if let Some((bytes, hash)) = result_of(op, state, lane) {
        write_result(op, state, when, (bytes, hash));
    }
}

fn result_of(op: OpIndex, state: &CallState, lane: u32) -> Option<(u32, u32)> {
    let at = get(&state.buffer);
    let own = slot_of(op.number()) + slot::BUFFER;
    (at != 0 && at != own).then(|| memory::result_hash(at, get(&state.index), lane))
}

fn write_result(op: OpIndex, state: &CallState, when: When, (bytes, hash): (u32, u32)) {
    reporter_of(op, state).report(Detail::ResultSeen {
        when: when as u32,
        at: get(&state.buffer),
        bytes,
        hash,
    });
}

/// Looks whether the status of `op` changed since it was last seen. Not while
/// another task does, or prepares the call: that one sees what there is.
fn notice(op: OpIndex, lane: u32, late: u32) {
    let state = shared().call(op);
    if state.phase.load(Acquire) == 0 || !state.try_lock() {
        return;
    }
    if state.phase.load(Acquire) != 0 {
        notice_locked(op, state, lane, late);
    }
    state.unlock();
}

fn notice_locked(op: OpIndex, state: &CallState, lane: u32, late: u32) {
    let Some(new) = memory::peek(get(&state.status), lane) else {
        return;
    };
    let old = get(&state.seen);
    if new == old {
        return;
    }
    // Before anything else: what was written later must not count.
    let hash = memory::buffer_hash(op, get(&state.index));
    let result = result_of(op, state, lane);
    set(&state.seen, new);
    let changes = get(&state.changes) + 1;
    set(&state.changes, changes);
    shared().set_pending(op, Pending::No);
    reporter_of(op, state).report(Detail::Status {
        old,
        new,
        hash,
        changes,
        late,
    });
    if let Some(result) = result {
        write_result(op, state, When::Status, result);
    }
}

fn reporter_of(op: OpIndex, state: &CallState) -> Reporter {
    Reporter::new(get(&state.thread) as u8 % 4, op)
}

/// Looks at every status that is still missing.
pub fn notice_statuses(context: Context) {
    for (at, word) in shared().pending.iter().enumerate() {
        let mut bits = get(word);
        while bits != 0 {
            let op = OpIndex::new((at * 32) as u8 + bits.trailing_zeros() as u8);
            bits &= bits - 1;
            notice(op, context.lane(), 1);
        }
    }
}

/// The status of `op` as last seen, after another look; `None` while it is
/// missing.
pub fn status_now(context: Context, op: OpIndex) -> Option<u32> {
    notice(op, context.lane(), 1);
    let state = shared().call(op);
    let there = state.phase.load(Acquire) != 0 && get(&state.changes) > 0;
    there.then(|| get(&state.seen))
}

/// What every call has left, once nothing of the program runs any more.
pub fn write_finals() {
    let shared = shared();
    for at in 0..shared.program().len() {
        let op = OpIndex::new(at as u8);
        let state = shared.call(op);
        if get(&state.phase) != 2 {
            continue;
        }
        // Everything that was withheld is answered by now: a slow page may be
        // touched.
        touch_slow(get(&state.status));
        // Whoever had it is gone, or waits for the program's end.
        state.unlock();
        notice(op, 0, 1);
        if shared.is_worker(get(&state.from)) {
            account::look(reporter_of(op, state), get(&state.index));
        }
        write_final(op, state);
        if get(&state.bytes) != 0 {
            write_bytes(op, state);
        }
    }
}

fn touch_slow(at: u32) {
    if matches!(
        latefork_wire::resolve::ground(at),
        latefork_wire::resolve::Ground::Slow { .. }
    ) {
        memory::get_guarded(at, &mut [0], 0);
    }
}

fn write_final(op: OpIndex, state: &CallState) {
    let second = memory::slot_word(op, slot::SECOND);
    let continuations = memory::slot_word(op, slot::CONTINUATIONS);
    let reporter = reporter_of(op, state);
    if continuations > 1 {
        reporter.report(Detail::Second {
            second,
            continuations,
        });
    }
    reporter.report(Detail::Final {
        continuations,
        status: get(&state.seen),
        changes: get(&state.changes),
        hash: memory::buffer_hash(op, get(&state.index)),
        canaries: memory::damaged_canaries(op),
        altered: u32::from(args_hash(op) != get(&state.args_hash)),
    });
    report_result(op, 0, When::End);
}

fn write_bytes(op: OpIndex, state: &CallState) {
    for offset in (0..100).step_by(20) {
        let [b0, b4, b8, b12, b16] = memory::buffer_words(op, offset);
        reporter_of(op, state).report(Detail::Bytes {
            offset,
            b0,
            b4,
            b8,
            b12,
            b16,
        });
    }
}

/// Makes the plain call in this thread; its result is the step's.
pub fn run_plain(context: Context, call: &Call) -> Flow {
    let ready = prepare(context, call);
    set(&shared().call(context.op).phase, 1);
    let Some(number) = plain_number(ready.index) else {
        return Flow::Done(sys::EINVAL);
    };
    let fault = FailNth::arm(call.fail_nth);
    let mut value = 0;
    for _ in 0..call.times() {
        value = sys::call(number, &ready.values);
    }
    fault.disarm();
    Flow::Done(value)
}

/// The system call number of a descriptor's function.
pub fn plain_number(index: u32) -> Option<u32> {
    let row = latefork_wire::call::DESCRIPTORS.get(index as usize)?;
    if index == u32::from(ASYNC_INDEX) {
        return Some(ASYNC_NUMBER);
    }
    row.plain.map(u32::from)
}

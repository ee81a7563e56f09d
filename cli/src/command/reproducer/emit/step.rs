//! One step as C statements.

use std::fmt::Write as _;

use latefork_wire::call::{ASYNC_INDEX, Call, DESCRIPTORS};
use latefork_wire::layout::{MAP_STRIDE, MAPS, PAGE, SHARED_CELLS, slot, slot_of};
use latefork_wire::op::{
    ExecKind, ForkKind, FuseOps, Handling, MapKind, MapSlot, MaskHow, Op, OpIndex, Poke,
    PokeTarget, PrivilegeCase, Protection, Resource, Send, Sender, SigSet, Thread, TimerKind,
};
use latefork_wire::program::Step;
use latefork_wire::resolve::{Ground, Owner, Role, address, ground, slow_page};
use latefork_wire::value::{Arg, BIG_VALUES, LENGTHS, PATHS, Place, Pointer, Scalar};

use super::{Cells, NotInC};

/// Bytes of a map slot that operations on it change.
const MAP_BYTES: u32 = 4 * PAGE;

/// Whose step it is.
#[derive(Clone, Copy)]
struct Here {
    op: OpIndex,
    thread: Thread,
}

/// The statements of step `at`.
pub(super) fn statements(at: usize, step: &Step, cells: &mut Cells) -> Result<String, NotInC> {
    let here = Here {
        op: OpIndex::new(u8::try_from(at).unwrap_or(u8::MAX)),
        thread: step.thread,
    };
    let no = |why| {
        Err(NotInC {
            op: at,
            word: step.op.code().word(),
            why,
        })
    };
    let mut c = String::new();
    match &step.op {
        Op::Nop(_) => {}
        Op::Async(call) => asynchronous(&mut c, here, call, cells),
        Op::Prepare(call) => {
            prepare(&mut c, here, call, cells);
        }
        Op::Plain(call) => plain(&mut c, here, call, cells),
        Op::Observe(_) => line(&mut c, "/* only the harness looks here */"),
        Op::Handle(handle) => match handling(handle.how) {
            Some((flags, action)) => line(
                &mut c,
                &format!("handle({}, {flags:#x}u, {action});", handle.sig.number()),
            ),
            None => return no("a handler that makes calls is the agent's"),
        },
        Op::Timer(timer) => match timer.kind {
            TimerKind::Real => line(&mut c, &format!("alarm_in({});", timer.ticks)),
            TimerKind::Disarm => line(&mut c, "alarm_in(0);"),
            TimerKind::Process | TimerKind::Thread => return no("POSIX timers are the agent's"),
        },
        Op::Ptrace(_) => return no("the agent's helper traces"),
        Op::Fault(_) | Op::KernelLimit(_) => {
            return no("the agent's helper turns the kernel's knobs");
        }
        Op::Arm(_) => return no("per-task state is armed by the agent"),
        Op::Poke(poke) => self::poke(&mut c, here, poke, cells),
        op => line(&mut c, &simple(here, op, cells)),
    }
    Ok(c)
}

fn line(c: &mut String, statement: &str) {
    let _ = writeln!(c, "\t{statement}");
}

/// Steps that are one statement.
fn simple(here: Here, op: &Op, cells: &Cells) -> String {
    match op {
        Op::Create(o) => format!("create({}, {});", o.slot.number(), o.kind as u8),
        Op::Close(o) => format!("close_end({}, {});", o.slot.number(), o.end.number()),
        Op::Feed(o) => {
            let (slot, end) = (o.slot.number(), o.end.number());
            format!("feed({slot}, {end}, {});", o.bytes.clamp(1, 128))
        }
        Op::Drain(o) => {
            format!(
                "drain({}, {}, {});",
                o.slot.number(),
                o.end.number(),
                o.chunks
            )
        }
        Op::NonBlock(o) => {
            let flag = if o.on % 2 == 1 { "04000" } else { "0" };
            let (slot, end) = (o.slot.number(), o.end.number());
            format!("sys3(221, shared->fds[{slot}][{end}], 4, {flag});")
        }
        Op::Fuse(o) => {
            let mask = match o.on {
                FuseOps::All => 0xfe,
                other => 1 << other as u32,
            };
            let (file, action) = (o.file.number(), o.action as u8);
            format!("fuse({file}, {action}, {mask:#x}u, {});", o.value)
        }
        Op::AwaitHeld(o) => {
            format!("await_held({}, {}, {});", o.file.number(), o.count, o.ticks)
        }
        Op::Map(o) => map(o.slot, o.kind, u32::from(o.pages % 4) + 1),
        Op::Protect(o) => {
            let to = match o.to {
                Protection::None => 0,
                Protection::Read => 1,
                Protection::Write => 2,
                Protection::ReadWrite => 3,
            };
            format!("sys3(125, {:#x}u, {MAP_BYTES}, {to});", map_start(o.slot))
        }
        Op::Unmap(o) => format!("sys2(91, {:#x}u, {MAP_BYTES});", map_start(o.slot)),
        Op::Discard(o) => format!("sys3(219, {:#x}u, {MAP_BYTES}, 4);", map_start(o.slot)),
        Op::Touch(o) => {
            let at = match o.at.place {
                Place::Own => SHARED_CELLS,
                _ => pointer(here, o.at, Role::Buffer, cells),
            };
            format!("touch({at:#x}u);")
        }
        Op::Mask(o) => {
            let how = match o.how {
                MaskHow::Block => 0,
                MaskHow::Unblock => 1,
                MaskHow::Set => 2,
            };
            format!("mask({how}, {:#x}ull);", o.set.bits())
        }
        Op::Send(o) => send(o),
        Op::AltStack(o) => {
            let bytes = [8192, 2048, 0][o.kind as usize];
            format!("altstack({}, {bytes});", here.thread.number())
        }
        Op::SigWait(o) => format!("sigwait({:#x}ull, {});", o.set.bits(), o.ticks),
        Op::Spawn(o) => format!("spawn({});", o.thread.number()),
        Op::Fork(o) => {
            let flags = match o.kind {
                ForkKind::Fork => 17,
                ForkKind::Vfork => 0x4000 | 17,
                ForkKind::Sibling => 0x8000 | 17,
            };
            format!(
                "{{\n\tint pid = sys1(120, {flags:#x});\n\n\tkeep_child(pid);\n\tif (pid == 0) {{"
            )
        }
        Op::Wait(o) => format!("wait_child({});", o.ticks),
        Op::Exec(o) => match o.kind {
            ExecKind::Agent => "execute(\"/proc/self/exe\");".to_owned(),
            ExecKind::Missing => "execute(\"/t/missing\");".to_owned(),
            ExecKind::NoProgram => "execute(\"/t/file\");".to_owned(),
        },
        Op::Exit(o) => {
            let thread = here.thread.number();
            format!("shared->done[{thread}] = 1;\n\tsys1(1, {});", o.code)
        }
        Op::ExitGroup(o) => format!("sys1(252, {});", o.code),
        Op::Raise(o) => format!("shared->flags[{}]++;", o.flag % 8),
        Op::Await(o) => format!("await_flag({}, {});", o.flag % 8, o.ticks),
        Op::AwaitStatus(o) => format!("await_status({}, {});", o.op.number(), o.ticks),
        Op::AwaitWorker(o) => format!("await_worker({}, {});", o.op.number(), o.ticks),
        Op::Sleep(o) => format!("ticks({});", o.ticks.min(50)),
        Op::Yield(o) => {
            let times = o.more % 16 + 1;
            format!("{{ u32 n = {times}; while (n--) sys0(158); }}")
        }
        Op::Privilege(o) => {
            let (user, capability) = privilege(o.case);
            format!("privilege({user}, {capability});")
        }
        Op::Rlimit(o) => rlimit(o.which, o.value),
        _ => unreachable!("`statements` has the others"),
    }
}

/// User id (0: stays root) and capability (0: none) of a case.
pub(super) const fn privilege(case: PrivilegeCase) -> (u32, u32) {
    match case {
        PrivilegeCase::Root => (0, 0),
        PrivilegeCase::User => (1000, 0),
        PrivilegeCase::SysResource => (1000, 24),
        PrivilegeCase::SysAdmin => (1000, 21),
    }
}

fn rlimit(which: Resource, value: u8) -> String {
    let (number, unit) = match which {
        Resource::Nproc => (6, 1),
        Resource::Nofile => (7, 1),
        Resource::Stack => (3, 65536),
        Resource::AddressSpace => (9, 65536),
        Resource::Data => (2, 65536),
        Resource::FileSize => (1, 1),
        Resource::SigPending => (11, 1),
        Resource::Memlock => (8, 65536),
        Resource::Cpu => (0, 1),
        Resource::Core => (4, 65536),
    };
    let value = if value == 255 {
        u32::MAX
    } else {
        u32::from(value) * unit
    };
    format!("limit({number}, {value}u);")
}

/// Flags of sigaction and the action, as C; `None` for handlers that call.
const fn handling(how: Handling) -> Option<(u32, &'static str)> {
    Some(match how {
        Handling::Record => (0, "(u32)handler"),
        Handling::Restart => (0x1000_0000, "(u32)handler"),
        Handling::OnStack => (0x0800_0000, "(u32)handler"),
        Handling::NoDefer => (0x4000_0000, "(u32)handler"),
        Handling::Once => (0x8000_0000, "(u32)handler"),
        Handling::Ignore => (0, "1"),
        Handling::Default => (0, "0"),
        Handling::Call | Handling::CallOnStack => return None,
    })
}

fn send(send: &Send) -> String {
    let later = match send.from {
        Sender::HelperLater => send.value,
        Sender::Helper | Sender::Thread => 0,
    };
    format!(
        "send({}, {}, {}, {}, {}, {}, {later});",
        send.sig.number(),
        send.to as u8,
        send.thread.number(),
        send.more % 16 + 1,
        send.value,
        u8::from(send.from != Sender::Thread)
    )
}

fn map_start(slot: MapSlot) -> u32 {
    MAPS + u32::from(slot.number()) * MAP_STRIDE
}

fn map(slot: MapSlot, kind: MapKind, pages: u32) -> String {
    let (at, bytes) = (map_start(slot), pages * PAGE);
    let anonymous = |protection: u32, share: &str| {
        format!("map({at:#x}u, {bytes}, {protection}, {share} | FIXED_ANONYMOUS, -1);")
    };
    let file = |path: &str, share: &str| {
        format!("map({at:#x}u, {bytes}, RW, {share}, sys3(5, \"{path}\", 2, 0));")
    };
    match kind {
        MapKind::Anonymous => anonymous(3, "PRIVATE"),
        MapKind::SharedAnonymous => anonymous(3, "SHARED"),
        MapKind::ReadOnly => anonymous(1, "PRIVATE"),
        MapKind::NoAccess => anonymous(0, "PRIVATE"),
        MapKind::Fuse0 => file("/f/0", "PRIVATE"),
        MapKind::Fuse1 => file("/f/1", "PRIVATE"),
        MapKind::Fuse2 => file("/f/2", "PRIVATE"),
        MapKind::Fuse3 => file("/f/3", "PRIVATE"),
        MapKind::File => file("/t/file", "SHARED"),
    }
}

fn pointer(here: Here, pointer: Pointer, role: Role, cells: &Cells) -> u32 {
    let owner = Owner {
        op: here.op,
        thread: here.thread,
        role,
    };
    address(pointer, owner, cells)
}

/// A statement that puts the C expression `value` at `at`, before the call; none
/// where nothing can be put.
fn stage(at: u32, value: &str) -> Option<String> {
    Some(match ground(at) {
        Ground::Plain => format!("*(volatile u32 *){at:#x}u = {value};"),
        Ground::View(other) => format!("*(volatile u32 *){other:#x}u = {value};"),
        Ground::Slow { file, offset } => {
            format!("*(volatile u32 *)(shared->contents[{file}] + {offset}) = {value};")
        }
        Ground::Map => format!("put_word({at:#x}u, {value});"),
        Ground::Nothing => return None,
    })
}

/// Fills the call's cells; gives the values of its arguments.
fn prepare(c: &mut String, here: Here, call: &Call, cells: &mut Cells) -> Vec<String> {
    let op = here.op.number();
    let status = pointer(here, call.status, Role::Status, cells);
    let args = pointer(here, call.args, Role::Args, cells);
    cells.status[here.op.index()] = status;
    cells.args[here.op.index()] = args;
    cells.index[here.op.index()] = call.index.value();
    line(c, &format!("shared->statuses[{op}] = {status:#x}u;"));
    if let Some(statement) = stage(status, "UNWRITTEN") {
        line(c, &statement);
    }
    let values: Vec<String> = [call.a0, call.a1, call.a2, call.a3, call.a4, call.a5]
        .into_iter()
        .map(|arg| argument(c, here, arg, cells))
        .collect();
    let claims = call.descriptor().map_or(6, |row| row.claims.min(6));
    for (at, value) in values.iter().enumerate().take(usize::from(claims)) {
        let offset = u32::try_from(at * 4).unwrap_or(0);
        if let Some(statement) = args.checked_add(offset).and_then(|at| stage(at, value)) {
            line(c, &statement);
        }
    }
    values
}

fn asynchronous(c: &mut String, here: Here, call: &Call, cells: &mut Cells) {
    prepare(c, here, call, cells);
    let (status, args) = (cells.status[here.op.index()], cells.args[here.op.index()]);
    if call.fail_nth > 0 {
        line(c, &format!("fail_nth({});", call.fail_nth));
    }
    let record = format!(
        "{{ {}, {:#x}u, {:#x}u, {status:#x}u, {args:#x}u, {} }}",
        here.op.number(),
        call.index.value(),
        call.flags.value(),
        call.times()
    );
    line(c, "{");
    line(c, &format!("\tstatic const struct call call = {record};"));
    line(c, "\tmake_async(&call);");
    line(c, "}");
    if call.fail_nth > 0 {
        line(c, "fail_nth(0);");
    }
    let thread = here.thread.number();
    line(c, &format!("shared->now_tid[{thread}] = (u32)gettid();"));
}

fn plain(c: &mut String, here: Here, call: &Call, cells: &mut Cells) {
    let values = prepare(c, here, call, cells);
    let row = DESCRIPTORS.get(call.index.value() as usize);
    let number = match row.and_then(|row| row.plain) {
        Some(_) if call.index.0 == ASYNC_INDEX => "ASYNC".to_owned(),
        Some(number) => number.to_string(),
        None => return,
    };
    let values: Vec<String> = values.iter().map(|value| format!("(u32){value}")).collect();
    line(
        c,
        &format!(
            "say(\"operation \", {}, \": plain call returned \", sys({number}, {}));",
            here.op.number(),
            values.join(", ")
        ),
    );
}

fn poke(c: &mut String, here: Here, poke: &Poke, cells: &Cells) {
    let target = Here {
        op: poke.op,
        ..here
    };
    let own = slot_of(poke.op.number());
    let or_own = |known: u32, offset: u32| if known == 0 { own + offset } else { known };
    let base = match poke.cell {
        PokeTarget::Args => or_own(cells.args[poke.op.index()], slot::ARGS),
        PokeTarget::Status => or_own(cells.status[poke.op.index()], slot::STATUS),
        PokeTarget::Buffer => own + slot::BUFFER,
    };
    let value = argument(c, target, poke.value, cells);
    let at = base.wrapping_add(u32::from(poke.word % 8) * 4);
    if let Some(statement) = stage(at, &value) {
        line(c, &statement);
    }
}

/// An argument as a C expression, with the statements that it needs before.
fn argument(c: &mut String, here: Here, arg: Arg, cells: &Cells) -> String {
    let (scalar, param) = match arg {
        Arg::Buffer(class) => return format!("{:#x}u", pointer(here, class, Role::Buffer, cells)),
        Arg::Scalar(scalar, param) => (scalar, param),
    };
    let (index, number) = (usize::from(param), u32::from(param));
    let lane = u32::from(here.op.number() % 8) * PAGE / 8;
    match scalar {
        Scalar::Int => format!("{number}u"),
        Scalar::Minus => format!("{:#x}u", !number),
        Scalar::Big => format!("{:#x}u", BIG_VALUES[index % BIG_VALUES.len()]),
        Scalar::Len => format!("{:#x}u", LENGTHS[index % LENGTHS.len()]),
        Scalar::Fd => format!("(u32)shared->fds[{}][{}]", index / 2 % 8, index % 2),
        Scalar::BadFd => format!("{}u", 200 + number),
        Scalar::Path => format!("(u32)\"{}\"", PATHS[index % 16]),
        Scalar::SlowPath => {
            let (path, file) = (PATHS[index % 16], number / 16 % 4);
            let to = format!("shared->contents[{file}] + {}", lane + 336);
            line(c, &format!("memcpy({to}, \"{path}\", {});", path.len() + 1));
            format!("{:#x}u", slow_page(file) + lane + 336)
        }
        Scalar::Time => format!("(u32)times[{}]", index % 8),
        Scalar::SlowTime => {
            let file = number / 8 % 4;
            let to = format!("shared->contents[{file}] + {}", lane + 464);
            line(c, &format!("memcpy({to}, times[{}], 16);", index % 8));
            format!("{:#x}u", slow_page(file) + lane + 464)
        }
        Scalar::Poll => {
            let at = pointer(here, Pointer::default(), Role::Buffer, cells);
            let events = if param / 16 % 2 == 0 { 1 } else { 4 };
            let fd = format!("(u32)shared->fds[{}][{}]", index / 2 % 8, index % 2);
            line(c, &format!("*(volatile u32 *){at:#x}u = {fd};"));
            line(c, &format!("*(volatile u32 *){:#x}u = {events};", at + 4));
            format!("{at:#x}u")
        }
        Scalar::Futex => format!("(u32)&shared->futexes[{}]", index % 4),
        Scalar::Child => {
            let child = format!("shared->children[{}]", index % 4);
            format!("({child} ? {child} : (u32)-2)")
        }
        Scalar::Tid => format!("shared->first_tid[{}]", index % 4),
        Scalar::IndexOf => format!("{:#x}u", cells.index[OpIndex::new(param).index()]),
        Scalar::SigSet => format!("(u32)&signal_sets[{}]", index % SigSet::ALL.len()),
        Scalar::Sem => "shared->semaphores".to_owned(),
        Scalar::SemOp => format!("(u32)semaphore_operations[{}]", index % 4),
        Scalar::Lock => format!("(u32)locks[{}]", index % 2),
    }
}

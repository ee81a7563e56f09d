use std::process::Command;

use super::*;

fn emitted(text: &str) -> Result<String, NotInC> {
    c_file(&latefork_wire::text::parse(text).unwrap(), "test", 463)
}

/// Compiles as the file's own comment says; the compiler is the one that builds
/// the guest kernels.
fn compile(source: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reproducer.c");
    std::fs::write(&file, source).unwrap();
    let output = Command::new("gcc")
        .args([
            "-m32",
            "-march=i586",
            "-O1",
            "-nostdlib",
            "-static",
            "-ffreestanding",
        ])
        .args(["-fno-stack-protector", "-fno-pic", "-fno-strict-aliasing"])
        .args([
            "-Werror=implicit-function-declaration",
            "-Werror=int-conversion",
        ])
        .arg("-o")
        .arg(folder.path().join("reproducer"))
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{source}");
}

const NESTED: &str = "\
t0 create slot=0 kind=pipe
t0 fuse file=2 action=hold on=read
t0 prepare index=read a0=fd:0 a1=own a2=len:7 args=slow:2
t0 async index=async a0=index-of:2 a2=status-of:2 a3=args-of:2
t0 await-held file=2 count=1 ticks=50
t0 fuse file=2 action=release
t0 await-status op=3 ticks=20
";

#[test]
fn addresses_and_arguments_are_the_harness_s() {
    let source = emitted(NESTED).unwrap();
    // The block of the inner call lies on the slow page: its content is staged.
    assert!(source.contains("shared->contents[2] +"), "{source}");
    assert!(source.contains("#define USES_FUSE 0x1u"));
    assert!(source.contains("#define ASYNC 0x1cfu"));
    let args = layout::SLOW + 2 * layout::SLOW_STRIDE + layout::PAGE;
    let prefix = format!("{:#x}", args >> 12);
    assert!(source.contains(&prefix), "{prefix} is not in {source}");
}

#[test]
fn what_is_emitted_compiles() {
    compile(&emitted(NESTED).unwrap());
    let all = "\
setup privilege=sys-admin nproc=4 rest=3
t0 create slot=0 kind=pipe
t0 handle sig=usr1 how=restart
t0 altstack
t0 timer ticks=5
t1 await flag=2 ticks=3
t0 raise flag=2
t0 map slot=1 kind=fuse1 pages=2
t0 protect slot=1 to=read
t0 async index=stat64 a0=slow-path:20 a1=own status=slot:1 fail_nth=3
t0 plain index=poll a0=poll:17 a1=int:1 a2=int:5
t0 async index=ppoll a0=poll a1=int:1 a2=slow-time:9 a3=sigset:2 a4=int:8
t0 async index=semtimedop a0=sem a1=semop:3 a2=int:1 a3=time:2
t0 async index=fcntl64 a0=fd:1 a1=int:14 a2=lock:1
t0 async index=futex a0=futex:2 a3=time:3 repeat=2
t0 poke op=8 cell=args word=1 value=big:3
t0 fork kind=vfork ops=2 code=7
t0 sleep ticks=1
t0 fork ops=0
t0 wait ticks=50
t2 send sig=rt to=queue-thread thread=0 from=helper-later value=4 more=2
t0 sigwait set=rt ticks=9
t0 touch at=slow:1
t0 discard slot=1
t0 unmap slot=1
t0 nonblock slot=0 end=1 on=1
t0 feed slot=0 end=1 bytes=9
t0 drain slot=0
t0 close slot=0
t0 await-worker op=8 ticks=9
t0 rlimit which=stack value=9
t0 exec
t0 exit code=3
";
    compile(&emitted(all).unwrap());
}

#[test]
fn what_only_the_harness_can_do_is_named() {
    for (text, word) in [
        ("t0 nop\nt0 ptrace\n", "ptrace"),
        ("t0 nop\nt0 fault\n", "fault"),
        ("t0 nop\nt0 handle how=call\n", "handle"),
        ("t0 nop\nt0 timer kind=thread\n", "timer"),
    ] {
        let error = emitted(text).unwrap_err();
        assert_eq!((error.op, error.word), (1, word));
    }
}

#[test]
fn children_end_after_their_steps() {
    let source = emitted("t0 fork ops=1 code=5\nt0 nop\nt0 sleep ticks=1\n").unwrap();
    let (_, program) = source
        .split_once("static void run_thread")
        .map_or(("", ""), |_| {
            source
                .rsplit_once("static void run_thread(u32 number)\n{")
                .unwrap()
        });
    let exit = program.find("sys1(252, 5)").unwrap();
    assert!(program.find("nop").unwrap() < exit);
    assert!(exit < program.find("sleep ticks=1").unwrap());
}

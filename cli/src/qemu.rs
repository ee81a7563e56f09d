//! QEMU's TCG with the same guest, to compare with.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

const PROGRAM: &str = "qemu-system-i386";
/// What the monitor prints when it waits for a command.
const PROMPT: &[u8] = b"(qemu) ";
/// Bytes of the disk: more than RAM at its largest.
const DISK_SIZE: u64 = 1 << 30;
/// How long QEMU may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether QEMU has connected its console.
const PAUSE: Duration = Duration::from_micros(200);

/// What QEMU boots.
pub(crate) struct QemuGuest {
    pub(crate) bzimage: PathBuf,
    pub(crate) initramfs: Option<PathBuf>,
    pub(crate) command_line: String,
    pub(crate) memory_mib: u32,
    pub(crate) clock: Clock,
}

/// What guest time is in QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The host's: who sleeps in the guest waits in earnest.
    Host,
    /// Retired instructions, 1 a nanosecond, and idle time is skipped: what
    /// our own machine does.
    Instructions,
}

/// A running QEMU, killed when it is dropped.
pub(crate) struct Qemu {
    child: Killed,
    console: UnixStream,
    /// What the console said and nobody has read yet.
    said: Vec<u8>,
    folder: TempDir,
    started: Instant,
}

/// The first line of QEMU's version, if it is installed.
pub(crate) fn version() -> Option<String> {
    let output = Command::new(PROGRAM).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

impl Qemu {
    /// Starts QEMU: a PC without ACPI and APIC, its console on a pipe, and a
    /// disk image that nothing sees but `savevm`.
    pub(crate) fn start(guest: &QemuGuest) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for QEMU")?;
        // `savevm` writes to a temporary overlay of this empty disk.
        let disk = folder.path().join("disk");
        File::create(&disk)
            .and_then(|file| file.set_len(DISK_SIZE))
            .context("cannot make a disk for QEMU")?;
        let socket = folder.path().join("console");
        let listener = UnixListener::bind(&socket).context("cannot make a console for QEMU")?;
        listener.set_nonblocking(true)?;
        let mut command = Command::new(PROGRAM);
        command
            .args([
                "-M",
                "pc,acpi=off",
                "-accel",
                "tcg",
                "-cpu",
                "pentium,-apic",
            ])
            .args([
                "-nographic",
                "-no-reboot",
                "-no-shutdown",
                "-nodefaults",
                "-net",
                "none",
            ])
            .args(["-serial", "chardev:console"])
            .arg("-chardev")
            .arg(format!("socket,id=console,path={}", socket.display()))
            .args(["-m", &guest.memory_mib.to_string()])
            .arg("-monitor")
            .arg(format!(
                "unix:{},server=on,wait=off",
                folder.path().join("monitor").display()
            ))
            .arg("-drive")
            .arg(format!(
                "if=none,format=raw,snapshot=on,file={}",
                disk.display()
            ))
            .arg("-kernel")
            .arg(&guest.bzimage)
            .args(["-append", &guest.command_line]);
        if let Some(initramfs) = &guest.initramfs {
            command.arg("-initrd").arg(initramfs);
        }
        if guest.clock == Clock::Instructions {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        let mut child = Killed(child);
        let console = accept(&listener, &mut child.0)?;
        console.set_nonblocking(false)?;
        console.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            child,
            console,
            said: Vec::new(),
            folder,
            started,
        })
    }

    /// Reads the console until a line holds `marker`; the time since the start.
    pub(crate) fn wait_for(&mut self, marker: &str) -> Result<Duration> {
        let patience = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=end).collect();
                if String::from_utf8_lossy(&line).contains(marker) {
                    return Ok(self.started.elapsed());
                }
            }
            let count = self.console.read(&mut buffer);
            let count = count.with_context(|| format!("QEMU's console did not say `{marker}`"))?;
            if count == 0 {
                bail!("QEMU ended before its console said `{marker}`");
            }
            if Instant::now() > patience {
                bail!("QEMU's console did not say `{marker}` within {PATIENCE:?}");
            }
            self.said.extend_from_slice(&buffer[..count]);
        }
    }

    /// Types `line` on the console.
    pub(crate) fn type_line(&mut self, line: &str) -> Result<()> {
        let written = self.console.write_all(format!("{line}\n").as_bytes());
        written.context("QEMU's console is gone")
    }

    /// Time that QEMU's threads have spent on a processor so far.
    pub(crate) fn processor_time(&self) -> Duration {
        crate::report::processor_time(&self.child.0.id().to_string())
    }

    /// A connection to the monitor.
    pub(crate) fn monitor(&self) -> Result<Monitor> {
        Monitor::connect(&self.folder.path().join("monitor"))
    }
}

/// A process that does not outlive its handle.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The console that QEMU connects, unless it ends before.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
    let patience = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((console, _)) => return Ok(console),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) => {}
        }
        if let Some(status) = child.try_wait()? {
            bail!("{PROGRAM} ended at once ({status})");
        }
        if Instant::now() > patience {
            bail!("{PROGRAM} did not start within {PATIENCE:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// QEMU's human monitor.
pub(crate) struct Monitor {
    stream: UnixStream,
}

impl Monitor {
    fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot reach QEMU's monitor at {}", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self { stream };
        monitor.read_answer()?;
        Ok(monitor)
    }

    /// Runs a command to its end; how long that took.
    pub(crate) fn run(&mut self, command: &str) -> Result<Duration> {
        let started = Instant::now();
        self.stream.write_all(format!("{command}\n").as_bytes())?;
        let answer = self.read_answer()?;
        let took = started.elapsed();
        if answer.contains("Error") || answer.contains("unknown command") {
            bail!("QEMU's monitor refused `{command}`: {}", answer.trim());
        }
        Ok(took)
    }

    fn read_answer(&mut self) -> Result<String> {
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !answer.ends_with(PROMPT) {
            let count = self
                .stream
                .read(&mut buffer)
                .context("QEMU's monitor fell silent")?;
            if count == 0 {
                bail!("QEMU closed its monitor");
            }
            answer.extend_from_slice(&buffer[..count]);
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

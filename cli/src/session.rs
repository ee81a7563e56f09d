//! Programs, sent to the agent of a machine at READY.

use anyhow::{Result, bail};
use latefork_vmm::machine::{Machine, Outcome, RunLimits};
use latefork_vmm::vsock::{ConnectionId, VsockHost};
use latefork_wire::Record;
use latefork_wire::frame::{
    FRAME_HEADER, Flavour, FrameHeader, FrameKind, RUN_HEADER, RunOptions, Teardown,
};
use latefork_wire::program::{MAX_BYTES, Program};

/// Instructions that one program may take.
const PROGRAM_BUDGET: u64 = 200_000_000;

/// The run frame of `program`, as bytes.
pub(crate) fn run_frame(program: &Program) -> Vec<u8> {
    let mut body = [0; MAX_BYTES];
    let size = program.encode(&mut body);
    let options = RunOptions {
        flavour: Flavour::Async,
        teardown: Teardown::Leave,
        leak_repeats: 0,
        watchdog_ticks: 0,
    };
    let mut header = [0; RUN_HEADER];
    options.put(&mut header);
    let len = u32::try_from(RUN_HEADER + size).unwrap_or(u32::MAX);
    let kind = FrameKind::Run;
    let mut frame = FrameHeader { kind, len }.encode().to_vec();
    frame.extend(header);
    frame.extend(&body[..size]);
    frame
}

/// The agent's connection, its hello taken off.
pub(crate) fn connection(machine: &mut Machine) -> Result<ConnectionId> {
    let host = machine.vsock_mut();
    let Some(id) = host.connections().next() else {
        bail!("the machine at READY has no connection of its agent");
    };
    if let Some(len) = frame_len(host, id) {
        host.consume(id, len)?;
    }
    Ok(id)
}

/// Sends `frame` and runs until the agent's answer is whole; its length.
pub(crate) fn execute(machine: &mut Machine, id: ConnectionId, frame: &[u8]) -> Result<usize> {
    let sent = machine.vsock_mut().send(id, frame)?;
    if sent != frame.len() {
        bail!(
            "the run frame of {} bytes does not fit the send buffer",
            frame.len()
        );
    }
    let limits = RunLimits::instructions(PROGRAM_BUDGET);
    let outcome = machine.run_until(&limits, &mut |host| frame_len(host, id).is_some())?;
    if outcome != Outcome::Stopped {
        let console = machine.take_console();
        bail!(
            "the program ended in {outcome:?}: {}",
            String::from_utf8_lossy(&console).trim_end()
        );
    }
    Ok(frame_len(machine.vsock_mut(), id).unwrap_or(0))
}

/// Bytes of the first frame that was received, if it is whole.
pub(crate) fn frame_len(host: &VsockHost, id: ConnectionId) -> Option<usize> {
    let (front, back) = host.received(id).ok()?;
    let mut header = [0; FRAME_HEADER];
    let mut bytes = front.iter().chain(back);
    for byte in &mut header {
        *byte = *bytes.next()?;
    }
    let len = FRAME_HEADER + FrameHeader::decode(header).ok()?.len as usize;
    (front.len() + back.len() >= len).then_some(len)
}

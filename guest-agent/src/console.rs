//! Lines on the console.

use core::fmt::{self, Write};

use crate::sys;

/// A line's room; what is longer is cut.
pub struct Line {
    bytes: [u8; 480],
    len: usize,
}

impl Line {
    pub const fn new() -> Self {
        Self {
            bytes: [0; 480],
            len: 0,
        }
    }

    pub fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?")
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.len;
        let len = text.len().min(room);
        self.bytes[self.len..self.len + len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// Writes one line in one system call.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    let _ = line.write_fmt(text);
    if line.len == line.bytes.len() {
        line.len -= 1;
    }
    line.bytes[line.len] = b'\n';
    line.len += 1;
    sys::write_all(1, &line.bytes[..line.len]);
}

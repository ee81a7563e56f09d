//! The `newc` archive format that Linux unpacks
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_666;

/// An archive under construction. The same entries give the same bytes.
#[derive(Debug)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    content: &'a [u8],
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            entries: 0,
        }
    }

    pub(crate) fn folder(&mut self, name: &str) {
        self.add(&Entry {
            name,
            mode: FOLDER,
            device: (0, 0),
            content: &[],
        });
    }

    pub(crate) fn program(&mut self, name: &str, content: &[u8]) {
        self.add(&Entry {
            name,
            mode: PROGRAM,
            device: (0, 0),
            content,
        });
    }

    pub(crate) fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.add(&Entry {
            name,
            mode: CHARACTER_DEVICE,
            device: (major, minor),
            content: &[],
        });
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add(&Entry {
            name: "TRAILER!!!",
            mode: 0,
            device: (0, 0),
            content: &[],
        });
        self.bytes
    }

    fn add(&mut self, entry: &Entry<'_>) {
        self.entries += 1;
        let length = u32::try_from(entry.content.len()).expect("an entry is far below 4 GiB");
        let name_length = u32::try_from(entry.name.len() + 1).expect("a name is short");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
        // rdevmajor, rdevminor, namesize, check.
        let fields = [
            self.entries,
            entry.mode,
            0,
            0,
            1,
            0,
            length,
            0,
            0,
            entry.device.0,
            entry.device.1,
            name_length,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(entry.name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(entry.content);
        self.pad();
    }

    /// Header with name, and content, each end on a multiple of 4.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_lie_where_the_format_says() {
        let mut archive = Archive::new();
        archive.folder("dev");
        archive.character_device("dev/console", 5, 1);
        archive.program("init", b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = |from: usize, len: usize| String::from_utf8_lossy(&bytes[from..from + len]);
        assert_eq!(text(0, 6), "070701");
        assert_eq!(text(14, 8), "000041ed");
        assert_eq!(text(110, 4), "dev\0");
        // 110 bytes of header and 4 of name end at 114, padded to 116.
        assert_eq!(text(116 + 14, 8), "000021b6");
        assert_eq!(text(116 + 6 + 9 * 8, 16), "0000000500000001");
        let init = 116 + 110 + 12 + 2;
        assert_eq!(text(init, 6), "070701");
        assert_eq!(text(init + 6 + 6 * 8, 8), "00000005");
        assert_eq!(text(init + 116, 5), "hello");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    }
}

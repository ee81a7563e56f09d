//! Where a fuzz target finds images, seeds and its own files.

use std::path::{Path, PathBuf};

use super::FuzzError;

/// Flavours of the guest kernel, the default first.
const FLAVOURS: [&str; 2] = ["hardened", "faithful"];

/// A checkout, and the guest kernel to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    root: PathBuf,
    flavour: &'static str,
    /// The folder of the kernel in `target/guest`.
    name: String,
}

impl Place {
    /// The checkout at `root`, with `flavour` (`None`: hardened).
    ///
    /// # Errors
    ///
    /// There is no such flavour.
    pub fn new(root: &Path, flavour: Option<&str>) -> Result<Self, FuzzError> {
        let asked = flavour.unwrap_or(FLAVOURS[0]);
        let flavour = FLAVOURS.into_iter().find(|known| *known == asked);
        let flavour = flavour.ok_or_else(|| FuzzError::Flavour(asked.to_owned()))?;
        Ok(Self {
            root: root.to_owned(),
            flavour,
            name: format!("{flavour}-fuzz"),
        })
    }

    /// The checkout that this was built from, with `flavour` (`None`: hardened)
    /// and the kernel in folder `kernel` of `target/guest` (`None`: the
    /// flavour's own).
    ///
    /// # Errors
    ///
    /// There is no such flavour, or `kernel` is no folder's name.
    pub fn here(flavour: Option<&str>, kernel: Option<&str>) -> Result<Self, FuzzError> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest);
        let place = Self::new(root, flavour)?;
        match kernel {
            None => Ok(place),
            Some(name) => place.with_kernel(name),
        }
    }

    /// The same with the kernel in folder `name` of `target/guest`.
    ///
    /// # Errors
    ///
    /// `name` is no folder's name.
    pub fn with_kernel(self, name: &str) -> Result<Self, FuzzError> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(FuzzError::Setting {
                name: "LATEFORK_KERNEL",
                value: name.to_owned(),
                allowed: "not the name of a folder in target/guest",
            });
        }
        Ok(Self {
            name: name.to_owned(),
            ..self
        })
    }

    /// The flavour's name.
    pub fn flavour(&self) -> &'static str {
        self.flavour
    }

    /// The kernel's name for people: the flavour, where it is the flavour's own.
    pub fn name(&self) -> &str {
        let own = self.name.strip_suffix("-fuzz");
        own.filter(|own| *own == self.flavour).unwrap_or(&self.name)
    }

    /// The guest kernel.
    pub fn kernel(&self) -> PathBuf {
        self.root
            .join("target/guest")
            .join(&self.name)
            .join("vmlinux")
    }

    /// The agent.
    pub fn initramfs(&self) -> PathBuf {
        self.root.join("target/guest/agent/initramfs.cpio")
    }

    /// Where the ready guest is kept.
    pub fn template(&self) -> PathBuf {
        let file = format!("target/guest/{}.snapshot", self.name());
        self.root.join(file)
    }

    /// Programs with findings.
    pub fn findings(&self) -> PathBuf {
        self.root.join("target/findings").join(self.name())
    }

    /// The signatures of findings that do not stop a target.
    pub fn known(&self) -> PathBuf {
        let file = format!("corpora/known/{}.txt", self.flavour);
        self.root.join(file)
    }

    /// The committed seeds of `target`.
    pub fn seeds(&self, target: &str) -> PathBuf {
        self.root.join("corpora").join(target)
    }

    /// The corpus that `cargo fuzz` keeps for `target`.
    pub fn corpus(&self, target: &str) -> PathBuf {
        self.root.join("fuzz/corpus").join(target)
    }

    /// A shell command that runs `program` again, from anywhere.
    pub fn command(&self, program: &Path) -> String {
        format!("latefork repro {}", quoted(program))
    }
}

/// `path` as one word of a POSIX shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardened_is_the_default_and_other_names_are_refused() {
        let root = Path::new("/src");
        assert_eq!(Place::new(root, None).unwrap().flavour(), "hardened");
        let faithful = Place::new(root, Some("faithful")).unwrap();
        assert_eq!(
            faithful.kernel(),
            Path::new("/src/target/guest/faithful-fuzz/vmlinux")
        );
        let planted = faithful.with_kernel("faithful-fuzz-planted").unwrap();
        assert_eq!(planted.name(), "faithful-fuzz-planted");
        assert_eq!(
            planted.findings(),
            Path::new("/src/target/findings/faithful-fuzz-planted")
        );
        assert_eq!(
            planted.known(),
            Path::new("/src/corpora/known/faithful.txt")
        );
        planted.with_kernel("../x").unwrap_err();
        let error = Place::new(root, Some("soft")).unwrap_err();
        assert!(error.to_string().starts_with("LATEFORK_FLAVOUR=soft:"));
    }

    #[test]
    fn a_path_is_one_word_of_the_shell() {
        assert_eq!(quoted(Path::new("/a/b-1.x")), "/a/b-1.x");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}

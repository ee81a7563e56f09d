//! Sidecars: what a kept program gave, and on what, in a JSON file beside it.

use std::path::{Path, PathBuf};

use latefork_wire::frame::VERSION as PROTOCOL;
use latefork_wire::program::{MAX_BYTES, Program};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Outcome;
use super::artifact::ArtifactError;
use crate::guest::Guest;

/// Version of this file's form.
pub const VERSION: u32 = 1;

/// Where a program ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Flavour of the guest kernel.
    pub flavour: String,
    /// Its configuration, with the name of further patches if there are any.
    pub config: String,
    /// The kernel's path, where flavour and configuration do not give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Hash of kernel, initramfs, command line and size of memory: 32
    /// hexadecimal digits.
    pub image: String,
    /// The engine's name.
    pub engine: String,
}

impl Setting {
    /// The setting of `guest`, whose kernel lies at `kernel`: in a folder
    /// `<flavour>-<config>` where `cargo xtask kernel` made it.
    pub fn new(guest: &Guest, kernel: &Path, engine: &str) -> Self {
        let folder = kernel.parent().and_then(Path::file_name);
        let name = folder.map(|name| name.to_string_lossy().into_owned());
        let parts = name.as_deref().and_then(|name| name.split_once('-'));
        let standard = kernel.parent().is_some_and(|folder| {
            folder
                .parent()
                .is_some_and(|up| up.ends_with("target/guest"))
        });
        let (flavour, config) = parts.unwrap_or(("unknown", "unknown"));
        Self {
            flavour: flavour.to_owned(),
            config: config.to_owned(),
            kernel: (!standard || parts.is_none()).then(|| kernel.to_owned()),
            memory_mib: guest.config().memory_mib,
            image: format!("{:032x}", guest.identity().inputs),
            engine: engine.to_owned(),
        }
    }

    /// The kernel of this setting under `images`, the folder of guest images.
    pub fn kernel(&self, images: &Path) -> PathBuf {
        match &self.kernel {
            Some(path) => path.clone(),
            None => images
                .join(format!("{}-{}", self.flavour, self.config))
                .join("vmlinux"),
        }
    }
}

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// [`VERSION`] of the file's form.
    pub version: u32,
    /// Version of programs' wire form (`wire::frame::VERSION`).
    pub protocol: u8,
    /// Where the program ran.
    #[serde(flatten)]
    pub setting: Setting,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The part that every version has.
#[derive(Deserialize)]
struct Versions {
    version: u32,
    #[serde(default)]
    protocol: u32,
}

impl Sidecar {
    /// A sidecar of this version.
    pub fn new(setting: Setting, outcome: Outcome) -> Self {
        Self {
            version: VERSION,
            protocol: PROTOCOL,
            setting,
            outcome,
        }
    }

    /// Where the sidecar of `program` lies.
    pub fn path_of(program: &Path) -> PathBuf {
        let mut name = program.as_os_str().to_owned();
        name.push(".json");
        PathBuf::from(name)
    }

    /// The sidecar of `program`; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read, is of another version, or makes no sense.
    pub fn read(program: &Path) -> Result<Option<Self>, ArtifactError> {
        let path = Self::path_of(program);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ArtifactError::Read { path, source }),
        };
        let damaged = |error: serde_json::Error| ArtifactError::Sidecar {
            path: path.clone(),
            why: error.to_string(),
        };
        let versions: Versions = serde_json::from_slice(&bytes).map_err(damaged)?;
        for (what, found, known) in [
            ("version", versions.version, VERSION),
            ("protocol", versions.protocol, u32::from(PROTOCOL)),
        ] {
            if found != known {
                return Err(ArtifactError::Version {
                    path,
                    what,
                    found,
                    known,
                });
            }
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Writes the sidecar of `program`, whole or not at all.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, program: &Path) -> Result<(), ArtifactError> {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers are JSON");
        text.push('\n');
        write_whole(&Self::path_of(program), text.as_bytes())
    }

    /// Keeps `program` in `folder` under a name that begins with `origin` and
    /// names its content, with this sidecar beside it; gives the program's path.
    ///
    /// # Errors
    ///
    /// One of the files cannot be written.
    pub fn keep(
        &self,
        folder: &Path,
        origin: &str,
        program: &Program,
    ) -> Result<PathBuf, ArtifactError> {
        let path = keep_wire(folder, origin, program)?;
        self.write(&path)?;
        Ok(path)
    }
}

/// Keeps `program` in `folder` under a name that begins with `origin` and names
/// its content, without a sidecar; gives its path.
///
/// # Errors
///
/// It cannot be written.
pub fn keep_wire(folder: &Path, origin: &str, program: &Program) -> Result<PathBuf, ArtifactError> {
    let mut bytes = [0; MAX_BYTES];
    let size = program.encode(&mut bytes);
    let name = format!("{origin}-{:016x}", xxh3_64(&bytes[..size]));
    let path = folder.join(name);
    write_whole(&path, &bytes[..size])?;
    Ok(path)
}

/// Writes a file that is there whole or not at all.
///
/// # Errors
///
/// It cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    use std::io::Write;

    let failed = |source| ArtifactError::Write {
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests;

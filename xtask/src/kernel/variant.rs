//! Which guest kernel: flavour, configuration, and patches of one's own.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::sh;

/// Semantics of the async call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavour {
    /// The 2007 patch with its own shortcuts
    Faithful,
    /// The same ABI, every defect mended or documented
    Hardened,
}

/// What the kernel is configured to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Config {
    /// Small, quick, watchful; x87 only
    Fuzz,
    /// The same with lockdep and kmemleak
    Lockdep,
    /// The same with FXSR and SSE where the processor has them
    Sse,
}

/// One guest kernel.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    flavour: Flavour,
    config: Config,
    extra: Option<Extra>,
}

/// Patches on top of all others, and what they are called.
#[derive(Debug, Clone)]
struct Extra {
    name: String,
    folder: PathBuf,
}

impl Variant {
    /// A kernel of `flavour` and `config`, with the patches of the folder
    /// `extra` on top.
    ///
    /// # Errors
    /// When `extra` is no folder, or its name cannot be part of a file name.
    pub(crate) fn new(flavour: Flavour, config: Config, extra: Option<&Path>) -> Result<Self> {
        let extra = extra.map(Extra::new).transpose()?;
        Ok(Self {
            flavour,
            config,
            extra,
        })
    }

    pub(crate) fn flavour(&self) -> Flavour {
        self.flavour
    }

    pub(crate) fn config(&self) -> Config {
        self.config
    }

    /// The name of the output folder, such as `hardened-fuzz`.
    pub(crate) fn name(&self) -> String {
        let base = format!("{}-{}", self.flavour, self.config);
        match &self.extra {
            Some(extra) => format!("{base}-{}", extra.name),
            None => base,
        }
    }

    /// Every patch of this kernel, in the order in which they apply.
    pub(crate) fn patches(&self) -> Result<Vec<PathBuf>> {
        let own = folder().join("patches");
        let mut series = files_in(&own.join("faithful"), "patch")?;
        if self.flavour == Flavour::Hardened {
            series.extend(files_in(&own.join("hardened"), "patch")?);
        }
        series.extend(files_in(&own.join("harness"), "patch")?);
        if let Some(extra) = &self.extra {
            series.extend(files_in(&extra.folder, "patch")?);
        }
        Ok(series)
    }

    /// The configuration fragments; a later one overrides an earlier one.
    pub(crate) fn fragments(&self) -> Vec<PathBuf> {
        let own = folder().join("config");
        let mut fragments = vec![own.join("base.config"), own.join("fuzz.config")];
        if self.config != Config::Fuzz {
            fragments.push(own.join(format!("{}.config", self.config)));
        }
        fragments
    }
}

impl Extra {
    fn new(folder: &Path) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("--patches {}", folder.display()))?;
        let name = folder
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            bail!(
                "--patches {}: the folder's name becomes part of a file name, \
                 so it may hold letters, digits, '-', '_' and '.' only",
                folder.display()
            );
        }
        if files_in(&folder, "patch")?.is_empty() {
            bail!("--patches {}: holds no *.patch file", folder.display());
        }
        Ok(Self {
            name: name.to_owned(),
            folder,
        })
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faithful => "faithful",
            Self::Hardened => "hardened",
        })
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fuzz => "fuzz",
            Self::Lockdep => "lockdep",
            Self::Sse => "sse",
        })
    }
}

fn folder() -> PathBuf {
    sh::root().join("guest-kernel")
}

/// The files of `folder` that end in `extension`, sorted by name.
fn files_in(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardened_applies_on_top_of_faithful_and_below_the_harness() {
        let names = |flavour| -> Vec<String> {
            let variant = Variant::new(flavour, Config::Fuzz, None).unwrap();
            let series = variant.patches().unwrap();
            let parent = |path: &PathBuf| path.parent()?.file_name()?.to_str().map(str::to_owned);
            let mut folders: Vec<_> = series.iter().filter_map(parent).collect();
            folders.dedup();
            folders
        };
        assert_eq!(names(Flavour::Faithful), ["faithful", "harness"]);
        assert_eq!(
            names(Flavour::Hardened),
            ["faithful", "hardened", "harness"]
        );
    }

    #[test]
    fn extra_patches_come_last_and_name_the_output() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("no-reset");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a.patch"), "").unwrap();
        let variant = Variant::new(Flavour::Hardened, Config::Sse, Some(&folder)).unwrap();
        assert_eq!(variant.name(), "hardened-sse-no-reset");
        let last = variant.patches().unwrap().pop().unwrap();
        assert_eq!(last, folder.canonicalize().unwrap().join("a.patch"));
    }

    #[test]
    fn a_folder_without_patches_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Variant::new(Flavour::Hardened, Config::Fuzz, Some(folder.path())).unwrap_err();
    }
}

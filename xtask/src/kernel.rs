//! `cargo xtask kernel`: the guest kernel, from Debian's source to a bootable
//! image.
//!
//! Nothing is built twice: a finished image is kept in the user's cache folder
//! under a hash of everything that went into it, and the source tree and the
//! object trees beside it serve every flavour and every worktree.

mod abi;
pub(crate) mod cache;
mod config;
mod make;
pub(crate) mod packages;
mod patches;
mod proof;
mod source;
pub(crate) mod variant;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::cache::{Cache, ImageKey};
use self::source::Source;
use self::variant::{Config, Flavour, Variant};
use crate::{qemu, sh};

/// Which guest kernel to build.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Semantics of the async call: the 2007 patch's own, or mended
    #[arg(long, value_enum)]
    flavour: Flavour,
    /// What the kernel watches and which registers it saves
    #[arg(long, value_enum, default_value_t = Config::Fuzz)]
    config: Config,
    /// A folder of further patches, applied last; its name is added to the
    /// output's
    #[arg(long, value_name = "FOLDER")]
    patches: Option<PathBuf>,
    /// Build it again from nothing in another folder, and compare the two bit
    /// for bit
    #[arg(long)]
    reproduce: bool,
    /// Boot the kernel in QEMU and run its own tests
    #[arg(long)]
    test: bool,
}

/// Leaves the asked-for kernel under `target/guest/` and says where.
pub(crate) fn run(options: &Options) -> Result<()> {
    let variant = Variant::new(options.flavour, options.config, options.patches.as_deref())?;
    let folder = build(&variant)?;
    println!("{}", folder.display());
    if options.reproduce {
        reproduce(&variant, &folder)?;
    }
    if options.test {
        qemu::ensure()?;
        proof::run(&variant, &folder)?;
    }
    Ok(())
}

/// Boots both flavours' `fuzz` kernels in QEMU and runs their own tests.
pub(crate) fn test_fuzz(flavour: Flavour) -> Result<()> {
    let variant = Variant::new(flavour, Config::Fuzz, None)?;
    let folder = build(&variant)?;
    qemu::ensure()?;
    proof::run(&variant, &folder)
}

/// Builds the `fuzz` kernel of `flavour` unless it is cached; returns its folder.
pub(crate) fn build_fuzz(flavour: Flavour) -> Result<PathBuf> {
    build(&Variant::new(flavour, Config::Fuzz, None)?)
}

/// Builds `variant` unless it is cached; returns the folder that holds
/// `bzImage`, `vmlinux`, `System.map`, `config` and the ABI headers.
pub(crate) fn build(variant: &Variant) -> Result<PathBuf> {
    let output = sh::root().join("target/guest").join(variant.name());
    let cache = Cache::open()?;
    packages::ensure()?;
    let source = Source::find(&cache)?;
    let key = ImageKey::of(variant, &source)?;
    if cache.is_exported(&key, &output) {
        return Ok(output);
    }
    let lock = cache.lock()?;
    if !cache.has(&key) {
        build_image(variant, &source, &cache, &key)
            .with_context(|| format!("guest kernel {}", variant.name()))?;
    }
    cache.export(&key, &output)?;
    cache.prune(&lock)?;
    Ok(output)
}

/// Builds `variant` a second time, where neither path nor time is the same.
fn reproduce(variant: &Variant, folder: &Path) -> Result<()> {
    let elsewhere = TempDir::new()?;
    let cache = Cache::at(&elsewhere.path().join("another/place/for/caches"))?;
    let source = Source::find(&cache)?;
    let key = ImageKey::of(variant, &source)?;
    let again = elsewhere.path().join("image");
    build_image(variant, &source, &cache, &key)?;
    cache.export(&key, &again)?;
    for name in ["vmlinux", "bzImage", "System.map", "config"] {
        let [one, two] = [folder, &again].map(|folder| folder.join(name));
        let (first, second) = (std::fs::read(&one)?, std::fs::read(&two)?);
        if first != second {
            bail!(
                "{name} hangs on where or when it is built: {} differs",
                one.display()
            );
        }
        println!(
            "{name}: the same again, sha256 {}",
            cache::hex(&Sha256::digest(&first))
        );
    }
    Ok(())
}

fn build_image(variant: &Variant, source: &Source, cache: &Cache, key: &ImageKey) -> Result<()> {
    let tree = source.unpack(cache)?;
    let syscall = patches::apply(variant, &tree)?;
    let objects = tree.objects(variant.config());
    config::configure(variant, &tree, &objects)?;
    make::build(&tree, &objects)?;
    let staged = cache.stage()?;
    for (built, name) in [
        ("arch/x86/boot/bzImage", "bzImage"),
        ("vmlinux", "vmlinux"),
        ("System.map", "System.map"),
        (".config", "config"),
    ] {
        let from = objects.join(built);
        std::fs::copy(&from, staged.path().join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    abi::write(&tree, syscall, source, variant, staged.path())?;
    cache.keep(staged, key)
}

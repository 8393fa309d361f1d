//! Compiled code on disk. It is native code and is run as it is found, so the directory is private to the
//! user, and each entry's key covers all that the code depends on.

#![allow(unsafe_code)] // wasmtime's `deserialize`, at one place below

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::engine::Settings;
use crate::digest::ModuleId;
use crate::instrument::{Meta, REWRITER};

/// A directory of compiled modules.
pub struct CodeCache {
    dir: PathBuf,
}

impl CodeCache {
    /// Opens or makes the directory, for this user alone.
    pub fn open(dir: &Path) -> Result<Self> {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
        let shown = dir.display();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("cannot make the code cache {shown}"))?;
        let meta = fs::symlink_metadata(dir).with_context(|| format!("cannot read {shown}"))?;
        ensure!(meta.is_dir(), "the code cache {shown} is not a directory");
        let user = rustix::process::geteuid().as_raw();
        ensure!(meta.uid() == user, "the code cache {shown} belongs to another user");
        if meta.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
                .with_context(|| format!("cannot make the code cache {shown} private"))?;
        }
        Ok(Self { dir: dir.to_path_buf() })
    }

    fn path(&self, engine: &wasmtime::Engine, settings: &Settings, module: ModuleId) -> PathBuf {
        use std::hash::{Hash, Hasher};
        // wasmtime's own fingerprint of all its settings, the target and the version.
        struct Blake(blake3::Hasher);
        impl Hasher for Blake {
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
            fn finish(&self) -> u64 {
                u64::from_le_bytes(self.0.finalize().as_bytes()[..8].try_into().expect("8 bytes"))
            }
        }
        let mut key = Blake(blake3::Hasher::new());
        (module, REWRITER, &settings.rewrite, env!("CARGO_PKG_VERSION")).hash(&mut key);
        (&settings.target, settings.canonical_nans, settings.deterministic_relaxed_simd).hash(&mut key);
        engine.precompile_compatibility_hash().hash(&mut key);
        self.dir.join(key.0.finalize().to_hex().as_str())
    }

    /// The compiled module, if it is there and whole.
    pub fn load(
        &self,
        engine: &wasmtime::Engine,
        settings: &Settings,
        module: ModuleId,
    ) -> Option<(wasmtime::Module, Meta)> {
        let dir = self.path(engine, settings, module);
        let meta: Meta = postcard::from_bytes(&fs::read(dir.join("meta")).ok()?).ok()?;
        // SAFETY: the file was written by `store` below, from a module that this engine's version compiled
        // with these settings (the path is a hash over all of them), in a directory that only this user
        // can write (checked when it was opened); it was published by a rename after it was complete, and
        // files of the cache are never changed, only replaced whole. wasmtime checks its own version and
        // settings again.
        let compiled = unsafe { wasmtime::Module::deserialize_file(engine, dir.join("code")) }.ok()?;
        Some((compiled, meta))
    }

    /// Keeps a compiled module. A cache that cannot be written is no reason to stop.
    pub fn store(
        &self,
        engine: &wasmtime::Engine,
        settings: &Settings,
        module: ModuleId,
        compiled: &wasmtime::Module,
        meta: &Meta,
    ) -> Result<()> {
        let path = self.path(engine, settings, module);
        let staging = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::create_dir_all(&staging)?;
        let result = (|| {
            write_synced(&staging.join("code"), &compiled.serialize()?)?;
            write_synced(&staging.join("meta"), &postcard::to_stdvec(meta)?)?;
            fs::rename(&staging, &path)?;
            Ok(())
        })();
        if result.is_err() {
            // Another process was first, or the disk is full: either way the staging goes.
            let _ = fs::remove_dir_all(&staging);
        }
        result
    }
}

/// After a power cut a file may not be shorter than its name promises.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

//! Whole objects named by their hash: guest modules and the manifests of snapshots.

use std::fmt::Display;
use std::io::Read;

use crate::digest::{ModuleId, SnapshotId};

use super::{Key, Store, StoreError};

/// Longest module in bytes, that of the Wasm JavaScript interface.
pub const MODULE_MAX: u64 = 1 << 30;
/// Longest manifest in bytes.
pub const MANIFEST_MAX: u64 = 128 << 20;
/// Fast, and what more effort gains on code is little.
const LEVEL: i32 = 3;

/// `<dir>/<id>`.
pub(super) fn key_of(dir: &'static str, id: &impl Display) -> Key {
    Key::of_parts(dir, &id.to_string())
}

/// The object of a module: its bytes, compressed by zstd.
pub fn module_key(id: ModuleId) -> Key {
    key_of("modules", &id)
}

/// The object of a snapshot: the bytes of its manifest.
pub fn snapshot_key(id: SnapshotId) -> Key {
    key_of("snapshots", &id)
}

/// Stores a module durably, unless it is there.
///
/// # Errors
/// [`StoreError::TooLarge`] above [`MODULE_MAX`], and as [`Store::put`].
pub fn put_module(store: &dyn Store, module: &[u8]) -> Result<ModuleId, StoreError> {
    let id = ModuleId::of(module);
    let key = module_key(id);
    let len = module.len() as u64;
    if len > MODULE_MAX {
        return Err(StoreError::TooLarge { what: key.to_string(), len, max: MODULE_MAX });
    }
    match store.size(&key) {
        // Whoever wrote it may have died before it was durable.
        Ok(_) => return store.settle(key.as_str()).map(|()| id),
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let packed =
        zstd::bulk::compress(module, LEVEL).map_err(|error| StoreError::from_io("compress", &key, error))?;
    store.put(&key, &packed)?;
    Ok(id)
}

/// The bytes of a module, checked against its id.
///
/// # Errors
/// [`StoreError::Corrupt`] if they are others, and as [`Store::get_at_most`].
pub fn get_module(store: &dyn Store, id: ModuleId) -> Result<Vec<u8>, StoreError> {
    let key = module_key(id);
    // zstd makes incompressible data a little longer.
    let packed = store.get_at_most(&key, MODULE_MAX + (MODULE_MAX >> 8) + 64)?;
    let refuse = |why: String| StoreError::corrupt(&key, why);
    let mut module = Vec::new();
    zstd::Decoder::with_buffer(packed.as_slice())
        .and_then(|decoder| decoder.take(MODULE_MAX + 1).read_to_end(&mut module))
        .map_err(|error| refuse(format!("it cannot be decompressed: {error}")))?;
    match ModuleId::of(&module) {
        found if found == id => Ok(module),
        found => Err(refuse(format!("its bytes hash to {found}"))),
    }
}

/// Stores a manifest durably. What it names must be durable before.
///
/// # Errors
/// [`StoreError::TooLarge`] above [`MANIFEST_MAX`], and as [`Store::put`].
pub fn put_snapshot(store: &dyn Store, manifest: &[u8]) -> Result<SnapshotId, StoreError> {
    let id = SnapshotId::of(manifest);
    let (key, len) = (snapshot_key(id), manifest.len() as u64);
    if len > MANIFEST_MAX {
        return Err(StoreError::TooLarge { what: key.to_string(), len, max: MANIFEST_MAX });
    }
    store.put(&key, manifest)?;
    Ok(id)
}

/// The bytes of a manifest, checked against its id.
///
/// # Errors
/// [`StoreError::Corrupt`] if they are others, and as [`Store::get_at_most`].
pub fn get_snapshot(store: &dyn Store, id: SnapshotId) -> Result<Vec<u8>, StoreError> {
    let key = snapshot_key(id);
    let manifest = store.get_at_most(&key, MANIFEST_MAX)?;
    match SnapshotId::of(&manifest) {
        found if found == id => Ok(manifest),
        found => Err(StoreError::corrupt(key, format!("its bytes hash to {found}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    #[test]
    fn modules_and_manifests_come_back_and_damage_is_named() {
        let store = Memory::new();
        let module = b"\0asm and much of the same ".repeat(1000);
        let id = put_module(&store, &module).unwrap();
        assert_eq!(put_module(&store, &module).unwrap(), id);
        assert!(get_module(&store, id).unwrap() == module);
        assert!(store.size(&module_key(id)).unwrap() < 200);
        let manifest = put_snapshot(&store, b"manifest").unwrap();
        assert_eq!(get_snapshot(&store, manifest).unwrap(), b"manifest");

        let damaged: [&[u8]; 3] = [b"", b"not zstd", &zstd::bulk::compress(b"another", 1).unwrap()];
        for bytes in damaged {
            store.put(&module_key(id), bytes).unwrap();
            store.put(&snapshot_key(manifest), bytes).unwrap();
            let error = get_module(&store, id).unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains(&id.to_string()));
            assert!(matches!(get_snapshot(&store, manifest), Err(StoreError::Corrupt { .. })));
        }
        let missing = SnapshotId::of(b"missing");
        assert!(matches!(get_snapshot(&store, missing), Err(StoreError::NotFound { .. })));
    }
}

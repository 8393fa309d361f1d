//! Filling from a directory and from an archive, looking into what is stored, writing out what changed.

use std::{fs, os::unix::fs as unix, path::Path};

use super::*;

/// A directory with one of everything.
fn sample(dir: &Path) {
    fs::create_dir_all(dir.join("d/e")).unwrap();
    fs::write(dir.join("a"), b"first").unwrap();
    fs::write(dir.join("d/b"), vec![7; 10_000]).unwrap();
    fs::write(dir.join("d/empty"), b"").unwrap();
    fs::hard_link(dir.join("a"), dir.join("d/e/a-again")).unwrap();
    unix::symlink("../a", dir.join("d/up")).unwrap();
    unix::symlink("/etc/passwd", dir.join("d/out")).unwrap();
    unix::symlink("nowhere", dir.join("dangling")).unwrap();
    fs::write(dir.join(format!("d/{}", "long".repeat(50))), b"name").unwrap();
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 29).unwrap();
    // Whole seconds: all that an archive keeps.
    for path in ["a", "d/b", "d/empty", "sparse"] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000 + path.len() as u64);
        fs::File::options().write(true).open(dir.join(path)).unwrap().set_modified(time).unwrap();
    }
}

/// The tree without what the host makes of it: times of links and directories.
fn tree(disk: &Disk) -> Vec<(String, Filetype, u64, u32, Vec<u8>)> {
    let small = |mut content: Vec<u8>| {
        content.truncate(10_000);
        content
    };
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), ROOT)];
    while let Some((path, ino)) = pending.pop() {
        let inode = &disk.inodes[&ino];
        assert!(!inode.changed, "{path} counts as changed");
        let content = match &inode.node {
            Node::Directory { entries, .. } => {
                pending.extend(entries.iter().map(|(name, ino)| (format!("{path}/{name}"), *ino)));
                Vec::new()
            }
            Node::File(content) => {
                let mut bytes = vec![0; 20_000];
                let n = disk.read_at(ino, &mut bytes, content.size.saturating_sub(1 << 29)).unwrap();
                bytes.truncate(n);
                bytes
            }
            Node::Symlink(target) => target.clone().into_bytes(),
        };
        found.push((path, inode.kind(), inode.size(), inode.links, small(content)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn archive(dir: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    for path in ["a", "d", "d/b", "d/e", "d/empty", "d/up", "d/out", "dangling", "sparse"] {
        builder.append_path_with_name(dir.join(path), path).unwrap();
    }
    let long = format!("d/{}", "long".repeat(50));
    builder.append_path_with_name(dir.join(&long), format!("./{long}")).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    builder.append_link(&mut link, "d/e/a-again", "a").unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn a_directory_and_its_archive_give_the_same_tree() {
    let temp = tempfile::tempdir().unwrap();
    sample(temp.path());
    let mut from_dir = disk(1 << 20);
    let filled = from_directory(&mut from_dir, temp.path()).unwrap();
    assert_eq!((filled.files, filled.directories, filled.symlinks), (5, 2, 3));
    assert_eq!(filled.bytes, 5 + 10_000 + 4 + (1 << 30));
    assert!(from_dir.used() <= 8 * 4096, "holes take no room");
    let mut from_archive = disk(1 << 20);
    assert_eq!(from_tar(&mut from_archive, &archive(temp.path())[..]).unwrap(), filled);
    assert_eq!(tree(&from_dir), tree(&from_archive));
    let mtim = |disk: &Disk, path| disk.attributes_at(ROOT, path, false).unwrap().mtim;
    assert_eq!(mtim(&from_dir, "d/b"), (1_000_000_003, 0));
    assert_eq!(mtim(&from_archive, "d/b"), (1_000_000_003, 0));
    // The same again is the same disk, whatever the order in which the host lists names.
    let mut again = disk(1 << 20);
    from_directory(&mut again, temp.path()).unwrap();
    let mut chunks = Chunks::default();
    assert_eq!(chunks.capture(&mut again).data, chunks.capture(&mut from_dir).data);
    again.check();
    from_archive.check();
}

#[test]
fn what_cannot_be_on_a_disk_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(
        fs::File::open(temp.path()).unwrap(),
        "pipe",
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let text = |error: anyhow::Error| format!("{error:#}");
    let error = text(from_directory(&mut disk(1 << 20), temp.path()).unwrap_err());
    assert!(error.contains("pipe is neither a file"), "{error}");
    fs::remove_file(temp.path().join("pipe")).unwrap();
    fs::write(temp.path().join("large"), vec![1; 10_000]).unwrap();
    let error = text(from_directory(&mut disk(8192), temp.path()).unwrap_err());
    assert!(error.contains("large cannot be taken over: there is no room"), "{error}");

    let one = |path: &str, kind: tar::EntryType, link: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
        text(from_tar(&mut disk(1 << 20), &builder.into_inner().unwrap()[..]).unwrap_err())
    };
    use tar::EntryType::*;
    for (path, kind, link, why) in [
        ("../a", Regular, "", "leads out"),
        ("a/../../b", Regular, "", "leads out"),
        ("/a", Regular, "", "leads out"),
        ("a", Link, "../b", "leads out"),
        ("a", Link, "b", "did not come before"),
        ("a", Fifo, "", "neither a file"),
        ("a", Char, "", "neither a file"),
    ] {
        let error = one(path, kind, link);
        assert!(error.contains(why), "{path}: {error}");
    }
    // Through a link that the archive itself brings.
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "l", "..").unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    builder.append_data(&mut header, "l/x", &b"x"[..]).unwrap();
    let error = text(from_tar(&mut disk(1 << 20), &builder.into_inner().unwrap()[..]).unwrap_err());
    assert!(error.contains("`l` on its way is no directory"), "{error}");
    // A sparse file in the form of pax has another content than it says.
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0")]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    builder.append_data(&mut header, "x", &b"x"[..]).unwrap();
    let error = text(from_tar(&mut disk(1 << 20), &builder.into_inner().unwrap()[..]).unwrap_err());
    assert!(error.contains("--format=gnu"), "{error}");
    // Cut off.
    let temp = tempfile::tempdir().unwrap();
    sample(temp.path());
    let bytes = archive(temp.path());
    assert!(from_tar(&mut disk(1 << 20), &bytes[..3000]).is_err());
}

#[test]
fn a_stored_disk_can_be_looked_into() {
    let temp = tempfile::tempdir().unwrap();
    sample(temp.path());
    let (mut disk, mut chunks) = (disk(1 << 20), Chunks::default());
    from_directory(&mut disk, temp.path()).unwrap();
    disk.put("d/new", &[5; 5000], 9);
    let image = chunks.capture(&mut disk);
    let mut fetched = 0;
    let fetch = &mut |id| {
        fetched += 1;
        chunks.fetch()(id)
    };
    let listing = Listing::load(image, fetch).unwrap();
    let long = format!("d/{}", "long".repeat(50));
    let all: Vec<_> = listing.walk(listing.root().unwrap()).map(|item| item.path).collect();
    let expected = [
        "",
        "a",
        "d",
        "d/b",
        "d/e",
        "d/e/a-again",
        "d/empty",
        &long,
        "d/new",
        "d/out",
        "d/up",
        "dangling",
        "sparse",
    ];
    assert_eq!(all, expected);
    let item = listing.lookup("/d//e/./a-again").unwrap();
    assert_eq!((item.kind, item.size, item.nlink, item.changed), (Filetype::RegularFile, 5, 2, false));
    assert_eq!(listing.lookup("d/out").unwrap().target, Some("/etc/passwd"));
    let new = listing.lookup("d/new").unwrap();
    assert!(new.changed && new.mtim == 9);
    assert!(listing.lookup("d/../a").is_none() && listing.lookup("a/b").is_none());
    let mut bytes = [1; 3000];
    assert_eq!(listing.read_at(new.ino, &mut bytes, 4000, fetch).unwrap(), 1000);
    assert!(bytes[..1000] == [5; 1000] && bytes[1000] == 1);
    let sparse = listing.lookup("sparse").unwrap();
    assert_eq!(listing.read_at(sparse.ino, &mut bytes, (1 << 29) - 2, fetch).unwrap(), 3000);
    assert_eq!(&bytes[..10], b"\0\0middle\0\0");
    assert!(listing.read_at(ROOT, &mut bytes, 0, fetch).is_err());
    assert!(fetched < 40, "{fetched} chunks were fetched");
}

#[test]
fn what_changed_is_written_out_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    sample(dir);
    let mut disk = disk(1 << 20);
    from_directory(&mut disk, dir).unwrap();
    assert_eq!(sync_out(&disk, dir, "owner").unwrap(), Exported::default(), "nothing changed");
    disk.put("d/b", b"shorter", 5_000_000_000);
    let ino = disk.find(ROOT, "d/b", true).unwrap();
    disk.set_len(ino, 3, 6_000_000_007).unwrap();
    disk.create_dir(ROOT, "new", 1).unwrap();
    disk.create_dir(ROOT, "new/deep", 1).unwrap();
    disk.put("new/deep/x", b"x", 1);
    disk.hard_link(ROOT, "new/deep/x", ROOT, "new/y", 1).unwrap();
    disk.symlink("b", ROOT, "d/link", 1).unwrap();
    disk.rename(ROOT, "d/e", ROOT, "moved", 1).unwrap();
    disk.unlink(ROOT, "dangling", 1).unwrap();
    fs::write(dir.join("a"), b"the host's own").unwrap();
    let done = sync_out(&disk, dir, "owner").unwrap();
    // `moved/a-again` is under a new path, though it did not change.
    assert_eq!((done.files, done.directories, done.symlinks), (3, 3, 1));
    assert_eq!(fs::read(dir.join("d/b")).unwrap(), b"sho");
    let modified = fs::metadata(dir.join("d/b")).unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos(), 6_000_000_007);
    assert_eq!(fs::read(dir.join("new/y")).unwrap(), b"x");
    let ino = |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir.join(path)).unwrap());
    assert_eq!(ino("new/y"), ino("new/deep/x"));
    assert_eq!(fs::read_link(dir.join("d/link")).unwrap(), Path::new("b"));
    assert_eq!(fs::read(dir.join("moved/a-again")).unwrap(), b"first");
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"the host's own", "it did not change on the disk");
    assert!(
        dir.join("dangling").symlink_metadata().is_ok() && dir.join("d/e/a-again").exists(),
        "left alone"
    );
    let left = fs::read_dir(dir)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".wasm"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_link_planted_on_the_host_leads_nowhere() {
    let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("x"), b"mine").unwrap();
    let mut disk = disk(1 << 20);
    disk.create_dir(ROOT, "d", 1).unwrap();
    disk.put("d/x", b"the guest's", 1);
    unix::symlink(outside.path(), temp.path().join("d")).unwrap();
    let error = sync_out(&disk, temp.path(), "owner").unwrap_err();
    assert!(format!("{error:#}").contains("`d` cannot be written out"), "{error:#}");
    assert_eq!(fs::read(outside.path().join("x")).unwrap(), b"mine");
    // A link where a file belongs is replaced, not followed.
    fs::remove_file(temp.path().join("d")).unwrap();
    fs::create_dir(temp.path().join("d")).unwrap();
    unix::symlink(outside.path().join("x"), temp.path().join("d/x")).unwrap();
    sync_out(&disk, temp.path(), "owner").unwrap();
    assert_eq!(fs::read(outside.path().join("x")).unwrap(), b"mine");
    assert_eq!(fs::read(temp.path().join("d/x")).unwrap(), b"the guest's");
}

/// What the tar of this host makes, where there is one.
#[test]
fn archives_of_the_tar_program_are_read() {
    let temp = tempfile::tempdir().unwrap();
    sample(temp.path());
    let mut expected = disk(1 << 20);
    from_directory(&mut expected, temp.path()).unwrap();
    for options in [&["--format=gnu", "--sparse"][..], &["--format=posix", "--exclude=./sparse"]] {
        let tar = std::process::Command::new("tar")
            .args(options)
            .args(["-c", "."])
            .current_dir(temp.path())
            .output();
        let Ok(tar) = tar else {
            println!("skipped: there is no tar");
            return;
        };
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        let mut found = disk(1 << 20);
        from_tar(&mut found, &tar.stdout[..]).unwrap();
        let kept = |disk: &Disk| {
            let mut tree = tree(disk);
            tree.retain(|(path, ..)| options.len() == 2 && options[1] == "--sparse" || path != "/sparse");
            tree
        };
        assert_eq!(kept(&found), kept(&expected), "{options:?}");
        let mtim = |disk: &Disk| disk.attributes_at(ROOT, "d/e", false).unwrap().mtim;
        if options[0] == "--format=posix" {
            assert_eq!(mtim(&found), mtim(&expected), "to the ns");
        }
    }
}

#[test]
fn it_does_not_matter_which_zeros_are_holes_on_the_host() {
    use std::os::unix::fs::FileExt;
    let temp = tempfile::tempdir().unwrap();
    let mut images = vec![];
    for holes in [false, true] {
        let path = temp.path().join("f");
        let file = File::create(&path).unwrap();
        if !holes {
            file.write_all_at(&vec![0; 281 * 4096], 0).unwrap();
        }
        for (start, len) in [(250, 10), (270, 11)] {
            file.write_all_at(&vec![7; len * 4096], start * 4096).unwrap();
        }
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        file.set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
        let dir = File::open(temp.path()).unwrap();
        dir.set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
        let mut disk = disk(64 << 20);
        from_directory(&mut disk, temp.path()).unwrap();
        disk.check();
        assert_eq!(disk.used(), 21 * 4096);
        images.push(Chunks::default().capture(&mut disk));
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(images[0], images[1]);
}

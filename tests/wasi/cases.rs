//! Calls that once differed from the reference, by name.

use crate::plan::Step;
use crate::rules::{Next, Pair};
use crate::sides::{Ours, Reference, call};
use crate::{Given, ON_DISK, ON_HOST, tree};

const OUT: u64 = 0x800;
const PATH: u32 = 0x1000;
const TARGET: u32 = 0x4000;
const IOVS: u64 = 0x7000;

/// A function, its arguments, what is put into memory before, and the error number that it gives.
type Named<'a> = (&'static str, &'a [u64], &'a [(u32, &'a [u8])], u32);

/// Makes the calls on both sides; each gives the error number that is named.
fn same(calls: &[Named]) {
    same_on(ON_HOST, calls);
}

fn same_on(given: Given, calls: &[Named]) {
    let (theirs, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree::make(theirs.path());
    tree::make(own.path());
    let (mut reference, mut ours) =
        (Reference::new(theirs.path(), given.dirs), Ours::new((given.config)(own.path())));
    let mut pair = Pair::new(&mut reference, &mut ours);
    for (name, args, puts, errno) in calls {
        let puts = puts.iter().map(|(at, bytes)| (*at, bytes.to_vec())).collect::<Vec<_>>();
        let step = Step { call: call(name, args), puts, bad_pointer: false };
        assert_eq!(pair.step(&step), Ok(Next::GoesOn), "{name} {args:x?}");
        assert_eq!(pair.last, *errno, "{name} {args:x?}");
    }
    assert_eq!(tree::list_by_calls(pair.reference, 3), tree::list_by_calls(pair.ours, 3));
}

const OPEN_TO_READ: Named = ("path_open", &[3, 0, PATH as u64, 1, 0, 2, 2, 0, OUT], &[(PATH, b"a")], 0);

#[test]
fn an_offset_that_no_file_has_is_told_before_rights() {
    same(&[
        OPEN_TO_READ,
        ("fd_pwrite", &[6, IOVS, 1, 1 << 63, OUT], &[(IOVS as u32, b"\x00\x90\0\0\x04\0\0\0")], 28),
        ("fd_pread", &[6, IOVS, 0, u64::MAX, OUT], &[], 28),
    ]);
}

#[test]
fn nothing_cannot_be_written_to_standard_input() {
    same(&[("fd_write", &[0, IOVS, 0, OUT], &[], 8)]);
}

#[test]
fn a_path_is_too_long_only_after_all_else() {
    let long = b"x/".repeat(3000);
    let len = long.len() as u64;
    same(&[
        // In a directory that cannot be changed; with a file as directory; as it is.
        ("path_create_directory", &[4, u64::from(PATH), len], &[(PATH, &long)], 63),
        OPEN_TO_READ,
        ("path_open", &[6, 0, u64::from(PATH), len, 0, 2, 2, 0, OUT], &[(PATH, &long)], 54),
        ("path_create_directory", &[3, u64::from(PATH), len], &[(PATH, &long)], 37),
    ]);
}

#[test]
fn a_file_is_not_renamed_to_a_name_with_a_slash() {
    same(&[
        (
            "path_rename",
            &[3, u64::from(PATH), 3, 3, u64::from(TARGET), 5],
            &[(PATH, b"big"), (TARGET, b"loop/")],
            54,
        ),
        (
            "path_rename",
            &[3, u64::from(PATH), 3, 3, u64::from(TARGET), 4],
            &[(PATH, b"big"), (TARGET, b"new/")],
            54,
        ),
        (
            "path_rename",
            &[3, u64::from(PATH), 5, 3, u64::from(TARGET), 4],
            &[(PATH, b"empty"), (TARGET, b"new/")],
            0,
        ),
    ]);
}

#[test]
fn a_read_only_file_is_not_waited_for_to_be_written() {
    let mut subscription = [0; 48];
    subscription[8] = 2;
    subscription[16] = 6;
    same(&[
        ("path_open", &[4, 0, u64::from(PATH), 1, 0, 2, 2, 0, OUT], &[(PATH, b"a")], 0),
        ("poll_oneoff", &[0x7800, 0x8000, 1, OUT], &[(0x7800, &subscription)], 63),
    ]);
}

#[test]
fn a_file_that_is_open_for_reading_keeps_its_size_on_a_private_disk() {
    // The next descriptor is another where there is one directory only.
    let open: Named = ("path_open", &[3, 0, PATH as u64, 1, 0, 2, 2, 0, OUT], &[(PATH, b"a")], 0);
    same_on(
        ON_DISK,
        &[
            open,
            ("fd_filestat_set_size", &[4, 3], &[], 28),
            ("fd_allocate", &[4, 0, 100], &[], 8),
            ("fd_advise", &[4, 0, u64::MAX, 0], &[], 28),
            ("fd_advise", &[4, 0, 0, 0], &[], 0),
        ],
    );
}

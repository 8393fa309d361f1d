//! The functions of preview 1 by name, on both sides.

use wasm_ckpt::wasi::{Errno, FUNCTIONS, MODULE, Param, Stop, Wasi};

macro_rules! by_name {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {
        /// Calls a function of ours with raw arguments.
        pub fn call(wasi: &mut Wasi, mem: &mut [u8], name: &str, args: &[u64]) -> Result<Errno, Stop> {
            match name {
                $(stringify!($name) => {
                    let [$($arg),*] = *args else { panic!("{name}: {} arguments", args.len()) };
                    wasi.$name(mem $(, $arg as $kind)*)
                })*
                _ => panic!("there is no function {name}"),
            }
        }

        #[test]
        fn every_function_can_be_called_by_name() {
            let mut ours = vec![$(stringify!($name)),*];
            let mut all: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
            ours.sort_unstable();
            all.sort_unstable();
            assert_eq!(ours, all);
        }
    };
}

by_name! {
    proc_exit(code: u32);
    args_get(argv: u32, buf: u32);
    args_sizes_get(argc: u32, size: u32);
    environ_get(environ: u32, buf: u32);
    environ_sizes_get(count: u32, size: u32);
    clock_res_get(id: u32, out: u32);
    clock_time_get(id: u32, precision: u64, out: u32);
    fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
    fd_allocate(fd: u32, offset: u64, len: u64);
    fd_close(fd: u32);
    fd_datasync(fd: u32);
    fd_fdstat_get(fd: u32, out: u32);
    fd_fdstat_set_flags(fd: u32, flags: u32);
    fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
    fd_filestat_get(fd: u32, out: u32);
    fd_filestat_set_size(fd: u32, size: u64);
    fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, flags: u32);
    fd_pread(fd: u32, iovs: u32, count: u32, offset: u64, out: u32);
    fd_prestat_get(fd: u32, out: u32);
    fd_prestat_dir_name(fd: u32, buf: u32, len: u32);
    fd_pwrite(fd: u32, iovs: u32, count: u32, offset: u64, out: u32);
    fd_read(fd: u32, iovs: u32, count: u32, out: u32);
    fd_readdir(fd: u32, buf: u32, len: u32, cookie: u64, out: u32);
    fd_renumber(from: u32, to: u32);
    fd_seek(fd: u32, offset: i64, whence: u32, out: u32);
    fd_sync(fd: u32);
    fd_tell(fd: u32, out: u32);
    fd_write(fd: u32, iovs: u32, count: u32, out: u32);
    path_create_directory(fd: u32, path: u32, len: u32);
    path_filestat_get(fd: u32, lookup: u32, path: u32, len: u32, out: u32);
    path_filestat_set_times(fd: u32, lookup: u32, path: u32, len: u32, atim: u64, mtim: u64, flags: u32);
    path_link(fd: u32, lookup: u32, path: u32, len: u32, to: u32, to_path: u32, to_len: u32);
    path_open(fd: u32, lookup: u32, path: u32, len: u32, oflags: u32, base: u64, inheriting: u64, flags: u32, out: u32);
    path_readlink(fd: u32, path: u32, len: u32, buf: u32, buf_len: u32, out: u32);
    path_remove_directory(fd: u32, path: u32, len: u32);
    path_rename(fd: u32, path: u32, len: u32, to: u32, to_path: u32, to_len: u32);
    path_symlink(target: u32, target_len: u32, fd: u32, path: u32, len: u32);
    path_unlink_file(fd: u32, path: u32, len: u32);
    poll_oneoff(subscriptions: u32, events: u32, count: u32, out: u32);
    proc_raise(signal: u32);
    random_get(buf: u32, len: u32);
    sched_yield();
    sock_accept(fd: u32, flags: u32, out: u32);
    sock_recv(fd: u32, iovs: u32, count: u32, flags: u32, out: u32, flags_out: u32);
    sock_send(fd: u32, iovs: u32, count: u32, flags: u32, out: u32);
    sock_shutdown(fd: u32, how: u32);
}

/// A module that imports all functions, and exports each by its name, with a memory of so many pages.
pub fn trampolines(pages: u32) -> String {
    let (mut imports, mut exports) = (String::new(), String::new());
    for function in FUNCTIONS {
        let name = function.name;
        let kinds: Vec<&str> =
            function.params.iter().map(|p| if *p == Param::I64 { "i64" } else { "i32" }).collect();
        let params = format!("(param {})", kinds.join(" "));
        let result = if name == "proc_exit" { "" } else { "(result i32)" };
        let arguments: String = (0..kinds.len()).map(|n| format!("(local.get {n})")).collect();
        imports += &format!("(import \"{MODULE}\" \"{name}\" (func ${name} {params} {result}))\n");
        exports += &format!("(func (export \"{name}\") {params} {result} (call ${name} {arguments}))\n");
    }
    format!("(module {imports} (memory (export \"memory\") {pages}) {exports})")
}

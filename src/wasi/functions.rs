//! The functions of preview 1, listed once.

/// Calls the macro `$then` with every function that returns an error number, as
/// `name(argument: type, …);`. The types are those of WebAssembly, by sign: `u32` is `i32`, `u64` and
/// `i64` are `i64`. Each is a method of [`Wasi`](super::Wasi) that takes the memory first.
///
/// `proc_exit(code: u32)` is not in the list, since it has no result: link it by hand.
macro_rules! wasi_functions {
    ($then:ident) => {
        $then! {
            args_get(argv: u32, argv_buf: u32);
            args_sizes_get(argc: u32, argv_buf_size: u32);
            environ_get(environ: u32, environ_buf: u32);
            environ_sizes_get(count: u32, environ_buf_size: u32);
            clock_res_get(id: u32, resolution: u32);
            clock_time_get(id: u32, precision: u64, time: u32);
            fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
            fd_allocate(fd: u32, offset: u64, len: u64);
            fd_close(fd: u32);
            fd_datasync(fd: u32);
            fd_fdstat_get(fd: u32, stat: u32);
            fd_fdstat_set_flags(fd: u32, flags: u32);
            fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
            fd_filestat_get(fd: u32, stat: u32);
            fd_filestat_set_size(fd: u32, size: u64);
            fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, flags: u32);
            fd_pread(fd: u32, iovs: u32, iovs_len: u32, offset: u64, nread: u32);
            fd_prestat_get(fd: u32, stat: u32);
            fd_prestat_dir_name(fd: u32, path: u32, path_len: u32);
            fd_pwrite(fd: u32, iovs: u32, iovs_len: u32, offset: u64, nwritten: u32);
            fd_read(fd: u32, iovs: u32, iovs_len: u32, nread: u32);
            fd_readdir(fd: u32, buf: u32, buf_len: u32, cookie: u64, used: u32);
            fd_renumber(from: u32, to: u32);
            fd_seek(fd: u32, offset: i64, whence: u32, position: u32);
            fd_sync(fd: u32);
            fd_tell(fd: u32, position: u32);
            fd_write(fd: u32, iovs: u32, iovs_len: u32, nwritten: u32);
            path_create_directory(fd: u32, path: u32, path_len: u32);
            path_filestat_get(fd: u32, lookup: u32, path: u32, path_len: u32, stat: u32);
            path_filestat_set_times(
                fd: u32, lookup: u32, path: u32, path_len: u32, atim: u64, mtim: u64, flags: u32
            );
            path_link(
                old_fd: u32, lookup: u32, old_path: u32, old_path_len: u32,
                new_fd: u32, new_path: u32, new_path_len: u32
            );
            path_open(
                fd: u32, lookup: u32, path: u32, path_len: u32, oflags: u32,
                base: u64, inheriting: u64, fdflags: u32, opened: u32
            );
            path_readlink(fd: u32, path: u32, path_len: u32, buf: u32, buf_len: u32, used: u32);
            path_remove_directory(fd: u32, path: u32, path_len: u32);
            path_rename(
                old_fd: u32, old_path: u32, old_path_len: u32,
                new_fd: u32, new_path: u32, new_path_len: u32
            );
            path_symlink(target: u32, target_len: u32, fd: u32, path: u32, path_len: u32);
            path_unlink_file(fd: u32, path: u32, path_len: u32);
            poll_oneoff(subscriptions: u32, events: u32, count: u32, stored: u32);
            proc_raise(signal: u32);
            random_get(buf: u32, buf_len: u32);
            sched_yield();
            sock_accept(fd: u32, flags: u32, accepted: u32);
            sock_recv(fd: u32, iovs: u32, iovs_len: u32, flags: u32, nread: u32, flags_out: u32);
            sock_send(fd: u32, iovs: u32, iovs_len: u32, flags: u32, nwritten: u32);
            sock_shutdown(fd: u32, how: u32);
        }
    };
}
pub(crate) use wasi_functions;

/// Name of the module that guests import these functions from.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// A parameter's type in WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// `i32`
    I32,
    /// `i64`
    I64,
}

/// A function of preview 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Its parameters. The result is an `i32`, but for `proc_exit`, which has none.
    pub params: &'static [Param],
}

impl Function {
    /// The function can ask to be made again later ([`Stop::Suspend`](super::Stop::Suspend)).
    pub fn may_suspend(&self) -> bool {
        matches!(self.name, "fd_read" | "fd_write" | "poll_oneoff")
    }
}

macro_rules! param {
    (u32) => {
        Param::I32
    };
    (u64) => {
        Param::I64
    };
    (i64) => {
        Param::I64
    };
}

macro_rules! table {
    ($($name:ident($($arg:ident: $kind:tt),*);)*) => {
        /// Every function, `proc_exit` included, in no particular order.
        pub const FUNCTIONS: &[Function] = &[
            Function { name: "proc_exit", params: &[Param::I32] },
            $(Function { name: stringify!($name), params: &[$(param!($kind)),*] },)*
        ];
    };
}
wasi_functions!(table);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_46_functions_once() {
        let mut names: Vec<_> = FUNCTIONS.iter().map(|f| f.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 46);
        let open = FUNCTIONS.iter().find(|f| f.name == "path_open").unwrap();
        use Param::{I32, I64};
        assert_eq!(open.params, [I32, I32, I32, I32, I32, I64, I64, I32, I32]);
    }
}

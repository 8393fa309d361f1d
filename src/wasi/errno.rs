//! Error numbers of preview 1, and which one a host error becomes.
//!
//! Source of names and numbers: `typenames.witx` of `wasi_snapshot_preview1`.

use std::io;

use rustix::io::Errno as HostErrno;

macro_rules! errno {
    ($($name:ident = $code:literal, $host:ident;)*) => {
        /// The result of a preview 1 function; 0 is success.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[allow(missing_docs)] // The names are POSIX's.
        pub enum Errno {
            Success = 0,
            $($name = $code,)*
            Notcapable = 76,
        }

        impl From<HostErrno> for Errno {
            fn from(host: HostErrno) -> Self {
                // A chain, not a match: some hosts give one number to two names.
                $(if host == HostErrno::$host { return Errno::$name; })*
                Errno::Io
            }
        }
    };
}

errno! {
    TooBig = 1, TOOBIG;
    Acces = 2, ACCESS;
    Addrinuse = 3, ADDRINUSE;
    Addrnotavail = 4, ADDRNOTAVAIL;
    Afnosupport = 5, AFNOSUPPORT;
    Again = 6, AGAIN;
    Already = 7, ALREADY;
    Badf = 8, BADF;
    Badmsg = 9, BADMSG;
    Busy = 10, BUSY;
    Canceled = 11, CANCELED;
    Child = 12, CHILD;
    Connaborted = 13, CONNABORTED;
    Connrefused = 14, CONNREFUSED;
    Connreset = 15, CONNRESET;
    Deadlk = 16, DEADLK;
    Destaddrreq = 17, DESTADDRREQ;
    Dom = 18, DOM;
    Dquot = 19, DQUOT;
    Exist = 20, EXIST;
    Fault = 21, FAULT;
    Fbig = 22, FBIG;
    Hostunreach = 23, HOSTUNREACH;
    Idrm = 24, IDRM;
    Ilseq = 25, ILSEQ;
    Inprogress = 26, INPROGRESS;
    Intr = 27, INTR;
    Inval = 28, INVAL;
    Io = 29, IO;
    Isconn = 30, ISCONN;
    Isdir = 31, ISDIR;
    Loop = 32, LOOP;
    Mfile = 33, MFILE;
    Mlink = 34, MLINK;
    Msgsize = 35, MSGSIZE;
    Multihop = 36, MULTIHOP;
    Nametoolong = 37, NAMETOOLONG;
    Netdown = 38, NETDOWN;
    Netreset = 39, NETRESET;
    Netunreach = 40, NETUNREACH;
    Nfile = 41, NFILE;
    Nobufs = 42, NOBUFS;
    Nodev = 43, NODEV;
    Noent = 44, NOENT;
    Noexec = 45, NOEXEC;
    Nolck = 46, NOLCK;
    Nolink = 47, NOLINK;
    Nomem = 48, NOMEM;
    Nomsg = 49, NOMSG;
    Noprotoopt = 50, NOPROTOOPT;
    Nospc = 51, NOSPC;
    Nosys = 52, NOSYS;
    Notconn = 53, NOTCONN;
    Notdir = 54, NOTDIR;
    Notempty = 55, NOTEMPTY;
    Notrecoverable = 56, NOTRECOVERABLE;
    Notsock = 57, NOTSOCK;
    Notsup = 58, NOTSUP;
    Notty = 59, NOTTY;
    Nxio = 60, NXIO;
    Overflow = 61, OVERFLOW;
    Ownerdead = 62, OWNERDEAD;
    Perm = 63, PERM;
    Pipe = 64, PIPE;
    Proto = 65, PROTO;
    Protonosupport = 66, PROTONOSUPPORT;
    Prototype = 67, PROTOTYPE;
    Range = 68, RANGE;
    Rofs = 69, ROFS;
    Spipe = 70, SPIPE;
    Srch = 71, SRCH;
    Stale = 72, STALE;
    Timedout = 73, TIMEDOUT;
    Txtbsy = 74, TXTBSY;
    Xdev = 75, XDEV;
}

impl Errno {
    /// The number that the guest gets as the function's result.
    pub const fn code(self) -> u32 {
        self as u32
    }
}

impl From<io::Error> for Errno {
    /// Errors without a number of the system are those that `cap-std` makes itself: a path that leads
    /// out of its directory is `Perm`, as in the reference.
    fn from(error: io::Error) -> Self {
        if let Some(host) = HostErrno::from_io_error(&error) {
            return host.into();
        }
        match error.kind() {
            io::ErrorKind::NotFound => Errno::Noent,
            io::ErrorKind::PermissionDenied => Errno::Perm,
            io::ErrorKind::AlreadyExists => Errno::Exist,
            io::ErrorKind::InvalidInput => Errno::Inval,
            _ => Errno::Io,
        }
    }
}

/// Why a call does not return to the guest.
#[derive(Debug)]
pub enum Stop {
    /// The guest called `proc_exit` with this code.
    Exit(u32),
    /// The call would wait, and [`Interrupt`](super::Interrupt) was requested. The guest has seen
    /// nothing of the call yet: make it again, with the same arguments, when the guest goes on.
    Suspend,
    /// The host cannot go on; the error says why.
    Fail(anyhow::Error),
}

/// How the inside of a function fails: with a number for the guest, or by stopping it.
#[derive(Debug)]
pub(super) enum Failure {
    Errno(Errno),
    Stop(Stop),
}

pub(super) type Outcome<T = ()> = Result<T, Failure>;

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::Errno(errno)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Errno(error.into())
    }
}

impl From<HostErrno> for Failure {
    fn from(error: HostErrno) -> Self {
        Failure::Errno(error.into())
    }
}

/// Runs the inside of a function, and gives its result the form that the machine links.
pub(super) fn done(body: impl FnOnce() -> Outcome) -> Result<Errno, Stop> {
    match body() {
        Ok(()) => Ok(Errno::Success),
        Err(Failure::Errno(errno)) => Ok(errno),
        Err(Failure::Stop(stop)) => Err(stop),
    }
}

//! What the errors of HDFS mean.

use std::error::Error;
use std::fmt;
use std::io;

use hdfs_native::HdfsError;

use super::super::super::StoreError;

/// Of what a server says, so much is shown.
const SHOWN_MAX: usize = 400;

/// What an error means to whoever has called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no such file; or, for a rename, no such directory.
    NotFound,
    /// There is one already.
    Exists,
    /// A file where a directory is wanted, or the other way round.
    Clash,
    /// Credentials or permissions.
    Denied,
    /// A quota is reached.
    Full,
    /// No DataNode takes a block: none has room, or they are too busy.
    NoRoom,
    /// What else does not pass by itself.
    Final,
    /// What may pass: a connection that was lost, a service that begins or changes over.
    Passing,
}

impl Kind {
    pub(super) fn of(error: &HdfsError) -> Self {
        use HdfsError as E;
        match error {
            E::FileNotFound(_) => Self::NotFound,
            E::AlreadyExists(_) => Self::Exists,
            E::IsADirectoryError(_) => Self::Clash,
            E::SASLError(_) | E::GSSAPIError(..) | E::NoSASLMechanism => Self::Denied,
            E::RPCError(class, message) | E::FatalRPCError(class, message) => {
                Self::of_exception(class, message)
            }
            E::OperationFailed(what) if what.contains("erasure-coded") => Self::Final,
            E::IOError(_)
            | E::DataTransferError(_)
            | E::ChecksumError
            | E::OperationFailed(_)
            | E::BlocksNotFound(_)
            | E::InternalError(_)
            | E::InvalidRPCResponse(_) => Self::Passing,
            _ => Self::Final,
        }
    }

    /// Of an exception of the server's, by the name of its class.
    fn of_exception(class: &str, message: &str) -> Self {
        match class.rsplit(['.', '$']).next().unwrap_or(class) {
            "FileNotFoundException" => Self::NotFound,
            "FileAlreadyExistsException" => Self::Exists,
            "ParentNotDirectoryException" | "PathIsNotDirectoryException" => Self::Clash,
            "AccessControlException" if is_below_a_file(message) => Self::Clash,
            "AccessControlException" | "AuthorizationException" | "SaslException" | "InvalidToken" => {
                Self::Denied
            }
            "NSQuotaExceededException"
            | "DSQuotaExceededException"
            | "QuotaByStorageTypeExceededException" => Self::Full,
            "MaxDirectoryItemsExceededException" => Self::Full,
            "IOException"
                if message.contains("could only be") && !message.contains("There are 0 datanode") =>
            {
                Self::NoRoom
            }
            "IllegalArgumentException"
            | "HadoopIllegalArgumentException"
            | "InvalidPathException"
            | "PathIsNotEmptyDirectoryException"
            | "PathComponentTooLongException"
            | "UnresolvedPathException"
            | "RpcNoSuchMethodException"
            | "RpcNoSuchProtocolException" => Self::Final,
            _ => Self::Passing,
        }
    }

    pub(super) fn may_pass(self) -> bool {
        matches!(self, Self::Passing | Self::NoRoom)
    }
}

/// Whether it is only refused to look into a file as if it were a directory. To nobody but the superuser it is said that it
/// is none: `Permission denied: user=u, access=EXECUTE, inode="/s/objects/a/b":u:g:-rw-r--r--`, or later words for it.
fn is_below_a_file(message: &str) -> bool {
    let line = message.lines().next().unwrap_or_default();
    let is_file = line.rsplit(':').next().is_some_and(|mode| mode.starts_with("-r"));
    line.contains("not a directory") || (line.contains("access=EXECUTE") && is_file)
}

/// What the server or the client said, and what to look at.
#[derive(Debug)]
struct Cause {
    kind: Kind,
    text: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.kind {
            Kind::Denied => "; check HADOOP_USER_NAME or the Kerberos ticket, and who owns the directory",
            Kind::Full => "; remove some, or raise the quota",
            Kind::NoRoom => "; check the space of the DataNodes, and that they run",
            Kind::Passing => {
                "; check that this is the RPC address of a NameNode (`fs.defaultFS`), and that it and the DataNodes run and can be reached"
            }
            _ => "",
        };
        write!(f, "{}{advice}", self.text)
    }
}

impl Error for Cause {}

/// Sorts the client's error; `what` is the address.
pub(super) fn sorted(doing: &'static str, what: String, error: HdfsError) -> StoreError {
    let kind = Kind::of(&error);
    // A stack trace may follow the first line.
    let text = error.to_string();
    let text =
        text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
    let sort = match kind {
        Kind::NotFound => io::ErrorKind::NotFound,
        Kind::Denied => io::ErrorKind::PermissionDenied,
        Kind::Full | Kind::NoRoom => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    StoreError::from_io(doing, what, io::Error::new(sort, Cause { kind, text }))
}

/// Whether this is from an error of [`Kind::Clash`].
pub(super) fn is_clash(source: &io::Error) -> bool {
    source
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Cause>())
        .is_some_and(|cause| cause.kind == Kind::Clash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(class: &str, message: &str) -> StoreError {
        sorted("write", "hdfs://n:1/s".into(), HdfsError::RPCError(class.into(), message.into()))
    }

    #[test]
    fn exceptions_are_sorted() {
        let denied = rpc(
            "org.apache.hadoop.security.AccessControlException",
            "Permission denied: user=x\n\tat a.b(c)",
        );
        assert!(matches!(denied, StoreError::Denied { .. }), "{denied:?}");
        let cause = denied.source().unwrap().to_string();
        assert!(
            cause.contains("user=x") && cause.contains("HADOOP_USER_NAME") && !cause.contains("a.b"),
            "{cause}"
        );
        let full = rpc(
            "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException",
            "The DiskSpace quota is exceeded",
        );
        assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
        let room = "File /s/tmp/1 could only be replicated to 0 nodes. There are 3 datanode(s) running";
        assert!(matches!(rpc("java.io.IOException", room), StoreError::Full { .. }));
        let none = "File /s/tmp/1 could only be replicated to 0 nodes. There are 0 datanode(s) running";
        assert!(matches!(rpc("java.io.IOException", none), StoreError::Io { .. }));
        let gone = sorted(
            "read",
            "hdfs://n:1/s".into(),
            HdfsError::IOError(io::ErrorKind::ConnectionRefused.into()),
        );
        assert!(
            matches!(&gone, StoreError::Io { .. }) && gone.to_string().contains("hdfs://n:1/s"),
            "{gone:?}"
        );
        assert!(gone.source().unwrap().to_string().contains("fs.defaultFS"));
    }
}

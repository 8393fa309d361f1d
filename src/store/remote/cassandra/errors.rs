//! What the errors of a cluster mean: which pass, and what a user does about the others.

use std::fmt::Display;
use std::io;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError, UseKeyspaceError,
};

use super::super::super::StoreError;

/// What is being done, for messages.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) doing: &'static str,
    pub(super) what: &'a str,
}

impl Task<'_> {
    /// It has failed, for good or after all tries.
    pub(super) fn failed(self, address: &str, error: &ExecutionError) -> StoreError {
        match refusal(error) {
            Some((kind, text)) => self.sorted(kind, format!("{address}: {text}")),
            None => self.io(format!(
                "{address}: {error}; check that enough of its nodes run and are reached from here"
            )),
        }
    }

    /// There is no connection to begin with.
    pub(super) fn not_connected(self, address: &str, error: NewSessionError) -> StoreError {
        if let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool)) = &error
            && let Some((kind, text)) = refusal_by(pool)
        {
            return self.sorted(kind, format!("{address}: {text}"));
        }
        self.io(format!(
            "{address}: {error}; check host and port, and that Cassandra listens for CQL clients there"
        ))
    }

    /// The answer is not one that Cassandra gives.
    pub(super) fn malformed(self, error: impl Display) -> StoreError {
        StoreError::corrupt(
            self.what,
            format!("the cluster has answered with other columns than asked: {error}"),
        )
    }

    pub(super) fn io(self, text: String) -> StoreError {
        self.sorted(io::ErrorKind::Other, text)
    }

    fn sorted(self, kind: io::ErrorKind, text: String) -> StoreError {
        StoreError::from_io(self.doing, self.what, io::Error::new(kind, text))
    }
}

/// Whether it may be gone in a while: no node, or not enough of them, or too much to do. Of what was asked it is then
/// unknown whether it was done.
pub(super) fn is_passing(error: &ExecutionError) -> bool {
    use DbError as D;
    use RequestAttemptError as R;
    let attempt = match error {
        ExecutionError::RequestTimeout(_) | ExecutionError::EmptyPlan => return true,
        ExecutionError::ConnectionPoolError(pool)
        | ExecutionError::PrepareError(PrepareError::ConnectionPoolError(pool)) => {
            return refusal_by(pool).is_none();
        }
        ExecutionError::LastAttemptError(attempt)
        | ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt: attempt }) => attempt,
        _ => return false,
    };
    match attempt {
        R::BrokenConnectionError(_) | R::UnableToAllocStreamId => true,
        R::DbError(error, _) => matches!(
            error,
            D::Unavailable { .. }
                | D::Overloaded
                | D::IsBootstrapping
                | D::ReadTimeout { .. }
                | D::WriteTimeout { .. }
                | D::ServerError
                | D::RateLimitReached { .. }
        ),
        _ => false,
    }
}

/// Why the cluster refuses, where a user can do something about it.
fn refusal(error: &ExecutionError) -> Option<(io::ErrorKind, String)> {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, text))
        | ExecutionError::PrepareError(PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(error, text),
        })
        | ExecutionError::UseKeyspaceError(UseKeyspaceError::RequestError(RequestAttemptError::DbError(
            error,
            text,
        ))) => sort(error, text),
        ExecutionError::ConnectionPoolError(pool)
        | ExecutionError::PrepareError(PrepareError::ConnectionPoolError(pool)) => refusal_by(pool),
        _ => None,
    }
}

fn refusal_by(pool: &ConnectionPoolError) -> Option<(io::ErrorKind, String)> {
    let ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(error),
        ..
    } = pool
    else {
        return None;
    };
    match error.get_error() {
        ConnectionSetupRequestErrorKind::DbError(error, text) => sort(error, text),
        ConnectionSetupRequestErrorKind::MissingAuthentication => {
            let text = "it wants a user and a password; set CASSANDRA_USER and CASSANDRA_PASSWORD";
            Some((io::ErrorKind::PermissionDenied, text.to_string()))
        }
        _ => None,
    }
}

fn sort(error: &DbError, text: &str) -> Option<(io::ErrorKind, String)> {
    match error {
        DbError::AuthenticationError => Some((
            io::ErrorKind::PermissionDenied,
            format!("{text}; check CASSANDRA_USER and CASSANDRA_PASSWORD"),
        )),
        DbError::Unauthorized => Some((
            io::ErrorKind::PermissionDenied,
            format!(
                "{text}; the user needs SELECT and MODIFY on the keyspace, and CREATE where the tables are missing"
            ),
        )),
        // A guardrail of Cassandra 4.1 and later.
        DbError::Invalid if text.contains("disk usage") => {
            Some((io::ErrorKind::StorageFull, text.to_string()))
        }
        _ => None,
    }
}

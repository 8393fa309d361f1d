//! The connection to a cluster: its statements, how they are repeated, and what its errors mean.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session as Client;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError, UseKeyspaceError};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::super::StoreError;
use super::config::Config;
use super::errors::{Task, is_passing};

/// A node that does not answer a request for so long is taken for dead, and the request repeated.
const REQUEST: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// Rows of one page.
const PAGE: i32 = 1000;
/// Pauses between two tries, the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Tombstones are kept for a day: a directory whose objects come and go is not slow to list for long. A node that was away
/// for longer than that must be repaired before it is asked again, or what was deleted may return.
const TABLES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS {}.wasm_ckpt_heads (dir text, name text, generation uuid, size bigint, inline blob, \
     PRIMARY KEY (dir, name)) WITH gc_grace_seconds = 86400 \
     AND compaction = {'class': 'LeveledCompactionStrategy'}",
    "CREATE TABLE IF NOT EXISTS {}.wasm_ckpt_dirs (dir text, name text, PRIMARY KEY (dir, name))",
    "CREATE TABLE IF NOT EXISTS {}.wasm_ckpt_parts (generation uuid, n int, bytes blob, \
     PRIMARY KEY ((generation, n))) WITH gc_grace_seconds = 86400",
];

/// A connected client.
pub(super) struct Session {
    client: Client,
    /// Its URL, for messages.
    pub(super) address: String,
    patience: Duration,
    pub(super) head: PreparedStatement,
    /// The same, which ends first what a writer has begun whose outcome is unknown.
    pub(super) head_now: PreparedStatement,
    pub(super) create: PreparedStatement,
    pub(super) replace: PreparedStatement,
    pub(super) remove: PreparedStatement,
    pub(super) names: PreparedStatement,
    pub(super) first_name: PreparedStatement,
    pub(super) dirs: PreparedStatement,
    pub(super) add_dir: PreparedStatement,
    pub(super) part: PreparedStatement,
    pub(super) add_part: PreparedStatement,
    pub(super) remove_part: PreparedStatement,
}

impl Session {
    /// Connects, and makes the tables if they are missing.
    ///
    /// # Errors
    /// [`StoreError::Denied`]; [`StoreError::Io`], which says what to check.
    pub(super) async fn connect(config: &Config) -> Result<Self, StoreError> {
        let address = config.address();
        let task = Task { doing: "connect to", what: &address };
        let late = |_| Err(task.failed(&address, &ExecutionError::RequestTimeout(config.patience)));
        timeout(config.patience, Self::open(config, task)).await.unwrap_or_else(late)
    }

    async fn open(config: &Config, task: Task<'_>) -> Result<Self, StoreError> {
        let address = task.what;
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::Quorum)
            .serial_consistency(Some(SerialConsistency::Serial))
            .request_timeout(Some(REQUEST))
            .retry_policy(Arc::new(FallthroughRetryPolicy))
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&config.nodes)
            .default_execution_profile_handle(profile.into_handle())
            .fetch_schema_metadata(false)
            .connection_timeout(CONNECT)
            .hostname_resolution_timeout(Some(CONNECT))
            .keepalive_interval(REQUEST)
            .keepalive_timeout(REQUEST);
        if let Some((user, password)) = &config.login {
            builder = builder.user(user, password);
        }
        let client = builder.build().await.map_err(|error| task.not_connected(address, error))?;
        open_keyspace(&client, config, address).await?;
        let keyspace = format!("\"{}\"", config.keyspace);
        if client.prepare(format!("SELECT n FROM {keyspace}.wasm_ckpt_parts LIMIT 1")).await.is_err() {
            for table in TABLES {
                let made = client.query_unpaged(table.replace("{}", &keyspace), &[]).await;
                made.map_err(|error| task.failed(address, &error))?;
            }
        }
        Self::prepare(client, &keyspace, config, task).await
    }

    async fn prepare(
        client: Client,
        keyspace: &str,
        config: &Config,
        task: Task<'_>,
    ) -> Result<Self, StoreError> {
        let prepare = async |text: &str| {
            let text = text.replace("wasm_ckpt_", &format!("{keyspace}.wasm_ckpt_"));
            let prepared = client.prepare(text).await;
            let mut prepared = prepared.map_err(|error| task.failed(task.what, &error.into()))?;
            prepared.set_page_size(PAGE);
            Ok(prepared)
        };
        let head = "SELECT generation, size, inline FROM wasm_ckpt_heads WHERE dir = ? AND name = ?";
        let mut head_now = prepare(head).await?;
        head_now.set_consistency(Consistency::Serial);
        Ok(Self {
            head: prepare(head).await?,
            head_now,
            create: prepare(
                "INSERT INTO wasm_ckpt_heads (dir, name, generation, size, inline) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS",
            )
            .await?,
            replace: prepare(
                "UPDATE wasm_ckpt_heads SET generation = ?, size = ?, inline = ? WHERE dir = ? AND name = ? \
                 IF generation = ?",
            )
            .await?,
            remove: prepare("DELETE FROM wasm_ckpt_heads WHERE dir = ? AND name = ? IF generation = ?").await?,
            names: prepare("SELECT name FROM wasm_ckpt_heads WHERE dir = ? AND name >= ? AND name < ?").await?,
            first_name: prepare("SELECT name FROM wasm_ckpt_heads WHERE dir = ? LIMIT 1").await?,
            dirs: prepare("SELECT name FROM wasm_ckpt_dirs WHERE dir = ? AND name >= ? AND name < ?").await?,
            add_dir: prepare("INSERT INTO wasm_ckpt_dirs (dir, name) VALUES (?, ?)").await?,
            part: prepare("SELECT bytes FROM wasm_ckpt_parts WHERE generation = ? AND n = ?").await?,
            add_part: prepare("INSERT INTO wasm_ckpt_parts (generation, n, bytes) VALUES (?, ?, ?)").await?,
            remove_part: prepare("DELETE FROM wasm_ckpt_parts USING TIMESTAMP ? WHERE generation = ? AND n = ?")
                .await?,
            patience: config.patience,
            address: task.what.to_string(),
            client,
        })
    }

    /// Executes it, again while that may help. It may be done twice.
    ///
    /// # Errors
    /// Sorted by what a user would do about it.
    pub(super) async fn execute(
        &self,
        task: Task<'_>,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, StoreError> {
        self.page(task, statement, &values, PagingState::start()).await.map(|(result, _)| result)
    }

    /// The names that it selects, of as many pages as there are.
    ///
    /// # Errors
    /// As of [`Session::execute`].
    pub(super) async fn names(
        &self,
        task: Task<'_>,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<String>, StoreError> {
        let (mut names, mut from) = (Vec::new(), PagingState::start());
        loop {
            let (page, next) = self.page(task, statement, &values, from).await?;
            let page = page.into_rows_result().map_err(|error| task.malformed(error))?;
            for row in page.rows::<(String,)>().map_err(|error| task.malformed(error))? {
                names.push(row.map_err(|error| task.malformed(error))?.0);
            }
            match next.into_paging_control_flow() {
                ControlFlow::Continue(state) => from = state,
                ControlFlow::Break(()) => return Ok(names),
            }
        }
    }

    async fn page(
        &self,
        task: Task<'_>,
        statement: &PreparedStatement,
        values: &impl SerializeRow,
        from: PagingState,
    ) -> Result<(QueryResult, PagingStateResponse), StoreError> {
        let (begun, end) = (Instant::now(), Instant::now() + self.patience);
        let (mut pause, pause_max) = PAUSES;
        loop {
            let trial = self.client.execute_single_page(statement, values, from.clone());
            let error = match timeout_at(end, trial).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => ExecutionError::RequestTimeout(begun.elapsed()),
            };
            if !is_passing(&error) || Instant::now() + pause >= end {
                return Err(task.failed(&self.address, &error));
            }
            sleep(pause).await;
            pause = (pause * 2).min(pause_max);
        }
    }
}

/// The keyspace is there, or is made.
async fn open_keyspace(client: &Client, config: &Config, address: &str) -> Result<(), StoreError> {
    let task = Task { doing: "open", what: address };
    let name = &config.keyspace;
    match client.use_keyspace(name, true).await {
        Ok(()) => return Ok(()),
        Err(UseKeyspaceError::RequestError(RequestAttemptError::DbError(DbError::Invalid, _))) => {}
        Err(error) => return Err(task.failed(address, &error.into())),
    }
    let make = |replication: &str| {
        format!("CREATE KEYSPACE IF NOT EXISTS \"{name}\" WITH replication = {replication}")
    };
    let Some(replication) = &config.replication else {
        let example = make("{'class': 'NetworkTopologyStrategy', 'DATACENTER': 3}");
        return Err(task.io(format!(
            "there is no keyspace {name}; make it, such as by\n  {example};\n\
             or set CASSANDRA_REPLICATION to what stands after `replication =`, and it is made"
        )));
    };
    client.query_unpaged(make(replication), &[]).await.map_err(|error| task.failed(address, &error))?;
    client.use_keyspace(name, true).await.map_err(|error| task.failed(address, &error.into()))
}

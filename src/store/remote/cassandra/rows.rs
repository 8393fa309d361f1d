//! What rows of the tables say: untrusted, as all that comes from the network.

use scylla::response::query_result::QueryResult;
use scylla::value::{CqlValue, Row};
use uuid::Uuid;

use super::super::super::StoreError;
use super::errors::Task;

/// What is known of an object.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) generation: Uuid,
    pub(super) size: u64,
    /// All of its bytes, or none: then it has parts.
    pub(super) inline: Vec<u8>,
}

impl Head {
    pub(super) fn is_inline(&self) -> bool {
        self.inline.len() as u64 == self.size
    }
}

/// What became of a conditional write.
pub(super) enum Outcome {
    /// It was done.
    Applied,
    /// It was not. This is there instead, if that was told: not all of it is for another condition than that of absence.
    Other(Option<Head>),
}

/// The head that was selected, if there is one.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub(super) fn head(task: Task<'_>, result: QueryResult) -> Result<Option<Head>, StoreError> {
    only(task, result)?.map(|row| row.head(task)).transpose()
}

/// What the answer to a conditional write says.
///
/// # Errors
/// As of [`head`].
pub(super) fn outcome(task: Task<'_>, result: QueryResult) -> Result<Outcome, StoreError> {
    let row = only(task, result)?.ok_or_else(|| task.malformed("nothing"))?;
    match row.get("[applied]") {
        Some(CqlValue::Boolean(true)) => Ok(Outcome::Applied),
        Some(CqlValue::Boolean(false)) if row.get("size").is_some() => {
            row.head(task).map(Some).map(Outcome::Other)
        }
        Some(CqlValue::Boolean(false)) => Ok(Outcome::Other(None)),
        _ => Err(task.malformed("not whether it was applied")),
    }
}

/// The bytes of the part that was selected, if it is there.
///
/// # Errors
/// As of [`head`].
pub(super) fn part(task: Task<'_>, result: QueryResult) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mut row) = only(task, result)? else { return Ok(None) };
    match row.take("bytes") {
        Some(CqlValue::Blob(bytes)) => Ok(Some(bytes)),
        _ => Err(task.malformed("no bytes")),
    }
}

/// A row of whatever columns.
struct Named {
    names: Vec<String>,
    row: Row,
}

fn only(task: Task<'_>, result: QueryResult) -> Result<Option<Named>, StoreError> {
    let rows = result.into_rows_result().map_err(|error| task.malformed(error))?;
    let names = rows.column_specs().iter().map(|column| column.name().to_string()).collect();
    let row = rows.maybe_first_row::<Row>().map_err(|error| task.malformed(error))?;
    Ok(row.map(|row| Named { names, row }))
}

impl Named {
    fn get(&self, name: &str) -> Option<&CqlValue> {
        let at = self.names.iter().position(|found| found == name)?;
        self.row.columns.get(at)?.as_ref()
    }

    fn take(&mut self, name: &str) -> Option<CqlValue> {
        let at = self.names.iter().position(|found| found == name)?;
        self.row.columns.get_mut(at)?.take()
    }

    fn head(mut self, task: Task<'_>) -> Result<Head, StoreError> {
        let columns = (self.take("generation"), self.take("size"), self.take("inline"));
        let (Some(CqlValue::Uuid(generation)), Some(CqlValue::BigInt(size)), Some(CqlValue::Blob(inline))) =
            columns
        else {
            return Err(task.malformed("no generation, size and inline"));
        };
        let found = inline.len();
        match u64::try_from(size) {
            Ok(size) if inline.is_empty() || found as u64 == size => Ok(Head { generation, size, inline }),
            _ => Err(StoreError::corrupt(task.what, format!("it has {found} bytes of {size}"))),
        }
    }
}

//! Conversion of columns to values.

use std::fmt::Display;
use std::str::FromStr;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::StoreError;
use crate::error::Operation as _;

/// The values of many rows, each converted as it comes: rows take several times the memory of their values.
pub(crate) async fn all<T>(
    rows: BoxStream<'_, Result<SqliteRow, sqlx::Error>>,
    operation: &'static str,
    mut convert: impl FnMut(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.map(|row| convert(&row.doing(operation)?)).try_collect().await
}

fn corrupt(column: &'static str, error: &impl Display) -> StoreError {
    StoreError::Corrupt { column, message: error.to_string() }
}

/// A text column, parsed.
pub(crate) fn text<T: FromStr<Err: Display>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let value: String = row.try_get(column).map_err(|error| corrupt(column, &error))?;
    value.parse().map_err(|error| corrupt(column, &error))
}

/// A nullable text column, parsed.
pub(crate) fn maybe<T: FromStr<Err: Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let value: Option<String> = row.try_get(column).map_err(|error| corrupt(column, &error))?;
    value.map(|value| value.parse().map_err(|error| corrupt(column, &error))).transpose()
}

/// An integer column that fits the wanted type.
pub(crate) fn number<T: TryFrom<i64, Error: Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let value: i64 = row.try_get(column).map_err(|error| corrupt(column, &error))?;
    T::try_from(value).map_err(|error| corrupt(column, &error))
}

/// A nullable integer column that fits the wanted type.
pub(crate) fn maybe_number<T: TryFrom<i64, Error: Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let value: Option<i64> = row.try_get(column).map_err(|error| corrupt(column, &error))?;
    value.map(|value| T::try_from(value).map_err(|error| corrupt(column, &error))).transpose()
}

/// A JSON column.
pub(crate) fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let value: String = row.try_get(column).map_err(|error| corrupt(column, &error))?;
    serde_json::from_str(&value).map_err(|error| corrupt(column, &error))
}

/// A nullable JSON column.
pub(crate) fn maybe_json<T: DeserializeOwned>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let value: Option<String> = row.try_get(column).map_err(|error| corrupt(column, &error))?;
    value.map(|value| serde_json::from_str(&value).map_err(|error| corrupt(column, &error))).transpose()
}

/// A value as JSON text.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt("(new value)", &error))
}

/// An unsigned length as SQLite's signed integer.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

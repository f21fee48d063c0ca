//! The serialized form of tables and scans.
//!
//! Owns: their names and values. Must not know: the meaning of a value.

use super::column::{Column, SortKey};
use super::slice::Slices;
use super::{Invalid, VERSION, first};
use crate::options::{Aggregate as DomainAggregate, Ignored as DomainIgnored, Pushdown as DomainPushdown};
use crate::spec::{ScanSpec, TableSpec};
use elastic_client::{KeepAlive, PageRows, ReadMode, ReadOptions, Slice};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::num::NonZeroU32;

/// A table, with its slices serialized as `S`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table<S> {
    #[serde(default = "first")]
    version: u32,
    connection: String,
    index: String,
    columns: Vec<Column>,
    query: Value,
    slices: Option<NonZeroU32>,
    page_size: u64,
    keep_alive_ms: u64,
    read: Mode,
    /// Is missing in the first plans of format 1.
    #[serde(default)]
    pushdown: Pushdown,
    /// Is missing in the first plans of format 1.
    #[serde(default)]
    ignored: Ignored,
    /// This field and the following ones are missing before format 3, in which servers aggregate nothing.
    #[serde(default)]
    aggregate: Aggregate,
    #[serde(default)]
    single: Vec<String>,
    #[serde(default)]
    ignored_checked: bool,
    snapshot: Option<S>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scan {
    #[serde(default = "first")]
    version: u32,
    connection: String,
    index: String,
    columns: Vec<Column>,
    query: Value,
    page_size: u64,
    keep_alive_ms: u64,
    /// Since format 2. In format 1 only the slices say how they are read.
    #[serde(default)]
    read: Mode,
    /// This field and the following ones are missing in the first plans of format 1.
    #[serde(default)]
    limit: Option<NonZeroU32>,
    #[serde(default)]
    order: Vec<SortKey>,
    #[serde(default)]
    pushdown: Pushdown,
    #[serde(default)]
    ignored: Option<Value>,
    /// Since format 3.
    #[serde(default)]
    aggregate: Aggregate,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Auto,
    Pit,
    Scroll,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pushdown {
    #[default]
    On,
    Off,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Aggregate {
    Auto,
    Always,
    #[default]
    Never,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ignored {
    #[default]
    Error,
    Null,
}

impl Table<Slices> {
    pub(super) fn of(table: &TableSpec) -> Self {
        let TableSpec {
            connection,
            index,
            columns,
            query,
            slices,
            read,
            pushdown,
            aggregate,
            ignored,
            single,
            ignored_checked,
            open_slices,
        } = table;
        let ReadOptions { mode, page_size, keep_alive } = *read;
        Self {
            version: VERSION,
            connection: connection.clone(),
            index: index.clone(),
            columns: columns.iter().map(Column::from).collect(),
            query: query.clone(),
            slices: *slices,
            page_size: page_size.get().into(),
            keep_alive_ms: keep_alive.as_millis(),
            read: mode.into(),
            pushdown: (*pushdown).into(),
            ignored: match ignored {
                DomainIgnored::Error => Ignored::Error,
                DomainIgnored::Null => Ignored::Null,
            },
            aggregate: (*aggregate).into(),
            single: single.clone(),
            ignored_checked: *ignored_checked,
            snapshot: open_slices.as_deref().map(Slices::of),
        }
    }
}

impl<S> Table<S> {
    pub(super) fn into_spec(
        self,
        slices: impl FnOnce(S) -> Result<Vec<Slice>, Invalid>,
    ) -> Result<TableSpec, Invalid> {
        Ok(TableSpec {
            connection: self.connection,
            index: self.index,
            columns: self.columns.into_iter().map(Into::into).collect(),
            query: self.query,
            slices: self.slices,
            read: read_options(self.read, self.page_size, self.keep_alive_ms)?,
            pushdown: self.pushdown.into(),
            ignored: match self.ignored {
                Ignored::Error => DomainIgnored::Error,
                Ignored::Null => DomainIgnored::Null,
            },
            aggregate: self.aggregate.into(),
            single: self.single,
            ignored_checked: self.ignored_checked,
            open_slices: self.snapshot.map(slices).transpose()?,
        })
    }
}

impl Scan {
    pub(super) fn of(scan: &ScanSpec) -> Self {
        let ScanSpec { connection, index, columns, query, read, limit, order, pushdown, aggregate, ignored } =
            scan;
        let ReadOptions { mode, page_size, keep_alive } = *read;
        Self {
            version: VERSION,
            connection: connection.clone(),
            index: index.clone(),
            columns: columns.iter().map(Column::from).collect(),
            query: query.clone(),
            page_size: page_size.get().into(),
            keep_alive_ms: keep_alive.as_millis(),
            read: mode.into(),
            limit: *limit,
            order: order.iter().map(SortKey::from).collect(),
            pushdown: (*pushdown).into(),
            ignored: ignored.clone(),
            aggregate: (*aggregate).into(),
        }
    }

    pub(super) fn into_spec(self) -> Result<ScanSpec, Invalid> {
        Ok(ScanSpec {
            connection: self.connection,
            index: self.index,
            columns: self.columns.into_iter().map(Into::into).collect(),
            query: self.query,
            read: read_options(self.read, self.page_size, self.keep_alive_ms)?,
            limit: self.limit,
            order: self.order.into_iter().map(Into::into).collect(),
            pushdown: self.pushdown.into(),
            ignored: self.ignored,
            aggregate: self.aggregate.into(),
        })
    }
}

fn read_options(mode: Mode, page_size: u64, keep_alive_ms: u64) -> Result<ReadOptions, Invalid> {
    Ok(ReadOptions {
        mode: match mode {
            Mode::Auto => ReadMode::Auto,
            Mode::Pit => ReadMode::Pit,
            Mode::Scroll => ReadMode::Scroll,
        },
        page_size: PageRows::try_new(page_size)?,
        keep_alive: KeepAlive::from_millis(keep_alive_ms)?,
    })
}

impl From<ReadMode> for Mode {
    fn from(mode: ReadMode) -> Self {
        match mode {
            ReadMode::Auto => Self::Auto,
            ReadMode::Pit => Self::Pit,
            ReadMode::Scroll => Self::Scroll,
        }
    }
}

impl From<DomainPushdown> for Pushdown {
    fn from(pushdown: DomainPushdown) -> Self {
        match pushdown {
            DomainPushdown::On => Self::On,
            DomainPushdown::Off => Self::Off,
        }
    }
}

impl From<Pushdown> for DomainPushdown {
    fn from(sent: Pushdown) -> Self {
        match sent {
            Pushdown::On => Self::On,
            Pushdown::Off => Self::Off,
        }
    }
}

impl From<DomainAggregate> for Aggregate {
    fn from(aggregate: DomainAggregate) -> Self {
        match aggregate {
            DomainAggregate::Auto => Self::Auto,
            DomainAggregate::Always => Self::Always,
            DomainAggregate::Never => Self::Never,
        }
    }
}

impl From<Aggregate> for DomainAggregate {
    fn from(sent: Aggregate) -> Self {
        match sent {
            Aggregate::Auto => Self::Auto,
            Aggregate::Always => Self::Always,
            Aggregate::Never => Self::Never,
        }
    }
}

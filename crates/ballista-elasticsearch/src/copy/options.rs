//! The options of a COPY.
//!
//! Owns: the list of options. An option without an effect is an error. Must not know: what they do, because
//! DataFusion applies them.

use super::FileKind;
use super::target::{Existing, Shape};
use datafusion::common::config::{ConfigFileType, ConfigOptions, TableOptions};
use datafusion::error::{DataFusionError, Result};
use std::collections::{BTreeMap, HashMap};

/// The validated options of a COPY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CopyOptions {
    /// DataFusion's options of the format, such as `format.delimiter`.
    pub(super) format: BTreeMap<String, String>,
    pub(super) existing: Existing,
    /// Whether the statement asks for a file or a folder.
    pub(super) shape: Option<Shape>,
    /// Whether files contain the columns of PARTITIONED BY too; the session decides if `None`.
    pub(super) keep_partition_columns: Option<bool>,
}

const CSV: &[&str] = &[
    "has_header",
    "delimiter",
    "quote",
    "escape",
    "double_quote",
    "quote_style",
    "ignore_leading_whitespace",
    "ignore_trailing_whitespace",
    "compression",
    "compression_level",
    "date_format",
    "datetime_format",
    "timestamp_format",
    "timestamp_tz_format",
    "time_format",
    "null_value",
];
const JSON: &[&str] = &["compression", "compression_level"];
const PARQUET: &[&str] = &[
    "data_pagesize_limit",
    "write_batch_size",
    "writer_version",
    "skip_arrow_metadata",
    "compression",
    "dictionary_enabled",
    "dictionary_page_size_limit",
    "statistics_enabled",
    "max_row_group_size",
    "max_row_group_bytes",
    "created_by",
    "column_index_truncate_length",
    "statistics_truncate_length",
    "data_page_row_count_limit",
    "encoding",
    "bloom_filter_on_write",
    "bloom_filter_enabled",
    "bloom_filter_fpp",
    "bloom_filter_ndv",
    "allow_single_file_parallelism",
    "maximum_parallel_row_group_writers",
    "maximum_buffered_record_batches_per_stream",
    "content_defined_chunking",
    "metadata",
];

/// The options of every format.
const OURS: &[&str] = &["overwrite", "single_file_output"];
const KEEP_PARTITION_COLUMNS: &str = "execution.keep_partition_by_columns";

impl FileKind {
    /// Returns the options for writing. DataFusion also accepts those for reading, which would have no effect.
    fn writing(self) -> &'static [&'static str] {
        match self {
            Self::Csv => CSV,
            Self::Json => JSON,
            Self::Parquet => PARQUET,
            Self::Arrow => &[],
        }
    }

    fn config_type(self) -> Option<ConfigFileType> {
        match self {
            Self::Csv => Some(ConfigFileType::CSV),
            Self::Json => Some(ConfigFileType::JSON),
            Self::Parquet => Some(ConfigFileType::PARQUET),
            Self::Arrow => None,
        }
    }
}

impl CopyOptions {
    /// Parses options of SQL or of a `DataFrame`. A key without a dot arrives as `format.key`.
    pub(super) fn parse(
        format: FileKind,
        given: &HashMap<String, String>,
        config: &ConfigOptions,
    ) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in given {
            if key == KEEP_PARTITION_COLUMNS {
                options.keep_partition_columns = Some(truth(key, value)?);
                continue;
            }
            let name = match (key.strip_prefix("format."), key.contains('.')) {
                (Some(name), _) => name,
                (None, false) => key,
                (None, true) => return Err(unknown(format, key)),
            };
            match name {
                "overwrite" if truth(name, value)? => options.existing = Existing::Replace,
                "overwrite" => options.existing = Existing::Refuse,
                "single_file_output" if truth(name, value)? => options.shape = Some(Shape::File),
                "single_file_output" => options.shape = Some(Shape::Folder),
                _ => {
                    // `compression::COLUMN`, `metadata::KEY` and `content_defined_chunking.enabled`.
                    let base = name.split("::").next().unwrap_or(name);
                    let base = base.split('.').next().unwrap_or(base);
                    if !format.writing().contains(&base) {
                        return Err(unknown(format, name));
                    }
                    options.format.insert(format!("format.{name}"), value.clone());
                }
            }
        }
        options.check(format, config)?;
        Ok(options)
    }

    /// Checks that DataFusion can parse the values.
    fn check(&self, format: FileKind, config: &ConfigOptions) -> Result<()> {
        let Some(kind) = format.config_type() else { return Ok(()) };
        let mut table = TableOptions::default_from_session_config(config);
        table.set_config_format(kind);
        for (key, value) in &self.format {
            let name = key.strip_prefix("format.").unwrap_or(key);
            table.set(key, value).map_err(|e| {
                refuse(format!("option {name} = \"{value}\" of {}: {}", format.name(), e.message()))
            })?;
        }
        Ok(())
    }

    /// Returns the options in the form that DataFusion accepts.
    pub(super) fn of_format(&self) -> HashMap<String, String> {
        self.format.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

fn truth(name: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(refuse(format!("option {name} = \"{value}\" is neither true nor false"))),
    }
}

fn unknown(format: FileKind, name: &str) -> DataFusionError {
    let known: Vec<&str> = format.writing().iter().chain(OURS).copied().collect();
    let nearest = elastic_client::nearest(name, known.iter().copied());
    refuse(format!(
        "option \"{name}\" has no effect on writing {}{}; known are {} and {KEEP_PARTITION_COLUMNS}",
        format.name(),
        nearest.map(|name| format!(", did you mean \"{name}\"?")).unwrap_or_default(),
        known.join(", ")
    ))
}

fn refuse(message: String) -> DataFusionError {
    DataFusionError::Configuration(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(format: FileKind, given: &[(&str, &str)]) -> std::result::Result<CopyOptions, String> {
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        CopyOptions::parse(format, &given, &ConfigOptions::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn options_are_those_of_the_format_and_ours() {
        let all = [
            ("format.delimiter", ";"),
            ("format.overwrite", "true"),
            ("single_file_output", "false"),
            (KEEP_PARTITION_COLUMNS, "TRUE"),
        ];
        let options = parse(FileKind::Csv, &all).unwrap();
        assert_eq!(options.format, BTreeMap::from([("format.delimiter".to_owned(), ";".to_owned())]));
        assert_eq!((options.existing, options.shape), (Existing::Replace, Some(Shape::Folder)));
        assert_eq!(options.keep_partition_columns, Some(true));
        for (key, value) in [
            ("format.compression::\"a.b\"", "snappy"),
            ("format.metadata::made_by", "us"),
            ("format.content_defined_chunking.enabled", "true"),
        ] {
            assert!(parse(FileKind::Parquet, &[(key, value)]).is_ok(), "{key}");
        }
    }

    #[test]
    fn an_option_without_effect_is_an_error() {
        for (format, key, value, said) in [
            (FileKind::Csv, "format.null_regex", "x", "\"null_regex\" has no effect on writing csv"),
            (FileKind::Csv, "format.delimeter", ";", "did you mean \"delimiter\"?"),
            (FileKind::Csv, "format.has_header", "perhaps", "option has_header = \"perhaps\" of csv"),
            (FileKind::Csv, "execution.batch_size", "1", "\"execution.batch_size\" has no effect"),
            (FileKind::Csv, "format.overwrite", "1", "overwrite = \"1\" is neither true nor false"),
            (FileKind::Json, "format.newline_delimited", "false", "no effect on writing json"),
            (FileKind::Parquet, "format.pushdown_filters", "true", "no effect on writing parquet"),
            (FileKind::Parquet, "format.crypto.factory_id", "x", "no effect on writing parquet"),
            (FileKind::Arrow, "format.compression", "zstd", "no effect on writing arrow"),
        ] {
            let error = parse(format, &[(key, value)]).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}

//! The scope of a detection: where it reads, and which documents.
//!
//! Owns: the form of the scope, for programs and for people. Must not know: how arguments are parsed, or
//! what was found.

use crate::time::show_time;
use serde::Serialize;
use serde_json::{Map, Number, Value};

/// The place from which flows are read, and the part of it that is read.
#[derive(Debug, Serialize)]
pub(crate) struct Place {
    /// The name of a configured connection.
    pub(crate) connection: Option<String>,
    /// The server of `--url`.
    pub(crate) url: Option<String>,
    /// The file or folder of `--file`.
    pub(crate) file: Option<String>,
    /// The store of `--from-store`.
    pub(crate) store: Option<String>,
    /// The index, pattern or alias.
    pub(crate) index: Option<String>,
    /// The base query as given: its JSON, or the text of a URI query.
    pub(crate) query: Option<Value>,
    /// The share of the documents that is drawn, as given.
    pub(crate) sample: Option<String>,
    /// The seed of the sample.
    pub(crate) seed: Option<u32>,
    /// The other options of the table.
    pub(crate) options: Map<String, Value>,
}

/// The place, the time range, the filter and the threshold. Its JSON has every field, null if there is no value.
#[derive(Debug, Serialize)]
pub(crate) struct Scope {
    #[serde(flatten)]
    pub(crate) place: Place,
    /// The first instant of the time range, in RFC 3339. None means no bound.
    pub(crate) since: Option<String>,
    /// The first instant after the time range, in RFC 3339. None means no bound.
    pub(crate) until: Option<String>,
    /// The condition in SQL.
    pub(crate) filter: Option<String>,
    /// The number of standard deviations above the mean from which an address stands out.
    pub(crate) sigma: Number,
    /// How many times findings are taken out of the counts, to decide again over the rest.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) peel: u32,
    /// The names of the fields that are read.
    pub(crate) fields: Fields,
    /// The origin of the time range.
    #[serde(skip)]
    pub(crate) window: Window,
}

/// The names of the fields that are read.
#[derive(Debug, Serialize)]
pub(crate) struct Fields {
    pub(crate) time: String,
    pub(crate) source: String,
    pub(crate) destination: String,
}

/// The origin of a time range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// The user chose it by an option, or by a base query or a file, which are read without a bound.
    Asked,
    /// The default of one hour.
    Default,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Scope {
    /// Returns the scope on one line.
    pub(crate) fn sentence(&self) -> String {
        let mut text = format!("{}, {}, {} sigma", self.place(), self.range(), self.sigma);
        if self.peel > 0 {
            text += &format!(", peeled up to {} times", self.peel);
        }
        if let (Some(sample), Some(seed)) = (&self.place.sample, self.place.seed) {
            text += &format!(", sample {sample} by seed {seed}");
        }
        if let Some(filter) = &self.filter {
            text += &format!(", filter: {}", on_one_line(filter));
        }
        if let Some(query) = &self.place.query {
            let query = query.as_str().map_or_else(|| query.to_string(), str::to_owned);
            text += &format!(", query: {query}");
        }
        text
    }

    /// Returns the warning that no document with an address was found, with the scope and a likely reason.
    pub(crate) fn nothing_found(&self) -> String {
        let Fields { time, source, destination } = &self.fields;
        let mut text = format!(
            "no document with an address in {source:?} or {destination:?}, {}, in {}: ",
            self.range(),
            self.place()
        );
        text += match (self.window, &self.since, &self.until) {
            (Window::Default, ..) => "one hour is read unless --since is given; --since all reads everything",
            (Window::Asked, None, None) => "look at what it holds with flowsigma sql",
            (Window::Asked, ..) => "widen --since and --until",
        };
        if self.since.is_some() || self.until.is_some() {
            text += &format!("; {time:?} is the time field");
        }
        let narrower = [
            ("--query", self.place.query.is_some()),
            ("--filter", self.filter.is_some()),
            ("--sample", self.place.sample.is_some()),
        ];
        let given: Vec<_> = narrower.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if !given.is_empty() {
            text += &format!("; fewer documents are read by {}", given.join(", "));
        }
        text
    }

    fn place(&self) -> String {
        let Place { file, connection, url, index, store, .. } = &self.place;
        if let Some(store) = store {
            return format!("store {store}");
        }
        let index = index.as_deref().unwrap_or_default();
        match (file, connection, url) {
            (Some(file), ..) => format!("file {file:?}"),
            (None, Some(connection), _) => format!("index {index:?} of connection {connection:?}"),
            (None, None, Some(url)) => format!("index {index:?} of {url}"),
            (None, None, None) => format!("index {index:?}"),
        }
    }

    fn range(&self) -> String {
        match (&self.since, &self.until) {
            (Some(since), Some(until)) => format!("between {since} and {until}"),
            (Some(since), None) => format!("from {since} on"),
            (None, Some(until)) => format!("before {until}"),
            (None, None) => "at any time".into(),
        }
    }
}

/// Formats a bound in RFC 3339.
pub(crate) fn show_bound(epoch_millis: Option<i64>) -> Option<String> {
    epoch_millis.map(show_time)
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place() -> Place {
        Place {
            connection: Some("prod".into()),
            url: None,
            file: None,
            store: None,
            index: Some("flows-*".into()),
            query: None,
            sample: None,
            seed: None,
            options: Map::new(),
        }
    }

    fn scope() -> Scope {
        Scope {
            place: place(),
            since: show_bound(Some(0)),
            until: show_bound(Some(3_600_000)),
            filter: None,
            sigma: Number::from(3),
            peel: 0,
            fields: Fields { time: "@timestamp".into(), source: "s".into(), destination: "d".into() },
            window: Window::Default,
        }
    }

    #[test]
    fn a_sentence_says_all_that_was_asked() {
        assert_eq!(
            scope().sentence(),
            "index \"flows-*\" of connection \"prod\", between 1970-01-01T00:00:00Z and \
             1970-01-01T01:00:00Z, 3 sigma"
        );
        let more = Scope {
            place: Place {
                connection: None,
                url: Some("http://es:9200".into()),
                query: Some(json!({ "term": { "a": 1 } })),
                sample: Some("0.5".into()),
                seed: Some(7),
                ..place()
            },
            since: None,
            peel: 2,
            filter: Some("a = 1\n  OR b = 2".into()),
            ..scope()
        };
        assert_eq!(
            more.sentence(),
            "index \"flows-*\" of http://es:9200, before 1970-01-01T01:00:00Z, 3 sigma, peeled up to 2 times, sample 0.5 by seed 7, \
             filter: a = 1 OR b = 2, query: {\"term\":{\"a\":1}}"
        );
    }

    #[test]
    fn an_empty_range_is_named_with_its_likely_reason() {
        assert_eq!(
            scope().nothing_found(),
            "no document with an address in \"s\" or \"d\", between 1970-01-01T00:00:00Z and \
             1970-01-01T01:00:00Z, in index \"flows-*\" of connection \"prod\": one hour is read unless \
             --since is given; --since all reads everything; \"@timestamp\" is the time field"
        );
        let file = Scope {
            place: Place { file: Some("f.csv".into()), connection: None, index: None, ..place() },
            since: None,
            until: None,
            filter: Some("a = 1".into()),
            window: Window::Asked,
            ..scope()
        };
        assert_eq!(
            file.nothing_found(),
            "no document with an address in \"s\" or \"d\", at any time, in file \"f.csv\": look at what it \
             holds with flowsigma sql; fewer documents are read by --filter"
        );
    }
}

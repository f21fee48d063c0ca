use super::*;
use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: NewArgs,
}

fn args(words: &[&str]) -> NewArgs {
    Cli::try_parse_from([&["new"], words].concat()).map_err(|error| error.to_string()).unwrap().args
}

#[test]
fn all_missing_flags_are_named_at_once() {
    let error = refuse_missing(&args(&["--index", "flows"]), None).unwrap_err().to_string();
    assert_eq!(
        error,
        "stdin is no terminal to ask for what is missing: give --name, --connection, --every, --store"
    );
    let complete =
        args(&["hourly.toml", "--connection", "c", "--index", "i", "--every", "1h", "--store", "file:///s"]);
    refuse_missing(&complete, Some("hourly")).unwrap();
}

#[test]
fn sinks_are_read_from_one_word_each() {
    let parsed = args(&["--sink", "stdout", "--sink", "file=/a=b", "--sink", "index=out/alerts"]).sinks;
    assert_eq!(
        parsed,
        [
            SinkSpec::Stdout { name: None },
            SinkSpec::File { name: None, path: "/a=b".into(), format: FindingsFormat::Ndjson },
            SinkSpec::Index { name: None, connection: "out".into(), index: "alerts".into(), template: false },
        ]
    );
    for (text, part) in [
        ("index=alerts", "index=CONNECTION/INDEX"),
        ("file", "file=PATH"),
        ("webhook=", "webhook=URL"),
        ("mail", "mail"),
    ] {
        let error = parse_sink(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_file_is_written_from_flags_and_replaced_only_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hourly.toml");
    let file = path.to_str().unwrap();
    let words = |every: &'static str| {
        [
            file,
            "--connection",
            "c",
            "--index",
            "flows-*",
            "--store",
            "file:///s",
            "--time-field",
            "t",
            "--source-field",
            "a",
            "--destination-field",
            "b",
            "--sink",
            "index=out/alerts",
            "--name",
            "hourly",
            "--every",
            every,
        ]
    };
    let registry = ConnectionRegistry::new(std::collections::BTreeMap::new());
    new(args(&words("1h")), &registry).await.unwrap();
    let written = JobFile::read(&path).unwrap().job;
    assert_eq!((written.name.as_str(), written.source.source_field.as_str()), ("hourly", "a"));
    assert_eq!(written.sinks.len(), 1);

    let refused = new(args(&words("1d")), &registry).await.unwrap_err().into_error().to_string();
    assert!(refused.contains("--overwrite"), "{refused}");
    assert_eq!(JobFile::read(&path).unwrap().job.window.every, "1h");

    let mut again = args(&words("1d"));
    again.overwrite = true;
    new(again, &registry).await.unwrap();
    assert_eq!(JobFile::read(&path).unwrap().job.window.every, "1d");

    let wrong = new(NewArgs { overwrite: true, ..args(&words("7m")) }, &registry).await;
    assert!(wrong.is_err(), "a wrong value must not be written");
    assert_eq!(JobFile::read(&path).unwrap().job.window.every, "1d");
}

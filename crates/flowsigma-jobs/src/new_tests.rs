use super::*;
use crate::job::{DetectionSpec, FindingsFormat, Job, Limits, SourceSpec, StoreSpec, WindowSpec};
use crate::job_file::JobFile;
use std::collections::BTreeMap;

fn answers() -> NewJob {
    NewJob {
        name: "hourly-flows".into(),
        connection: "prod".into(),
        index: "flows-*".into(),
        time_field: "@timestamp".into(),
        source_field: "source.ip".into(),
        destination_field: "destination.ip".into(),
        every: "1h".into(),
        sigma: 3.0,
        store: "file:///var/lib/flowsigma/hourly-flows".into(),
        sinks: Vec::new(),
    }
}

fn expected(answers: &NewJob) -> Job {
    Job {
        name: answers.name.clone(),
        source: SourceSpec {
            connection: answers.connection.clone(),
            index: answers.index.clone(),
            time_field: answers.time_field.clone(),
            source_field: answers.source_field.clone(),
            destination_field: answers.destination_field.clone(),
            query: None,
            filter: None,
            sample: None,
            seed: None,
            options: BTreeMap::new(),
        },
        window: WindowSpec {
            every: answers.every.clone(),
            length: None,
            delay: None,
            recheck: None,
            time_zone: None,
            from: None,
        },
        detection: DetectionSpec { sigma: answers.sigma, ..DetectionSpec::default() },
        store: StoreSpec { url: answers.store.clone(), options: BTreeMap::new(), pairs: false },
        sinks: answers.sinks.clone(),
        limits: Limits::default(),
        schedule: None,
    }
}

#[track_caller]
fn check_read_back(answers: &NewJob) {
    let text = write_job_file(answers);
    assert_eq!(JobFile::parse("new.toml", &text).unwrap().job, expected(answers), "{text}");
}

#[test]
fn a_new_file_is_read_back_as_the_same_job() {
    check_read_back(&answers());
    let sinks = vec![
        SinkSpec::Stdout { name: None },
        SinkSpec::File {
            name: Some("a-file".into()),
            path: "/var/lib/it's \"x\"\\new\nline.ndjson".into(),
            format: FindingsFormat::Ndjson,
        },
        SinkSpec::File { name: None, path: "/var/lib/findings".into(), format: FindingsFormat::Parquet },
        SinkSpec::Bucket {
            name: None,
            url: "s3://alerts/flows".into(),
            options: [("region".to_owned(), "eu-central-1".to_owned())].into(),
            format: FindingsFormat::Csv,
        },
        SinkSpec::Index {
            name: None,
            connection: "alerts".into(),
            index: "flowsigma-alerts-1".into(),
            template: true,
        },
        SinkSpec::Webhook {
            name: None,
            url: "https://example.org/a?b=c".into(),
            secret_env: Some("WEBHOOK_KEY".into()),
        },
        SinkSpec::Webhook { name: Some("local".into()), url: "http://[::1]:9/".into(), secret_env: None },
    ];
    check_read_back(&NewJob { sinks, sigma: 2.5, every: "1w".into(), ..answers() });
    // A text of TOML is escaped, so that it cannot add a key.
    check_read_back(&NewJob {
        time_field: "t\"\nseed = 1\n'''\"\"\"#".into(),
        source_field: "räume\\'".into(),
        ..answers()
    });
}

#[test]
fn a_key_in_a_comment_is_valid_as_it_stands() {
    let text = write_job_file(&answers());
    let is_key = |line: &str| {
        let line = line.trim_start_matches("# ");
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| if line.starts_with("# ") && is_key(line) { &line[2..] } else { line })
        .collect();
    let job = JobFile::parse("new.toml", &uncommented.join("\n")).unwrap().job;
    assert_eq!(job.window.recheck.as_deref(), Some("24h"));
    assert_eq!(job.source.sample, Some(0.1));
    assert_eq!(job.detection.allow.len(), 2);
    assert_eq!(job.limits.timeout.as_deref(), Some("30m"));
    assert_eq!(job.sinks, [SinkSpec::Stdout { name: None }]);
    assert!(job.schedule.is_some());
    // What the comments give as defaults are the defaults.
    assert_eq!(job.window.delay.as_deref(), Some("5m"));
    assert_eq!(job.detection.minimum_count, DetectionSpec::default().minimum_count);
    assert_eq!(job.detection.peel, DetectionSpec::default().peel);
    assert!(!job.store.pairs);
}

#[test]
fn a_known_schema_is_recognized_by_all_its_fields() {
    for (fields, schema, time, source, destination) in [
        (
            &["@timestamp", "source.ip", "destination.ip"][..],
            "ECS",
            "@timestamp",
            "source.ip",
            "destination.ip",
        ),
        (
            &["@timestamp", "source.ip", "destination.ip", "zeek.session_id"],
            "Zeek, mapped to ECS",
            "@timestamp",
            "source.ip",
            "destination.ip",
        ),
        (&["ts", "uid", "id.orig_h", "id.resp_h"], "Zeek", "ts", "id.orig_h", "id.resp_h"),
        (&["@timestamp", "ts", "id_orig_h", "id_resp_h"], "Zeek", "@timestamp", "id_orig_h", "id_resp_h"),
        (
            &["@timestamp", "netflow.ipv4_src_addr", "netflow.ipv4_dst_addr", "netflow.in_bytes"],
            "NetFlow",
            "@timestamp",
            "netflow.ipv4_src_addr",
            "netflow.ipv4_dst_addr",
        ),
        (
            &["@timestamp", "flow.src_addr", "flow.dst_addr"],
            "ElastiFlow",
            "@timestamp",
            "flow.src_addr",
            "flow.dst_addr",
        ),
        (&["timestamp", "src_ip", "dest_ip", "event_type"], "Suricata EVE", "timestamp", "src_ip", "dest_ip"),
        (&["start", "end", "srcaddr", "dstaddr"], "AWS VPC flow logs", "start", "srcaddr", "dstaddr"),
        // Both: the fields of ECS also have IPv6.
        (
            &["@timestamp", "netflow.ipv4_src_addr", "netflow.ipv4_dst_addr", "source.ip", "destination.ip"],
            "ECS",
            "@timestamp",
            "source.ip",
            "destination.ip",
        ),
    ] {
        let known = known_fields(fields).unwrap();
        assert_eq!(
            (known.schema, &*known.time_field, &*known.source_field, &*known.destination_field),
            (schema, time, source, destination)
        );
    }
    for fields in [
        &[][..],
        &["@timestamp", "source.ip"],
        &["source.ip", "destination.ip"],
        &["@timestamp", "src_ip", "dst_ip"],
        &["@timestamp", "source.ip.keyword", "destination.ip.keyword"],
    ] {
        assert_eq!(known_fields(fields), None, "{fields:?}");
    }
}

use super::*;
use crate::job::SinkSpec;

const MINIMAL: &str = r#"
name = "hourly-flows"
[source]
connection = "prod"
index = "flows-*"
[window]
every = "1h"
[store]
url = "file:///var/lib/flowsigma/hourly-flows"
"#;

fn parse(text: &str) -> Result<JobFile> {
    JobFile::parse("a.toml", text)
}

/// Checks the problem of the minimal file with a text replaced.
#[track_caller]
fn check_replaced(old: &str, new: &str, problem: &str) {
    assert!(MINIMAL.contains(old), "{old}");
    let error = parse(&MINIMAL.replacen(old, new, 1)).unwrap_err().to_string();
    assert_eq!(error, format!("job file a.toml: {problem}"));
}

/// Checks the problem of the minimal file with more lines at its end.
#[track_caller]
fn check_added(lines: &str, problem: &str) {
    let error = parse(&format!("{MINIMAL}{lines}")).unwrap_err().to_string();
    assert_eq!(error, format!("job file a.toml: {problem}"));
}

/// Checks the problem of a sink.
#[track_caller]
fn check_sink(lines: &str, problem: &str) {
    check_added(&format!("[[sinks]]\ntype = \"stdout\"\n[[sinks]]\n{lines}"), problem);
}

#[test]
fn a_minimal_file_has_the_defaults() {
    let file = parse(MINIMAL).unwrap();
    assert_eq!(file.job.name, "hourly-flows");
    assert_eq!(file.job.source.time_field, "@timestamp");
    assert_eq!(file.job.detection.sigma, 3.0);
    assert_eq!(file.job.sinks, []);
    assert_eq!(file.path, Path::new("a.toml"));
    // printf '' | sha256sum is the well-known e3b0…; any change of the text is another digest.
    assert_eq!(file.digest.len(), 64);
    assert_ne!(parse(&format!("{MINIMAL}# x\n")).unwrap().digest, file.digest);
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex_digest("abc"), digest);
}

#[test]
fn a_complete_file_is_read() {
    let text = r#"
name = "j"
[source]
connection = "prod"
index = "flows-*,-flows-old"
query = '{"term": {"a": 1}}'
filter = "bytes > 0"
sample = 1
seed = 4294967295
[source.options]
page_size = "1000"
[window]
every = "1d"
length = "7d"
delay = "1h"
recheck = "1w"
time_zone = "Europe/Berlin"
from = "2026-01-01T00:00:00+01:00"
[detection]
sigma = 2
minimum_count = 10
allow = ["10.0.0.1", "10.0.0.0/8", "::1", "fe80::/10"]
[store]
url = "s3://bucket/a/b"
options = { region = "eu-central-1", aws_sse_kms_key_id = "x", federated_token_file = "/f" }
[[sinks]]
type = "webhook"
url = "http://127.0.0.1:8080/x?y=z"
secret_env = "KEY_1"
[[sinks]]
type = "webhook"
name = "second"
url = "https://example.org"
[limits]
slices = 4
timeout = "30m"
[schedule]
cron = "30 4 * * MON-FRI"
"#;
    let file = parse(text).unwrap();
    assert_eq!(file.job.source.sample, Some(1.0));
    assert_eq!(file.job.detection.sigma, 2.0);
    assert!(matches!(&file.job.sinks[1], SinkSpec::Webhook { name: Some(name), .. } if name == "second"));
    // Saturday noon: the next firing is on Monday at 04:30 in Berlin, in summer time.
    let next = file.next_run("2026-03-28T11:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(next.to_string(), "2026-03-30T02:30:00Z");
    let next = parse(MINIMAL).unwrap().next_run("2026-03-28T11:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(next.to_string(), "2026-03-28T11:05:00Z");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    check_replaced("every", "evry", "unknown key window.evry, did you mean \"every\"?");
    check_replaced("name", "nam", "unknown key nam, did you mean \"name\"?");
    check_replaced("[store]", "[stor]", "unknown key stor, did you mean \"store\"?");
    check_added("[limits]\nslice = 1", "unknown key limits.slice, did you mean \"slices\"?");
    check_added("[limits]\nxyz = 1", "unknown key limits.xyz, known are \"slices\", \"timeout\"");
    check_added("[schedule]\ncorn = \"\"", "unknown key schedule.corn, did you mean \"cron\"?");
    check_sink("type = \"file\"\npth = \"/x\"", "unknown key sinks[1].pth, did you mean \"path\"?");
    // A key of another type of sink.
    check_sink(
        "type = \"file\"\nurl = \"x\"",
        "unknown key sinks[1].url, known are \"type\", \"name\", \"path\", \"format\"",
    );
    check_added(
        "[window.\"a b\"]",
        "unknown key window.\"a b\", known are \"every\", \"length\", \"delay\", \"recheck\", \"time_zone\", \"from\"",
    );
}

#[test]
fn a_missing_key_is_named_with_its_meaning() {
    check_replaced(
        "connection = \"prod\"",
        "",
        "source.connection is missing: The name of a connection of flowsigma.toml",
    );
    check_replaced("[window]\nevery = \"1h\"", "", "window is missing: The windows");
    check_sink(
        "name = \"x\"",
        "sinks[1].type is missing, known are \"stdout\", \"file\", \"bucket\", \"index\", \"webhook\"",
    );
    check_sink("type = \"webhok\"", "sinks[1].type = \"webhok\" is unknown, did you mean \"webhook\"?");
    check_sink("type = \"file\"", "sinks[1].path is missing: The file, or for Parquet the folder");
}

#[test]
fn a_value_of_another_type_is_refused() {
    check_replaced("\"1h\"", "60", "window.every = 60: expected a text in quotes");
    check_replaced(
        "\"1h\"",
        "\"1h\"\nfrom = 2026-01-01T00:00:00Z",
        "window.from = 2026-01-01T00:00:00Z: expected a text in quotes",
    );
    check_replaced("\"prod\"", "[\"prod\"]", "source.connection is a list: expected a text in quotes");
    check_replaced("[source]", "[[source]]", "source is a list: expected a table");
    check_added("[detection]\nsigma = \"3\"", "detection.sigma = \"3\": expected a number");
    check_added("[detection]\nallow = [1]", "detection.allow[0] = 1: expected a text in quotes");
    check_added("[detection]\nminimum_count = 1.5", "detection.minimum_count = 1.5: expected a whole number");
    check_added("[limits]\nslices = -1", "limits.slices = -1: expected a whole number from 0 to 4294967295");
    check_added(
        "[limits]\nslices = 4294967296",
        "limits.slices = 4294967296: expected a whole number from 0 to 4294967295",
    );
    check_added("sinks = 1", "unknown key store.sinks, known are \"url\", \"options\", \"pairs\"");
    check_added("pairs = 1", "store.pairs = 1: expected true or false");
    check_added("[detection]\npeel = 11", "detection.peel = 11: expected a whole number from 0 to 10");
    check_added("options = { region = 1 }", "store.options.region = 1: expected a text in quotes");
    check_added(
        "options = { aws_session_token = 17 }",
        "store.options.aws_session_token: expected a text in quotes",
    );
}

#[test]
fn a_text_that_is_not_toml_is_refused_without_showing_it() {
    let error = parse("name = \"a\"\nurl = \"s3cret\n").unwrap_err().to_string();
    assert!(error.starts_with("job file a.toml: line 2, column "), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn a_value_out_of_bounds_is_refused() {
    let name = "expected 1 to 63 lower-case letters, digits and \"-\", not \"-\" first";
    for wrong in ["", "Hourly", "a b", "-a", "a/b", "..", "ä"] {
        check_replaced("\"hourly-flows\"", &format!("{wrong:?}"), &format!("name = {wrong:?}: {name}"));
    }
    check_replaced(
        "\"prod\"",
        "\"a b\"",
        "source.connection = \"a b\": expected the name of a connection: letters, digits, \"_\", \"-\" and \".\"",
    );
    check_replaced(
        "\"1h\"",
        "\"7m\"",
        "window.every = \"7m\": expected a duration that divides a day, such as 5m, 15m, 1h or 6h, or 1d, or 1w",
    );
    let error = parse(&MINIMAL.replace("flows-*", "../x")).unwrap_err().to_string();
    assert!(error.starts_with("job file a.toml: source.index = \"../x\": "), "{error}");
    let error = parse(&MINIMAL.replace("[window]", "query = '{\"trm'\n[window]")).unwrap_err().to_string();
    assert!(error.starts_with("job file a.toml: source.query: "), "{error}");
    for sample in ["0", "-0.5", "1.5", "nan", "inf"] {
        let error = parse(&MINIMAL.replace("[window]", &format!("sample = {sample}\n[window]"))).unwrap_err();
        assert!(error.to_string().ends_with(": expected a share above 0 and up to 1"), "{error}");
    }
    check_replaced(
        "[window]",
        "seed = 1\n[window]",
        "source.seed has no effect without source.sample: remove it, or set both",
    );
    check_replaced(
        "[window]",
        "[source.options]\nslices = \"2\"\n[window]",
        "source.options.slices: use the key limits.slices",
    );
    let sigma = "expected a decimal above 0 and up to 1000 with at most 6 decimals";
    for (text, shown) in [
        ("0", "0"),
        ("-1", "-1"),
        ("1000.1", "1000.1"),
        ("nan", "NaN"),
        ("inf", "inf"),
        ("1e-7", "0.0000001"),
        ("2.0000001", "2.0000001"),
    ] {
        check_added(&format!("[detection]\nsigma = {text}"), &format!("detection.sigma = {shown}: {sigma}"));
    }
    check_added("[limits]\nslices = 0", "limits.slices = 0: expected a whole number from 1");
    check_added(
        "[limits]\ntimeout = \"0m\"",
        "limits.timeout = \"0m\": expected a duration above zero, such as 30m",
    );
    check_added(
        "[schedule]\ncron = \"@daily\"",
        "schedule.cron = \"@daily\": expected five fields, such as \"10 * * * *\": it has 1; the time zone is window.time_zone",
    );
}

#[test]
fn an_entry_of_allow_is_an_address_a_range_or_a_name() {
    let form =
        "expected an address such as 10.0.0.1, a range such as 10.0.0.0/8, or a name such as dns.example.org";
    parse(&format!("{MINIMAL}\n[detection]\nallow = [\"dns.example.org\", \"printer\"]")).unwrap();
    for wrong in ["10.0.0", "10.0.0.1/33", "", "10.0.0.1 "] {
        let lines = format!("[detection]\nallow = [\"::1\", {wrong:?}]");
        check_added(&lines, &format!("detection.allow[1] = {wrong:?}: {form}"));
    }
    check_added(
        "[detection]\nallow = [\"10.1.2.3/8\"]",
        "detection.allow[0] = \"10.1.2.3/8\": expected a range without host bits: 10.0.0.0/8, or 10.1.2.3 alone",
    );
}

#[test]
fn a_store_is_a_url_without_secrets() {
    let forms = "expected file:///path, s3://bucket/path, gs://bucket/path or az://container/path";
    let url = "file:///var/lib/flowsigma/hourly-flows";
    for (wrong, problem) in [
        ("http://h/x", format!("store.url has the scheme \"http\": {forms}")),
        ("/var/lib", format!("store.url is not a URL (relative URL without a base): {forms}")),
        ("s3:///x", format!("store.url names no bucket: {forms}")),
        (
            "file://host/x",
            "store.url: expected the absolute path of a folder, such as file:///var/lib/flowsigma".into(),
        ),
        ("s3://u:s3cret@b/x", "store.url has credentials: set them in the environment".into()),
        ("az://c/x?sig=s3cret", format!("store.url has a part behind \"?\" or \"#\": {forms}")),
    ] {
        check_replaced(url, wrong, &problem);
    }
    for key in [
        "aws_secret_access_key",
        "AWS_SESSION_TOKEN",
        "azure_storage_account_key",
        "google_service_account_key_secret",
    ] {
        check_added(
            &format!("options = {{ {key} = \"s3cret\" }}"),
            &format!("store.options.{key} puts a secret into the file: set it in the environment"),
        );
    }
}

#[test]
fn a_sink_has_its_own_name_and_a_safe_target() {
    check_sink(
        "type = \"stdout\"",
        "sinks[1].name = \"stdout\": expected another name than the sinks before have; without the key, the name is the type",
    );
    check_sink(
        "type = \"file\"\npath = \"/x\"\nname = \"stdout\"",
        "sinks[1].name = \"stdout\": expected another name than the sinks before have; without the key, the name is the type",
    );
    check_sink("type = \"file\"\npath = \"x\"", "sinks[1].path = \"x\": expected an absolute path");
    check_sink(
        "type = \"file\"\npath = \"/x\"\nname = \"A\"",
        "sinks[1].name = \"A\": expected 1 to 63 lower-case letters, digits and \"-\", not \"-\" first",
    );
    for index in ["a*", "a,b", "_all", "<a-{now/d}>"] {
        let one = "expected the name of one index or alias, not a pattern, a list or date math";
        check_sink(
            &format!("type = \"index\"\nconnection = \"c\"\nindex = {index:?}"),
            &format!("sinks[1].index = {index:?}: {one}"),
        );
    }
    let form = "expected https://HOST/PATH, or http on a loopback address";
    for (url, problem) in [
        ("http://example.org/s3cret", format!("sinks[1].url would send findings unencrypted: {form}")),
        ("ftp://example.org/s3cret", format!("sinks[1].url has the scheme \"ftp\": {form}")),
        (
            "https://u:s3cret@example.org",
            "sinks[1].url has credentials: name the key of a signature in secret_env instead".into(),
        ),
        ("example.org/s3cret", format!("sinks[1].url is not a URL (relative URL without a base): {form}")),
        ("https://example.org/#s3cret", format!("sinks[1].url has a part behind \"#\": {form}")),
    ] {
        check_sink(&format!("type = \"webhook\"\nurl = {url:?}"), &problem);
    }
    check_sink(
        "type = \"webhook\"\nurl = \"https://example.org\"\nsecret_env = \"s3-cret\"",
        "sinks[1].secret_env: expected the name of an environment variable, such as WEBHOOK_KEY",
    );
}

#[test]
fn a_folder_is_read_in_order_and_names_are_unique() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert_eq!(read_folder(folder.path()).unwrap(), []);
    write("b.toml", &MINIMAL.replace("hourly-flows", "b"));
    write("a.toml", &MINIMAL.replace("hourly-flows", "a"));
    write(".hidden.toml", "x");
    write("readme.md", "x");
    let jobs = read_folder(folder.path()).unwrap();
    assert_eq!(jobs.iter().map(|file| &*file.job.name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(jobs[0].path, folder.path().join("a.toml"));
    write("c.toml", &MINIMAL.replacen("hourly-flows", "a", 1));
    let error = read_folder(folder.path()).unwrap_err().to_string();
    let path = folder.path().display();
    assert_eq!(
        error,
        format!(
            "job file {path}/c.toml: name = \"a\": {path}/a.toml has a job of the same name; jobs are told apart by \
             name, so rename one"
        )
    );
    write("c.toml", "nam = 1");
    assert!(read_folder(folder.path()).unwrap_err().to_string().contains("c.toml: unknown key nam"));
    let error = read_folder(folder.path().join("none")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("job file {path}/none: ")), "{error}");
}

#[test]
fn the_schema_has_all_keys() {
    let schema = json_schema();
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["properties"]["window"].is_object());
    // The check of keys relies on these forms.
    assert_eq!(schema["$defs"]["SinkSpec"]["oneOf"][0]["properties"]["type"]["const"], "stdout");
}

#[test]
fn an_explanation_names_index_windows_threshold_and_sinks() {
    let text = format!(
        "{}[detection]\nsigma = 2.5\nminimum_count = 10\nallow = [\"10.0.0.0/8\"]\npeel = 2\n[schedule]\ncron = \"15 * * * *\"\n\
         [[sinks]]\ntype = \"file\"\npath = \"/f\"\n[[sinks]]\ntype = \"webhook\"\nurl = \"https://example.org/s3cret\"\n",
        MINIMAL.replace("every = \"1h\"", "every = \"1h\"\nrecheck = \"24h\"\ntime_zone = \"Europe/Berlin\"")
    );
    let file = parse(&text).unwrap();
    let explained = file.explain("2026-03-29T00:00:00Z".parse().unwrap());
    let (first, rest) = explained.split_once('\n').unwrap();
    assert_eq!(first, format!("job        hourly-flows (a.toml, sha256 {})", &file.digest[..12]));
    assert_eq!(
        rest,
        "\
reads      flows-* of connection prod: time @timestamp, source netflow.ipv4_src_addr, destination netflow.ipv4_dst_addr
windows    of 1h, on the calendar of Europe/Berlin; due 5m after their end; counted again until 24h after their end
  due      2026-03-29 01:05:00+01:00: from 2026-03-29 00:00:00+01:00 until 2026-03-29 01:00:00+01:00 (1h)
  due      2026-03-29 03:05:00+02:00: from 2026-03-29 01:00:00+01:00 until 2026-03-29 03:00:00+02:00 (1h)
  due      2026-03-29 04:05:00+02:00: from 2026-03-29 03:00:00+02:00 until 2026-03-29 04:00:00+02:00 (1h)
runs       by cron \"15 * * * *\", next 2026-03-29 01:15:00+01:00: every window that is due then
finds      addresses whose count of flows is more than 2.5 standard deviations above the mean, and at least 10 flows; never 10.0.0.0/8; again over the rest, up to 2 times
store      file:///var/lib/flowsigma/hourly-flows
sink       file: file /f, ndjson
sink       webhook: webhook https://example.org, not signed
"
    );
}

#[test]
fn a_sink_has_one_of_three_formats_and_a_bucket_is_no_folder() {
    let sink = |keys: &str| format!("[[sinks]]\n{keys}");
    let file = "type = \"file\"\npath = \"/x\"\n";
    for format in ["ndjson", "csv", "parquet"] {
        let text = format!("{MINIMAL}\n{}", sink(&format!("{file}format = {format:?}")));
        let SinkSpec::File { format: parsed, .. } = &parse(&text).unwrap().job.sinks[0] else { panic!() };
        assert_eq!(parsed.name(), format);
    }
    check_added(
        &sink(&format!("{file}format = \"parket\"")),
        "sinks[0].format = \"parket\" is unknown, did you mean \"parquet\"?",
    );
    check_added(&sink(&format!("{file}format = 1")), "sinks[0].format = 1: expected a text in quotes");
    let expected = "expected s3://bucket/path, gs://bucket/path or az://container/path";
    for (url, problem) in [
        ("file:///x", format!("has the scheme \"file\": {expected}")),
        ("s3://u:s3cret@b/x", "has credentials: set them in the environment".into()),
        ("s3:///x", format!("names no bucket: {expected}")),
    ] {
        check_added(&sink(&format!("type = \"bucket\"\nurl = {url:?}")), &format!("sinks[0].url {problem}"));
    }
    check_added(
        &sink("type = \"bucket\"\nurl = \"s3://b/x\"\noptions = { secret_access_key = \"x\" }"),
        "sinks[0].options.secret_access_key puts a secret into the file: set it in the environment",
    );
    check_added(
        &sink("type = \"index\"\nconnection = \"prod\"\nindex = \"alerts\"\ntemplate = true"),
        "sinks[0].template: the template applies to indices flowsigma-alerts*, and not to \"alerts\"; rename the index, or remove template",
    );
}

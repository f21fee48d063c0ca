use super::*;
use crate::store::Store;
use crate::store::client::Connector;
use crate::store::hosts::Hosts;
use object_store::ObjectStoreExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SECRET: &str = "wJalrXUtnFEMI";

fn keys(name: &str) -> Option<String> {
    match name {
        "AWS_ACCESS_KEY_ID" => Some("AKIA".into()),
        "AWS_SECRET_ACCESS_KEY" | "AZURE_STORAGE_ACCOUNT_KEY" => Some(SECRET.into()),
        _ => None,
    }
}

fn refusal(url: &str, options: &[(&str, &str)], environment: Environment<'_>) -> String {
    let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let error = open(url, &options, environment).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::StoreUrl { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_url_or_option_that_cannot_be_used_is_refused() {
    let region: &[(&str, &str)] = &[("region", "eu-central-1")];
    type Options<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, Options<'_>, &str)] = &[
        ("nothing", &[], "this is not a URL"),
        ("ftp://host/x", &[], "the scheme ftp is not supported; use file, s3, gs or az"),
        ("https://bucket.s3.amazonaws.com/x", region, "the scheme https is not supported"),
        ("s3://bucket/x?region=a", region, "the URL has a query"),
        ("s3://bucket:9000/x", region, "the URL has a port"),
        ("file://host/x", &[], "this is not a folder of this host"),
        ("file:///x", region, "option region: file:// has no options"),
        ("s3://bucket/x", &[], "set the option region, or endpoint"),
        ("s3://bucket/x", &[("secret_access_key", "x")], "option secret_access_key: not known, or a secret"),
        (
            "s3://bucket/x",
            &[("allow_invalid_certificates", "true")],
            "option allow_invalid_certificates: not known",
        ),
        ("s3://bucket/x", &[("conditional_put", "disabled")], "option conditional_put: not known"),
        ("s3://bucket/x", &[("endpoint", "http://10.0.0.1:9000")], "or set allow_http = \"true\""),
        (
            "s3://bucket/x",
            &[("endpoint", "ftp://h"), ("allow_http", "true")],
            "option endpoint: use https://host",
        ),
        ("s3://bucket/x", &[("allow_http", "yes")], "option allow_http: \"yes\" is neither"),
        ("s3://bucket/x", &[("region", "a"), ("timeout", "soon")], "timeout: \"soon\" is not a duration"),
        ("gs://bucket/x", &[], "set one of these (capitals: environment variables, others: options)"),
        ("az://container/x", &[], "set the option account_name"),
    ];
    for (url, options, problem) in cases {
        let error = refusal(url, options, &keys);
        assert!(error.contains(problem), "{url} {options:?}: {error}");
    }
    let error = refusal("s3://bucket/x", region, &|_| None);
    assert!(error.contains("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "), "{error}");
}

#[test]
fn no_error_has_a_credential() {
    for (url, options) in [
        (format!("s3://user:{SECRET}@bucket/x"), vec![]),
        (format!("az://user:{SECRET}@/x"), vec![]),
        (format!("s3://bucket/x?X-Amz-Signature={SECRET}"), vec![]),
        (format!("://user:{SECRET}@bucket"), vec![]),
        ("s3://bucket/x".into(), vec![("endpoint", format!("https://u:{SECRET}@host"))]),
        ("s3://bucket/x".into(), vec![("secret_access_key", SECRET.into())]),
        // The key is not Base64.
        ("az://container/x".into(), vec![("account_name", "a".into())]),
    ] {
        let options: Vec<(&str, &str)> = options.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let error = refusal(&url, &options, &|name| keys(name).map(|text| format!("{text}!")));
        assert!(!error.contains(SECRET), "{error}");
    }
    let options = [("region".to_owned(), "eu-central-1".to_owned())].into();
    let store = Store::with_objects("s3://bucket/x", open("s3://bucket/x", &options, &keys).unwrap());
    assert!(!format!("{store:?}").contains(SECRET));
}

#[cfg(unix)]
#[test]
fn a_folder_is_created_for_its_owner_and_an_existing_one_is_left() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a b/jobs");
    let url = Url::from_directory_path(&folder).unwrap();
    open(url.as_str(), &BTreeMap::new(), &keys).unwrap();
    assert_eq!((mode(&folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
    open(url.as_str(), &BTreeMap::new(), &keys).unwrap();
    assert_eq!(mode(&folder), 0o750);
    std::fs::write(folder.join("file"), "").unwrap();
    let error = refusal(&format!("{url}file"), &[], &keys);
    assert!(error.contains("the folder cannot be created"), "{error}");
}

/// Responds to each request with the same text, and counts them.
async fn server(response: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut request = vec![0; 65_536];
            _ = stream.read(&mut request).await;
            _ = stream.write_all(response.as_bytes()).await;
        }
    });
    (url, requests)
}

fn s3(options: &[(&str, &str)]) -> Arc<dyn ObjectStore> {
    let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    open("s3://bucket/path", &options, &keys).unwrap()
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\netag: \"a\"\r\n\
         last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nconnection: close\r\n\r\nhi";
    let (elsewhere, followed) = server(ok.into()).await;
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let redirect = format!(
            "HTTP/1.1 {status}\r\nlocation: {elsewhere}/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let (url, requests) = server(redirect).await;
        let store = s3(&[("endpoint", &url), ("allow_http", "true")]);
        let error = store.get(&"x".into()).await.unwrap_err().to_string();
        assert!(error.contains(&status[..3]), "{error}");
        store.put(&"x".into(), "hi".into()).await.unwrap_err();
        assert_eq!(requests.load(Ordering::SeqCst), 2);
    }
    assert_eq!(followed.load(Ordering::SeqCst), 0);
    // The server that was not asked would have responded.
    let store = s3(&[("endpoint", &elsewhere), ("allow_http", "true")]);
    assert_eq!(store.get(&"x".into()).await.unwrap().bytes().await.unwrap(), "hi");
}

#[tokio::test]
async fn a_host_that_no_option_names_is_not_asked() {
    use super::super::client::Origin;
    use object_store::aws::AmazonS3Builder;
    let (url, requests) =
        server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into()).await;
    let mut hosts = Hosts::default();
    hosts.add("endpoint", "https://s3.example").unwrap();
    assert_eq!(hosts.allowed, [Origin::of(&Url::parse("https://s3.example:443/x").unwrap())].into());
    // Without keys, the builder asks instance metadata. Here both are the server, and neither is named.
    let builder = || AmazonS3Builder::new().with_bucket_name("bucket").with_allow_http(true);
    for builder in [
        builder().with_endpoint(&url).with_access_key_id("AKIA").with_secret_access_key(SECRET),
        builder().with_endpoint("https://s3.example").with_metadata_endpoint(&url),
    ] {
        let connector = Connector { allowed: hosts.allowed.clone() };
        let store = builder.with_http_connector(connector).build().unwrap();
        let error = store.get(&"x".into()).await.unwrap_err();
        let mut text = String::new();
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        assert!(text.contains(&format!("a request to {url} was refused")), "{text}");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

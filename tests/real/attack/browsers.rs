//! Pages of other origins, in the browser of somebody who may use the cluster.

use super::{Ground, encoded, statement};
use flowsigma_tests::caller::{Caller, Outcome, Proof};
use flowsigma_tests::cluster::{Cluster, Shape};
use reqwest::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap, LOCATION};

/// Those that Ballista lets in by itself.
const THEIRS: [&str; 2] = ["https://nightlies.apache.org", "http://localhost:8080"];

fn allowed(headers: &HeaderMap) -> Option<&str> {
    headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).and_then(|value| value.to_str().ok())
}

pub(super) async fn of_other_origins(ground: &Ground) {
    let caller = ground.caller("alice");
    let plan = encoded(&statement("SELECT 1").await);
    let Outcome::Rows { job, .. } = caller.run(&plan).await else { panic!("no job") };
    let (code, headers, _) = caller.http("GET", "/", &[]).await.unwrap();
    ground.expect(
        "the page /",
        code == 404 && headers.get(LOCATION).is_none(),
        &format!("{code} {headers:?}"),
    );
    for origin in THEIRS.into_iter().chain(["https://evil.example", "null"]) {
        let from = ("origin", origin);
        let (_, headers, _) = caller.http("GET", "/api/jobs", &[from]).await.unwrap();
        ground.expect(&format!("{origin} reads"), allowed(&headers).is_none(), &format!("{headers:?}"));
        let path = format!("/api/job/{job}");
        let asks = ("access-control-request-method", "PATCH");
        for content in ["text/plain", "application/grpc"] {
            let kind = ("content-type", content);
            let (code, headers, _) = caller.http("PATCH", &path, &[from, kind]).await.unwrap();
            let row = format!("{origin} cancels by {content}");
            ground.expect(&row, code == 403 && allowed(&headers).is_none(), &format!("{code} {headers:?}"));
            let (code, headers, _) = caller.http("OPTIONS", &path, &[from, asks, kind]).await.unwrap();
            let row = format!("{origin} asks whether it may cancel by {content}");
            ground.expect(&row, code == 403 && allowed(&headers).is_none(), &format!("{code} {headers:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_named_may_use_the_endpoints_and_no_other_one() {
    let own = "https://ui.example";
    let args = ["--cors-allowed-origins", own];
    for allow_anyone in [true, false] {
        let shape = Shape { scheduler: "", scheduler_args: &args, allow_anyone, ..Shape::default() };
        let cluster = Cluster::start_as(shape).await.unwrap();
        let proof = match allow_anyone {
            true => Proof::Plain,
            false => {
                let pem = |name: &str| std::fs::read_to_string(cluster.folder.path().join(name)).unwrap();
                let (certificate, key) = (pem("account.pem"), pem("account.key"));
                Proof::Certificate {
                    authority: pem("account-ca.pem"),
                    own: flowsigma_node::Issued { certificate, key },
                }
            }
        };
        let caller = Caller::new(&cluster.scheduler_url, proof);
        let (code, headers, _) = caller.http("GET", "/api/jobs", &[("origin", own)]).await.unwrap();
        assert_eq!((code, allowed(&headers)), (200, Some(own)));
        let asks = ("access-control-request-method", "PATCH");
        let (code, headers, _) =
            caller.http("OPTIONS", "/api/job/x", &[("origin", own), asks]).await.unwrap();
        assert_eq!((code, allowed(&headers)), (200, Some(own)));
        for origin in THEIRS {
            let (_, headers, _) = caller.http("GET", "/api/jobs", &[("origin", origin)]).await.unwrap();
            assert_eq!(allowed(&headers), None, "{origin}");
        }
    }
}

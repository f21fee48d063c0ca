//! The decision over the rest of the counts, without addresses that were found.

use super::*;

fn register_found(context: &SessionContext, addresses: &[&str]) {
    let addresses = Arc::new(StringArray::from(addresses.to_vec())) as ArrayRef;
    register(context, "found", &RecordBatch::try_from_iter([("address", addresses)]).unwrap());
}

/// Decides over `counts` without `found`.
async fn decide_rest(counts: &[(String, i64, i64)], found: &[&str], sigma: &str) -> Detection {
    let context = context(4);
    register_counts(&context, "kept", counts);
    register_found(&context, found);
    let sql = decide_rest_sql("kept", "found", sigma.parse().unwrap());
    read_detection(&run(&context, &sql).await).unwrap()
}

/// "a" hides "b" among 38 addresses with one outgoing flow each.
fn masked() -> Vec<(String, i64, i64)> {
    let mut counts = vec![("a".to_owned(), 1_000_000, 1), ("b".to_owned(), 1_000, 1)];
    counts.extend((0..38).map(|i| (format!("c{i:02}"), 1, 1)));
    counts
}

#[tokio::test]
async fn the_rest_is_decided_by_its_own_mean_and_deviation() {
    let found = |detection: &Detection| {
        detection.findings.iter().map(|finding| finding.address.clone()).collect::<Vec<_>>()
    };
    let all = decide_rest(&masked(), &[], "3").await;
    assert_eq!(all, decide(&masked(), "3").await);
    assert_eq!(found(&all), ["a"]);
    let rest = decide_rest(&masked(), &["a"], "3").await;
    assert_eq!(found(&rest), ["b"]);
    assert_eq!(rest, decide(&masked()[1..], "3").await);
    assert_eq!((rest.statistics.outgoing.count, rest.statistics.outgoing.max), (39, Some(1_000)));
    // One against m equal ones lies exactly √m away.
    assert!((rest.findings[0].z - 38f64.sqrt()).abs() < 1e-9, "{}", rest.findings[0].z);
    assert_eq!(found(&decide_rest(&masked(), &["b", "a"], "3").await), [""; 0]);
}

#[tokio::test]
async fn every_row_of_a_found_address_is_taken_out() {
    let twice = [masked(), masked()].concat();
    let rest = decide_rest(&twice, &["a"], "3").await;
    assert_eq!(rest.statistics.outgoing.count, 39);
    assert_eq!((rest.findings.len(), rest.findings[0].outgoing), (1, 2_000));
}

#[tokio::test]
async fn the_rest_agrees_with_integers_computed_here() {
    let mut hidden = 0;
    for seed in 20..24 {
        let flows = random_flows(seed, 3000);
        let mut expected = count_flows(&as_flows(&flows)).into_iter().collect::<Vec<_>>();
        let counts: Vec<_> = expected
            .iter()
            .map(|(address, [outgoing, incoming])| {
                ((*address).to_owned(), *outgoing as i64, *incoming as i64)
            })
            .collect();
        let first = decide(&counts, "2").await;
        let found: Vec<&str> = first.findings.iter().map(|finding| finding.address.as_str()).collect();
        assert!(!found.is_empty());
        let rest = decide_rest(&counts, &found, "1").await;
        expected.retain(|(address, _)| !found.contains(address));
        assert_detection(&rest, &expected.into_iter().collect(), 1, 1);
        hidden += rest.findings.len();
    }
    assert!(hidden > 0, "the data must have addresses that others hide");
}

#[tokio::test]
async fn findings_are_ordered_by_round_before_distance() {
    let mut detection = decide(&masked(), "3").await;
    for finding in &mut detection.findings {
        finding.round = Some(1);
    }
    let rest = decide_rest(&masked(), &["a"], "3").await;
    let mut nearer = rest.findings[0].clone();
    nearer.address = "d".to_owned();
    nearer.z = 3.5;
    let next = [nearer, rest.findings[0].clone()].map(|finding| Finding { round: Some(2), ..finding });
    let incoming = Finding { direction: Direction::Incoming, round: Some(1), ..rest.findings[0].clone() };
    detection.add_findings([incoming]);
    detection.add_findings(next);
    let order: Vec<_> =
        detection.findings.iter().map(|f| (f.address.as_str(), f.direction, f.round.unwrap())).collect();
    let (outgoing, incoming) = (Direction::Outgoing, Direction::Incoming);
    assert_eq!(
        order,
        [("a", outgoing, 1), ("b", outgoing, 2), ("d", outgoing, 2), ("b", incoming, 1)],
        "{detection:?}"
    );
    let json = serde_json::to_value(&detection.findings).unwrap();
    assert_eq!(json[1]["round"], 2);
    // Without rounds, the JSON has no such key.
    let json = serde_json::to_value(&rest.findings).unwrap();
    assert!(json[0].get("round").is_none(), "{json}");
}

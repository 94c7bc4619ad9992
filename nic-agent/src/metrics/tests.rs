use super::*;

#[test]
fn every_family_is_shown_under_its_name() {
    let metrics = Metrics::new();
    metrics.request("Attach", "ok");
    metrics.request("Attach", "unknown-pod");
    metrics.request("Attach", "unknown-pod");
    metrics.tls_failure("no-certificate");
    metrics.set_connected("ovsdb", true);
    metrics.attach_seconds.get_or_create(&StageLabel { stage: "flows" }).observe(0.01);
    metrics.closed_representors.set(3);
    metrics.certificates.follow("server", || Some(1_900_000_000));
    let text = metrics.encode(Format::Text).unwrap();
    for line in [
        "drawbridge_nic_agent_requests_total{method=\"Attach\",reason=\"ok\"} 1",
        "drawbridge_nic_agent_requests_total{method=\"Attach\",reason=\"unknown-pod\"} 2",
        "drawbridge_nic_agent_tls_failures_total{cause=\"no-certificate\"} 1",
        "drawbridge_nic_agent_connected{peer=\"ovsdb\"} 1",
        "drawbridge_nic_agent_attach_duration_seconds_count{stage=\"flows\"} 1",
        "drawbridge_nic_agent_closed_representors 3",
        "drawbridge_nic_agent_certificate_expiration_timestamp_seconds{certificate=\"server\"} 1900000000",
        concat!("drawbridge_nic_agent_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn two_agents_count_apart() {
    let (one, two) = (Metrics::new(), Metrics::new());
    one.attachments.set(7);
    assert!(two.encode(Format::Text).unwrap().contains("drawbridge_nic_agent_attachments 0"));
    assert!(
        one.clone().encode(Format::Text).unwrap().contains("drawbridge_nic_agent_attachments 7"),
        "a clone is the same metrics"
    );
}

//! SIGHUP asks for the configuration at once. Alone in its process, as a signal is for all of it.

use nic_agent::config::Source;

const EXAMPLE: &str = include_str!("../../packaging/nic-agent.example.toml");

#[tokio::test]
async fn hangup_reads_again_even_what_did_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nic-agent.toml");
    std::fs::write(&path, EXAMPLE).unwrap();
    let (mut source, config) = Source::open(&path).unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
    assert_eq!(source.next_change().await.unwrap(), config);

    std::fs::write(&path, "nonsense").unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
    assert!(source.next_change().await.is_err());
}

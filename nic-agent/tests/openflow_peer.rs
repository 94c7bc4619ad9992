//! The OpenFlow session against a peer that is slow, odd or hostile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test's helpers

use std::time::Duration;

use nic_agent::openflow::{Error, Session};
use offload::openflow::errors::SwitchError;
use offload::openflow::message::HEADER;
use offload::openflow::{
    BundleStep, Cookie, Features, Flow, FlowMod, InstalledFlow, Match, Message, TableId, Xid,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

struct Peer {
    stream: UnixStream,
}

impl Peer {
    async fn hear(&mut self) -> (Xid, Message) {
        let mut bytes = vec![0; HEADER];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes.resize(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 0);
        self.stream.read_exact(&mut bytes[HEADER..]).await.unwrap();
        Message::decode(&bytes).unwrap()
    }

    async fn say(&mut self, xid: Xid, message: &Message) {
        self.stream.write_all(&message.encode(xid).unwrap()).await.unwrap();
    }

    async fn greet(&mut self) {
        assert_eq!(self.hear().await.1, Message::Hello { versions: 0x40 });
        self.say(Xid(77), &Message::Hello { versions: 0x7e }).await;
        let (xid, question) = self.hear().await;
        assert_eq!(question, Message::FeaturesRequest);
        let features = Features { datapath_id: 5, buffers: 0, tables: 254, auxiliary_id: 0, capabilities: 0 };
        self.say(xid, &Message::FeaturesReply(features)).await;
    }
}

/// A session with a peer that has greeted.
async fn pair() -> (Session, Peer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mgmt");
    let listener = UnixListener::bind(&path).unwrap();
    let accept = async {
        let mut peer = Peer { stream: listener.accept().await.unwrap().0 };
        peer.greet().await;
        peer
    };
    let (session, peer) = tokio::join!(Session::connect(&path, Duration::from_mins(1)), accept);
    (session.unwrap(), peer, dir)
}

/// Connects to a peer that says just this.
async fn connect_to(bytes: &[u8]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mgmt");
    let listener = UnixListener::bind(&path).unwrap();
    let speak = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    };
    let (session, _stream) = tokio::join!(Session::connect(&path, Duration::from_secs(5)), speak);
    session.unwrap_err()
}

fn flow(n: u16) -> Flow {
    Flow { table: TableId(0), priority: n, cookie: Cookie(1), matches: Match::any(), actions: vec![] }
}

#[tokio::test(start_paused = true)]
async fn a_silent_switch_is_given_up() {
    assert!(matches!(connect_to(&[]).await, Error::Deadline { .. }));
    assert!(matches!(connect_to(&[6, 0, 0]).await, Error::Deadline { .. }));
}

#[tokio::test(start_paused = true)]
async fn greetings_that_make_no_session() {
    let version_4_only = [4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x10];
    assert!(matches!(connect_to(&version_4_only).await, Error::Version { .. }));
    let old = [4, 0, 0, 8, 0, 0, 0, 1];
    assert!(matches!(connect_to(&old).await, Error::Version { .. }));
    let refused = Message::Error(SwitchError { kind: 0, code: 0, data: b"version".to_vec() });
    let error = connect_to(&refused.encode(Xid(1)).unwrap()).await;
    assert!(error.to_string().contains("no common version"), "{error}");
    let shorter_than_its_header = [6, 0, 0, 7, 0, 0, 0, 1];
    assert!(matches!(connect_to(&shorter_than_its_header).await, Error::Closed));
    let not_hello = Message::BarrierReply.encode(Xid(1)).unwrap();
    assert!(matches!(connect_to(&not_hello).await, Error::Answer { .. }));
    let broken_hello = [6, 0, 0, 12, 0, 0, 0, 1, 0, 1, 0, 0];
    assert!(matches!(connect_to(&broken_hello).await, Error::Answer { .. }));
}

#[tokio::test]
async fn echo_is_answered_while_nobody_asks() {
    let (session, mut peer, _dir) = pair().await;
    peer.say(Xid(99), &Message::EchoRequest(b"still there?".to_vec())).await;
    assert_eq!(peer.hear().await, (Xid(99), Message::EchoReply(b"still there?".to_vec())));
    assert_eq!(session.features().datapath_id, 5);
}

#[tokio::test]
async fn a_dump_in_parts_between_other_messages() {
    let (session, mut peer, _dir) = pair().await;
    let answer = async {
        let (xid, question) = peer.hear().await;
        assert_eq!(question, Message::FlowStatsRequest);
        let part = |n, more| Message::FlowStatsReply { flows: vec![InstalledFlow::fresh(flow(n))], more };
        peer.say(xid, &part(1, true)).await;
        peer.say(Xid(xid.0 - 1), &part(9, false)).await;
        peer.say(Xid(0), &Message::Other { kind: 12, body: vec![0; 72] }).await;
        peer.say(Xid(3), &Message::EchoRequest(vec![])).await;
        peer.say(xid, &part(2, false)).await;
    };
    let (flows, ()) = tokio::join!(session.dump_flows(), answer);
    let priorities: Vec<u16> = flows.unwrap().into_iter().map(|it| it.flow.priority).collect();
    assert_eq!(priorities, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    let (session, mut peer, _dir) = pair().await;
    assert!(matches!(session.dump_flows().await, Err(Error::Timeout { .. })));
    let (late, _) = peer.hear().await;
    let reply = |n| Message::FlowStatsReply { flows: vec![InstalledFlow::fresh(flow(n))], more: false };
    peer.say(late, &reply(1)).await;
    let answer = async {
        let (xid, _) = peer.hear().await;
        peer.say(xid, &reply(2)).await;
    };
    let (flows, ()) = tokio::join!(session.dump_flows(), answer);
    assert_eq!(flows.unwrap()[0].flow.priority, 2);
}

#[tokio::test]
async fn a_refused_commit_names_the_flow_that_was_refused() {
    let (session, mut peer, _dir) = pair().await;
    let changes = [FlowMod::Add(flow(1)), FlowMod::Add(flow(2))];
    let answer = async {
        let mut last_add = Xid(0);
        loop {
            let (xid, question) = peer.hear().await;
            let reply = match question {
                Message::BundleControl { bundle, step: BundleStep::Open } => {
                    Message::BundleControl { bundle, step: BundleStep::Opened }
                }
                Message::BundleAdd { .. } => {
                    last_add = xid;
                    continue;
                }
                Message::BarrierRequest => Message::BarrierReply,
                Message::BundleControl { step: BundleStep::Commit, .. } => {
                    let error = |kind, code| Message::Error(SwitchError { kind, code, data: vec![] });
                    peer.say(last_add, &error(5, 1)).await;
                    peer.say(xid, &error(17, 13)).await;
                    return;
                }
                other => panic!("{other:?}"),
            };
            peer.say(xid, &reply).await;
        }
    };
    let (outcome, ()) = tokio::join!(session.apply(&changes), answer);
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("priority=2") && error.to_string().contains("table full"), "{error}");
}

#[tokio::test]
async fn losing_the_connection_ends_calls_and_closed() {
    let (session, mut peer, _dir) = pair().await;
    let hang_up = async {
        peer.hear().await;
        drop(peer);
    };
    let (outcome, ()) = tokio::join!(session.dump_flows(), hang_up);
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
    session.closed().await;
}

#[tokio::test]
async fn dropping_the_session_hangs_up() {
    let (session, mut peer, _dir) = pair().await;
    drop(session);
    assert_eq!(peer.stream.read(&mut [0; 8]).await.unwrap(), 0);
    let (session, mut peer, _dir) = pair().await;
    session.close().await;
    assert_eq!(peer.stream.read(&mut [0; 8]).await.unwrap(), 0);
}

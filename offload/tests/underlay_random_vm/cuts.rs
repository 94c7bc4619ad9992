//! Connections that a change of policies ends, and those that it lets begin.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use offload::cut::cut_shared;
use offload::netlink::conntrack::Release;
use offload::policy::{Action, Origin, PodPolicy, PrefixSet, Rule, Tier, Traffic, Transports};

use crate::field::{Field, PODS};
use crate::patience::{late, patience};
use crate::policies::ingress;
use crate::stand::{address, inside, zone};

const PATIENCE: Duration = Duration::from_secs(20);
/// Cut, and kept.
const PORTS: [u16; 2] = [7100, 7200];

/// A TCP connection and a UDP one from pod 0 to a port of pod 1.
struct Pair {
    port: u16,
    tcp: [TcpStream; 2],
    udp: [UdpSocket; 2],
}

impl Pair {
    fn open(port: u16, is_ipv6: bool) -> Self {
        let to = SocketAddr::from((address(1, is_ipv6), port));
        let (listener, server) = inside(1, || (TcpListener::bind(to).unwrap(), UdpSocket::bind(to).unwrap()));
        let (tcp, udp) = inside(0, || {
            let udp = UdpSocket::bind((address(0, is_ipv6), 0)).unwrap();
            udp.connect(to).unwrap();
            (TcpStream::connect_timeout(&to, patience(PATIENCE)).unwrap(), udp)
        });
        let (accepted, _) = listener.accept().unwrap();
        let pair = Self { port, tcp: [tcp, accepted], udp: [udp, server] };
        for socket in &pair.tcp {
            socket.set_read_timeout(Some(patience(PATIENCE))).unwrap();
            socket.set_nodelay(true).unwrap();
        }
        for socket in &pair.udp {
            socket.set_read_timeout(Some(patience(PATIENCE))).unwrap();
        }
        pair
    }

    /// There and back.
    fn turn(&mut self) {
        let mut byte = [0];
        let [client, server] = &mut self.tcp;
        client.write_all(b"x").unwrap();
        server.read_exact(&mut byte).unwrap();
        server.write_all(b"y").unwrap();
        client.read_exact(&mut byte).unwrap();
        let [client, server] = &self.udp;
        client.send(b"x").unwrap();
        let (_, from) = server.recv_from(&mut byte).unwrap();
        server.send_to(b"y", from).unwrap();
        client.recv(&mut byte).unwrap();
    }

    /// What has come to the server meanwhile: bytes of the one, datagrams of the other.
    fn arrived(&mut self) -> [usize; 2] {
        let mut bytes = [0; 4096];
        self.tcp[1].set_nonblocking(true).unwrap();
        self.udp[1].set_nonblocking(true).unwrap();
        let stream = self.tcp[1].read(&mut bytes).unwrap_or(0);
        [stream, std::iter::from_fn(|| self.udp[1].recv(&mut bytes).ok()).count()]
    }

    fn send(&mut self) {
        self.tcp[0].write_all(b"x").unwrap();
        self.udp[0].send(b"x").unwrap();
    }
}

/// Pod 1 is reached at these ports, and by echo.
fn only(ports: &[u16]) -> Vec<PodPolicy> {
    let set =
        ports.iter().map(|port| offload::policy::PortRange::one(*port)).collect::<offload::policy::PortSet>();
    let of = Transports { tcp: set.clone(), udp: set, ..Transports::default() };
    let rule =
        Rule { action: Action::Allow, peers: PrefixSet::any(), traffic: Traffic::Of(of), origin: Origin(1) };
    let mut policies = vec![PodPolicy::default(); PODS];
    policies[1] = ingress(vec![Tier { rules: vec![rule], otherwise: Action::Deny, origin: Origin(2) }]);
    policies
}

#[test]
fn vm_tightening_cuts_and_loosening_lets_in() {
    let mut field = Field::new();
    let (both, one) = (only(&PORTS), only(&PORTS[1..]));
    assert_eq!(field.install(&both).1, []);
    for is_ipv6 in [false, true] {
        let [mut cut, mut kept] = PORTS.map(|port| Pair::open(port, is_ipv6));
        // TCP and UDP, both ways, of both pairs. Those of the other version may still be there.
        let carried = |field: &Field, port: u16| {
            let mut lines = field.stand.connections(port);
            lines.retain(|line| line.contains(&format!(" {} ", address(0, is_ipv6))));
            lines
        };
        let in_hardware = |field: &Field, port: u16| carried(field, port).len();
        let began = Instant::now();
        loop {
            cut.turn();
            kept.turn();
            if PORTS.iter().all(|port| in_hardware(&field, *port) == 4) {
                break;
            }
            let last = format!("{:?}", PORTS.map(|port| carried(&field, port)));
            let is_late = began.elapsed() > patience(PATIENCE);
            assert!(!is_late, "{}", late("both pairs are in hardware", began.elapsed(), last));
            std::thread::sleep(Duration::from_millis(20));
        }

        assert_eq!(field.install(&one).1, []);
        let policy_of = |ip: IpAddr| (0..PODS).find(|pod| address(*pod, is_ipv6) == ip).map(|pod| &one[pod]);
        let entries = field.conntrack.entries(zone()).unwrap();
        let denied: Vec<_> = cut_shared(policy_of, &entries).into_iter().copied().collect();
        assert_eq!(denied.len(), 2, "{entries:?}");
        let deleted = field.conntrack.delete(&denied).unwrap();
        assert_eq!(deleted.deleted, 2);
        let release = field.conntrack.wait_until_released(deleted, patience(Duration::from_mins(1))).unwrap();
        assert!(matches!(release, Release::Complete { .. }), "{release:?}");
        assert_eq!(carried(&field, cut.port), Vec::<String>::new());
        let version = if is_ipv6 { 6 } else { 4 };
        println!(
            "IPv{version}: cut, and the hardware has let go, after at most {} ms",
            release.after().as_millis()
        );

        // From here on nothing of it passes, and all of what is still allowed does.
        for _ in 0..50 {
            cut.send();
        }
        for _ in 0..10 {
            kept.turn();
        }
        std::thread::sleep(patience(Duration::from_millis(300)));
        assert_eq!(cut.arrived(), [0, 0]);
        assert_eq!(carried(&field, cut.port), Vec::<String>::new());
        assert_eq!(in_hardware(&field, kept.port), 4);

        // Loosening: the very first datagram passes, and so does a new connection.
        assert_eq!(field.install(&both).1, []);
        cut.udp[1].set_nonblocking(false).unwrap();
        cut.udp[0].send(b"z").unwrap();
        let mut byte = [0];
        cut.udp[1].recv(&mut byte).unwrap();
        assert_eq!(byte, *b"z");
        drop(cut);
        Pair::open(PORTS[0], is_ipv6).turn();
    }
}

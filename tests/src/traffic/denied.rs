//! What policy denies, sent all the time, and whoever sees one of these packets arrive.

use std::time::Duration;

use super::{By, Newcomers};
use crate::Capture;
use crate::netns::Located;

/// New connections, TCP and UDP, IPv4 and IPv6, from each of these to each of those.
pub struct Denied {
    knocking: Vec<Newcomers>,
    captures: Vec<Capture>,
}

impl Denied {
    /// Whoever receives listens before anybody sends.
    #[track_caller]
    pub fn start<P: Located>(from: &[&P], to: &[&P], port: u16, interval: Duration) -> Self {
        let hosts: Vec<String> =
            from.iter().flat_map(|it| it.ips()).map(|ip| format!("src host {ip}")).collect();
        let filter = format!("(tcp or udp) and dst port {port} and ({})", hosts.join(" or "));
        let captures = to.iter().map(|pod| Capture::start(&pod.place(), "eth0", &filter)).collect();
        let mut knocking = Vec::new();
        for from in from {
            for address in to.iter().flat_map(|it| it.ips()) {
                knocking.extend(
                    [By::Udp, By::Tcp].map(|by| Newcomers::start(*from, &address, port, by, interval)),
                );
            }
        }
        Self { knocking, captures }
    }

    /// How many connections were begun, and the packets of these that arrived, as tcpdump prints them.
    pub fn stop(self) -> (u32, Vec<String>) {
        self.knocking.iter().for_each(Newcomers::halt);
        let begun = self.knocking.into_iter().map(|it| it.stop().sent).sum();
        (begun, self.captures.into_iter().flat_map(Capture::stop).collect())
    }
}

//! Which endpoints a client gets.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::object::{Endpoint, EndpointSlice, Port, Protocol, Service};

/// From where a connection to a ClusterIP comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    pub node: &'a str,
    /// The node's label `topology.kubernetes.io/zone`; empty if it has none.
    pub zone: &'a str,
}

/// For which clients the answer is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    #[default]
    Cluster,
    Zone,
    Node,
}

/// A Service with all its slices, to be asked of one port after the other.
#[derive(Debug)]
pub struct Backing<'a, F> {
    local: bool,
    slices: Vec<(&'a EndpointSlice, Targets<'a>)>,
    /// Is the endpoint's address believed?
    counts: F,
}

/// The numbers of a slice's ports.
type Targets<'a> = HashMap<(&'a str, Protocol), Vec<u16>>;

impl<'a, F: Fn(&Endpoint) -> bool> Backing<'a, F> {
    pub fn new(service: &Service, slices: impl IntoIterator<Item = &'a EndpointSlice>, counts: F) -> Self {
        let with_targets = |slice: &'a EndpointSlice| {
            let mut targets = Targets::new();
            for port in &slice.ports {
                targets.entry((&*port.name, port.protocol)).or_default().push(port.number);
            }
            (slice, targets)
        };
        Self { local: service.local, slices: slices.into_iter().map(with_targets).collect(), counts }
    }

    /// Those that get connections to the port. First those that are ready: of these the ones that the hints mean for the
    /// client's node, else for its zone, if every one says whom it is meant for; else all. Without any that is ready, those
    /// that still serve while they terminate. Sorted, each once; an address that two slices list is taken as the better of
    /// the two says, as it is in both for a moment only, while it moves.
    pub fn backends(&self, port: &Port, is_v4: bool, client: Client<'_>) -> Vec<(IpAddr, u16)> {
        let chosen = self.chosen(port, is_v4, client);
        if chosen.is_empty() {
            let last = |it: &Endpoint| it.serving && it.terminating && self.is_here(it, client);
            return self.collect(port, is_v4, last);
        }
        chosen
    }

    /// The same; and without any, all that are listed. Nobody gets a connection to those, but may have had one: kube-proxy
    /// and OVN leave connections alone whose endpoint is not ready any more.
    pub fn backends_or_listed(&self, port: &Port, is_v4: bool, client: Client<'_>) -> Vec<(IpAddr, u16)> {
        let backends = self.backends(port, is_v4, client);
        if backends.is_empty() {
            return self.collect(port, is_v4, |it| self.is_here(it, client));
        }
        backends
    }

    /// For which clients [`Self::backends`] is the same.
    pub fn scope(&self, port: &Port, is_v4: bool) -> Scope {
        if self.local {
            return Scope::Node;
        }
        match self.hinted(port, is_v4) {
            (true, _) => Scope::Node,
            (false, true) => Scope::Zone,
            (false, false) => Scope::Cluster,
        }
    }

    /// How many there are that could get connections, for each of the port's numbers one.
    pub fn count(&self, port: &Port, is_v4: bool) -> usize {
        let each = self.of_port(port).map(|(slice, numbers)| {
            let usable = |it: &&Endpoint| it.ready || it.serving && it.terminating;
            let usable = slice.endpoints.iter().filter(|it| it.address.is_ipv4() == is_v4).filter(usable);
            usable.count().saturating_mul(numbers.len())
        });
        each.fold(0, usize::saturating_add)
    }

    fn chosen(&self, port: &Port, is_v4: bool, client: Client<'_>) -> Vec<(IpAddr, u16)> {
        if self.local {
            return self.collect(port, is_v4, |it| it.ready && self.is_here(it, client));
        }
        // Those that are meant for nodes may all be meant for zones, too.
        let (for_nodes, for_zones) = self.hinted(port, is_v4);
        if for_nodes {
            let for_node = self.collect(port, is_v4, |it| it.ready && it.is_for_node(client.node));
            if !for_node.is_empty() {
                return for_node;
            }
        }
        if for_zones {
            let for_zone = self.collect(port, is_v4, |it| it.ready && it.is_for_zone(client.zone));
            if !for_zone.is_empty() {
                return for_zone;
            }
        }
        self.collect(port, is_v4, |it| it.ready)
    }

    /// Do all that are ready say for which nodes they are meant, and for which zones? Of none that is ready nobody knows.
    fn hinted(&self, port: &Port, is_v4: bool) -> (bool, bool) {
        let mut all = None;
        let candidates = self.candidates(port, is_v4).map(|(it, _)| it);
        for endpoint in candidates.filter(|it| it.ready && (self.counts)(it)) {
            let (nodes, zones) = all.unwrap_or((true, true));
            let still = (nodes && endpoint.has_nodes(), zones && endpoint.has_zones());
            if still == (false, false) {
                return still;
            }
            all = Some(still);
        }
        all.unwrap_or_default()
    }

    fn is_here(&self, endpoint: &Endpoint, client: Client<'_>) -> bool {
        !self.local || endpoint.node.as_deref() == Some(client.node)
    }

    fn of_port<'s>(&'s self, port: &'s Port) -> impl Iterator<Item = (&'a EndpointSlice, &'s [u16])> {
        let key = (&*port.name, port.protocol);
        self.slices.iter().filter_map(move |(slice, targets)| Some((*slice, targets.get(&key)?.as_slice())))
    }

    fn candidates<'s>(
        &'s self,
        port: &'s Port,
        is_v4: bool,
    ) -> impl Iterator<Item = (&'a Endpoint, &'s [u16])> {
        let each = self
            .of_port(port)
            .flat_map(|(slice, numbers)| slice.endpoints.iter().map(move |endpoint| (endpoint, numbers)));
        each.filter(move |(endpoint, _)| endpoint.address.is_ipv4() == is_v4)
    }

    fn collect(&self, port: &Port, is_v4: bool, wanted: impl Fn(&Endpoint) -> bool) -> Vec<(IpAddr, u16)> {
        let wanted = self.candidates(port, is_v4).filter(|(it, _)| wanted(it) && (self.counts)(it));
        let mut all: Vec<_> =
            wanted.flat_map(|(it, numbers)| numbers.iter().map(|number| (it.address, *number))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Endpoint {
    fn has_nodes(&self) -> bool {
        self.hints.as_ref().is_some_and(|it| !it.nodes.is_empty())
    }

    fn has_zones(&self) -> bool {
        self.hints.as_ref().is_some_and(|it| !it.zones.is_empty())
    }

    fn is_for_node(&self, node: &str) -> bool {
        self.hints.as_ref().is_some_and(|it| it.nodes.iter().any(|name| **name == *node))
    }

    /// A node without a zone is in none.
    fn is_for_zone(&self, zone: &str) -> bool {
        !zone.is_empty() && self.hints.as_ref().is_some_and(|it| it.zones.iter().any(|name| **name == *zone))
    }
}

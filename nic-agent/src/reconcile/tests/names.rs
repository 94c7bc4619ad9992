//! What a test calls by numbers: pods, sandboxes, VFs.

use offload::ids::{CtZone, MacAddr, VfId};

use crate::claim::{Claim, PodRef, SandboxKey};

/// The zones that pods may have: so few that they are given again soon.
pub const ZONES: std::ops::RangeInclusive<u16> = 61000..=61005;

pub fn vf(number: u16) -> VfId {
    VfId { pf: 0, vf: number }
}

pub fn rep(number: u16) -> String {
    format!("r-pf0vf{number}")
}

pub fn zone(number: u16) -> CtZone {
    CtZone::new(number).unwrap()
}

pub fn key(sandbox: u16) -> SandboxKey {
    SandboxKey { sandbox: format!("s{sandbox}"), interface: "eth0".to_owned() }
}

pub fn mac(pod: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, pod.to_be_bytes()[1]])
}

pub fn pod_ref(pod: u16) -> PodRef {
    PodRef { namespace: "ns".to_owned(), name: format!("p{pod}"), uid: format!("u{pod}") }
}

pub fn claim(sandbox: u16, pod: u16, number: u16) -> Claim {
    Claim {
        key: key(sandbox),
        pod: pod_ref(pod),
        network: "ovn".to_owned(),
        pci_address: String::new(),
        vf: vf(number),
    }
}

/// As the plain profile's template has it.
pub fn logical(pod: u16) -> String {
    format!("ns_p{pod}")
}

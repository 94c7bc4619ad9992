//! Whether a claim is admitted: a pure function of what the cluster, the NIC and the ledger know (docs/security.md).

use offload::ids::VfId;

use crate::attachment::{self, Attachment, OverlayPort, Owner, Port, Sandbox};
use crate::claim::{Claim, Refusal, SandboxKey};
use crate::config::Served;
use crate::config::ZoneRange;
use crate::directory::Directory;
use crate::kernel::NoRepresentor;
use crate::ledger::Ledger;
use crate::network::{Network, Networks};

/// What claims are held against.
pub struct Grounds<'a> {
    pub directory: &'a Directory,
    pub ledger: &'a Ledger,
    /// The server that this NIC sits in.
    pub served: Served<'a>,
    pub networks: &'a Networks,
    pub zones: ZoneRange,
    /// How many attachments there may be.
    pub budget: Option<u32>,
    /// The server's own VF.
    pub management_port: Option<VfId>,
    /// Why this VF has no representor here, or that it has one.
    pub representor: &'a dyn Fn(VfId) -> Result<(), NoRepresentor>,
    pub logical_port: &'a dyn Fn(&Claim) -> String,
}

/// A believed claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The same claim as before: nothing changes.
    Known,
    New {
        attachment: Box<Attachment>,
        /// Attachments that it takes the place of: older sandboxes of the same pod, and pods that are no more.
        supersedes: Vec<SandboxKey>,
    },
}

pub fn admit(claim: &Claim, on: &Grounds<'_>) -> Result<Admission, Refusal> {
    if on.ledger.is_detached(&claim.key) {
        return Err(Refusal::SandboxReplayed { key: claim.key.clone() });
    }
    on.directory.judge(&claim.pod, on.served)?;
    let no_vf = |candidates| Refusal::NoSuchVf { vf: claim.vf, candidates };
    if attachment::of_ports(claim.vf).is_none() {
        return Err(no_vf("PFs 0 to 15 with VFs 0 to 1023 at most".to_owned()));
    }
    (on.representor)(claim.vf).map_err(|why| no_vf(why.to_string()))?;
    if on.management_port == Some(claim.vf) {
        return Err(Refusal::ManagementPort { vf: claim.vf });
    }
    if let Some(same) = on.ledger.of_sandbox(&claim.key) {
        let is_of_pod = same.owner.sandbox().is_some_and(|it| it.pod == claim.pod);
        if is_of_pod && (same.vf, &same.network) == (claim.vf, &claim.network) {
            return Ok(Admission::Known);
        }
        return Err(Refusal::SandboxInUse {
            key: claim.key.clone(),
            vf: same.vf,
            pod: same.owner.to_string(),
        });
    }
    let Network::Overlay = on.networks.get(&claim.network);
    let logical_port = (on.logical_port)(claim);
    let mut supersedes = Vec::new();
    for other in on.ledger.attachments() {
        let same_vf = other.vf == claim.vf;
        let is_of_interface =
            |it: &&Sandbox| it.pod.uid == claim.pod.uid && it.key.interface == claim.key.interface;
        let same_interface = other.owner.sandbox().is_some_and(|it| is_of_interface(&it));
        let same_logical_port = other.overlay().is_some_and(|it| it.logical_port == logical_port);
        if !(same_vf || same_interface || same_logical_port) {
            continue;
        }
        let Owner::Pod(holder) = &other.owner else {
            return Err(if same_vf {
                Refusal::ManagementPort { vf: claim.vf }
            } else {
                Refusal::LogicalPortHeld { logical_port, vf: other.vf }
            });
        };
        // A pod has one sandbox at a time: a new one of the same pod means that the old one is gone.
        let newer_sandbox = same_interface && holder.key.sandbox != claim.key.sandbox;
        if newer_sandbox || is_dead(holder, on.directory, on.served) {
            supersedes.push(holder.key.clone());
        } else if same_vf {
            return Err(Refusal::VfHeld { vf: claim.vf, holder: holder.pod.to_string() });
        } else {
            return Err(Refusal::LogicalPortHeld { logical_port, vf: other.vf });
        }
    }
    let staying = on.ledger.pods().count().saturating_sub(supersedes.len());
    if let Some(budget) = on.budget
        && u32::try_from(staying).is_ok_and(|staying| staying >= budget)
    {
        return Err(Refusal::BudgetUsed { budget });
    }
    // Zones of what it supersedes are not free yet: the old boundary is taken down in the pass that builds the new one.
    let zone = on.ledger.free_zone(on.zones).ok_or(Refusal::NoZone { size: on.zones.size() })?;
    let port = Port::Overlay(OverlayPort::new(zone, logical_port));
    let attachment = Box::new(Attachment::of_claim(claim, port));
    Ok(Admission::New { attachment, supersedes })
}

/// Does the cluster say that this sandbox's pod may hold a VF here no longer? A directory that is not known says nothing.
pub fn is_dead(sandbox: &Sandbox, directory: &Directory, served: Served<'_>) -> bool {
    match directory.judge(&sandbox.pod, served) {
        Ok(()) | Err(Refusal::DirectoryUnavailable { .. }) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::claim::PodRef;
    use crate::directory::PodRecord;
    use crate::management;

    const SERVED: Served<'static> = Served { node: "server1", static_pods: false };

    fn zone(number: u16) -> offload::ids::CtZone {
        offload::ids::CtZone::new(number).unwrap()
    }

    fn claim(sandbox: &str, uid: &str, vf: u16) -> Claim {
        Claim {
            key: SandboxKey { sandbox: sandbox.into(), interface: "eth0".into() },
            pod: PodRef { namespace: "default".into(), name: format!("pod-{uid}"), uid: uid.into() },
            network: "drawbridge".into(),
            pci_address: String::new(),
            vf: VfId { pf: 0, vf },
        }
    }

    fn directory(uids: &[&str]) -> Directory {
        let pod = |uid: &&str| PodRecord {
            uid: (*uid).into(),
            namespace: "default".into(),
            name: format!("pod-{uid}"),
            node: "server1".into(),
            host_network: false,
            mirror: false,
            static_uid: String::new(),
            phase: "Running".into(),
            annotations: BTreeMap::new(),
        };
        Directory::Known(Arc::new(uids.iter().map(|u| ((*u).to_owned(), pod(u))).collect::<BTreeMap<_, _>>()))
    }

    fn try_admit(ledger: &Ledger, directory: &Directory, claim: &Claim) -> Result<Admission, Refusal> {
        let grounds = Grounds {
            directory,
            ledger,
            served: SERVED,
            networks: &Networks,
            zones: ZoneRange::new(zone(61000), zone(61003)).unwrap(),
            budget: None,
            management_port: Some(VfId { pf: 0, vf: 6 }),
            representor: &|vf| {
                if vf.vf < 8 {
                    Ok(())
                } else {
                    Err(NoRepresentor::Others { candidates: "pf0vf0-7".to_owned() })
                }
            },
            logical_port: &|claim| format!("{}_{}", claim.pod.namespace, claim.pod.name),
        };
        admit(claim, &grounds)
    }

    fn put(ledger: &mut Ledger, directory: &Directory, claim: &Claim) -> Vec<SandboxKey> {
        match try_admit(ledger, directory, claim).unwrap() {
            Admission::Known => panic!("known"),
            Admission::New { attachment, supersedes } => {
                for key in &supersedes {
                    ledger.detach(key).unwrap();
                }
                ledger.insert(*attachment);
                supersedes
            }
        }
    }

    #[test]
    fn each_lie_has_its_reason() {
        let all = directory(&["a", "b"]);
        let mut ledger = Ledger::default();
        put(&mut ledger, &all, &claim("s1", "a", 0));
        let refused = |c: &Claim| try_admit(&ledger, &all, c).unwrap_err();
        assert_eq!(
            refused(&claim("s2", "b", 0)),
            Refusal::VfHeld { vf: VfId { pf: 0, vf: 0 }, holder: "default/pod-a".into() }
        );
        assert_eq!(refused(&claim("s2", "b", 8)).reason(), "no-such-vf");
        assert_eq!(refused(&claim("s2", "b", 6)).reason(), "management-port");
        assert_eq!(refused(&claim("s2", "c", 1)).reason(), "unknown-pod");
        assert_eq!(refused(&claim("s1", "b", 1)).reason(), "sandbox-in-use");
        assert_eq!(refused(&claim("s1", "a", 1)).reason(), "sandbox-in-use");
        let huge = Claim { vf: VfId { pf: 99, vf: 0 }, ..claim("s2", "b", 0) };
        assert_eq!(refused(&huge).reason(), "no-such-vf");
        assert_eq!(try_admit(&ledger, &all, &claim("s1", "a", 0)), Ok(Admission::Known));
        // Another interface of the same pod would be the same logical port.
        let mut second = claim("s1", "a", 1);
        second.key.interface = "net1".into();
        assert_eq!(refused(&second).reason(), "logical-port-held");
    }

    #[test]
    fn a_sandbox_that_is_over_stays_over() {
        let all = directory(&["a"]);
        let mut ledger = Ledger::default();
        put(&mut ledger, &all, &claim("s1", "a", 0));
        ledger.detach(&claim("s1", "a", 0).key);
        assert_eq!(try_admit(&ledger, &all, &claim("s1", "a", 0)).unwrap_err().reason(), "sandbox-replayed");
        put(&mut ledger, &all, &claim("s2", "a", 0));
    }

    #[test]
    fn an_attach_that_its_detach_has_overtaken_is_refused() {
        let all = directory(&["a"]);
        let mut ledger = Ledger::default();
        assert_eq!(ledger.detach(&claim("s1", "a", 0).key), None);
        assert_eq!(try_admit(&ledger, &all, &claim("s1", "a", 0)).unwrap_err().reason(), "sandbox-replayed");
        put(&mut ledger, &all, &claim("s2", "a", 0));
    }

    #[test]
    fn a_new_sandbox_and_a_dead_pod_give_way() {
        let all = directory(&["a", "b"]);
        let mut ledger = Ledger::default();
        put(&mut ledger, &all, &claim("s1", "a", 0));
        let old = vec![claim("s1", "a", 0).key];
        assert_eq!(put(&mut ledger, &all, &claim("s2", "a", 0)), old);
        let old = vec![claim("s2", "a", 0).key];
        assert_eq!(put(&mut ledger, &all, &claim("s3", "a", 5)), old);
        // a is deleted, its VF goes to b.
        let old = vec![claim("s3", "a", 5).key];
        assert_eq!(put(&mut ledger, &directory(&["b"]), &claim("s4", "b", 5)), old);
        // An unreadable directory kills nobody.
        let unknown = Directory::Unknown { why: "gone".into() };
        let (_, sandbox) = ledger.pods().next().unwrap();
        assert!(!is_dead(sandbox, &unknown, SERVED));
        assert_eq!(
            try_admit(&ledger, &unknown, &claim("s5", "b", 5)).unwrap_err().reason(),
            "directory-unavailable"
        );
    }

    #[test]
    fn a_budget_counts_what_stays() {
        let all = directory(&["a", "b"]);
        let mut ledger = Ledger::default();
        put(&mut ledger, &all, &claim("s1", "a", 0));
        let within = |claim: &Claim, budget| {
            let grounds = Grounds {
                directory: &all,
                ledger: &ledger,
                served: SERVED,
                networks: &Networks,
                zones: ZoneRange::new(zone(61000), zone(61003)).unwrap(),
                budget: Some(budget),
                management_port: None,
                representor: &|_| Ok(()),
                logical_port: &|claim| claim.pod.name.clone(),
            };
            admit(claim, &grounds)
        };
        assert_eq!(within(&claim("s2", "b", 1), 1).unwrap_err(), Refusal::BudgetUsed { budget: 1 });
        assert!(within(&claim("s2", "b", 1), 2).is_ok());
        // A new sandbox of a pod that counts already.
        assert!(within(&claim("s3", "a", 1), 1).is_ok());
        assert_eq!(within(&claim("s1", "a", 0), 0), Ok(Admission::Known));
    }

    #[test]
    fn the_management_port_is_nobodys() {
        let all = directory(&["a"]);
        let mut ledger = Ledger::default();
        // Named another VF a moment ago: until that one is released, no pod has it.
        ledger.insert(management::attachment(VfId { pf: 0, vf: 5 }, zone(61003), "k8s-server1".into()));
        assert_eq!(
            try_admit(&ledger, &all, &claim("s1", "a", 5)).unwrap_err(),
            Refusal::ManagementPort { vf: VfId { pf: 0, vf: 5 } }
        );
        let grounds = Grounds {
            directory: &all,
            ledger: &ledger,
            served: SERVED,
            networks: &Networks,
            zones: ZoneRange::new(zone(61000), zone(61003)).unwrap(),
            budget: Some(1),
            management_port: None,
            representor: &|_| Ok(()),
            logical_port: &|_| "k8s-server1".to_owned(),
        };
        assert_eq!(admit(&claim("s1", "a", 1), &grounds).unwrap_err().reason(), "logical-port-held");
        // It is no pod's: the budget does not count it.
        let grounds = Grounds { logical_port: &|_| "shop_a".to_owned(), ..grounds };
        assert!(matches!(admit(&claim("s1", "a", 1), &grounds), Ok(Admission::New { .. })));
    }

    #[test]
    fn zones_run_out_loudly() {
        let all = directory(&["a", "b", "c", "d", "e"]);
        let mut ledger = Ledger::default();
        for (n, uid) in ["a", "b", "c", "d"].iter().enumerate() {
            put(&mut ledger, &all, &claim(uid, uid, u16::try_from(n).unwrap()));
        }
        assert_eq!(try_admit(&ledger, &all, &claim("e", "e", 7)).unwrap_err(), Refusal::NoZone { size: 4 });
    }
}

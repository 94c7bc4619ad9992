//! Whether a request is well-formed. Whatever passes may be logged, stored and shown as it is.

use offload::ids::VfId;
use proto::v1;

use crate::claim::{Claim, PodRef, Refusal, SandboxKey};
use crate::names::{is_dns_label, is_dns_subdomain, is_interface_name};

/// PCI functions of one device, with ARI.
const MAX_PF: u32 = 255;
/// `NumVFs` of SR-IOV has 16 bits; 0xffff stands for "none" in devlink.
const MAX_VF: u32 = 0xfffe;

fn check(field: &'static str, fine: bool, problem: &str) -> Result<(), Refusal> {
    if fine { Ok(()) } else { Err(Refusal::Malformed { field, problem: problem.to_owned() }) }
}

fn present<T>(field: &'static str, value: Option<T>) -> Result<T, Refusal> {
    value.ok_or_else(|| Refusal::Malformed { field, problem: "is missing".to_owned() })
}

/// Container ids and network names as the CNI specification has them: a letter or digit, then those and `_ . -`.
fn is_cni_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `domain:bus:device.function` in hexadecimal, as sysfs writes it.
fn is_pci_address(text: &str) -> bool {
    let hex = |part: &str, length: std::ops::RangeInclusive<usize>| {
        length.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let mut parts = text.split(':');
    let (domain, bus, rest) = (parts.next(), parts.next(), parts.next());
    parts.next().is_none()
        && domain.is_some_and(|domain| hex(domain, 4..=8))
        && bus.is_some_and(|bus| hex(bus, 2..=2))
        && rest.and_then(|rest| rest.split_once('.')).is_some_and(|(device, function)| {
            hex(device, 2..=2) && matches!(function.as_bytes(), [b'0'..=b'7'])
        })
}

pub(super) fn sandbox(sandbox: Option<v1::Sandbox>) -> Result<SandboxKey, Refusal> {
    let v1::Sandbox { id, interface } = present("sandbox", sandbox)?;
    check("sandbox.id", is_cni_name(&id, 128), "must be 1 to 128 letters, digits, '_', '.' and '-'")?;
    check(
        "sandbox.interface",
        is_interface_name(&interface),
        "must be a network device's name of 1 to 15 characters",
    )?;
    Ok(SandboxKey { sandbox: id, interface })
}

/// What a server says is wrong on its side: it is shown to people.
pub(super) fn problem(text: String) -> Result<Option<String>, Refusal> {
    let is_printable = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    let fine = text.len() <= proto::PROBLEM_MAX && is_printable;
    check("problem", fine, "must be at most 256 printable ASCII characters")?;
    Ok((!text.is_empty()).then_some(text))
}

fn pod(pod: Option<v1::Pod>) -> Result<PodRef, Refusal> {
    let v1::Pod { namespace, name, uid } = present("pod", pod)?;
    check("pod.namespace", is_dns_label(&namespace), "must be a DNS label (RFC 1123)")?;
    check("pod.name", is_dns_subdomain(&name), "must be a DNS subdomain (RFC 1123)")?;
    check("pod.uid", is_uid(&uid), "must be 1 to 64 letters, digits and '-'")?;
    Ok(PodRef { namespace, name, uid })
}

pub(super) fn claim(request: v1::AttachRequest) -> Result<Claim, Refusal> {
    let v1::AttachRequest { sandbox: sandbox_, pod: pod_, network, vf } = request;
    let key = sandbox(sandbox_)?;
    let pod = pod(pod_)?;
    check("network", is_cni_name(&network, 128), "must be 1 to 128 letters, digits, '_', '.' and '-'")?;
    let v1::Vf { pci_address, pf, vf } = present("vf", vf)?;
    check("vf.pci_address", is_pci_address(&pci_address), "must be a PCI address: 0000:03:00.2")?;
    let out_of_range = |field, problem: &str| Refusal::Malformed { field, problem: problem.to_owned() };
    let pf = u16::try_from(pf).ok().filter(|pf| u32::from(*pf) <= MAX_PF);
    let vf = u16::try_from(vf).ok().filter(|vf| u32::from(*vf) <= MAX_VF);
    let vf = VfId {
        pf: pf.ok_or_else(|| out_of_range("vf.pf", "must be 0 to 255"))?,
        vf: vf.ok_or_else(|| out_of_range("vf.vf", "must be 0 to 65534"))?,
    };
    Ok(Claim { key, pod, network, pci_address, vf })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> v1::AttachRequest {
        v1::AttachRequest {
            sandbox: Some(v1::Sandbox { id: "4f2a".repeat(16), interface: "eth0".to_owned() }),
            pod: Some(v1::Pod {
                namespace: "default".to_owned(),
                name: "web-0.example".to_owned(),
                uid: "6fb59f54-5b0a-4b0e-9ad3-0a3a5c4b7a10".to_owned(),
            }),
            network: "ovn-primary".to_owned(),
            vf: Some(v1::Vf { pci_address: "0000:03:00.2".to_owned(), pf: 0, vf: 3 }),
        }
    }

    fn refused(change: impl FnOnce(&mut v1::AttachRequest)) -> &'static str {
        let mut request = good();
        change(&mut request);
        match claim(request) {
            Err(Refusal::Malformed { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_claim_passes_as_it_is() {
        let claim = claim(good()).unwrap();
        assert_eq!(claim.vf, VfId { pf: 0, vf: 3 });
        assert_eq!(
            (claim.pod.to_string(), claim.key.interface),
            ("default/web-0.example".to_owned(), "eth0".to_owned())
        );
    }

    #[test]
    fn each_field_is_checked() {
        type Set = fn(&mut v1::AttachRequest, String);
        let sandbox: Set = |r, text| r.sandbox.as_mut().unwrap().id = text;
        let interface: Set = |r, text| r.sandbox.as_mut().unwrap().interface = text;
        let namespace: Set = |r, text| r.pod.as_mut().unwrap().namespace = text;
        let name: Set = |r, text| r.pod.as_mut().unwrap().name = text;
        let uid: Set = |r, text| r.pod.as_mut().unwrap().uid = text;
        let network: Set = |r, text| r.network = text;
        let pci: Set = |r, text| r.vf.as_mut().unwrap().pci_address = text;
        let fields = [
            ("sandbox.id", sandbox, 129),
            ("sandbox.interface", interface, 16),
            ("pod.namespace", namespace, 64),
            ("pod.name", name, 254),
            ("pod.uid", uid, 65),
            ("network", network, 129),
            ("vf.pci_address", pci, 40),
        ];
        for (field, set, too_long) in fields {
            let long = "a".repeat(too_long);
            for text in ["", " ", "a\n", "a\0b", "../../etc", "ä", "a b", "\u{202e}", long.as_str()] {
                assert_eq!(refused(|r| set(r, text.to_owned())), field, "{text:?}");
            }
        }
        for text in [
            "03:00.2",
            "0000:03:00.8",
            "0000:03:00",
            "000:03:00.1",
            "0000:03:00.2:",
            "0000:3:00.2",
            "g000:03:00.2",
        ] {
            assert_eq!(refused(|r| pci(r, text.to_owned())), "vf.pci_address", "{text:?}");
        }
        for text in ["-a", ".a", "_a"] {
            assert_eq!(refused(|r| sandbox(r, text.to_owned())), "sandbox.id");
        }
        assert_eq!(refused(|r| namespace(r, "a.b".to_owned())), "pod.namespace");
        assert_eq!(refused(|r| name(r, "Web".to_owned())), "pod.name");
    }

    #[test]
    fn a_problem_is_short_and_printable() {
        assert_eq!(problem(String::new()), Ok(None));
        let longest = "a".repeat(proto::PROBLEM_MAX);
        assert_eq!(problem(longest.clone()), Ok(Some(longest.clone())));
        for text in [format!("{longest}a"), "a\nb".to_owned(), "\u{202e}".to_owned(), "\0".to_owned()] {
            assert!(matches!(problem(text), Err(Refusal::Malformed { field: "problem", .. })));
        }
    }

    #[test]
    fn missing_parts_and_numbers_out_of_range() {
        assert_eq!(refused(|r| r.sandbox = None), "sandbox");
        assert_eq!(refused(|r| r.pod = None), "pod");
        assert_eq!(refused(|r| r.vf = None), "vf");
        for pf in [256, 65_536, u32::MAX] {
            assert_eq!(refused(|r| r.vf.as_mut().unwrap().pf = pf), "vf.pf");
        }
        for vf in [65_535, 65_536, 65_539, u32::MAX] {
            assert_eq!(refused(|r| r.vf.as_mut().unwrap().vf = vf), "vf.vf");
        }
    }
}

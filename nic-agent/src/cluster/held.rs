//! Which addresses this NIC's own pods have: what it has installed itself, and nobody else's word.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attachment::Binding;
use crate::ledger::Ledger;
use crate::policy::Held;
use crate::published::Published;

/// What was in force before a restart is in force after it.
pub fn of_ledger(ledger: &Ledger) -> Held {
    of(ledger.pods().map(|(it, sandbox)| (sandbox.pod.uid.as_str(), it.binding())))
}

/// Of each interface, by the pod's uid.
fn of<'a>(interfaces: impl Iterator<Item = (&'a str, Option<&'a Binding>)>) -> Held {
    let mut held: BTreeMap<Arc<str>, Vec<IpAddr>> = BTreeMap::new();
    for (uid, binding) in interfaces {
        held.entry(uid.into()).or_default().extend(binding.into_iter().flat_map(|it| &it.ips));
    }
    Arc::new(held)
}

/// Until cancelled.
pub async fn follow(
    mut published: watch::Receiver<Arc<Published>>,
    tell: watch::Sender<Held>,
    cancel: CancellationToken,
) {
    loop {
        let now = published.borrow_and_update().clone();
        // Before the first pass there is nothing to see.
        if now.passes > 0 {
            let interfaces = now.attachments.values();
            let held = of(interfaces.map(|it| (it.claim.pod.uid.as_str(), it.wiring.binding.as_ref())));
            tell.send_if_modified(|told| {
                let is_news = *told != held;
                if is_news {
                    *told = held;
                }
                is_news
            });
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = published.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_interfaces_are_the_pods() {
        let binding = |ip: &str| Binding {
            mac: "0a:00:00:00:00:01".parse().unwrap(),
            ips: vec![ip.parse().unwrap()],
            dhcp: false,
            dhcp_servers: Vec::new(),
        };
        let (first, second) = (binding("10.0.0.1"), binding("10.1.0.1"));
        let held = of([("a", Some(&first)), ("b", None), ("a", Some(&second))].into_iter());
        assert_eq!(held["a"], ["10.0.0.1", "10.1.0.1"].map(|it| it.parse::<IpAddr>().unwrap()));
        assert_eq!(held["b"], [""; 0].map(|it| it.parse::<IpAddr>().unwrap()));
    }
}

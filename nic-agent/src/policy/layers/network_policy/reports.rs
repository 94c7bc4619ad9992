//! What users should know of their NetworkPolicies.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::NetworkPolicies;
use super::group::{Group, Standing};
use crate::policy::layers::Base;
use crate::policy::model::ObjectName;
use crate::policy::report::{Overrun, Report, some_of_each};

/// Ports of one Service that are said to be refused to the same policies' pods.
const SOME_PORTS: usize = 20;

impl NetworkPolicies {
    pub(super) fn all_reports(&self, base: &Base) -> Vec<Report> {
        let mut reports = some_of_each(self.policy_reports());
        for (policies, group) in &self.groups {
            if let Some((namespaces, excess)) = &group.excess {
                let of = Overrun::Services { policies: policies.clone(), namespaces: namespaces.clone() };
                reports.push(Report::OverBudget { of, excess: *excess });
            }
            reports.extend(partly_covered(policies, group, base));
        }
        reports
    }

    fn policy_reports(&self) -> impl Iterator<Item = (&Arc<str>, Report)> {
        let reported = self.reported.iter().filter_map(|name| Some((name, self.policies.get(name)?)));
        reported.flat_map(|(name, entry)| {
            let faulty = (!entry.faults.is_empty()).then(|| Report::Faulty {
                policy: name.clone(),
                faults: entry.faults.clone(),
                in_force: entry.in_force,
            });
            let alone = entry.excess.iter().map(|(direction, excess)| Report::OverBudget {
                of: Overrun::Policy { policy: name.clone(), direction: *direction },
                excess: *excess,
            });
            let together = entry.excess_together.map(|excess| Report::OverBudget {
                of: Overrun::Together { policy: name.clone(), is_dropped: entry.is_dropped },
                excess,
            });
            faulty.into_iter().chain(alone).chain(together).map(|report| (&name.namespace, report))
        })
    }
}

fn partly_covered(policies: &[ObjectName], group: &Group, base: &Base) -> Vec<Report> {
    let mut reports = Vec::new();
    for (id, standing) in group.refused() {
        let (Standing::Refused { covered, uncovered, more, .. }, Some(front)) =
            (standing, base.index.services().front(id).filter(|it| !it.is_whole))
        else {
            continue;
        };
        // Those that are themselves all of what is missing may use it.
        let is_refused = |name: &&ObjectName| {
            let own = base.index.local_pod(name).map(|it| it.pod.ips.as_slice()).unwrap_or_default();
            *more > 0 || uncovered.iter().any(|(ip, _)| !own.contains(ip))
        };
        let pods: Vec<ObjectName> = group.users.iter().filter(is_refused).cloned().collect();
        if pods.is_empty() {
            continue;
        }
        reports.push(Report::PartlyCovered {
            service: front.service.clone(),
            address: front.address,
            protocol: front.protocol,
            port: front.port,
            policies: policies.to_vec(),
            pods,
            covered: *covered,
            uncovered: uncovered.clone(),
            more: *more,
        });
    }
    reports.sort();
    let mut counts: BTreeMap<ObjectName, usize> = BTreeMap::new();
    reports.retain(|it| match it {
        Report::PartlyCovered { service, .. } => {
            let count = counts.entry(service.clone()).or_default();
            *count += 1;
            *count <= SOME_PORTS
        }
        _ => true,
    });
    reports
}

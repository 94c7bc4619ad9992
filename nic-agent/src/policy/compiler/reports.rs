//! What users should know of what is compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Compiler;
use super::group::{Group, Standing};
use crate::policy::model::ObjectName;
use crate::policy::report::{Overrun, Report};

/// Of a namespace's policies, and of its Services, so many are said one by one; the others are counted.
const SOME: usize = 20;
/// Ports of one Service that are said to be refused to the same policies' pods.
const SOME_PORTS: usize = 20;

impl Compiler {
    /// Sorted.
    pub fn reports(&self) -> Vec<Report> {
        let mut reports = some(self.policy_reports());
        let of_services = self.services.excesses().map(|(name, excess)| {
            (&name.namespace, Report::OverBudget { of: Overrun::Service(name.clone()), excess })
        });
        reports.extend(some(of_services));
        for (name, local) in &self.locals {
            for (direction, excess) in &local.excess {
                let of = Overrun::Pod { pod: name.clone(), direction: *direction };
                reports.push(Report::OverBudget { of, excess: *excess });
            }
        }
        for (policies, group) in &self.groups {
            if let Some((namespaces, excess)) = &group.excess {
                let of = Overrun::Services { policies: policies.clone(), namespaces: namespaces.clone() };
                reports.push(Report::OverBudget { of, excess: *excess });
            }
            reports.extend(self.partly_covered(policies, group));
        }
        reports.sort();
        reports
    }

    fn policy_reports(&self) -> impl Iterator<Item = (&Arc<str>, Report)> {
        let reported = self.reported.iter().filter_map(|name| Some((name, self.policies.get(name)?)));
        reported.flat_map(|(name, stated)| {
            let faulty = (!stated.faults.is_empty()).then(|| Report::Faulty {
                policy: name.clone(),
                faults: stated.faults.clone(),
                in_force: stated.in_force,
            });
            let alone = stated.excess.iter().map(|(direction, excess)| Report::OverBudget {
                of: Overrun::Policy { policy: name.clone(), direction: *direction },
                excess: *excess,
            });
            let together = stated.excess_together.map(|excess| Report::OverBudget {
                of: Overrun::Together { policy: name.clone(), is_dropped: stated.is_dropped },
                excess,
            });
            faulty.into_iter().chain(alone).chain(together).map(|report| (&name.namespace, report))
        })
    }

    fn partly_covered(&self, policies: &[ObjectName], group: &Group) -> Vec<Report> {
        let mut reports = Vec::new();
        for (id, standing) in group.refused() {
            let (Standing::Refused { covered, uncovered, more, .. }, Some(front)) =
                (standing, self.services.front(id).filter(|it| !it.is_whole))
            else {
                continue;
            };
            // Those that are themselves all of what is missing may use it.
            let is_refused = |name: &&ObjectName| {
                let own = self.locals.get(*name).map(|it| it.pod.ips.as_slice()).unwrap_or_default();
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
}

/// The first of each namespace, and how many more there are.
fn some<'a>(reports: impl Iterator<Item = (&'a Arc<str>, Report)>) -> Vec<Report> {
    let mut by_namespace: BTreeMap<&Arc<str>, Vec<Report>> = BTreeMap::new();
    for (namespace, report) in reports {
        by_namespace.entry(namespace).or_default().push(report);
    }
    let mut all = Vec::new();
    for (namespace, mut reports) in by_namespace {
        reports.sort();
        let count = reports.len().saturating_sub(SOME);
        reports.truncate(SOME);
        all.extend(reports);
        if count > 0 {
            all.push(Report::More { namespace: namespace.clone(), count });
        }
    }
    all
}

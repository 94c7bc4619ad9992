//! What users should know of what is compiled.

use super::Compiler;
use crate::policy::report::{Overrun, Report, some_of_each};

impl Compiler {
    /// Sorted.
    pub fn reports(&self) -> Vec<Report> {
        let layers = self.layers.in_order();
        let mut reports: Vec<Report> = layers.iter().flat_map(|it| it.reports(&self.base)).collect();
        let of_services = self.base.index.services().excesses().map(|(name, excess)| {
            (&name.namespace, Report::OverBudget { of: Overrun::Service(name.clone()), excess })
        });
        reports.extend(some_of_each(of_services));
        for (name, compiled) in &self.compiled {
            for (direction, excess) in &compiled.excess {
                let of = Overrun::Pod { pod: name.clone(), direction: *direction };
                reports.push(Report::OverBudget { of, excess: *excess });
            }
        }
        reports.sort();
        reports
    }
}

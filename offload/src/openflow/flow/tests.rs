use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::ids::OfPort;
use crate::openflow::{Action, Ipv4Match, Message, Port, Reg, Xid};

fn flow_strategy() -> impl Strategy<Value = Flow> {
    // Few values, so that keys meet.
    (0u8..2, 0u16..3, 0u64..2, 0u8..3, 0u32..3).prop_map(|(table, priority, cookie, host, port)| {
        let src = Ipv4Addr::new(10, 0, 0, host);
        let matches = match host {
            0 => Match::any(),
            1 => Match::any().reg(Reg::R3, 7),
            _ => Match::any().ipv4(Ipv4Match { src: src.into(), ..Ipv4Match::default() }),
        };
        let actions = OfPort::new(port).map(|port| Action::Output(Port::Number(port))).into_iter().collect();
        Flow { table: TableId(table), priority, cookie: Cookie(cookie), matches, actions }
    })
}

fn flows() -> impl Strategy<Value = Vec<Flow>> {
    proptest::collection::vec(flow_strategy(), 0..12)
}

fn installed() -> impl Strategy<Value = Vec<InstalledFlow>> {
    let one = (flow_strategy(), prop_oneof![4 => Just((0, 0)), 1 => Just((30, 0)), 1 => Just((0, 1))]);
    proptest::collection::vec(one, 0..12).prop_map(|all| {
        let timed = |(flow, (idle_timeout, flags))| InstalledFlow {
            idle_timeout,
            flags,
            ..InstalledFlow::fresh(flow)
        };
        // A switch holds one flow of each key.
        all.into_iter()
            .map(timed)
            .map(|it| (it.flow.key(), it))
            .collect::<BTreeMap<_, _>>()
            .into_values()
            .collect()
    })
}

/// What a switch does with orders.
fn obey(state: &[InstalledFlow], orders: &[FlowMod]) -> Vec<InstalledFlow> {
    let mut state: BTreeMap<FlowKey, InstalledFlow> =
        state.iter().map(|it| (it.flow.key(), it.clone())).collect();
    for order in orders {
        match order {
            FlowMod::Add(flow) => drop(state.insert(flow.key(), InstalledFlow::fresh(flow.clone()))),
            FlowMod::ModifyStrict(flow) => {
                if let Some(it) = state.get_mut(&flow.key()) {
                    it.flow.actions.clone_from(&flow.actions);
                }
            }
            FlowMod::DeleteStrict(key) => drop(state.remove(key)),
            FlowMod::Delete { .. } => panic!("a difference names each flow"),
        }
    }
    state.into_values().collect()
}

fn unique(flows: Vec<Flow>) -> Vec<Flow> {
    flows.into_iter().map(|flow| (flow.key(), flow)).collect::<BTreeMap<_, _>>().into_values().collect()
}

proptest! {
    #[test]
    fn a_difference_converges_and_is_then_empty(wanted in flows(), installed in installed()) {
        let after = obey(&installed, &diff(&wanted, &installed));
        let wanted_once = unique(wanted.clone());
        prop_assert_eq!(&after.iter().map(|it| it.flow.clone()).collect::<Vec<_>>(), &wanted_once);
        prop_assert!(after.iter().all(InstalledFlow::is_permanent));
        prop_assert_eq!(diff(&wanted, &after), vec![]);
    }

    #[test]
    fn order_does_not_matter(wanted in flows(), installed in installed()) {
        let wanted = unique(wanted);
        let backwards = |mut flows: Vec<_>| { flows.reverse(); flows };
        let mut installed_backwards = installed.clone();
        installed_backwards.reverse();
        prop_assert_eq!(diff(&wanted, &installed), diff(&backwards(wanted.clone()), &installed_backwards));
    }

    #[test]
    fn no_order_more_than_needed(wanted in flows(), installed in installed()) {
        let orders = diff(&wanted, &installed);
        for left_out in 0..orders.len() {
            let mut fewer = orders.clone();
            fewer.remove(left_out);
            let after = obey(&installed, &fewer);
            prop_assert!(!diff(&wanted, &after).is_empty(), "{} was not needed", orders[left_out]);
        }
    }

    #[test]
    fn orders_survive_the_wire(flow in flow_strategy()) {
        let key = flow.key();
        for order in [FlowMod::Add(flow.clone()), FlowMod::ModifyStrict(flow.clone()), FlowMod::DeleteStrict(key)] {
            for message in [Message::FlowMod(order.clone()), Message::BundleAdd { bundle: 9, change: order.clone() }] {
                let bytes = message.encode(Xid(5)).unwrap();
                prop_assert_eq!(Message::decode(&bytes), Ok((Xid(5), message)));
            }
        }
    }
}

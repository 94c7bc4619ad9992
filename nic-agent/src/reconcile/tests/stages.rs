//! Each stage that an attachment can wait in, in the order in which they are asked.

use super::bench::{Bench, run};
use super::names::{claim, key, logical, rep, vf};
use super::world::{INTEGRATION, Part, State};
use crate::ovs::view::{BridgeView, InterfaceView, PortView, StringMap};
use crate::southbound::IdentityError;
use crate::southbound::state::ChassisState;

fn port(state: &mut State) -> &mut super::southbound::LogicalPort {
    state.logical_ports.get_mut(&logical(1)).unwrap()
}

fn interface(state: &mut State, name: &str) -> Option<InterfaceView> {
    state.ovs.bridges.values().find_map(|it| it.ports.get(name)?.interface.clone())
}

fn edit(state: &mut State, name: &str, change: impl FnOnce(&mut InterfaceView)) {
    let row = state.ovs.bridges.values_mut().find_map(|it| it.ports.get_mut(name)?.interface.as_mut());
    change(row.unwrap());
}

/// The attachment waits for `stage` as long as `break_it` holds, and is ready after `mend`.
async fn waits(stage: &str, break_it: impl FnOnce(&mut State), mend: impl FnOnce(&mut State)) {
    let mut bench = Bench::at_rest(3).await;
    bench.pod(1);
    break_it(&mut bench.world.lock());
    bench.attach(claim(1, 1, 1));
    for _ in 0..4 {
        bench.turn().await;
        bench.daemons();
    }
    bench.turn().await;
    let said = bench.stage(&key(1)).unwrap_or_else(|| panic!("ready, not {stage:?}"));
    assert!(said.contains(stage), "{said:?}, not {stage:?}");
    assert!(bench.attached.is_empty());
    mend(&mut bench.world.lock());
    assert!(bench.rest().await, "{stage}: {:?}", bench.stage(&key(1)));
    assert_eq!(bench.stage(&key(1)), None, "{stage}");
    assert!(bench.attached.contains_key(&key(1)), "{stage}");
    bench.is_fine();
}

#[test]
fn of_open_vswitch() {
    run(async {
        waits("Open vSwitch not connected", |it| it.ovsdb_up = false, |it| it.ovsdb_up = true).await;
        waits("port r-pf0vf1 not in Open vSwitch", |it| it.fails(Part::Ovs), |it| it.failing.clear()).await;
        waits(
            "bridge br-int does not exist",
            |it| drop(it.ovs.bridges.remove(INTEGRATION)),
            |it| drop(it.ovs.bridges.insert(INTEGRATION.to_owned(), BridgeView::default())),
        )
        .await;
        waits("flows not installed", |it| it.fails(Part::Switch), |it| it.failing.clear()).await;
        waits("not open", |it| it.fails(Part::Links), |it| it.failing.clear()).await;
    });
}

#[test]
fn of_ovn() {
    run(async {
        let missing = |it: &mut State| it.logical_ports.remove(&logical(1)).unwrap();
        let mut bench = Bench::at_rest(3).await;
        bench.pod(1);
        let port_1 = missing(&mut bench.world.lock());
        let back = |it: &mut State| drop(it.logical_ports.insert(logical(1), port_1.clone()));
        waits("is not in the southbound", |it| drop(missing(it)), back).await;
        waits("southbound not connected", |it| it.southbound_up = false, |it| it.southbound_up = true).await;
        waits(
            "gives no identity",
            |it| port(it).problem = Some(IdentityError::Empty),
            |it| port(it).problem = None,
        )
        .await;
        waits(
            "that of another pod",
            |it| port(it).uid = "u7".to_owned(),
            |it| port(it).uid = "u1".to_owned(),
        )
        .await;
        let chassis = |to: ChassisState| move |it: &mut State| port(it).chassis = to;
        let other = ChassisState::Other { name: "nic2".to_owned(), requested: false };
        waits("is bound by chassis nic2", chassis(other), chassis(ChassisState::Unbound)).await;
        let elsewhere = ChassisState::Elsewhere { name: "nic2".to_owned() };
        waits("is to be bound by chassis nic2", chassis(elsewhere), chassis(ChassisState::Unbound)).await;
        let nowhere = ChassisState::Nowhere {
            requested: "nic3".to_owned(),
            own: "nic1".to_owned(),
            hostname: "nic".to_owned(),
        };
        waits("and there is none", chassis(nowhere), chassis(ChassisState::Unbound)).await;
        let (down, up) =
            (|it: &mut State| it.ovn_controller_up = false, |it: &mut State| it.ovn_controller_up = true);
        waits("not bound by ovn-controller", down, up).await;
        waits(
            "not installed by ovn-controller",
            |it| {
                it.ovn_controller_up = false;
                port(it).chassis = ChassisState::Ours;
            },
            up,
        )
        .await;
    });
}

/// Those that only ovs-vswitchd's answers bring about.
#[test]
fn of_ports() {
    run(async {
        let mut bench = Bench::at_rest(3).await;
        bench.pod(1);
        bench.attach(claim(1, 1, 1));
        bench.turn().await;
        bench.turn().await;
        let is = |bench: &mut Bench, stage: &str| {
            let said = bench.stage(&key(1)).unwrap_or_else(|| panic!("ready, not {stage:?}"));
            assert!(said.contains(stage), "{said:?}, not {stage:?}");
        };
        is(&mut bench, "not taken by ovs-vswitchd");
        let open = |bench: &Bench| bench.world.lock().reps[&Some(vf(1))].is_open();
        bench.daemons();
        for (stage, ofport, error) in [
            ("failed in Open vSwitch: no device", Some(-1), Some("no device")),
            ("failed in Open vSwitch", Some(-1), None),
            ("has OpenFlow number 7, not the one asked for", Some(7), None),
        ] {
            edit(&mut bench.world.lock(), &rep(1), |row| {
                (row.ofport, row.error) = (ofport, error.map(str::to_owned));
            });
            bench.turn().await;
            is(&mut bench, stage);
            assert!(!open(&bench), "{stage}");
        }
        edit(&mut bench.world.lock(), &rep(1), |row| row.error = None);
        bench.daemons();
        edit(&mut bench.world.lock(), &rep(1), |row| row.ifindex = Some(1));
        bench.turn().await;
        is(&mut bench, "has not taken the new one");
        assert!(!open(&bench));
        assert!(bench.rest().await);
        bench.is_fine();
        assert!(interface(&mut bench.world.lock(), &rep(1)).is_some());
    });
}

#[test]
fn of_the_nic() {
    run(async {
        let mut bench = Bench::at_rest(3).await;
        bench.pod(1);
        bench.attach(claim(1, 1, 1));
        bench.turn().await;
        let gone = bench.world.lock().reps.remove(&Some(vf(1))).unwrap();
        bench.turn().await;
        assert_eq!(bench.stage(&key(1)).as_deref(), Some("pf0vf1 has no representor"));
        bench.world.lock().reps.insert(Some(vf(1)), gone);
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

#[test]
fn of_others_rows() {
    run(async {
        let foreign = InterfaceView { external_ids: StringMap::new(), ..InterfaceView::default() };
        let row = PortView { interface: Some(foreign) };
        let put = move |it: &mut State| {
            let bridge = it.ovs.bridges.entry("br-other".to_owned()).or_default();
            bridge.ports.insert(rep(1), row);
        };
        waits("port r-pf0vf1 is on bridge br-other", put, |it| drop(it.ovs.bridges.remove("br-other"))).await;
        let foreign = |it: &mut State| {
            it.ovs.bridges.get_mut(super::world::EDGE).unwrap().external_ids.clear();
        };
        waits("br-edge", foreign, |it| drop(it.ovs.bridges.remove(super::world::EDGE))).await;
    });
}

#[test]
fn of_a_switch_that_is_being_restored() {
    run(async {
        let mut bench = super::order::ready().await;
        bench.world.lock().switch_ends(true);
        bench.turn().await;
        bench.turn().await;
        assert_eq!(bench.stage(&key(1)).as_deref(), Some("Open vSwitch is being restored"));
        assert!(bench.rest().await);
        assert_eq!(bench.stage(&key(1)), None);
        bench.is_fine();
    });
}

//! The steps of a plan as operations of one OVSDB transaction (ovs-vswitchd.conf.db(5)).

use std::collections::BTreeMap;

use ovsdb_session::op::Mutate;
use ovsdb_session::{Condition, Datum, Mutation, NamedUuid, Op, Uuid};

use super::plan::{MapChange, OvsStep};
use super::spec::{BridgeSpec, PortSpec};
use super::view::StringMap;

/// Rows that steps refer to and that only the database's own identifiers name.
pub struct Uuids {
    /// The one row of table Open_vSwitch.
    pub root: Uuid,
    pub ports: BTreeMap<String, Uuid>,
}

/// `bump` asks ovs-vswitchd to say when it has taken the new configuration over: `cur_cfg` comes to `next_cfg`.
pub fn operations(steps: &[OvsStep], bump: bool, uuids: &Uuids) -> Vec<Op> {
    if steps.is_empty() && !bump {
        return Vec::new();
    }
    let root = || Op::mutate("Open_vSwitch").when(Condition::uuid(uuids.root));
    let mut ops = vec![Op::comment("nic-agent")];
    for step in steps {
        match step {
            OvsStep::SetRoot { external_ids, other_config } => {
                let mutate = change_map(root(), "external_ids", external_ids);
                ops.push(change_map(mutate, "other_config", other_config).into());
            }
            OvsStep::AddBridge(spec) => add_bridge(spec, root(), &mut ops),
            OvsStep::MendBridge(spec) => mend_bridge(spec, &mut ops),
            OvsStep::AddPort { bridge, port } => add_port(bridge, port, &mut ops),
            OvsStep::RemovePort { bridge, port } => {
                // Port and Interface rows are no roots: they go when the last reference does.
                if let Some(uuid) = uuids.ports.get(port) {
                    let mutate = Op::mutate("Bridge").when(Condition::equal("name", bridge));
                    ops.push(mutate.with(Mutation::delete("ports", *uuid)).into());
                }
            }
            OvsStep::MendInterface { port, external_ids } => mend_interface(port, external_ids, &mut ops),
        }
    }
    if bump {
        ops.push(root().with(Mutation::add("next_cfg", 1i64)).into());
    }
    ops
}

fn text_map(map: &StringMap) -> Datum {
    Datum::map(map.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

fn change_map(mut mutate: Mutate, column: &str, change: &MapChange) -> Mutate {
    if !change.remove.is_empty() {
        mutate = mutate.with(Mutation::delete(column, Datum::set(change.remove.iter().map(String::as_str))));
    }
    if !change.set.is_empty() {
        let pairs = change.set.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        mutate = mutate.with_all(Mutation::set_keys(column, pairs));
    }
    mutate
}

fn add_bridge(spec: &BridgeSpec, root: Mutate, ops: &mut Vec<Op>) {
    let bridge = NamedUuid::new(&format!("bridge {}", spec.name));
    let local = PortSpec {
        bridge: super::spec::Bridge::Edge,
        name: spec.name.clone(),
        kind: "internal",
        options: StringMap::new(),
        ofport: None,
        external_ids: spec.local_external_ids(),
    };
    let port = insert_port(&local, ops);
    ops.push(
        Op::insert("Bridge")
            .named(&bridge)
            .set("name", &spec.name)
            .set("fail_mode", BridgeSpec::FAIL_MODE)
            .set("datapath_type", BridgeSpec::DATAPATH_TYPE)
            .set("protocols", Datum::set(BridgeSpec::PROTOCOLS))
            .set("external_ids", text_map(&BridgeSpec::external_ids()))
            .set("other_config", text_map(&BridgeSpec::other_config()))
            .set("ports", &port)
            .into(),
    );
    ops.push(root.with(Mutation::insert("bridges", &bridge)).into());
}

fn mend_bridge(spec: &BridgeSpec, ops: &mut Vec<Op>) {
    let named = Condition::equal("name", &spec.name);
    ops.push(
        Op::update("Bridge")
            .when(named.clone())
            .set("fail_mode", BridgeSpec::FAIL_MODE)
            .set("datapath_type", BridgeSpec::DATAPATH_TYPE)
            .set("protocols", Datum::set(BridgeSpec::PROTOCOLS))
            .into(),
    );
    let pairs = BridgeSpec::other_config();
    let pairs = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    ops.push(
        Op::mutate("Bridge").when(named.clone()).with_all(Mutation::set_keys("other_config", pairs)).into(),
    );
    let ids = spec.local_external_ids();
    let ids = ids.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    ops.push(Op::mutate("Interface").when(named).with_all(Mutation::set_keys("external_ids", ids)).into());
}

/// The Interface and the Port that holds it; the name stands for the Port in the same transaction.
fn insert_port(spec: &PortSpec, ops: &mut Vec<Op>) -> NamedUuid {
    let (port, interface) =
        (NamedUuid::new(&format!("port {}", spec.name)), NamedUuid::new(&format!("if {}", spec.name)));
    let mut insert = Op::insert("Interface")
        .named(&interface)
        .set("name", &spec.name)
        .set("type", spec.kind)
        .set("options", text_map(&spec.options))
        .set("external_ids", text_map(&spec.external_ids));
    if let Some(number) = spec.ofport {
        insert = insert.set("ofport_request", number.get());
    }
    ops.push(insert.into());
    ops.push(Op::insert("Port").named(&port).set("name", &spec.name).set("interfaces", &interface).into());
    port
}

fn add_port(bridge: &str, spec: &PortSpec, ops: &mut Vec<Op>) {
    let port = insert_port(spec, ops);
    let mutate = Op::mutate("Bridge").when(Condition::equal("name", bridge));
    ops.push(mutate.with(Mutation::insert("ports", &port)).into());
}

fn mend_interface(spec: &PortSpec, external_ids: &MapChange, ops: &mut Vec<Op>) {
    let named = Condition::equal("name", &spec.name);
    let mut update = Op::update("Interface").when(named.clone()).set("options", text_map(&spec.options));
    if let Some(number) = spec.ofport {
        update = update.set("ofport_request", number.get());
    }
    ops.push(update.into());
    if !external_ids.is_empty() {
        ops.push(change_map(Op::mutate("Interface").when(named), "external_ids", external_ids).into());
    }
}

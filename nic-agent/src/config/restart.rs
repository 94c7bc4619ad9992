//! Which keys only a new start takes over: what is bound, opened or identified once.

use super::Config;

pub(super) fn keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let (old_chassis, new_chassis) = (&old.chassis, &new.chassis);
    let changed = [
        ("node.name", old.node.name != new.node.name),
        ("node.host-identity", old.node.host_identity != new.node.host_identity),
        ("server.listen", old.server.listen != new.server.listen),
        ("server.cert", old.server.cert != new.server.cert),
        ("server.key", old.server.key != new.server.key),
        ("server.client-ca", old.server.client_ca != new.server.client_ca),
        ("server.attach-timeout-seconds", old.server.attach_timeout != new.server.attach_timeout),
        ("server.max-connections", old.server.max_connections != new.server.max_connections),
        ("ovs.db", old.ovs.db != new.ovs.db),
        ("ovs.run-dir", old.ovs.run_dir != new.ovs.run_dir),
        ("ovs.system-id-file", old.ovs.system_id_file != new.ovs.system_id_file),
        ("ovn.run-dir", old.ovn.run_dir != new.ovn.run_dir),
        // A chassis under a new name is a new chassis: OVN would have two, and every port would move.
        ("chassis.system-id", old_chassis.system_id != new_chassis.system_id),
        ("chassis.hostname", old_chassis.hostname != new_chassis.hostname),
        ("chassis.ovn-remote", old_chassis.ovn_remote != new_chassis.ovn_remote),
        ("chassis.ovn-bridge", old_chassis.ovn_bridge != new_chassis.ovn_bridge),
        ("southbound", old.southbound != new.southbound),
        ("edge.bridge", old.edge.bridge != new.edge.bridge),
        ("edge.ct-zones", old.edge.ct_zones != new.edge.ct_zones),
        ("eswitch", old.eswitch != new.eswitch),
        ("cluster", old.cluster != new.cluster),
        ("directory.file", old.directory != new.directory),
        ("policy.file", old.policy.file != new.policy.file),
        ("policy.node-addresses", old.policy.node_addresses != new.policy.node_addresses),
        ("policy.budget", old.policy.budget != new.policy.budget),
        ("state.dir", old.state.dir != new.state.dir),
        ("metrics.listen", old.metrics.listen != new.metrics.listen),
        ("log.format", old.log.format != new.log.format),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

/// `new`, with what only a new start takes over as it is in `old`.
pub(super) fn adopt(old: &Config, new: &Config) -> Config {
    let mut adopted = new.clone();
    adopted.node = old.node.clone();
    adopted.server = old.server.clone();
    adopted.ovs = old.ovs.clone();
    adopted.ovn = old.ovn.clone();
    adopted.southbound = old.southbound.clone();
    adopted.eswitch = old.eswitch.clone();
    adopted.cluster.clone_from(&old.cluster);
    adopted.directory = old.directory.clone();
    adopted.policy = old.policy.clone();
    adopted.state = old.state.clone();
    adopted.metrics = old.metrics.clone();
    adopted.log.format = old.log.format;
    adopted.edge.bridge.clone_from(&old.edge.bridge);
    adopted.edge.ct_zones = old.edge.ct_zones;
    let (from, to) = (&old.chassis, &mut adopted.chassis);
    to.system_id.clone_from(&from.system_id);
    to.hostname.clone_from(&from.hostname);
    to.ovn_remote.clone_from(&from.ovn_remote);
    to.ovn_bridge.clone_from(&from.ovn_bridge);
    adopted
}

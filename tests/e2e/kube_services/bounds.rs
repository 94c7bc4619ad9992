//! What the pods of a NIC can ask of its `ovn-controller` is bounded: by Meters that have come from the northbound to its
//! bridge.

use std::time::Duration;

use tests::nic::NICS;
use tests::{place, until};

const PATIENCE: Duration = Duration::from_mins(2);
/// Of cluster-controller's default.
const BAND: &str = "type=drop rate=500 burst_size=500";

pub fn run() {
    let list = ["ovn-sbctl", "--timeout=20", "--bare", "--columns=name", "list", "Meter"];
    let names = place("central", &list).ok();
    assert!(names.lines().any(|name| name == "drawbridge.dev/switches/reject"), "{names}");
    for nic in NICS {
        until(&format!("{} has a meter for each protocol", nic.place()), PATIENCE, || {
            let dump = ["ovs-ofctl", "-O", "OpenFlow15", "dump-meters", "br-int"];
            let meters = place(&nic.place(), &dump).ok();
            // Refusals and neighbours on the switches, errors and neighbours on the router, at the least.
            if meters.matches(BAND).count() >= 4 { Ok(()) } else { Err(meters) }
        });
    }
}

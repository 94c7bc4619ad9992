//! The netlink sockets in which packets wait for Open vSwitch (*upcalls*), as its kernel module knows them.
//!
//! With per-CPU dispatch each datapath has one for each CPU; without, each port has some of its own. Source: Linux
//! `include/uapi/linux/openvswitch.h`, `net/openvswitch/datapath.c` (`ovs_dp_cmd_fill_info`, `ovs_vport_cmd_fill_info`).

use std::collections::BTreeSet;

use super::error::{Error, Result};
use super::generic::{self, HEADER};
use super::request::Request;
use super::socket::NetlinkSocket;
use super::wire::{Attributes, Malformed, Writer, u32_at};

const GET: u8 = 3;
const DP_VERSION: u8 = 2;
const DP_PER_CPU_PIDS: u16 = 8;
const VPORT_VERSION: u8 = 1;
const VPORT_UPCALL_PID: u16 = 5;
/// `struct ovs_header`: the datapath's ifindex.
const OVS_HEADER: usize = 4;

struct Datapath {
    ifindex: u32,
    ports: Vec<u32>,
}

/// Their port ids, of all datapaths of the calling thread's network namespace. None if the kernel has no datapath; an error
/// if it has one and does not say.
pub fn sockets() -> Result<BTreeSet<u32>> {
    let mut socket = generic::open()?;
    let operation = format_args!("list Open vSwitch's datapaths");
    let family = match generic::family(&mut socket, "ovs_datapath") {
        Err(Error::NoFamily { .. }) => return Ok(BTreeSet::new()),
        family => family?.id,
    };
    let datapaths = dump(&mut socket, operation, family, request(DP_VERSION, 0), |payload| {
        Ok(Datapath { ifindex: u32_at(payload, HEADER)?, ports: ports(payload, DP_PER_CPU_PIDS)? })
    })?;
    let mut found = BTreeSet::new();
    for datapath in datapaths {
        let mut ports = datapath.ports;
        if ports.is_empty() {
            ports = of_vports(&mut socket, datapath.ifindex)?;
        }
        if ports.is_empty() {
            let found = "a datapath that does not say which sockets its upcalls go to".to_owned();
            return Err(Error::Foreign { operation: operation.to_string(), found });
        }
        found.extend(ports);
    }
    Ok(found)
}

fn of_vports(socket: &mut NetlinkSocket, datapath: u32) -> Result<Vec<u32>> {
    let family = generic::family(socket, "ovs_vport")?.id;
    let operation = format_args!("list the ports of Open vSwitch's datapath {datapath}");
    let all = dump(socket, operation, family, request(VPORT_VERSION, datapath), |payload| {
        ports(payload, VPORT_UPCALL_PID)
    })?;
    Ok(all.concat())
}

fn request(version: u8, datapath: u32) -> Writer {
    let mut header = [GET, version, 0, 0, 0, 0, 0, 0];
    for (to, byte) in header.iter_mut().skip(HEADER).zip(datapath.to_ne_bytes()) {
        *to = byte;
    }
    Writer::new(&header)
}

fn dump<T>(
    socket: &mut NetlinkSocket,
    operation: std::fmt::Arguments<'_>,
    family: u16,
    writer: Writer,
    decode: impl Fn(&[u8]) -> std::result::Result<T, Malformed>,
) -> Result<Vec<T>> {
    let payload =
        writer.finish().map_err(|source| Error::Malformed { operation: operation.to_string(), source })?;
    socket.dump(operation, &Request::new(family, 0, payload), |payload| decode(payload).map(Some))
}

/// An attribute that is an array of them; 0 is none.
fn ports(payload: &[u8], kind: u16) -> std::result::Result<Vec<u32>, Malformed> {
    let Some(attribute) = Attributes::after(payload, HEADER + OVS_HEADER)?.find(kind)? else {
        return Ok(Vec::new());
    };
    let (words, rest) = attribute.value.as_chunks::<4>();
    if !rest.is_empty() {
        let length = attribute.value.len();
        return Err(Malformed::new(format!("attribute {kind} has {length} bytes, no multiple of 4")));
    }
    Ok(words.iter().map(|word| u32::from_ne_bytes(*word)).filter(|port| *port != 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut writer = request(DP_VERSION, 7);
        writer.put_text(1, "ovs-system").put(kind, value);
        writer.finish().unwrap()
    }

    #[test]
    fn ports_are_an_array_in_which_zero_is_none() {
        let value = [5_u32, 0, u32::MAX].map(u32::to_ne_bytes).concat();
        let payload = message(DP_PER_CPU_PIDS, &value);
        assert_eq!(u32_at(&payload, HEADER).unwrap(), 7);
        assert_eq!(ports(&payload, DP_PER_CPU_PIDS).unwrap(), [5, u32::MAX]);
        assert!(ports(&payload, VPORT_UPCALL_PID).unwrap().is_empty());
        assert!(ports(&message(DP_PER_CPU_PIDS, &value[..7]), DP_PER_CPU_PIDS).is_err());
        assert!(ports(&payload[..6], DP_PER_CPU_PIDS).is_err());
    }

    #[test]
    fn a_kernel_without_open_vswitch_has_none() {
        // Where it has it and nobody made a datapath, neither.
        assert!(sockets().is_ok());
    }
}

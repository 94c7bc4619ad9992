//! CNI results: what ADD prints, in the shape of the version asked for, and what the runtime hands back of it.
//!
//! A `prevResult` of another plugin is kept as the JSON that it is, so that nothing is lost on the way through; only the
//! parts we look at are read.
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{
    addr::{MacAddr, Prefix, Route},
    attachment::Address,
    device::PciAddress,
    version::CniVersion,
};

/// A `prevResult` that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("prevResult.{field} cannot be read: {value}")]
pub struct PrevResultError {
    field: &'static str,
    value: String,
}

/// What ADD did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddResult {
    pub interface: String,
    pub mac: MacAddr,
    pub mtu: u32,
    /// Path of the network namespace, as the runtime gave it.
    pub sandbox: String,
    pub pci: PciAddress,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
}

impl AddResult {
    /// The result alone, or appended to that of the plugins before us.
    pub fn to_json(&self, version: CniVersion, prev: Option<&Value>) -> Value {
        let mut result = prev.and_then(Value::as_object).cloned().unwrap_or_default();
        result.insert("cniVersion".into(), version.as_str().into());
        let mut interfaces = take_list(&mut result, "interfaces");
        let index = interfaces.len();
        interfaces.push(self.interface_json(version));
        let mut ips = take_list(&mut result, "ips");
        ips.extend(self.addresses.iter().map(|address| ip_json(version, index, address)));
        let mut routes = take_list(&mut result, "routes");
        routes.extend(self.routes.iter().map(route_json));
        for (key, items) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            result.insert(key.into(), Value::Array(items));
        }
        result.entry("dns").or_insert_with(|| json!({}));
        Value::Object(result)
    }

    fn interface_json(&self, version: CniVersion) -> Value {
        let mut interface =
            json!({ "name": self.interface, "mac": self.mac.to_string(), "sandbox": self.sandbox });
        if version >= CniVersion::V1_1_0
            && let Some(map) = interface.as_object_mut()
        {
            map.insert("mtu".into(), self.mtu.into());
            map.insert("pciID".into(), self.pci.to_string().into());
        }
        interface
    }
}

fn ip_json(version: CniVersion, interface: usize, address: &Address) -> Value {
    let mut ip = json!({ "interface": interface, "address": address.prefix.to_string() });
    if let Some(map) = ip.as_object_mut() {
        if let Some(gateway) = address.gateway {
            map.insert("gateway".into(), gateway.to_string().into());
        }
        if version == CniVersion::V0_4_0 {
            map.insert("version".into(), if address.prefix.is_ipv6() { "6" } else { "4" }.into());
        }
    }
    ip
}

fn route_json(route: &Route) -> Value {
    match route.gateway {
        Some(gateway) => json!({ "dst": route.destination.to_string(), "gw": gateway.to_string() }),
        None => json!({ "dst": route.destination.to_string() }),
    }
}

/// Takes the list under `key` out; empty if there is none.
fn take_list(result: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    match result.remove(key) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// The interface of a `prevResult` that has our name and is inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrevInterface {
    pub mac: Option<MacAddr>,
    pub mtu: Option<u32>,
    pub pci: Option<PciAddress>,
    pub addresses: Vec<Prefix>,
    /// Of the whole result: CNI routes name no interface.
    pub routes: Vec<PrevRoute>,
}

/// A route of a `prevResult`. Without a gateway, CNI means the gateway of an address of its family, if one has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrevRoute {
    pub destination: Prefix,
    pub gateway: Option<std::net::IpAddr>,
}

impl PrevInterface {
    /// Finds the interface `name`; None when the plugins before us made none.
    pub fn find(prev: &Value, name: &str) -> Result<Option<Self>, PrevResultError> {
        let interfaces = items(prev, "interfaces")?;
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let ours = interfaces
            .iter()
            .enumerate()
            .find(|(_, item)| text(item, "name") == name && !text(item, "sandbox").is_empty());
        let Some((index, interface)) = ours else { return Ok(None) };
        let mac = read(interface, "mac", "interfaces[].mac", |text| text.parse().ok())?;
        let pci = read(interface, "pciID", "interfaces[].pciID", |text| text.parse().ok())?;
        let mtu = interface.get("mtu").and_then(Value::as_u64).and_then(|mtu| u32::try_from(mtu).ok());
        let mut addresses = Vec::new();
        for ip in items(prev, "ips")? {
            if ip.get("interface").and_then(Value::as_u64) == u64::try_from(index).ok() {
                addresses.extend(read(ip, "address", "ips[].address", |text| text.parse::<Prefix>().ok())?);
            }
        }
        let mut routes = Vec::new();
        for route in items(prev, "routes")? {
            let destination = read(route, "dst", "routes[].dst", |text| text.parse::<Prefix>().ok())?;
            let gateway = read(route, "gw", "routes[].gw", |text| text.parse().ok())?;
            routes.extend(
                destination.map(|destination| PrevRoute { destination: destination.network(), gateway }),
            );
        }
        Ok(Some(Self { mac, mtu: mtu.filter(|mtu| *mtu > 0), pci, addresses, routes }))
    }
}

fn items<'a>(value: &'a Value, field: &'static str) -> Result<&'a [Value], PrevResultError> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(PrevResultError { field, value: other.to_string() }),
    }
}

/// A string under `key`, read by `parse`; None when it is absent or empty.
fn read<T>(
    value: &Value,
    key: &str,
    field: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, PrevResultError> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(other) => {
            let parsed = other.as_str().and_then(parse);
            parsed.map(Some).ok_or_else(|| PrevResultError { field, value: other.to_string() })
        }
    }
}

#[cfg(test)]
mod tests;

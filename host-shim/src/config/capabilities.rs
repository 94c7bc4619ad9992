//! What the runtime asks for besides: `runtimeConfig` (CNI conventions, "Dynamic Plugin specific fields").
//!
//! A runtime passes what the plugin's entry in the list declares under `capabilities`, and what a pod's annotations ask
//! for by it. Addresses, MAC and limits are the NIC's to give: a request for others that was passed over would look granted.
use serde_json::{Map, Value};

use super::ConfigError;

/// `deviceID` is used; the others ask nothing of a plugin (containerd and CRI-O write them).
const TAKEN: [&str; 3] = ["deviceID", "cgroupPath", "io.kubernetes.cri.pod-annotations"];

/// The first one that asks for something which we do not do.
pub(super) fn unsupported(runtime: &Map<String, Value>) -> Option<ConfigError> {
    let asks = |(key, value): &(&String, &Value)| !TAKEN.contains(&key.as_str()) && !is_empty(value);
    let (key, value) = runtime.iter().find(asks)?;
    let remedy = match key.as_str() {
        "ips" | "ipRanges" | "mac" => "set the address on the pod's logical port in OVN",
        "bandwidth" => "limit the pod's logical port in OVN (QoS)",
        "portMappings" => "reach the pod by a Service: no port of the server leads to it",
        _ => "leave it to another plugin of the chain",
    };
    Some(ConfigError::Unsupported { key: key.clone(), value: shortened(&value.to_string()), remedy })
}

/// Runtimes write declared capabilities whether a pod asks for something or not.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_set) => !is_set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(map) => map.values().all(is_empty),
    }
}

/// The specification wants the value in the message; a user may have written a long one.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(runtime: &Value) -> Option<String> {
        unsupported(runtime.as_object().unwrap()).map(|error| error.to_string())
    }

    #[test]
    fn what_is_asked_for_and_not_done_is_named() {
        for (asked, says) in [
            (json!({"ips": ["10.0.0.5/24"]}), "runtimeConfig.ips = [\"10.0.0.5/24\"]"),
            (json!({"ipRanges": [[{"subnet": "10.0.0.0/24"}]]}), "in OVN"),
            (json!({"mac": "0a:00:00:00:00:01"}), "in OVN"),
            (json!({"bandwidth": {"ingressRate": 0, "egressRate": 8000}}), "QoS"),
            (json!({"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]}), "Service"),
            (json!({"dns": {"servers": ["10.96.0.10"]}}), "\"dns\" out of"),
            (json!({"deviceID": "0000:03:00.2", "infinibandGUID": "02:00"}), "another plugin"),
        ] {
            let text = said(&asked).unwrap_or_else(|| panic!("{asked} is taken"));
            assert!(text.contains(says) && text.contains("capabilities"), "{asked}: {text}");
        }
        let long = said(&json!({"aliases": vec!["x"; 1000]})).unwrap();
        assert!(long.len() < 400, "{long}");
    }

    #[test]
    fn what_asks_for_nothing_is_taken() {
        for asked in [
            json!({}),
            json!({"ips": [], "ipRanges": [[]], "mac": "", "portMappings": null, "bandwidth": {}}),
            json!({"bandwidth": {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0}}),
            json!({"dns": {"servers": [], "searches": null, "options": []}}),
            json!({"deviceID": "0000:03:00.2", "cgroupPath": "/kubepods/x"}),
            json!({"io.kubernetes.cri.pod-annotations": {"a": "b"}}),
        ] {
            assert_eq!(said(&asked), None, "{asked}");
        }
    }
}

//! Objects of the API, as values.

use serde_json::Value;

/// A merge patch, but for lists, which it replaces, and without removals.
pub fn lay_over(object: &mut Value, change: &Value) {
    match (object.as_object_mut(), change.as_object()) {
        (Some(object), Some(change)) => {
            for (key, value) in change {
                lay_over(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *object = change.clone(),
    }
}

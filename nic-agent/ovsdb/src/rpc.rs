//! OVSDB's JSON-RPC 1.0 messages (RFC 7047, section 4). No I/O.

use std::fmt;

use serde_json::{Value, json};

/// What a server sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The answer to one of our requests.
    Reply {
        /// Whose.
        id: u64,
        /// What.
        result: Result<Value, RpcError>,
    },
    /// A request of the server's: `echo`.
    Request {
        /// To be given back.
        id: Value,
        /// What is asked.
        method: String,
        /// With what.
        params: Value,
    },
    /// A request that wants no answer: updates.
    Notification {
        /// What.
        method: String,
        /// With what.
        params: Value,
    },
}

/// A request's error, as the server words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The short text: `"unknown database"`, `"syntax error"`…
    pub error: String,
    /// More of it, for people.
    pub details: Option<String>,
}

impl RpcError {
    /// Is it a method that the server does not have?
    pub fn is_unknown_method(&self) -> bool {
        self.error == "unknown method"
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.details {
            Some(details) => write!(f, "{}: {details}", self.error),
            None => f.write_str(&self.error),
        }
    }
}

/// Why a message is none.
#[derive(Debug, thiserror::Error)]
pub enum RpcFault {
    /// No JSON.
    #[error("no JSON")]
    Json(#[from] serde_json::Error),
    /// JSON, but neither request, reply nor notification.
    #[error("neither request, reply nor notification")]
    Form,
    /// An answer whose id is none of ours by its form.
    #[error("an answer to no request of ours")]
    Id,
}

/// Reads one message.
pub fn parse(frame: &[u8]) -> Result<Incoming, RpcFault> {
    let mut message: serde_json::Map<String, Value> = serde_json::from_slice(frame)?;
    let id = message.remove("id").unwrap_or_default();
    if let Some(method) = message.remove("method") {
        let Value::String(method) = method else { return Err(RpcFault::Form) };
        let params = message.remove("params").unwrap_or_default();
        return Ok(if id.is_null() {
            Incoming::Notification { method, params }
        } else {
            Incoming::Request { id, method, params }
        });
    }
    let result = match (message.remove("error"), message.remove("result")) {
        (None | Some(Value::Null), Some(result)) => Ok(result),
        (Some(error), _) if !error.is_null() => Err(rpc_error(&error)),
        _ => return Err(RpcFault::Form),
    };
    Ok(Incoming::Reply { id: id.as_u64().ok_or(RpcFault::Id)?, result })
}

fn rpc_error(error: &Value) -> RpcError {
    let text = |key| error.get(key).and_then(Value::as_str).map(str::to_owned);
    match error {
        Value::String(error) => RpcError { error: error.clone(), details: None },
        error => {
            RpcError { error: text("error").unwrap_or_else(|| error.to_string()), details: text("details") }
        }
    }
}

/// Writes a request.
pub fn request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    json!({"id": id, "method": method, "params": params}).to_string().into_bytes()
}

/// Writes an answer to a server's request.
pub fn reply(id: &Value, result: Result<&Value, &str>) -> Vec<u8> {
    let (result, error) = match result {
        Ok(result) => (result.clone(), Value::Null),
        Err(error) => (Value::Null, error.into()),
    };
    json!({"id": id, "result": result, "error": error}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds() {
        assert!(matches!(
            parse(br#"{"id":"echo","method":"echo","params":[]}"#),
            Ok(Incoming::Request { id, .. }) if id == json!("echo")
        ));
        assert!(matches!(
            parse(br#"{"id":null,"method":"update3","params":[1]}"#),
            Ok(Incoming::Notification { params, .. }) if params == json!([1])
        ));
        assert_eq!(
            parse(br#"{"id":7,"result":[],"error":null}"#).unwrap(),
            Incoming::Reply { id: 7, result: Ok(json!([])) }
        );
    }

    #[test]
    fn errors_are_strings_or_objects() {
        let error = |text: &str| match parse(text.as_bytes()) {
            Ok(Incoming::Reply { result: Err(error), .. }) => error,
            other => panic!("{other:?}"),
        };
        assert!(error(r#"{"id":1,"error":"unknown method","result":null}"#).is_unknown_method());
        let long = error(
            r#"{"id":1,"error":{"error":"unknown database","details":"d","syntax":"x"},"result":null}"#,
        );
        assert_eq!(long.to_string(), "unknown database: d");
    }

    #[test]
    fn malformed() {
        for text in [
            "{}",
            r#"{"id":1}"#,
            r#"{"id":1,"method":5}"#,
            r#"{"id":"x","result":1,"error":null}"#,
            r#"{"id":1,"error":null}"#,
            r#"{"id":1,]"#,
            "{\"id\":\"\u{1}\"}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_an_overflow() {
        let text = format!("{{\"id\":1,\"result\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(parse(text.as_bytes()), Err(RpcFault::Json(_))));
    }
}

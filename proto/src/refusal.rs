//! Refusals, as `google.rpc.ErrorInfo` in `grpc-status-details-bin` (AIP-193), which other clients can read, too.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Whose reasons they are: `ErrorInfo.domain`.
pub const DOMAIN: &str = "drawbridge.dev";

/// A status with its reason for programs: `unknown-pod` here, `UNKNOWN_POD` on the wire, as that has it.
pub fn refusal(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let reason = reason.to_ascii_uppercase().replace('-', "_");
    let details = ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(code, message, details)
}

/// The reason in a status, if one of ours is there.
pub fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN)?;
    Some(info.reason.to_ascii_lowercase().replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_arrives_in_the_standard_form() {
        let status = refusal(Code::PermissionDenied, "unknown-pod", "no such pod");
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no such pod"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("UNKNOWN_POD", "drawbridge.dev"));
        // As it goes over the wire.
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let received = Status::from_header_map(&headers).unwrap();
        assert_eq!(reason(&received).as_deref(), Some("unknown-pod"));
    }

    #[test]
    fn others_reasons_are_none_of_ours() {
        assert_eq!(reason(&Status::unavailable("gone")), None);
        let details =
            ErrorDetails::with_error_info("UNKNOWN_POD", "example.org", std::collections::HashMap::new());
        assert_eq!(reason(&Status::with_error_details(Code::Internal, "x", details)), None);
    }
}

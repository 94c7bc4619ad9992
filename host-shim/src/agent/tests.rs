use super::*;

fn judge(status: &Status) -> Failure {
    judge_status("nic:8443", "attach", status)
}

#[test]
fn decisions_are_final_and_delays_are_not() {
    for code in [
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::Unauthenticated,
        Code::Unimplemented,
        Code::ResourceExhausted,
        Code::Internal,
    ] {
        assert!(
            matches!(judge(&Status::new(code, "no")), Failure::Final(AgentError::Refused { .. })),
            "{code:?}"
        );
    }
    for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Aborted] {
        assert!(matches!(judge(&Status::new(code, "not yet")), Failure::NotYet(_)), "{code:?}");
    }
}

#[test]
fn asking_too_often_is_waited_out() {
    let status =
        proto::refusal(Code::ResourceExhausted, proto::TOO_MANY_REQUESTS, "too many Attach requests");
    assert!(matches!(judge(&status), Failure::NotYet(_)));
}

#[test]
fn the_reason_is_taken_from_the_details() {
    let status = proto::refusal(Code::PermissionDenied, "unknown-pod", "unknown pod");
    let Failure::Final(AgentError::Refused { reason, message, .. }) = judge(&status) else { panic!() };
    assert_eq!((reason.as_str(), message.as_str()), ("unknown-pod", "unknown pod"));
}

#[test]
fn a_broken_connection_is_no_decision() {
    let source = io::Error::from(io::ErrorKind::ConnectionReset);
    assert!(matches!(judge(&Status::from_error(Box::new(source))), Failure::Lost(_)));
    let source = io::Error::new(io::ErrorKind::InvalidData, "invalid peer certificate");
    assert!(matches!(judge(&Status::from_error(Box::new(source))), Failure::Final(AgentError::Tls { .. })));
}

#[test]
fn a_chain_says_each_cause_once() {
    let inner = io::Error::other("refused");
    let outer = io::Error::other(inner);
    assert_eq!(chain(&outer), "refused");
}

//! How long a request may take: our own bound or the client's, whichever is shorter.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// The answer is on its way this long before the client stops waiting, so that it learns the reason.
const MARGIN: Duration = Duration::from_millis(500);

/// The least of `ours` and what `grpc-timeout` leaves.
pub(super) fn of(metadata: &MetadataMap, ours: Duration) -> Duration {
    let theirs = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    theirs.map_or(ours, |theirs| ours.min(theirs.saturating_sub(MARGIN.min(theirs / 2))))
}

/// `TimeoutValue TimeoutUnit` of gRPC over HTTP/2: at most eight digits, then the unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(value),
        "M" => Duration::from_mins(value),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_one_counts() {
        let ours = Duration::from_mins(1);
        for (header, expected) in [
            (None, ours),
            (Some("10S"), Duration::from_millis(9500)),
            (Some("100m"), Duration::from_millis(50)),
            (Some("0S"), Duration::ZERO),
            (Some("2H"), ours),
            (Some("99999999H"), ours),
            (Some("60000000u"), Duration::from_millis(59_500)),
            (Some("5000n"), Duration::from_nanos(2500)),
            (Some("2M"), ours),
        ] {
            let mut metadata = MetadataMap::new();
            if let Some(header) = header {
                metadata.insert("grpc-timeout", header.parse().unwrap());
            }
            assert_eq!(of(&metadata, ours), expected, "{header:?}");
        }
    }

    #[test]
    fn nonsense_is_no_deadline() {
        for text in ["", "S", "10", "10X", "123456789S", "-1S", "+1S", "1.5S", "1 S", "10ſ"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

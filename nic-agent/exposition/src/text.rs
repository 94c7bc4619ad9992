//! Prometheus' text format 0.0.4 out of OpenMetrics' 1.0.0: the samples are the same, what stands above them is not.
//!
//! In OpenMetrics a family of counters is `x`, its samples `x_total`; in the older format there are only samples, and the
//! family bears their name. Exemplars are not in it: none of our families has any.

use std::fmt::Write;

pub(crate) fn of_open_metrics(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    // HELP comes before TYPE, and its name hangs on the type.
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            put(&mut text, format_args!("{line}"));
            continue;
        };
        if let Some(rest) = comment.strip_prefix("HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(|it| it.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                "gaugehistogram" => ("", "histogram"),
                other => ("", other),
            };
            if let Some((_, said)) = help.take().filter(|(of, _)| *of == name) {
                put(&mut text, format_args!("# HELP {name}{suffix} {said}"));
            }
            put(&mut text, format_args!("# TYPE {name}{suffix} {kind}"));
        }
        // UNIT and EOF have no place in it.
    }
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String does not fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_their_samples_names() {
        let open = "# HELP a_requests Of all.\n# TYPE a_requests counter\n# UNIT a_requests x\na_requests_total{m=\"# HELP\"} 2\n\
                    # HELP a_build What runs.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                    # HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_sum 0.5\na_seconds_count 1\n\
                    a_seconds_bucket{le=\"+Inf\"} 1\n# HELP a_now It is.\n# TYPE a_now gauge\na_now 3\n# EOF\n";
        let text = "# HELP a_requests_total Of all.\n# TYPE a_requests_total counter\na_requests_total{m=\"# HELP\"} 2\n\
                    # HELP a_build_info What runs.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                    # HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_sum 0.5\na_seconds_count 1\n\
                    a_seconds_bucket{le=\"+Inf\"} 1\n# HELP a_now It is.\n# TYPE a_now gauge\na_now 3\n";
        assert_eq!(of_open_metrics(open), text);
    }
}

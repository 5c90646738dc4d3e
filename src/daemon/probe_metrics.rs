//! Probes and findings as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::control::protocol::{Finding, Severity};
use crate::findings::Code;
use crate::findings::facts::Kind;
use crate::probe::histogram::Histogram;

/// Renders the latencies of every kind of probe, and how many findings there are.
pub(super) fn render(histograms: &BTreeMap<Kind, Histogram>, findings: &[Finding]) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(page, "{text}");
    };
    let name = "rtcctl_probe_duration_seconds";
    line(format_args!("# HELP {name} How long probes took that succeeded."));
    line(format_args!("# TYPE {name} histogram"));
    for (kind, histogram) in histograms {
        let probe = kind.as_str();
        for (bound, count) in histogram.buckets() {
            line(format_args!("{name}_bucket{{probe=\"{probe}\",le=\"{}\"}} {count}", bound.as_secs_f64()));
        }
        line(format_args!("{name}_bucket{{probe=\"{probe}\",le=\"+Inf\"}} {}", histogram.count()));
        line(format_args!("{name}_sum{{probe=\"{probe}\"}} {}", histogram.sum().as_secs_f64()));
        line(format_args!("{name}_count{{probe=\"{probe}\"}} {}", histogram.count()));
    }
    let name = "rtcctl_probe_failures_total";
    line(format_args!("# HELP {name} Probes that failed."));
    line(format_args!("# TYPE {name} counter"));
    for (kind, histogram) in histograms {
        line(format_args!("{name}{{probe=\"{}\"}} {}", kind.as_str(), histogram.failures()));
    }
    let name = "rtcctl_findings";
    line(format_args!("# HELP {name} Findings that are shown."));
    line(format_args!("# TYPE {name} gauge"));
    let words = [
        (Severity::Info, "info"),
        (Severity::Warning, "warning"),
        (Severity::Error, "error"),
        (Severity::Critical, "critical"),
    ];
    for (severity, word) in words {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        line(format_args!("{name}{{severity=\"{word}\"}} {count}"));
    }
    let name = "rtcctl_finding";
    line(format_args!("# HELP {name} 1 while it is found; codes are those of `rtcctl explain`."));
    line(format_args!("# TYPE {name} gauge"));
    for code in Code::ALL {
        let code = code.as_str();
        let is_found = findings.iter().any(|finding| finding.code == code);
        line(format_args!("{name}{{code=\"{code}\"}} {}", u8::from(is_found)));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_histogram_has_all_its_buckets_and_a_sum() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_millis(3), true);
        histogram.add(Duration::from_secs(9), true);
        histogram.add(Duration::from_secs(3), false);
        let page = render(&[(Kind::RelayUdp, histogram)].into(), &[]);
        for wanted in [
            "# TYPE rtcctl_probe_duration_seconds histogram",
            "rtcctl_probe_duration_seconds_bucket{probe=\"relay_udp\",le=\"0.002\"} 0",
            "rtcctl_probe_duration_seconds_bucket{probe=\"relay_udp\",le=\"0.005\"} 1",
            "rtcctl_probe_duration_seconds_bucket{probe=\"relay_udp\",le=\"5\"} 1",
            "rtcctl_probe_duration_seconds_bucket{probe=\"relay_udp\",le=\"+Inf\"} 2",
            "rtcctl_probe_duration_seconds_sum{probe=\"relay_udp\"} 9.003",
            "rtcctl_probe_duration_seconds_count{probe=\"relay_udp\"} 2",
            "rtcctl_probe_failures_total{probe=\"relay_udp\"} 1",
            "rtcctl_findings{severity=\"critical\"} 0",
        ] {
            assert!(page.lines().any(|line| line == wanted), "{wanted}\n{page}");
        }
    }
}

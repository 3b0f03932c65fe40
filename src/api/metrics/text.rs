//! Lines of the Prometheus text format 0.0.4 and of `OpenMetrics` 1.0, and which of the two a
//! client takes.
//!
//! They differ in three things: `OpenMetrics` names a family of counters without `_total`, ends
//! with `# EOF`, and wants bounds of buckets to be floats, as both have them here. Label values are
//! closed sets of plain texts, so nothing is escaped.

use crate::model::write_decimal;
use crate::wire::http1::Field;

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// `Content-Type` of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What `Accept` prefers (RFC 9110 §12.5.1). A client that names neither format gets the
    /// Prometheus one, whatever else it takes.
    pub fn of_accept(accept: Field<'_>) -> Self {
        let Field::One(value) = accept else {
            return Self::Prometheus;
        };
        let (mut open_metrics, mut prometheus) = (0, 0);
        for range in value.split(|byte| *byte == b',') {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let media = parts.next().unwrap_or_default();
            let is = |name: &[u8]| media.eq_ignore_ascii_case(name);
            let (mut quality, mut is_known) = (1000, true);
            for part in parts {
                let (name, value) = parameter(part);
                if name.eq_ignore_ascii_case(b"q") {
                    quality = permille(value);
                } else if name.eq_ignore_ascii_case(b"version")
                    && is(b"application/openmetrics-text")
                {
                    is_known = matches!(value, b"1.0.0" | b"0.0.1");
                }
            }
            if is(b"application/openmetrics-text") && is_known {
                open_metrics = open_metrics.max(quality);
            } else if is(b"text/plain") || is(b"text/*") || is(b"*/*") {
                prometheus = prometheus.max(quality);
            }
        }
        if open_metrics > 0 && open_metrics >= prometheus {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

/// Name and value of a parameter of a media type.
fn parameter(part: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = part.splitn(2, |byte| *byte == b'=');
    let name = halves.next().unwrap_or_default().trim_ascii();
    let value = halves.next().unwrap_or_default().trim_ascii();
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|it| it.strip_suffix(b"\""));
    (name, quoted.unwrap_or(value))
}

/// A quality (RFC 9110 §12.4.2) in thousandths; what is none counts as 1.
fn permille(value: &[u8]) -> u32 {
    let text = str::from_utf8(value).unwrap_or_default();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.parse::<u32>()) {
        ("0", Ok(permille)) => permille.min(1000),
        _ => 1000,
    }
}

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It never falls while the process runs.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Values by bucket.
    Histogram,
}

/// The value of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// As it is.
    Number(u64),
    /// Microseconds, told in seconds.
    Micros(u64),
    /// Milliseconds, told in seconds.
    Millis(u64),
}

/// The bound of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// The line is of no bucket.
    NoBucket,
    Finite(Value),
    Infinite,
}

/// Name and value of a label.
pub(super) type Label<'l> = (&'l str, &'l str);

/// Writes families and their samples.
pub(super) struct Lines<'o> {
    out: &'o mut Vec<u8>,
    format: Format,
    /// The name of the samples of the family at hand.
    name: &'static str,
    kind: Kind,
}

impl<'o> Lines<'o> {
    /// Behind what is in `out`.
    pub(super) fn new(out: &'o mut Vec<u8>, format: Format) -> Self {
        Self {
            out,
            format,
            name: "",
            kind: Kind::Gauge,
        }
    }

    /// Begins a family. The name of a counter comes without `_total`.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &str) {
        (self.kind, self.name) = (kind, name);
        let total = match (kind, self.format) {
            (Kind::Counter, Format::Prometheus) => "_total",
            _ => "",
        };
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        for part in ["# HELP ", name, total, " ", help, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        for part in ["# TYPE ", name, total, " ", word, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// Writes a sample of a counter or a gauge.
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: Value) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.line(suffix, (labels, Bound::NoBucket), value);
    }

    /// Writes a histogram: `counts` by bucket, not cumulated, the last without a bound, and the
    /// bound of each other one.
    pub(super) fn histogram(
        &mut self,
        labels: &[Label<'_>],
        (counts, sum): (&[u64], Value),
        bound: impl Fn(u32) -> Value,
    ) {
        let mut count = 0_u64;
        for (index, more) in (0_u32..).zip(counts) {
            count = count.saturating_add(*more);
            let is_last =
                usize::try_from(index).is_ok_and(|it| it.saturating_add(1) == counts.len());
            let le = if is_last {
                Bound::Infinite
            } else {
                Bound::Finite(bound(index))
            };
            self.line("_bucket", (labels, le), Value::Number(count));
        }
        self.line("_sum", (labels, Bound::NoBucket), sum);
        self.line("_count", (labels, Bound::NoBucket), Value::Number(count));
    }

    /// Writes one line.
    fn line(&mut self, suffix: &str, (labels, le): (&[Label<'_>], Bound), value: Value) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        let mut separator = b'{';
        for (name, text) in labels {
            debug_assert!(!text.contains(['"', '\\', '\n']), "nothing is escaped");
            self.out.push(separator);
            separator = b',';
            for part in [*name, "=\"", *text, "\""] {
                self.out.extend_from_slice(part.as_bytes());
            }
        }
        if le != Bound::NoBucket {
            self.out.push(separator);
            separator = b',';
            self.write_bound(le);
        }
        if separator == b',' {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        write_value(self.out, value);
        self.out.push(b'\n');
    }

    /// Writes the label of a bucket. Its value is a float in both formats, so that a series has the
    /// same labels in both.
    fn write_bound(&mut self, le: Bound) {
        self.out.extend_from_slice(b"le=\"");
        if let Bound::Finite(bound) = le {
            let start = self.out.len();
            write_value(self.out, bound);
            if !self.out.get(start..).unwrap_or_default().contains(&b'.') {
                self.out.extend_from_slice(b".0");
            }
        } else {
            self.out.extend_from_slice(b"+Inf");
        }
        self.out.push(b'"');
    }

    /// Ends the answer.
    pub(super) fn end(self) {
        if self.format == Format::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }
}

fn write_value(out: &mut Vec<u8>, value: Value) {
    match value {
        Value::Number(number) => write_decimal(out, number),
        Value::Micros(micros) => write_fraction(out, (micros / 1_000_000, micros % 1_000_000), 6),
        Value::Millis(millis) => write_fraction(out, (millis / 1000, millis % 1000), 3),
    }
}

/// Writes a decimal fraction of so many digits, without zeros at its end.
fn write_fraction(out: &mut Vec<u8>, (whole, fraction): (u64, u64), digits: usize) {
    write_decimal(out, whole);
    if fraction > 0 {
        let text = format!("{fraction:0digits$}");
        out.push(b'.');
        out.extend_from_slice(text.trim_end_matches('0').as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_accept_prefers() {
        let check = |accept: &str, expected: Format| {
            let found = Format::of_accept(Field::One(accept.as_bytes()));
            assert_eq!(found, expected, "{accept}");
        };
        let (text, open) = (Format::Prometheus, Format::OpenMetrics);
        check("application/openmetrics-text", open);
        check("Application/OpenMetrics-Text; charset=utf-8", open);
        check("application/openmetrics-text;version=1.0.0", open);
        check("application/openmetrics-text; version=\"1.0.0\"", open);
        check("application/openmetrics-text; version=9.0.0", text);
        check("application/openmetrics-text;q=0", text);
        check("application/openmetrics-text;q=0.0, text/plain", text);
        check("application/openmetrics-text;q=0.5,text/plain;q=0.8", text);
        check(
            "text/plain;q=0.2, application/openmetrics-text;q=0.25",
            open,
        );
        // What Prometheus 2.42 and 3 send.
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            open,
        );
        check(
            "text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5",
            text,
        );
        check("*/*", text);
        check("text/html", text);
        check("application/json", text);
        check("", text);
        assert_eq!(Format::of_accept(Field::Absent), text);
        assert_eq!(Format::of_accept(Field::Repeated), text);
    }

    #[test]
    fn values_are_told_in_base_units_digit_for_digit() {
        let check = |value: Value, expected: &str| {
            let mut out = Vec::new();
            write_value(&mut out, value);
            assert_eq!(str::from_utf8(&out).unwrap(), expected);
        };
        check(Value::Number(u64::MAX), "18446744073709551615");
        check(Value::Micros(0), "0");
        check(Value::Micros(100), "0.0001");
        check(Value::Micros(3_276_800), "3.2768");
        check(Value::Micros(5_000_000), "5");
        check(Value::Millis(1_700_000_000_001), "1700000000.001");
    }

    #[test]
    fn a_family_has_the_name_that_its_format_demands() {
        let written = |format| {
            let mut out = Vec::new();
            let mut lines = Lines::new(&mut out, format);
            lines.family(Kind::Counter, "a", "What a is.");
            lines.sample(&[("b", "c"), ("d", "e")], Value::Number(7));
            lines.family(Kind::Histogram, "h", "What h is.");
            lines.histogram(&[], (&[1, 0, 2], Value::Number(9)), |index| {
                Value::Number(1 << index)
            });
            lines.end();
            String::from_utf8(out).unwrap()
        };
        let histogram = "# HELP h What h is.\n# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\n\
            h_bucket{le=\"2.0\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 9\nh_count 3\n";
        let sample = "a_total{b=\"c\",d=\"e\"} 7\n";
        assert_eq!(
            written(Format::Prometheus),
            format!("# HELP a_total What a is.\n# TYPE a_total counter\n{sample}{histogram}")
        );
        assert_eq!(
            written(Format::OpenMetrics),
            format!("# HELP a What a is.\n# TYPE a counter\n{sample}{histogram}# EOF\n")
        );
    }
}

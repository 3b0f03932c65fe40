//! A small strict reader of the Prometheus text format, and what a scrape said.

use super::server::Server;
use std::collections::{BTreeMap, BTreeSet};

/// What a scrape said.
#[derive(Debug)]
pub(crate) struct Scrape {
    /// By name and labels, as they stand in the text.
    pub(crate) samples: BTreeMap<String, f64>,
    /// The type of each family, by its name without `_total`.
    pub(crate) types: BTreeMap<String, String>,
}

/// Scrapes a server, and holds the whole answer to the format.
pub(crate) fn scrape(server: &Server) -> Scrape {
    let response = server.get("/metrics");
    assert_eq!(response.status, 200);
    Scrape::read(response.text())
}

impl Scrape {
    /// Reads a text, strictly: `HELP` and `TYPE` before the samples of each family, each family in
    /// one piece, no series twice, cumulated buckets that end with `+Inf` and agree with `_count`.
    pub(crate) fn read(text: &str) -> Self {
        let mut scrape = Self {
            samples: BTreeMap::new(),
            types: BTreeMap::new(),
        };
        assert!(text.ends_with('\n'), "the last line ends");
        let (mut helped, mut family) = (BTreeSet::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect(line);
                assert!(
                    !words.is_empty() && helped.insert(name.to_owned()),
                    "{line}"
                );
                name.clone_into(&mut family);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(name, family, "behind its HELP: {line}");
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                let bare = name.strip_suffix("_total").unwrap_or(name);
                assert!(
                    scrape
                        .types
                        .insert(bare.to_owned(), kind.to_owned())
                        .is_none(),
                    "{line}"
                );
            } else if line == "# EOF" {
                assert!(text.ends_with("# EOF\n"), "nothing follows");
            } else {
                scrape.read_sample(line, &family);
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn read_sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let bare = family.strip_suffix("_total").unwrap_or(family);
        let kind = self
            .types
            .get(bare)
            .unwrap_or_else(|| panic!("no TYPE: {line}"));
        let suffix = name
            .strip_prefix(bare)
            .unwrap_or_else(|| panic!("another family: {line}"));
        let suffixes: &[&str] = match &**kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            _ => &["_bucket", "_sum", "_count"],
        };
        assert!(suffixes.contains(&suffix), "{kind}: {line}");
        let labels = labels.strip_suffix('}').expect(line);
        let mut names = BTreeSet::new();
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once('=').expect(line);
            assert!(names.insert(name), "a label twice: {line}");
            assert!(
                value.len() > 2 && value.starts_with('"') && value.ends_with('"'),
                "{line}"
            );
        }
        assert_eq!(names.contains("le"), suffix == "_bucket", "{line}");
        let value = value.parse::<f64>().expect(line);
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(
            self.samples.insert(series.to_owned(), value).is_none(),
            "a series twice: {line}"
        );
    }

    fn check_histograms(&self) {
        let mut by_series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in &self.samples {
            let Some((start, bound)) = series.split_once("le=\"") else {
                continue;
            };
            let bound = bound.strip_suffix("\"}").expect("`le` is last");
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().expect(series)
            };
            let start = start.trim_end_matches([',', '{']).replace("_bucket", "");
            by_series.entry(start).or_default().push((bound, *value));
        }
        assert!(!by_series.is_empty());
        for (series, mut buckets) in by_series {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{series}");
            assert_eq!(buckets.len(), 17, "{series}");
            let (bound, last) = buckets[16];
            assert!(bound.is_infinite(), "{series}");
            let (name, labels) = series.split_once('{').unwrap_or((&series, ""));
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{labels}}}")
            };
            let count = self.samples[&format!("{name}_count{labels}")];
            assert!((count - last).abs() < 0.5, "{series}");
            assert!(
                self.samples.contains_key(&format!("{name}_sum{labels}")),
                "{series}"
            );
        }
    }

    /// One series, which has to be there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        let found = self.samples.get(series);
        *found.unwrap_or_else(|| panic!("no {series} in {:#?}", self.samples))
    }

    /// The sum of a family's series that hold all these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is_of = |series: &str| {
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            own == name && labels.iter().all(|label| rest.contains(label))
        };
        let found = self.samples.iter().filter(|(series, _)| is_of(series));
        found.map(|(_, value)| value).sum()
    }
}

//! Variables that look like settings and are none: most are misspelt.

use super::table::SETTINGS;

/// What a variable of Flux begins with.
const PREFIX: &str = "FLUX_";

/// Variables of the server that stand on no command line.
const SECRETS: &[&str] = &[
    "FLUX_ADMIN_TOKEN",
    "FLUX_ADMIN_TOKEN_FILE",
    "FLUX_ENCRYPTION_KEY",
    "FLUX_ENCRYPTION_KEY_FILE",
];

/// Variables of the scripts, which may run beside the server.
const OF_SCRIPTS: &[&str] = &[
    "FLUX_CA_FILE",
    "FLUX_CONNECTOR_TOKEN",
    "FLUX_TOKEN",
    "FLUX_URL",
];

/// How other variables begin: Kubernetes and Docker set the first two for a service of the name
/// `flux`, the tests have the others.
const OF_OTHERS: &[&str] = &[
    "FLUX_PORT",
    "FLUX_SERVICE_",
    "FLUX_TEST_",
    "FLUX_SIMULATION_",
    "FLUX_FUZZ_",
];

/// A variable that means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    name: String,
    nearest: Option<&'static str>,
}

impl std::fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.escape_debug();
        write!(f, "{name} is no setting of this server and is ignored")?;
        match self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// Those of these variables that look like settings and are none, by name.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<UnknownVariable> {
    let is_unknown = |name: &String| {
        name.starts_with(PREFIX)
            && !known()
                .chain(OF_SCRIPTS.iter().copied())
                .any(|it| it == name)
            && !OF_OTHERS
                .iter()
                .any(|beginning| name.starts_with(beginning))
    };
    let mut found: Vec<_> = names
        .filter(is_unknown)
        .map(|name| UnknownVariable {
            nearest: nearest(&name),
            name,
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn known() -> impl Iterator<Item = &'static str> {
    let settings = SETTINGS.iter().map(|setting| setting.variable);
    settings.chain(SECRETS.iter().copied())
}

/// The setting whose name differs in the fewest letters, if these are few.
fn nearest(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix(PREFIX)?;
    let distances = known().map(|it| {
        let distance = distance(rest, it.strip_prefix(PREFIX).unwrap_or(it));
        (distance, it)
    });
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + rest.len() / 4).then_some(nearest)
}

/// Letters that have to be put in, taken out or replaced to get from one text to the other
/// (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, of_other) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != of_other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> Vec<String> {
        let names = names.iter().map(|&name| name.to_owned());
        let unknown = unknown_variables(names);
        unknown.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_misspelt_variable_is_named_with_the_nearest_one() {
        let check = |name: &str, nearest: &str| {
            let expected = format!(
                "{name} is no setting of this server and is ignored; did you mean {nearest}?"
            );
            assert_eq!(said(&[name]), [expected]);
        };
        check("FLUX_DURABILTY", "FLUX_DURABILITY");
        check("FLUX_AUTH_ENABLE", "FLUX_AUTH_ENABLED");
        check("FLUX_ADMIN_TOKEN_FIEL", "FLUX_ADMIN_TOKEN_FILE");
        check("FLUX_TLS_CERTFILE", "FLUX_TLS_CERT_FILE");
        check("FLUX_BIND_", "FLUX_BIND");
        check("FLUX_DATADIR", "FLUX_DATA_DIR");
        check("FLUX_POTR", "PORT");
        let far = said(&["FLUX_COLOUR_OF_THE_SKY"]);
        assert_eq!(
            far,
            ["FLUX_COLOUR_OF_THE_SKY is no setting of this server and is ignored"]
        );
    }

    #[test]
    fn what_is_known_or_made_by_others_is_not_named() {
        let all: Vec<&str> = known().chain(OF_SCRIPTS.iter().copied()).collect();
        assert_eq!(said(&all), [""; 0]);
        let others = [
            "FLUX_PORT",
            "FLUX_PORT_3000_TCP_ADDR",
            "FLUX_SERVICE_HOST",
            "FLUX_SERVICE_PORT_HTTP",
            "FLUX_TEST_SEED",
            "FLUX",
            "INFLUX_TOKEN",
            "PATH",
        ];
        assert_eq!(said(&others), [""; 0]);
    }

    #[test]
    fn each_is_named_once_in_order_and_on_one_line() {
        let lines = said(&["FLUX_Z\nZ", "FLUX_AA", "FLUX_PORT"]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("FLUX_AA ") && lines[1].starts_with("FLUX_Z\\nZ "));
    }
}

//! What packages and containers are made with: `flux health`, `flux generate`, and the files in
//! `deploy/`.

mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::server::{FLUX, Server, Setup};
use support::tls::Authority;
use support::wait_for;
use tempfile::TempDir;

fn flux(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(FLUX);
    for (name, _) in std::env::vars_os() {
        if name == "PORT" || name.to_string_lossy().starts_with("FLUX_") {
            command.env_remove(name);
        }
    }
    command.envs(environment.iter().copied());
    command.args(arguments).output().expect("flux runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn health_is_0_of_a_server_that_is_ready_and_1_of_none() {
    let server = Server::start(1);
    let port = server.port.to_string();
    for (arguments, variables) in [
        (&["health", "--port", &port][..], &[][..]),
        (&["health"], &[("PORT", &*port)]),
        (
            &[
                "health", "--port", &port, "--bind", "0.0.0.0", "--open", "true",
            ],
            &[],
        ),
        (&["health", "--port", &port, "--bind", "::1"], &[]),
    ] {
        // The harness listens where a server does by default.
        let output = flux(arguments, variables);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    }
    server.stop();
    let output = flux(&["health", "--port", &port], &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = errors(&output);
    let expected = format!("http://127.0.0.1:{port}/ready is not ready: Connection refused");
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn health_asks_by_tls_if_the_server_speaks_it_and_believes_its_certificate() {
    let authority = Authority::new();
    authority.issue("server", "one");
    let path = |name: &str| authority.path(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("server.pem"), path("server.key"));
    let directory = TempDir::new().unwrap();
    let setup = Setup::new(directory.path(), 1)
        .env("FLUX_TLS_CERT_FILE", &certificate)
        .env("FLUX_TLS_KEY_FILE", &key);
    let server = setup.start();
    let files = [
        ("FLUX_TLS_CERT_FILE", &*certificate),
        ("FLUX_TLS_KEY_FILE", &*key),
    ];
    let port = server.port.to_string();
    wait_for("the server to be ready", || {
        let output = flux(&["health", "--port", &port], &files);
        output.status.success().then_some(())
    });
    server.stop();
}

#[test]
fn health_names_a_setting_that_cannot_be_used() {
    let output = flux(&["health", "--port", "many"], &[]);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
}

#[test]
fn every_subcommand_has_a_man_page_and_every_shell_its_completions() {
    let directory = TempDir::new().unwrap();
    let inside = |name: &str| directory.path().join(name);
    for what in ["man", "completions"] {
        let path = inside(what);
        let output = flux(&["generate", what, path.to_str().unwrap()], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    }
    for page in ["flux", "flux-serve", "flux-doctor", "flux-log-verify"] {
        let text = std::fs::read_to_string(inside(&format!("man/{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME"), "{page}: {text}");
    }
    let page = std::fs::read_to_string(inside("man/flux-serve.1")).unwrap();
    assert!(page.contains("FLUX_DURABILITY"), "variables stand in it");
    for file in ["flux.bash", "_flux", "flux.fish"] {
        let text = std::fs::read_to_string(inside("completions").join(file)).unwrap();
        assert!(text.contains("durability"), "{file}");
    }
    let output = flux(&["generate", "man", "/dev/null/man"], &[]);
    assert_eq!(output.status.code(), Some(1));
}

/// What a Kubernetes manifest, a seccomp profile or a unit says, as the file is.
fn deployed(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_configuration_file_of_the_package_sets_nothing_and_names_settings_only() {
    let known: Vec<_> = flux::settings::SETTINGS
        .iter()
        .map(|setting| setting.variable)
        .collect();
    for line in deployed("systemd/flux.conf").lines() {
        assert!(line.is_empty() || line.starts_with('#'), "{line}");
        let Some((name, _)) = line.trim_start_matches('#').split_once('=') else {
            continue;
        };
        if name
            .chars()
            .all(|letter| letter.is_ascii_uppercase() || letter == '_')
        {
            assert!(known.contains(&name), "{name} is no setting");
        }
    }
}

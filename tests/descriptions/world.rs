//! A server with tokens in force, and in it what the examples of the descriptions are about.

use super::support::described::openapi;
use super::support::http::{Response, request};
use super::support::server::{Server, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The operator's token.
pub(crate) const OPERATOR: &str = "operator-secret-0123456789";

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) server: Server,
    /// The token of the registration of `dawn-coral`.
    pub(crate) owner: String,
    _dir: TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same, with these settings.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let mut setup = Setup::new(dir.path(), 2)
            .env("FLUX_AUTH_ENABLED", "true")
            .env("FLUX_ADMIN_TOKEN", OPERATOR)
            .env("FLUX_ENCRYPTION_KEY", key);
        for (name, value) in settings {
            setup = setup.env(name, value);
        }
        let server = setup.start();
        let mut world = Self {
            server,
            owner: String::new(),
            _dir: dir,
        };
        world.make_all();
        world
    }

    /// Registers a namespace and returns its token.
    pub(crate) fn register(&self, name: &str) -> String {
        let answer = self.ask(
            "POST",
            "/api/namespaces",
            &json!({ "name": name }).to_string(),
        );
        text(&answer.json(), "token")
    }

    /// Makes what the examples are about, as far as it is not there.
    pub(crate) fn make_all(&mut self) {
        if self.ask("GET", "/api/namespaces/dawn-coral", "").status == 404 {
            let body = r#"{"namespace":"dawn-coral"}"#;
            self.ask("POST", "/api/state/entities/delete", body);
            self.register("dawn-coral");
        }
        let body = |id: &str, example: &str| {
            let paths = openapi().0["paths"].as_object().expect("paths");
            let mut operations = paths
                .values()
                .flat_map(|it| it.as_object().expect("methods").values());
            let operation = operations
                .find(|it| it["operationId"] == id)
                .expect("an operation");
            let content = &operation["requestBody"]["content"]["application/json"];
            content["examples"][example]["value"].to_string()
        };
        let owner = self.ask("POST", "/api/namespaces/dawn-coral/token", "");
        self.owner = text(&owner.json(), "token");
        let published = self.ask_as(
            &self.owner,
            ("POST", "/api/events"),
            &body("publishEvent", "set"),
        );
        assert_eq!(published.status, 200, "{}", published.text());
        let target = "/api/connectors?namespace=dawn-coral";
        let defined = self.ask("POST", target, &body("defineConnector", "weather"));
        assert!([201, 409].contains(&defined.status), "{}", defined.text());
        let target = "/api/connectors/weather/token?namespace=dawn-coral";
        let stored = self.ask("POST", target, &body("storeCredential", "token"));
        assert_eq!(stored.status, 200, "{}", stored.text());
    }

    /// Makes a token of `dawn-coral`: its id and text.
    pub(crate) fn token(&self, request: &Value) -> (String, String) {
        let answer = self.ask(
            "POST",
            "/api/namespaces/dawn-coral/tokens",
            &request.to_string(),
        );
        assert_eq!(answer.status, 201, "{}", answer.text());
        (text(&answer.json(), "id"), text(&answer.json(), "token"))
    }

    /// What the operator is answered.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> Response {
        self.ask_as(OPERATOR, (method, target), body)
    }

    /// What whoever has a token is answered; an empty one is none.
    pub(crate) fn ask_as(&self, token: &str, call: (&str, &str), body: &str) -> Response {
        self.ask_with(token, call, (&[], body))
    }

    /// The same with further header fields.
    pub(crate) fn ask_with(
        &self,
        token: &str,
        (method, target): (&str, &str),
        (fields, body): (&[String], &str),
    ) -> Response {
        let authorization = format!("Authorization: Bearer {token}");
        let token = (!token.is_empty()).then_some(authorization.as_str());
        let fields: Vec<&str> = token
            .into_iter()
            .chain(fields.iter().map(String::as_str))
            .collect();
        let mut connection = self.server.connect();
        connection.send(request(method, target, &fields, body));
        let what = || panic!("no answer to {method} {target}");
        connection
            .try_response_to(method)
            .unwrap_or_else(|_| what())
    }
}

/// A string of an answer.
pub(crate) fn text(json: &Value, member: &str) -> String {
    let member = json[member].as_str();
    member
        .unwrap_or_else(|| panic!("no string in {json}"))
        .to_owned()
}

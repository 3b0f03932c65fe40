//! Writes the page of the API's documentation: HTML from `openapi.json`, readable without a script.
//!
//! One section for each tag, one article for each call, each with an anchor; then the messages of
//! the WebSocket, from `asyncapi.json`, the schemas, and the error codes. All stand in the order of
//! the descriptions. Their texts know one mark: backquotes are code.

use serde_json::{Map, Value};
use std::error::Error;
use std::fmt::Write as _;
use std::sync::LazyLock;

type Done = Result<(), Box<dyn Error>>;

/// The page. `{{assets}}` in it is filled in as in any other.
pub(crate) fn page(openapi: &str, asyncapi: &str) -> Result<String, Box<dyn Error>> {
    let document: Value = serde_json::from_str(openapi)?;
    let live: Value = serde_json::from_str(asyncapi)?;
    let mut page = Page {
        document: &document,
        live: &live,
        out: String::new(),
    };
    page.begin()?;
    page.contents()?;
    page.out.push_str("<main id=\"calls\">\n");
    for tag in array(&document["tags"]) {
        page.tag(tag)?;
    }
    page.messages()?;
    page.schemas()?;
    page.codes()?;
    page.out.push_str("</main>\n</body>\n</html>\n");
    Ok(page.out)
}

struct Page<'d> {
    document: &'d Value,
    /// What goes over a WebSocket.
    live: &'d Value,
    out: String,
}

/// The first minute, for who reads nothing else.
const FIRST: &str = r#"curl http://localhost:3000/api/events -d '{"stream":"sensors","source":"me",
  "payload":{"entity_id":"house/room","properties":{"temperature":22.5}}}'
curl http://localhost:3000/api/state/entities/house/room"#;

/// A call: its path, its method in capitals, and its description.
type Call<'d> = (&'d str, String, &'d Value);

impl<'d> Page<'d> {
    fn begin(&mut self) -> Done {
        let info = &self.document["info"];
        let title = escaped(text(&info["title"]));
        let version = escaped(text(&info["version"]));
        self.out
            .push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        self.out
            .push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        self.out
            .push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
        self.out
            .push_str("<link rel=\"icon\" href=\"{{assets}}/icon.svg\" type=\"image/svg+xml\">\n");
        self.out
            .push_str("<link rel=\"stylesheet\" href=\"{{assets}}/docs.css\">\n");
        writeln!(self.out, "<title>{title} API</title>\n</head>\n<body>")?;
        self.out
            .push_str("<a class=\"skip\" href=\"#calls\">To the calls</a>\n<header>\n");
        writeln!(self.out, "<h1>{title} API <small>{version}</small></h1>")?;
        self.paragraphs(&info["summary"])?;
        self.paragraphs(&info["description"])?;
        self.out
            .push_str("<p>For programs: <a href=\"/openapi.json\">openapi.json</a>, ");
        self.out
            .push_str("<a href=\"/asyncapi.json\">asyncapi.json</a>, ");
        self.out
            .push_str("<a href=\"/llms.txt\">llms.txt</a>. For people: <a href=\"/\">the dashboard</a>.</p>\n");
        self.code(FIRST)?;
        self.out.push_str("</header>\n");
        Ok(())
    }

    fn contents(&mut self) -> Done {
        self.out.push_str("<nav aria-label=\"Calls\">\n");
        for tag in array(&self.document["tags"]) {
            let name = text(&tag["name"]);
            writeln!(
                self.out,
                "<h2><a href=\"#tag-{name}\">{name}</a></h2>\n<ul>"
            )?;
            for (path, method, call) in self.calls_of(name) {
                let (id, what) = (text(&call["operationId"]), line(path, &method));
                let summary = inline(text(&call["summary"]));
                let says = format!("<span class=\"says\">{summary}</span>");
                writeln!(self.out, "<li><a href=\"#{id}\">{what}</a> {says}</li>")?;
            }
            self.out.push_str("</ul>\n");
        }
        self.out
            .push_str("<h2><a href=\"#messages\">WebSocket messages</a></h2>\n");
        self.out
            .push_str("<h2><a href=\"#schemas\">Schemas</a></h2>\n");
        self.out
            .push_str("<h2><a href=\"#codes\">Error codes</a></h2>\n</nav>\n");
        Ok(())
    }

    fn calls_of(&self, tag: &str) -> Vec<Call<'d>> {
        let paths = members(&self.document["paths"]).iter();
        let calls = paths.flat_map(|(path, methods)| {
            let methods = members(methods).iter();
            methods.map(move |(method, call)| (path.as_str(), method.to_uppercase(), call))
        });
        calls
            .filter(|(_, _, call)| call["tags"][0] == tag)
            .collect()
    }

    fn tag(&mut self, tag: &Value) -> Done {
        let name = text(&tag["name"]);
        let description = inline(text(&tag["description"]));
        writeln!(self.out, "<section aria-labelledby=\"tag-{name}\">")?;
        writeln!(
            self.out,
            "<h2 id=\"tag-{name}\">{name}</h2>\n<p>{description}</p>"
        )?;
        for call in self.calls_of(name) {
            self.call(&call)?;
        }
        self.out.push_str("</section>\n");
        Ok(())
    }

    fn call(&mut self, (path, method, call): &Call<'d>) -> Done {
        let id = text(&call["operationId"]);
        self.begin_article(id, &line(path, method))?;
        let summary = inline(text(&call["summary"]));
        writeln!(self.out, "<p class=\"summary\">{summary}</p>")?;
        self.paragraphs(&call["description"])?;
        let security = array(&call["security"]);
        if !security.is_empty() {
            let is_open = security.iter().any(|it| members(it).is_empty());
            self.out.push_str(if is_open {
                "<p class=\"token\">With tokens in force: takes a token.</p>\n"
            } else {
                "<p class=\"token\">Needs the operator's token.</p>\n"
            });
        }
        self.parameters(call)?;
        if let Some(body) = call.get("requestBody") {
            writeln!(self.out, "<h4>Body</h4>")?;
            self.paragraphs(&body["description"])?;
            self.content(&body["content"])?;
        }
        self.responses(call)?;
        self.out.push_str("</article>\n");
        Ok(())
    }

    fn parameters(&mut self, call: &Value) -> Done {
        let parameters = array(&call["parameters"]);
        if parameters.is_empty() {
            return Ok(());
        }
        self.out.push_str("<h4>Parameters</h4>\n");
        self.table(&["Name", "In", "Is", "Meaning"])?;
        for parameter in parameters {
            let parameter = self.resolved(parameter);
            let name = escaped(text(&parameter["name"]));
            let place = text(&parameter["in"]);
            let needed = needed(parameter["required"] == true);
            let shape = shape(&parameter["schema"]);
            let meaning = inline(text(&parameter["description"]));
            let head = format!("<code>{name}</code>{needed}");
            self.row("", &head, &[place, &shape, &meaning])?;
        }
        self.end_table();
        Ok(())
    }

    fn responses(&mut self, call: &Value) -> Done {
        self.out.push_str("<h4>Answers</h4>\n");
        let mut failures = Vec::new();
        for (status, response) in members(&call["responses"]) {
            let response = self.resolved(response);
            let description = inline(text(&response["description"]));
            let codes = &response["content"]["application/json"]["schema"]["properties"]["code"];
            let codes = array(&codes["enum"]);
            if codes.is_empty() {
                writeln!(
                    self.out,
                    "<p><span class=\"status\">{status}</span> {description}</p>"
                )?;
                self.content(&response["content"])?;
                continue;
            }
            let link = |code: &Value| {
                let code = text(code);
                format!("<a href=\"#code-{code}\"><code>{code}</code></a>")
            };
            let codes: Vec<String> = codes.iter().map(link).collect();
            let codes = codes.join(" ");
            failures.push((status, description, codes));
        }
        self.out.push_str("<details>\n<summary>Errors</summary>\n");
        self.table(&["Status", "Meaning", "Codes"])?;
        for (status, description, codes) in failures {
            self.row("", status, &[&description, &codes])?;
        }
        self.end_table();
        self.out.push_str("</details>\n");
        Ok(())
    }

    /// The schema of a body, and its examples.
    fn content(&mut self, content: &Value) -> Done {
        for (media, of) in members(content) {
            let shape = shape(&of["schema"]);
            writeln!(self.out, "<p><code>{media}</code>: {shape}</p>")?;
            let examples = members(&of["examples"]).values();
            let examples = examples.map(|it| (text(&it["summary"]), &it["value"]));
            self.examples(examples)?;
            let example = of.get("example").map(|value| ("Example", value));
            self.examples(example.into_iter())?;
        }
        Ok(())
    }

    /// The first example is shown, the others are folded.
    fn examples<'e>(&mut self, examples: impl Iterator<Item = (&'e str, &'e Value)>) -> Done {
        for (index, (summary, example)) in examples.enumerate() {
            let shown = match example {
                Value::String(text) => text.clone(),
                json => serde_json::to_string_pretty(json)?,
            };
            let summary = inline(summary);
            if index == 0 {
                writeln!(self.out, "<figure><figcaption>{summary}</figcaption>")?;
                self.code(&shown)?;
                self.out.push_str("</figure>\n");
            } else {
                writeln!(self.out, "<details><summary>{summary}</summary>")?;
                self.code(&shown)?;
                self.out.push_str("</details>\n");
            }
        }
        Ok(())
    }

    fn code(&mut self, code: &str) -> Done {
        let code = escaped(code.trim_end());
        writeln!(self.out, "<pre tabindex=\"0\"><code>{code}</code></pre>")?;
        Ok(())
    }

    fn messages(&mut self) -> Done {
        self.out
            .push_str("<section aria-labelledby=\"messages\">\n");
        self.out
            .push_str("<h2 id=\"messages\">WebSocket messages</h2>\n");
        self.paragraphs(&self.live["info"]["description"])?;
        self.paragraphs(&self.live["channels"]["ws"]["description"])?;
        let operations = members(&self.live["operations"]).values();
        let received = operations.filter(|it| it["action"] == "receive");
        let of_client: Vec<&str> = received
            .flat_map(|it| array(&it["messages"]))
            .map(|it| last(text(&it["$ref"])))
            .collect();
        for (name, message) in members(&self.live["components"]["messages"]) {
            let is_of_client = of_client.contains(&&**name);
            let from = if is_of_client { "client" } else { "server" };
            let class = if is_of_client {
                "method POST"
            } else {
                "method"
            };
            let title = format!("<span class=\"{class}\">{from}</span> <code>{name}</code>");
            self.begin_article(&format!("message-{name}"), &title)?;
            self.paragraphs(&message["summary"])?;
            let payload = &message["payload"];
            if payload.get("properties").is_some() {
                self.members(payload)?;
            } else {
                writeln!(self.out, "<p>{}</p>", shape(payload))?;
            }
            let examples = array(&message["examples"]).iter();
            self.examples(examples.map(|it| (text(&it["summary"]), &it["payload"])))?;
            self.out.push_str("</article>\n");
        }
        self.out.push_str("</section>\n");
        Ok(())
    }

    fn schemas(&mut self) -> Done {
        self.out
            .push_str("<section aria-labelledby=\"schemas\">\n<h2 id=\"schemas\">Schemas</h2>\n");
        let schemas = members(&self.document["components"]["schemas"]);
        let of_messages = members(&self.live["components"]["schemas"]).iter();
        let of_messages = of_messages.filter(|(name, _)| !schemas.contains_key(*name));
        for (name, schema) in schemas.iter().chain(of_messages) {
            if name == "ErrorCode" {
                continue;
            }
            self.begin_article(&format!("schema-{name}"), name)?;
            self.paragraphs(&schema["description"])?;
            if schema.get("properties").is_none() {
                writeln!(self.out, "<p>{}</p>", shape(schema))?;
            } else {
                if let Some(base) = schema.get("$ref") {
                    let base = reference(text(base));
                    writeln!(self.out, "<p>The members of {base}, and these:</p>")?;
                }
                self.members(schema)?;
            }
            self.out.push_str("</article>\n");
        }
        self.out.push_str("</section>\n");
        Ok(())
    }

    fn members(&mut self, schema: &Value) -> Done {
        self.table(&["Member", "Is", "Meaning"])?;
        for (name, member) in members(&schema["properties"]) {
            let is_needed = array(&schema["required"]).iter().any(|it| it == name);
            let (name, needed) = (escaped(name), needed(is_needed));
            let (shape, meaning) = (shape(member), inline(text(&member["description"])));
            self.row(
                "",
                &format!("<code>{name}</code>{needed}"),
                &[&shape, &meaning],
            )?;
        }
        self.end_table();
        Ok(())
    }

    fn codes(&mut self) -> Done {
        self.out
            .push_str("<section aria-labelledby=\"codes\">\n<h2 id=\"codes\">Error codes</h2>\n");
        self.table(&["Code", "Meaning"])?;
        let codes = &self.document["components"]["schemas"]["ErrorCode"]["oneOf"];
        for code in array(codes) {
            let name = text(&code["const"]);
            let meaning = inline(text(&code["description"]));
            let id = format!("code-{name}");
            self.row(&id, &format!("<code>{name}</code>"), &[&meaning])?;
        }
        self.end_table();
        self.out.push_str("</section>\n");
        Ok(())
    }

    fn table(&mut self, columns: &[&str]) -> Done {
        self.out.push_str("<table>\n<thead><tr>");
        for column in columns {
            write!(self.out, "<th scope=\"col\">{column}</th>")?;
        }
        self.out.push_str("</tr></thead>\n<tbody>\n");
        Ok(())
    }

    /// A row of a table; one that something links to has an id.
    fn row(&mut self, id: &str, head: &str, cells: &[&str]) -> Done {
        let id = if id.is_empty() {
            String::new()
        } else {
            format!(" id=\"{id}\"")
        };
        write!(self.out, "<tr{id}><th scope=\"row\">{head}</th>")?;
        for cell in cells {
            write!(self.out, "<td>{cell}</td>")?;
        }
        self.out.push_str("</tr>\n");
        Ok(())
    }

    fn end_table(&mut self) {
        self.out.push_str("</tbody>\n</table>\n");
    }

    fn begin_article(&mut self, id: &str, title: &str) -> Done {
        let title = format!("<h3><a href=\"#{id}\">{title}</a></h3>");
        writeln!(self.out, "<article id=\"{id}\">\n{title}")?;
        Ok(())
    }

    fn paragraphs(&mut self, description: &Value) -> Done {
        for paragraph in text(description).split("\n\n").filter(|it| !it.is_empty()) {
            writeln!(self.out, "<p>{}</p>", inline(paragraph))?;
        }
        Ok(())
    }

    fn resolved(&self, value: &'d Value) -> &'d Value {
        let target = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
        target
            .and_then(|it| self.document.pointer(it))
            .unwrap_or(value)
    }
}

/// The method and the path of a call.
fn line(path: &str, method: &str) -> String {
    let path = escaped(path);
    format!("<span class=\"method {method}\">{method}</span> <code>{path}</code>")
}

fn needed(is_needed: bool) -> &'static str {
    if is_needed {
        " <span class=\"needed\">needed</span>"
    } else {
        ""
    }
}

/// The name at the end of a reference.
fn last(target: &str) -> &str {
    target.rsplit('/').next().unwrap_or_default()
}

/// What a value may be, in a few words.
fn shape(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        return reference(target);
    }
    if let Some(value) = schema.get("const") {
        return format!("<code>{}</code>", escaped(&value.to_string()));
    }
    let alternatives = |list: &[Value], show: fn(&Value) -> String| {
        list.iter().map(show).collect::<Vec<_>>().join(" or ")
    };
    let as_code = |value: &Value| format!("<code>{}</code>", escaped(&value.to_string()));
    for (keyword, show) in [
        ("enum", as_code as fn(&Value) -> String),
        ("oneOf", shape),
        ("anyOf", shape),
    ] {
        let list = array(&schema[keyword]);
        let says = |it: &Value| keyword == "enum" || it.get("required").is_none();
        if !list.is_empty() && list.iter().all(says) && schema.get("properties").is_none() {
            return alternatives(list, show);
        }
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect(),
        kind => vec![text(kind)],
    };
    let mut shown = match &*kinds.join(" or ") {
        "" => match (text(&schema["format"]), text(&schema["pattern"])) {
            ("date-time", _) => "RFC 3339".to_owned(),
            (_, "") => "any JSON".to_owned(),
            _ => "digits".to_owned(),
        },
        "array" => format!("array of {}", shape(&schema["items"])),
        kinds => kinds.to_owned(),
    };
    let bounds = [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "at least"),
        ("maxLength", "at most"),
        ("minItems", "at least"),
        ("maxItems", "at most"),
        ("default", "default"),
    ];
    for (keyword, word) in bounds {
        if let Some(bound) = schema.get(keyword) {
            let unit = match keyword {
                "minLength" | "maxLength" if bound == 1 => " character",
                "minItems" | "maxItems" if bound == 1 => " element",
                "minLength" | "maxLength" => " characters",
                "minItems" | "maxItems" => " elements",
                _ => "",
            };
            shown.extend([", ", word, " ", &*escaped(&bound.to_string()), unit]);
        }
    }
    shown
}

fn reference(target: &str) -> String {
    let name = last(target);
    let anchor = if name == "ErrorCode" {
        "codes".to_owned()
    } else {
        format!("schema-{name}")
    };
    format!("<a href=\"#{anchor}\">{name}</a>")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn members(value: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text with code between backquotes.
fn inline(text: &str) -> String {
    let mut shown = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escaped(part);
        if index % 2 == 1 {
            shown.extend(["<code>", &*part, "</code>"]);
        } else {
            shown.push_str(&part);
        }
    }
    shown
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
